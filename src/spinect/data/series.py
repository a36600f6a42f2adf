"""Which files of a dataset folder make one training series: MR, CT, masks, validity."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from spinect.data.stream import FIRST_TEST_SEED
from spinect.errors import ConfigError, InputError
from spinect.io.bids import IMAGES, Patient, find_patients, parse_name
from spinect.io.participants import patient_splits, read_rows

LOG = logging.getLogger(__name__)

Pose = Literal["auto", "registered", "truth"]
REGISTERED: Final = Path("derivatives", "registered")
TABLE: Final = "registration.tsv"
_COLUMNS: Final = ("participant_id", "mr", "outputs", "status", "verdict")
_ENDS: Final = {
    "ct": "_ct",
    "vertebrae": "_desc-vertebrae_dseg",
    "subregions": "_desc-subregions_dseg",
    "valid": "_desc-valid_mask",
}  # and one of IMAGES
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


def find_series(
    folder: Path, names: Sequence[str], contrast: str, pose: Pose, masks: bool = True
) -> list[Series]:
    """The series of some patients.

    Args:
        contrast: Suffix of the MR.
        pose: "registered": what `spinect register` made and did not reject. "truth": every series
            that was aligned from the start. "auto": registered where its table is there.
        masks: Whether a series in truth needs vertebrae.
    Raises:
        InputError: A file is missing or there twice, or nothing was registered for these patients.
    """
    if pose == "auto":
        pose = "registered" if (folder / REGISTERED / TABLE).is_file() else "truth"
    LOG.info("reading the %s pose of %d patients", pose, len(names))
    if pose == "truth":
        known = {patient.name: patient for patient in find_patients(folder)}
        each = [
            truth_series(folder, known.get(n) or Patient(n, ()), contrast, masks) for n in names
        ]
        return _told_apart([series for several in each for series in several])
    return _told_apart(registered_series(folder, names, contrast))


def truth_series(folder: Path, patient: Patient, contrast: str, masks: bool = True) -> list[Series]:
    """MR, CT, vertebrae and, where there is one, subregions of every series of a patient.

    Args:
        masks: Whether vertebrae are needed.

    Raises:
        InputError: The patient has no MR of this contrast, or none of them has its CT and masks.
    """
    usual = folder / patient.name / "anat" / f"{patient.name}_{contrast}.nii.gz"
    scans = [i for i in patient.images("anat") if i.name.suffix == contrast]
    truth = folder / "derivatives" / "truth" / patient.name
    found, lacking = [], []
    for scan in scans:
        stems = [
            (truth / scan.name.derived("ct", space=space).stem.removesuffix("_ct"), space == "iso")
            for space in ("iso", contrast)
        ]
        stem, iso = next((one for one in stems if _part(one[0], "ct")), stems[1])
        try:
            found.append(Series(scan.name.stem, scan.path, _parts(stem, masks), iso))
        except InputError as error:
            lacking.append(str(error))
    if not found:
        raise InputError(lacking[0] if lacking else _missing(usual))
    for text in lacking:
        LOG.warning("left out: %s", text)
    return found


def registered_series(folder: Path, names: Sequence[str], contrast: str) -> list[Series]:
    """Every registered series of a contrast that was not rejected; the others are told in the log.

    Raises:
        InputError: No table, or none is left of these patients.
    """
    base = folder / REGISTERED
    found, left_out = [], []
    for row in read_rows(base / TABLE, _COLUMNS):
        mr = folder / row["mr"]
        if row["participant_id"] not in names or not row["mr"].lower().endswith(IMAGES):
            continue  # of a patient without an MR the row has no file
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


def _part(stem: Path, part: str) -> Path | None:
    """The file of a part, in whichever format that a dataset folder holds."""
    ends = (stem.with_name(stem.name + _ENDS[part] + end) for end in IMAGES)
    found = [path for path in ends if path.is_file()]
    if len(found) > 1:
        raise InputError(f"{found[0]} and {found[1].name} stand for the same image: remove one")
    return found[0] if found else None


def _parts(stem: Path, masks: bool = True) -> dict[str, Path]:
    found = {part: _part(stem, part) for part in _ENDS}
    for part in _NEEDED if masks else _NEEDED[:1]:
        if found[part] is None:
            raise InputError(_missing(stem.with_name(stem.name + _ENDS[part] + IMAGES[0])))
    return {part: path for part, path in found.items() if path is not None}


def _told_apart(found: list[Series]) -> list[Series]:
    """The same series; two of one name would replace each other when they are prepared."""
    for name, times in Counter(one.name for one in found).items():
        if times > 1:
            files = ", ".join(str(one.mr) for one in found if one.name == name)
            raise InputError(f"{files} stand for the same series {name}: remove one")
    return found


def _there(path: Path) -> Path:
    if not path.is_file():
        raise InputError(_missing(path))
    return path


def _missing(path: Path) -> str:
    return (
        f"{path} is missing: training from a dataset needs MR, CT and masks; without masks it "
        "translates only, with place anywhere and min_pixels 0"
    )
