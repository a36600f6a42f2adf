"""Which files belong together: the pairs of a dataset folder, or the one that was named."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spinect.io.bids import Item, Patient, find_patients
from spinect.workflows.names import stem_of
from spinect.workflows.register.names import RECORD, Names

REGISTERED: Final = Path("derivatives", "registered")
_POINTS: Final = ("_poi.json", ".mrk.json", "_ctd.json")  # beside an image, the first one counts


@dataclass(frozen=True)
class Pair:
    """One MR series, the CT that belongs to it, and where the result goes.

    Attributes:
        mr, ct: Images. mr_landmarks, ct_landmarks: Named points of each.
        ct_vertebrae, ct_subregions, mr_vertebrae: Masks on the grids of their images.
        folder: Of the outputs.
        key: What the table calls the pair: the MR's path in its dataset.
        participant: sub-X; empty outside a dataset.
        problem: Why there is nothing to register; empty where there is.
    """

    mr: Path
    ct: Path | None
    folder: Path
    mr_landmarks: Path | None = None
    ct_landmarks: Path | None = None
    ct_vertebrae: Path | None = None
    ct_subregions: Path | None = None
    mr_vertebrae: Path | None = None
    key: str = ""
    participant: str = ""
    problem: str = ""

    @property
    def names(self) -> Names:
        """Of the outputs."""
        return Names.of(self.mr)

    @property
    def record(self) -> Path:
        """The record, written last: where it stands, the pair is complete."""
        return self.folder / (self.names.stem + RECORD)

    @property
    def inputs(self) -> dict[str, Path]:
        """Field -> file, of those that are given."""
        fields = ("mr", "ct", "mr_landmarks", "ct_landmarks",
                  "ct_vertebrae", "ct_subregions", "mr_vertebrae")  # fmt: skip
        return {f: path for f in fields if (path := getattr(self, f)) is not None}


def find_pairs(dataset: Path, out: Path) -> list[Pair]:
    """Every MR series of a dataset with its CT.

    Args:
        out: Each patient gets a folder in it.
    Raises:
        InputError: No dataset folder.
    """
    return [
        pair for patient in find_patients(dataset) for pair in _of_patient(patient, dataset, out)
    ]


def _of_patient(patient: Patient, dataset: Path, out: Path) -> list[Pair]:
    series = [i for i in patient.images("anat") if i.kind == "mr" and i.name.get("space") is None]
    if not series:
        missing = dataset / patient.name / "anat"
        problem = f"{patient.name} has no MR in anat: add one, or remove the patient"
        nothing = missing / f"{patient.name}_missing.nii.gz"
        return [Pair(nothing, None, out / patient.name, key=patient.name,
                     participant=patient.name, problem=problem)]  # fmt: skip
    return [_pair(patient, mr, dataset, out) for mr in series]


def _pair(patient: Patient, mr: Item, dataset: Path, out: Path) -> Pair:
    cts = _cts(patient, mr)
    problem = ""
    if not cts:
        problem = f"{patient.name} has no CT: add one as {patient.name}/ct/{patient.name}_ct.nii.gz"
    elif len(cts) > 1:
        problem = (
            f"{mr.path.name} could belong to {len(cts)} CTs ({', '.join(c.path.name for c in cts)}"
            "): give it and its CT the same ses, acq or run, or landmarks to one CT only"
        )
    ct = cts[0] if len(cts) == 1 else None
    return Pair(
        mr=mr.path,
        ct=ct.path if ct else None,
        folder=out / patient.name,
        mr_landmarks=points_beside(mr.path),
        ct_landmarks=points_beside(ct.path) if ct else None,
        ct_vertebrae=_mask(patient, ct, "vertebrae"),
        ct_subregions=_mask(patient, ct, "subregions"),
        mr_vertebrae=_mask(patient, mr, "vertebrae"),
        key=str(mr.path.relative_to(dataset)),
        participant=patient.name,
        problem=problem,
    )


def _cts(patient: Patient, mr: Item) -> Sequence[Item]:
    """The CTs that an MR may belong to: of its series, else of its session, else of the patient."""
    found = [i for i in patient.images("ct") if i.name.get("space") is None]
    session = [i for i in found if i.name.get("ses") == mr.name.get("ses")]
    same = [i for i in session if i.name.series == mr.name.series]
    best = same or session or found
    marked = [i for i in best if points_beside(i.path) is not None]
    return marked if len(best) > 1 and marked else best


def points_beside(image: Path) -> Path | None:
    """The landmarks beside an image, by name."""
    stem = stem_of(image)
    beside = (image.with_name(stem + end) for end in _POINTS)
    return next((path for path in beside if path.is_file()), None)


def _mask(patient: Patient, image: Item | None, desc: str) -> Path | None:
    """The mask that was made on an image, in its own folder."""
    if image is None:
        return None
    found = [
        item.path
        for item in patient.items
        if item.is_mask
        and item.path.parent == image.path.parent
        and item.name.get("desc") == desc
        and patient.reference(item) == image
    ]
    return found[0] if found else None
