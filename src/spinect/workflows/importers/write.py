"""Planned patients into a dataset folder: each one whole or not at all, the others go on."""

import logging
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import spinect
from spinect.errors import InputError, OutputError, SpinectError, SpinectWarning
from spinect.io import write_json, write_table
from spinect.io.participants import SPLITS, two_sides
from spinect.io.splits import draw_splits
from spinect.workflows.importers.case import Case, Planned

log = logging.getLogger(__name__)

DEFAULT_SHARES: Final = {"train": 0.7, "validation": 0.15, "test": 0.15}
_STAGE: Final = ".import.part"


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes:
        folder: The dataset.
        done: Source name -> notes. rejected: Source name -> reason.
    """

    folder: Path
    done: Mapping[str, Sequence[str]]
    rejected: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """Machine-readable."""
        return {
            "folder": str(self.folder),
            "imported": {name: list(notes) for name, notes in self.done.items()},
            "rejected": dict(self.rejected),
        }


def write_dataset(
    planned: Sequence[Planned],
    out: Path,
    importer: str,
    shares: Mapping[str, float] | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Imported:
    """Write the patients, then participants.tsv with the split, then import.json.

    Args:
        out: New or empty folder.
        shares: Split -> share, drawn over whole persons within each stratum; for patients whose
            row has no split of its own.
    Raises:
        OutputError: `out` holds something.
        InputError: No patient, two of one name, or none that could be imported.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} is not an empty folder: choose another or remove it")
    _check_names(planned)
    done: dict[str, Sequence[str]] = {}
    rejected: dict[str, str] = {}
    for one in planned:
        if progress is not None:
            progress(one.source)
        try:
            done[one.source] = _write(one, out)
        except SpinectError as error:
            log.info("rejected %s: %s", one.source, error)
            rejected[one.source] = " ".join(str(error).split())
    shutil.rmtree(out / _STAGE, ignore_errors=True)
    result = Imported(out, done, rejected)
    if not done:
        first = next(iter(rejected.items()))
        raise InputError(f"none of {len(planned)} patients could be imported; {first[0]}: "
                         f"{first[1]}")  # fmt: skip
    _tables([p for p in planned if p.source in done], result, shares or DEFAULT_SHARES, seed)
    record = {"importer": importer, "spinect": spinect.__version__, "seed": seed}
    write_json(record | result.as_json() | {"folder": out.name}, out / "import.json")
    return result


def _check_names(planned: Sequence[Planned]) -> None:
    if not planned:
        raise InputError("no patient was found in the source: check its layout")
    for subject, times in Counter(p.subject.lower() for p in planned).items():
        if times > 1:
            same = [p.source for p in planned if p.subject.lower() == subject]
            raise InputError(
                f"{' and '.join(same)} would both be sub-{subject}: rename or remove one"
            )
    rows = [{"participant_id": p.source, "patient_id": p.person} | dict(p.row) for p in planned]
    if cut := two_sides(rows, {}):
        raise InputError(f"{cut[0]}: give the person one split")
    for row in rows:
        if row.get("split", "") not in ("", *SPLITS):
            raise InputError(
                f"{row['participant_id']}: split {row['split']!r} is not one of {', '.join(SPLITS)}"
            )


def _write(one: Planned, out: Path) -> list[str]:
    """Write one patient beside its place and move it there; the raw folder comes last."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        case: Case = one.build()
    notes = [str(w.message) for w in caught if issubclass(w.category, SpinectWarning)]
    stage = out / _STAGE / one.subject
    shutil.rmtree(stage, ignore_errors=True)
    try:
        case.write(stage)
        name = f"sub-{one.subject}"
        derived = sorted((stage / "derivatives").glob(f"*/{name}"))
        for folder in [*derived, stage / name]:
            target = out / folder.relative_to(stage)
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.replace(target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return [*notes, *case.notes]


def _tables(
    planned: Sequence[Planned], result: Imported, shares: Mapping[str, float], seed: int
) -> None:
    """participants.tsv and dataset_description.json of those that were imported."""
    own = {p.person: p.row["split"] for p in planned if p.row.get("split")}
    free = {p.subject: (p.person, p.stratum) for p in planned if p.person not in own}
    drawn = draw_splits(free, shares, seed)
    rows = []
    for one in planned:
        split = drawn[one.subject] if one.subject in drawn else own[one.person]
        fixed = {"participant_id": f"sub-{one.subject}", "patient_id": one.person, "split": split,
                 "source": one.source}  # fmt: skip
        rest = {k: v for k, v in one.row.items() if k not in fixed and v}
        rows.append(fixed | rest)
    write_table(rows, result.folder / "participants.tsv")
    description = {
        "Name": result.folder.name,
        "BIDSVersion": "1.10.0",
        "DatasetType": "raw",
        "GeneratedBy": [{"Name": "spinect", "Version": spinect.__version__}],
    }
    write_json(description, result.folder / "dataset_description.json")
