"""Which files of a dataset folder make one training series: MR, CT, masks, validity."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from spinect.data.stream import FIRST_TEST_SEED
from spinect.errors import ConfigError, InputError
from spinect.io.bids import parse_name
from spinect.io.participants import patient_splits, read_rows

LOG = logging.getLogger(__name__)

Pose = Literal["auto", "registered", "truth"]
REGISTERED: Final = Path("derivatives", "registered")
TABLE: Final = "registration.tsv"
_COLUMNS: Final = ("participant_id", "mr", "outputs", "status", "verdict")
_ENDS: Final = {
    "ct": "_ct.nii.gz",
    "vertebrae": "_desc-vertebrae_dseg.nii.gz",
    "subregions": "_desc-subregions_dseg.nii.gz",
    "valid": "_desc-valid_mask.nii.gz",
}
_NEEDED: Final = ("ct", "vertebrae")


@dataclass(frozen=True)
class Series:
    """One MR series and what is known of it.

    Attributes:
        name: Of the prepared arrays; no two series of a dataset share it.
        mr: The MR. parts: Of `_ENDS`, those that there are.
        own_grid: The parts may lie on any grid in the MR's world, not on the MR's only.
    """

    name: str
    mr: Path
    parts: Mapping[str, Path]
    own_grid: bool

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them, the MR first."""
        return (self.mr, *self.parts.values())


def patients(folder: Path, split: str) -> list[str]:
    """Names of the split's patients, sorted.

    Raises:
        ConfigError: No table, no patient of the split, or one whose seed is reserved for testing.
        InputError: A person on two sides of the split.
    """
    table = folder / "participants.tsv"
    if not table.is_file():
        raise ConfigError(f"{table} is missing: a dataset folder lists its patients there")
    splits = patient_splits(folder)
    found = [name for name, own in splits.items() if own == split]
    if not found:
        known = ", ".join(sorted(set(splits.values()))) or "none"
        raise ConfigError(f"{table}: no patient of split {split!r}; it has {known}")
    for row in read_rows(table, ("participant_id",)):
        number = row.get("seed", "")
        if row["participant_id"] in found and number.isdigit() and int(number) >= FIRST_TEST_SEED:
            raise ConfigError(
                f"{table}: {row['participant_id']} has seed {number}: seeds from "
                f"{FIRST_TEST_SEED} on are for testing and validation, not for training"
            )
    return sorted(found)


def find_series(folder: Path, names: Sequence[str], contrast: str, pose: Pose) -> list[Series]:
    """The series of some patients.

    Args:
        contrast: Suffix of the MR.
        pose: "registered": what `spinect register` made and did not reject. "truth": one series
            per patient, aligned from the start. "auto": registered where its table is there.
    Raises:
        InputError: A file is missing, or nothing was registered for these patients.
    """
    if pose == "auto":
        pose = "registered" if (folder / REGISTERED / TABLE).is_file() else "truth"
    LOG.info("reading the %s pose of %d patients", pose, len(names))
    if pose == "truth":
        return [truth_series(folder, name, contrast) for name in names]
    return registered_series(folder, names, contrast)


def truth_series(folder: Path, name: str, contrast: str) -> Series:
    """MR, CT, vertebrae and, where there is one, subregions of a patient."""
    truth = folder / "derivatives" / "truth" / name
    iso = (truth / f"{name}_space-iso_ct.nii.gz").is_file()
    stem = truth / f"{name}_space-{'iso' if iso else contrast}"
    mr = folder / name / "anat" / f"{name}_{contrast}.nii.gz"
    return Series(f"{name}_{contrast}", _there(mr), _parts(stem), iso)


def registered_series(folder: Path, names: Sequence[str], contrast: str) -> list[Series]:
    """Every registered series of a contrast that was not rejected; the others are told in the log.

    Raises:
        InputError: No table, or none is left of these patients.
    """
    base = folder / REGISTERED
    found, left_out = [], []
    for row in read_rows(base / TABLE, _COLUMNS):
        mr = folder / row["mr"]
        if row["participant_id"] not in names or not row["mr"].endswith(".nii.gz"):
            continue
        if parse_name(mr.name).suffix != contrast:
            continue
        if row["status"] == "failed" or row["verdict"] not in ("accept", "review"):
            left_out.append(f"{mr.name} ({row['verdict'] or row['status']})")
            continue
        parts = _parts(base / (row["outputs"] + "_res-iso"))
        found.append(Series(Path(row["outputs"]).name + "_registered", _there(mr), parts, True))
    if left_out:
        LOG.info("left out, not registered: %s", ", ".join(left_out))
    if not found:
        raise InputError(
            f"{base / TABLE}: no {contrast} of {len(names)} patients was registered and not "
            f"rejected ({', '.join(left_out[:5]) or 'none is listed'}): register them, or set "
            "pose to truth"
        )
    return found


def _parts(stem: Path) -> dict[str, Path]:
    paths = {part: stem.with_name(stem.name + end) for part, end in _ENDS.items()}
    return {p: _there(f) if p in _NEEDED else f for p, f in paths.items()
            if p in _NEEDED or f.is_file()}  # fmt: skip


def _there(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path} is missing: training from a dataset needs MR, CT and masks")
    return path
