"""Landmarks from masks: two points on each vertebra, or one on each of its parts."""

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from spinect import __version__
from spinect.anatomy import BODY, ORDER, POSTERIOR, SUBREGIONS, VERTEBRAE
from spinect.errors import (
    ConfigError,
    GeometryError,
    LabelError,
    LandmarkError,
    OutputError,
    SpinectWarning,
)
from spinect.evaluation.overlap import cut_by_faces
from spinect.geometry import Volume
from spinect.geometry.landmarks import (
    BODY_CENTRE,
    SECOND_POINT_MM,
    SPINOUS,
    Landmarks,
    centres_of_mass,
    key_name,
    merge_bodies,
    normalise_spinous,
)
from spinect.io import read, write_poi, write_slicer
from spinect.io.slicer import SUFFIX
from spinect.segmentation.schemes import SCHEMES, check_scheme, to_vertebra_ids
from spinect.workflows.record import sha256_of

MIN_MM3: Final = 50.0  # a smaller piece is a crumb of another part, and no place of a landmark
_PARTS: Final = (*POSTERIOR, *BODY)


@dataclass(frozen=True)
class LandmarkOptions:
    """How landmarks are taken from masks.

    Attributes:
        points: "two": body and spinous process; "all": every subregion from 41 to 50.
        normalise_spinous: Put the second point at the body's height, 50 mm from its centre.
        scheme: Labels of the vertebra mask, one of `SCHEMES`; None: ids of this package.
        format: Of the file: TPTBox's JSON, or a point list of 3D Slicer.
    """

    points: Literal["two", "all"] = "two"
    normalise_spinous: bool = False
    scheme: str | None = None
    format: Literal["poi", "slicer"] = "poi"


@dataclass(frozen=True, eq=False)
class MadeLandmarks:
    """Landmarks and what has to be said about them."""

    landmarks: Landmarks
    warnings: tuple[str, ...]


def landmarks_of(
    vertebrae: Volume, subregions: Volume, options: LandmarkOptions | None = None
) -> MadeLandmarks:
    """Centres of mass of the parts of every vertebra that is not cut.

    The border of the body (49) counts as body (50). A vertebra that touches the head or feet face
    of the image is left out, for the centre of what is left is not its centre.

    Args:
        vertebrae: Vertebra ids, or labels of `options.scheme`.
        subregions: Subregion ids on the same grid.
    Raises:
        GeometryError: Different grids.
        LabelError: Labels that no vertebra or subregion has.
        LandmarkError: No vertebra that is whole, or no direction to normalise.
    """
    options = options or LandmarkOptions()
    if not vertebrae.grid.matches(subregions.grid):
        raise GeometryError(
            f"vertebrae and subregions lie on different grids: {vertebrae.grid} against "
            f"{subregions.grid}: give the two masks of one scan"
        )
    named = _with_ids(vertebrae, options.scheme)
    _check_parts(subregions)
    said: list[str] = []
    cut = cut_by_faces(named)
    if cut:
        said.append(f"cut by the head or feet face of the image and left out: {_names(cut)}")
    whole = named.with_data(np.where(np.isin(named.data, sorted(cut)), 0, named.data))
    # With arches: they may have to stand in for spinous processes that are missing.
    found, crumbs = _centres(whole, merge_bodies(subregions))
    if crumbs:
        said.append(f"pieces below {MIN_MM3:.0f} mm3 give no landmark: {', '.join(crumbs)}")
    kept = [int(v) for v in np.unique(whole.data) if v]
    bodiless = [v for v in kept if (v, BODY_CENTRE) not in found]
    if bodiless:
        said.append(f"without a body: {_names(bodiless)}")
    if options.normalise_spinous:
        found, more = _normalised(found)
        said += more
    else:
        lacking = [v for v in kept if (v, SPINOUS) not in found]
        if lacking:
            said.append(f"without a spinous process: {_names(lacking)}")
    if options.points == "two":
        found = found.of((BODY_CENTRE, SPINOUS))
    if not len(found):
        raise LandmarkError(
            "the masks give no landmark: no vertebra is whole"
            + (f" ({'; '.join(said)})" if said else ", the vertebra mask is empty")
        )
    return MadeLandmarks(found, tuple(said))


def make_landmarks(
    vertebrae: str | Path,
    subregions: str | Path,
    out: str | Path,
    options: LandmarkOptions | None = None,
    *,
    overwrite: bool = False,
) -> MadeLandmarks:
    """Take landmarks from two mask files and write them, whole or not at all.

    Where they come from and what was said stands in the file too.

    Raises:
        OutputError: The file exists, or its name does not fit the format.
        InputError: As `landmarks_of` and `read`.
    """
    options = options or LandmarkOptions()
    if options.scheme is not None:
        check_scheme(options.scheme)
    if options.points not in ("two", "all") or options.format not in ("poi", "slicer"):
        raise ConfigError(
            f"points {options.points!r} or format {options.format!r} is unknown: "
            "two or all, poi or slicer"
        )
    first, second, out = Path(vertebrae), Path(subregions), Path(out)
    _check_out(out, options.format, overwrite)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = landmarks_of(read(first, "labels"), read(second, "labels"), options)
    heard = [str(w.message) for w in caught if issubclass(w.category, SpinectWarning)]
    made = MadeLandmarks(made.landmarks, (*dict.fromkeys(heard), *made.warnings))
    info: dict[str, Any] = {
        "spinect": {
            "version": __version__,
            "vertebrae": {"path": first.name, "sha256": sha256_of(first)},
            "subregions": {"path": second.name, "sha256": sha256_of(second)},
            "options": asdict(options),
            "warnings": made.warnings,
        }
    }
    (write_slicer if options.format == "slicer" else write_poi)(made.landmarks, out, info)
    return made


def _check_out(out: Path, form: str, overwrite: bool) -> None:
    name = out.name.lower()
    if form == "slicer" and not name.endswith(SUFFIX):
        raise OutputError(f"{out}: 3D Slicer knows point lists by the suffix {SUFFIX}: use it")
    if form == "poi" and (name.endswith(SUFFIX) or not name.endswith(".json")):
        raise OutputError(
            f"{out}: a POI file ends in .json, best _poi.json; for {SUFFIX} ask for format slicer"
        )
    if out.exists() and not overwrite:
        raise OutputError(f"{out} exists: choose another name, or insist with --overwrite")


def _with_ids(vertebrae: Volume, scheme: str | None) -> Volume:
    if scheme is not None:
        return vertebrae.with_data(to_vertebra_ids(vertebrae.data, scheme))
    unknown = sorted(set(np.unique(vertebrae.data).tolist()) - {0, *VERTEBRAE})
    if unknown:
        raise LabelError(
            f"the vertebra mask has labels that are no vertebrae: "
            f"{', '.join(map(str, unknown[:8]))}: give the instance mask, or name its scheme "
            f"({', '.join(SCHEMES)})"
        )
    return vertebrae


def _check_parts(subregions: Volume) -> None:
    present = set(np.unique(subregions.data).tolist()) - {0}
    if not present & set(_PARTS):
        held = ", ".join(map(str, sorted(present)[:8])) or "nothing"
        raise LabelError(
            f"the subregion mask holds {held}, and no part of a vertebra: ids are "
            + ", ".join(f"{i} {SUBREGIONS[i]}" for i in (41, 42, 49, 50))
            + ", ..."
        )


def _centres(vertebrae: Volume, subregions: Volume) -> tuple[Landmarks, list[str]]:
    """Centres of the parts of vertebrae, and the names of pieces too small for one."""
    every = centres_of_mass(vertebrae, subregions).of(_PARTS)
    large = centres_of_mass(vertebrae, subregions, MIN_MM3).of(_PARTS)
    return large, [key_name(key) for key in every if key not in large]


def _normalised(found: Landmarks) -> tuple[Landmarks, list[str]]:
    made = normalise_spinous(found)
    said = [
        f"spinous processes stand at the height of the body, {SECOND_POINT_MM:.0f} mm from its "
        "centre (normalised)"
    ]
    if made.from_arcus:
        said.append(f"the arcus replaces a missing spinous process: {_names(made.from_arcus)}")
    if made.without:
        said.append(f"without a second point: {_names(made.without)}")
    if made.bodiless:
        said.append(f"spinous processes without a body are left out: {_names(made.bodiless)}")
    return made.landmarks, said


def _names(ids: set[int] | list[int] | tuple[int, ...]) -> str:
    return ", ".join(VERTEBRAE[v] for v in sorted(ids, key=ORDER.index))
