"""What the results are held against: the series of a dataset, each with its true CT and masks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, Literal

from spinect.errors import InputError
from spinect.io.bids import Item, Patient, find_patients
from spinect.io.participants import patient_splits, read_rows
from spinect.workflows.names import stem_of
from spinect.workflows.register import names as n
from spinect.workflows.register.pairs import REGISTERED

TRUTH: Final = Path("derivatives", "truth")
TISSUE: Final = "_desc-tissue_dseg.nii.gz"
_ENDS: Final = {
    "ct": n.CT,
    "vertebrae": n.VERTEBRAE,
    "subregions": n.SUBREGIONS,
    "valid": n.VALID,
    "tissue": TISSUE,
}


@dataclass(frozen=True)
class TruthFiles:
    """The true volumes on one grid; None where there is no such file.

    Attributes:
        ct: HU. vertebrae, subregions: Label ids. valid: 1 where the CT is known. tissue: Ids.
    """

    ct: Path | None = None
    vertebrae: Path | None = None
    subregions: Path | None = None
    valid: Path | None = None
    tissue: Path | None = None

    @classmethod
    def beside(cls, stem: Path) -> "TruthFiles":
        """Those of `_ENDS` that exist for a stem."""
        paths = {key: stem.with_name(stem.name + end) for key, end in _ENDS.items()}
        return cls(**{key: path for key, path in paths.items() if path.is_file()})

    def paths(self) -> tuple[Path, ...]:
        """Those that exist."""
        return tuple(path for field in fields(self) if (path := getattr(self, field.name)))

    @property
    def masks(self) -> bool:
        """Whether segmentations can be scored."""
        return self.vertebrae is not None and self.subregions is not None


@dataclass(frozen=True)
class Series:
    """One MR series and its truth.

    Attributes:
        name: File name of the MR without suffix, such as "sub-1_T2w".
        participant: "sub-1". patient: The person, `patient_id` where the dataset says so.
        contrast: Suffix of the MR. mr: The image.
        native, iso: The truth on the MR's grid and at 1 mm.
        source: "truth" (made with the MR) or "registered" (a CT brought onto the MR).
        phantom: Whether the patient has a phantom seed.
    """

    name: str
    participant: str
    patient: str
    contrast: str
    mr: Path
    native: TruthFiles
    iso: TruthFiles
    source: Literal["truth", "registered"]
    phantom: bool


@dataclass(frozen=True)
class Cohort:
    """The series of a dataset that are to be scored, and what else is in it.

    Attributes:
        series: Of the scored side, with a truth.
        sides: participant -> split, of all participants ("" where there is none).
        others: Names of the series of the other sides.
        warnings: Series without a truth.
    """

    series: tuple[Series, ...]
    sides: dict[str, str]
    others: tuple[str, ...]
    warnings: tuple[str, ...]


def find_cohort(dataset: Path, split: str, contrasts: Sequence[str] = ()) -> Cohort:
    """The series of one side of the split.

    Args:
        split: "test" and so on, or "all".
        contrasts: Suffixes of the MR; none means all.
    Raises:
        InputError: No dataset, a person on two sides of the split, or nothing to score.
    """
    patients = find_patients(dataset)
    rows = {r["participant_id"]: r for r in read_rows(dataset / "participants.tsv", ("split",))}
    sides = patient_splits(dataset)
    if unlisted := [p.name for p in patients if p.name not in rows]:
        raise InputError(
            f"{dataset / 'participants.tsv'} does not list {unlisted[0]}: add it with a split"
        )
    found: list[Series] = []
    others, warnings = [], []
    for patient in patients:
        row = rows[patient.name]
        for mr in _images(patient, contrasts):
            if split not in ("all", sides[patient.name]):
                others.append(stem_of(mr.path))
                continue
            series = _series(dataset, patient.name, mr, row)
            if series is None:
                warnings.append(f"{stem_of(mr.path)} has no true CT or masks: it is not scored")
            else:
                found.append(series)
    if not found:
        counts = {side: list(sides.values()).count(side) for side in sorted(set(sides.values()))}
        raise InputError(
            f"{dataset} has no series with a truth to score on side {split!r} "
            f"(participants: {counts}): choose another --split or --contrast, or register the "
            "CTs first with spinect register"
        )
    return Cohort(tuple(found), sides, tuple(others), tuple(warnings))


def _images(patient: Patient, contrasts: Sequence[str]) -> Iterator[Item]:
    for item in patient.images("anat"):
        plain = item.kind == "mr" and item.name.get("space") is None
        if plain and (not contrasts or item.name.suffix in contrasts):
            yield item


def _series(dataset: Path, participant: str, mr: Item, row: dict[str, str]) -> Series | None:
    """The series with its truth; made truth goes before registered CTs."""
    names = n.Names.of(mr.path)
    choices: tuple[tuple[Literal["truth", "registered"], Path, str], ...] = (
        ("truth", dataset / TRUTH / participant, f"{names.prefix}_space-iso"),
        ("registered", dataset / REGISTERED / participant, names.stem + n.ISO),
    )
    for source, folder, iso in choices:
        native = TruthFiles.beside(folder / names.stem)
        if native.ct or native.masks:
            return Series(
                name=stem_of(mr.path),
                participant=participant,
                patient=row.get("patient_id") or participant,
                contrast=mr.name.suffix,
                mr=mr.path,
                native=native,
                iso=TruthFiles.beside(folder / iso),
                source=source,
                phantom=row.get("seed", "").isdigit(),
            )
    return None
