"""The steps of one series in one round, as functions of files.

What translates, segments and trains is an argument, so that an oracle can stand in for it. Every
step reads what the step before it wrote, so that a loop that goes on sees what it saw before.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from spinect.anatomy import VERTEBRAE
from spinect.errors import LabelError, LandmarkError
from spinect.geometry import Grid, Volume
from spinect.geometry.landmarks import Landmarks
from spinect.geometry.transform import invert
from spinect.io import read, read_landmarks, read_poi, read_transforms, write_poi, write_volume
from spinect.io.participants import read_rows
from spinect.registration import align_centres, match_levels
from spinect.workflows.landmarks import LandmarkOptions, landmarks_of
from spinect.workflows.loop.cases import Case
from spinect.workflows.loop.config import LoopConfig, MatchConfig
from spinect.workflows.loop.state import Made
from spinect.workflows.register import names as n
from spinect.workflows.register import register_pair

SYNTHETIC: Final = "_desc-synthetic_ct.nii.gz"
FOUND: Final = "_desc-synthetic_poi.json"  # landmarks under the segmenter's names
MATCHED: Final = "_desc-matched_poi.json"  # under the CT's


class Translator(Protocol):
    """Makes a synthetic CT."""

    def __call__(self, case: Case, mr: Volume, model: Path) -> Volume:
        """The CT in HU, in the MR's world on any grid; `model` is what the trainer returned."""
        ...


class Segmenter(Protocol):
    """Finds vertebrae in a CT."""

    def __call__(self, case: Case, ct: Volume) -> tuple[Volume, Volume]:
        """Vertebra ids and subregion ids on one grid."""
        ...


class Trainer(Protocol):
    """Trains a translator; started again on the same folder, it goes on where it stopped."""

    def __call__(self, dataset: Path, contrast: str, folder: Path) -> Path:
        """A model in `folder`, from the registered pairs of a dataset folder."""
        ...


@dataclass(frozen=True)
class Models:
    """What does the work."""

    train: Trainer
    translate: Translator
    segment: Segmenter


@dataclass(frozen=True)
class Place:
    """Where the files of one series go in one round.

    Attributes:
        folder: Of the round.
    """

    case: Case
    folder: Path

    @property
    def registered(self) -> Path:
        """Folder of the registered pair."""
        return self.folder / "registered" / self.case.pair.participant

    @property
    def stem(self) -> Path:
        """Path of what `register` writes, without the last part."""
        return self.registered / self.case.pair.names.stem

    def synthetic(self, end: str) -> Path:
        """What is made from the synthetic CT."""
        name = self.case.pair.names.stem + end
        return self.folder / "synthetic" / self.case.pair.participant / name


def translate(place: Place, model: Path, translator: Translator) -> Made:
    """MR -> synthetic CT.

    Raises:
        InputError: The MR cannot be used.
    """
    made = translator(place.case, read(place.case.pair.mr, "mr"), model)
    return Made((write_volume(made, place.synthetic(SYNTHETIC)),))


def segment(place: Place, segmenter: Segmenter) -> Made:
    """Synthetic CT -> vertebrae and subregions.

    Raises:
        LabelError: Nothing was found.
    """
    vertebrae, subregions = segmenter(place.case, read(place.synthetic(SYNTHETIC), "ct"))
    if not vertebrae.data.any():
        raise LabelError("the segmentation is empty: no vertebra was found in the synthetic CT")
    found = [VERTEBRAE.get(int(v), str(v)) for v in np.unique(vertebrae.data) if v]
    files = (
        write_volume(vertebrae, place.synthetic(n.VERTEBRAE)),
        write_volume(subregions, place.synthetic(n.SUBREGIONS)),
    )
    return Made(files, {"vertebrae": found})


def mark(place: Place, config: LoopConfig) -> Made:
    """Masks -> landmarks, under the segmenter's names of the levels.

    Raises:
        LandmarkError: No vertebra is whole.
    """
    made = landmarks_of(
        read(place.synthetic(n.VERTEBRAE), "labels"),
        read(place.synthetic(n.SUBREGIONS), "labels"),
        LandmarkOptions(
            points="all" if config.register_by.points == "all" else "two",
            normalise_spinous=config.normalise_spinous,
        ),
    )
    return Made(
        (write_poi(made.landmarks, place.synthetic(FOUND)),), {"warnings": list(made.warnings)}
    )


def match(place: Place, config: MatchConfig, accepted: Path | None) -> Made:
    """Landmarks under the names of the CT's levels.

    Args:
        accepted: Transforms of an accepted series of the same visit, for "accepted" and "names".
    Raises:
        InputError: The CT is missing or has no landmarks.
        LandmarkError: No accepted series, no body near one of the CT, or, with frame "names", all
            names contradict an accepted series.
    """
    pair = place.case.pair
    found = read_poi(place.synthetic(FOUND))
    renamed: dict[int, int] = {v: v for v in found.vertebrae}
    if pair.ct is not None and pair.ct_landmarks is not None:
        grids = read(pair.mr, "mr").grid, read(pair.ct, "ct").grid
        fixed = read_landmarks(pair.ct_landmarks, grids[1])
        if config.frame != "names":
            mr_from_ct = invert(_frame(config, grids, accepted))
            found, renamed = match_levels(found, fixed, mr_from_ct, config.max_mm)
        elif accepted is not None:
            moved = fixed.moved(invert(read_transforms(accepted).whole))
            _refuse_shifted(found, moved, config.max_mm)
    changed = {VERTEBRAE[a]: VERTEBRAE[b] for a, b in renamed.items() if a != b}
    facts = {"renamed": changed, "levels": len(renamed)}
    return Made((write_poi(found, place.synthetic(MATCHED), {"spinect": facts}),), facts)


def _refuse_shifted(found: Landmarks, fixed: Landmarks, max_mm: float) -> None:
    """Refuse the segmenter's names where every body lies at another one of the CT.

    The residual cannot tell: neighbours are so alike that a set one level off fits to millimetres.

    Args:
        found, fixed: MR and CT, both in the MR's world by an accepted series.
    """
    try:
        _, renamed = match_levels(found, fixed, np.eye(4), max_mm)
    except LandmarkError:
        return  # the patient moved between the series, so their places say nothing
    if all(old != new for old, new in renamed.items()):
        told = ", ".join(f"{VERTEBRAE[a]} lies at {VERTEBRAE[b]}" for a, b in renamed.items())
        raise LandmarkError(
            f"the segmenter's levels are shifted against an accepted series of this patient, "
            f"session and CT: {told}. Set match.frame to accepted, or give series of different "
            "sessions different ses"
        )


def _frame(config: MatchConfig, grids: tuple[Grid, Grid], accepted: Path | None) -> Any:
    """(4, 4) ct_from_mr before registration."""
    if config.frame == "accepted":
        if accepted is None:
            raise LandmarkError(
                "no other series of this patient, session and CT is accepted, so where the scans "
                "lie is not known: register one from landmarks, or set match.frame to header"
            )
        return read_transforms(accepted).whole
    return align_centres(grids[1], grids[0], same_frame=config.frame == "header")


def register(place: Place, config: LoopConfig, landmarks: Path | None) -> Made:
    """The CT on the MR.

    Args:
        landmarks: Of the MR; None: the pair's own.
    Returns:
        Facts: verdict, reason, residual_mm of the landmarks used, vertebrae that have one.
    Raises:
        InputError: As `register_pair`.
    """
    pair = replace(place.case.pair, folder=place.registered)
    if landmarks is not None:
        # Its own vertebra mask may name levels otherwise than the matched landmarks do.
        pair = replace(pair, mr_landmarks=landmarks, mr_vertebrae=None)
    outcome = register_pair(pair, config.register_by.options())
    assert outcome.record is not None  # without one it raises
    rows = read_rows(place.stem.with_name(place.stem.name + n.RESIDUALS), ("residual_mm", "used"))
    used = [row for row in rows if row["used"] == "true"]
    facts = {
        "verdict": outcome.record.verdict,
        "reason": outcome.record.reason,
        "residual_mm": [float(row["residual_mm"]) for row in used],
        "vertebrae": len({row["vertebra"] for row in used}),
    }
    return Made((pair.record,), facts)


def transforms_of(place: Place) -> Path:
    """Where `register` wrote the motion."""
    return place.registered / f"{place.case.pair.names.transforms}_transforms.json"
