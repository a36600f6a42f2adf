"""Plain files: two folders with equal names, or a table of paths."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from spinect.errors import GeometryError, InputError
from spinect.geometry import Volume
from spinect.io import read, read_poi
from spinect.io.bids import Name, number_runs
from spinect.io.participants import read_rows
from spinect.io.read import SUFFIXES
from spinect.workflows.importers.case import Case, Planned, subject_label

MASKS: Final = ("vertebrae", "subregions")
_PATHS: Final = ("mr", "ct", *MASKS, "mr_landmarks", "ct_landmarks")
_SERIES: Final = ("contrast", "session", "acquisition", "run", "aligned")
_PERSON: Final = ("patient_id", "split", "site", "sex", "age", "note")
COLUMNS: Final = ("participant_id", *_PATHS, *_SERIES, *_PERSON)


@dataclass(frozen=True)
class Line:
    """One series of a patient and what belongs to it; paths are None where there is nothing.

    Attributes:
        name: Of the MR.
        masks: Of the CT: "vertebrae", "subregions" -> file.
        aligned: The CT lies on the MR's grid.
    """

    name: Name
    mr: Path
    ct: Path | None
    masks: tuple[tuple[str, Path], ...] = ()
    mr_landmarks: Path | None = None
    ct_landmarks: Path | None = None
    aligned: bool = False


def plan_folders(mr: Path, ct: Path, contrast: str, aligned: bool) -> list[Planned]:
    """Patients from two folders whose files have equal names but for the image suffix.

    Raises:
        InputError: A folder is missing, empty, or the names differ; all that differ are named.
    """
    mrs, cts = _stems(mr), _stems(ct)
    if mrs.keys() != cts.keys():
        only = [f"only in {folder.name}: {', '.join(sorted(names)[:8])}"
                for folder, names in ((mr, mrs.keys() - cts.keys()), (ct, cts.keys() - mrs.keys()))
                if names]  # fmt: skip
        raise InputError(
            f"the files of {mr} and {ct} have different names; {'; '.join(only)}: "
            "rename or remove them, or import a table"
        )
    planned = []
    for stem in sorted(mrs):
        subject = subject_label(stem)
        line = Line(Name.make(subject, contrast), mrs[stem], cts[stem], aligned=aligned)
        planned.append(Planned(subject, stem, stem, "", partial(build, subject, (line,))))
    return planned


def _stems(folder: Path) -> dict[str, Path]:
    """Stem -> image file of a folder."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give the folders of the MRs and the CTs")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        end = next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)
        if end is None or path.name.startswith("."):
            continue
        stem = path.name[: -len(end)]
        if stem in found:
            raise InputError(f"{folder}: both {found[stem].name} and {path.name}: remove one")
        found[stem] = path
    if not found:
        raise InputError(f"{folder} holds no image: {', '.join(SUFFIXES)} are read")
    return found


def plan_table(table: Path, contrast: str) -> list[Planned]:
    """Patients from a tab-separated table, one row per MR series; paths relative to the table.

    Args:
        contrast: For rows without one.
    Raises:
        InputError: Unknown or missing columns, missing files, or rows of one patient that
            disagree about the person.
    """
    rows = read_rows(table, ("participant_id", "mr"))
    if unknown := [column for column in (rows[0] if rows else {}) if column not in COLUMNS]:
        raise InputError(
            f"{table}: column {', '.join(unknown)} is not known; columns are {', '.join(COLUMNS)}"
        )
    grouped: dict[str, list[dict[str, str]]] = defaultdict(list)
    for number, row in enumerate(rows, start=2):
        if not row["participant_id"] or not row["mr"]:
            raise InputError(f"{table}: row {number} has no participant_id or no mr")
        _check_files(table, number, row)
        grouped[row["participant_id"]].append(row)
    return [_from_rows(table, name, own, contrast) for name, own in grouped.items()]


def _check_files(table: Path, number: int, row: dict[str, str]) -> None:
    for column in _PATHS:
        if row.get(column) and not (path := table.parent / row[column]).is_file():
            raise InputError(f"{table}: row {number}, {column}: {path} is not there")
    if row.get("aligned", "") not in ("", "yes", "no"):
        raise InputError(f"{table}: row {number}, aligned: {row['aligned']!r} is not yes or no")


def _from_rows(table: Path, source: str, rows: list[dict[str, str]], contrast: str) -> Planned:
    subject = subject_label(source)
    person: dict[str, str] = {}
    for column in _PERSON:
        said = {row[column] for row in rows if row.get(column)}
        if len(said) > 1:
            raise InputError(
                f"{table}: {source} has {column} {' and '.join(sorted(said))}: "
                "all rows of a patient say the same"
            )
        if said:
            person[column] = said.pop()
    names = number_runs(
        Name.make(
            subject,
            row.get("contrast") or contrast,
            ses=row.get("session") or None,
            acq=row.get("acquisition") or None,
            run=row.get("run") or None,
        )
        for row in rows
    )
    lines = tuple(_line(table.parent, name, row) for name, row in zip(names, rows, strict=True))
    who = person.pop("patient_id", source)
    return Planned(
        subject, source, who, person.get("site", ""), partial(build, subject, lines), person
    )


def _line(folder: Path, name: Name, row: dict[str, str]) -> Line:
    def path(column: str) -> Path | None:
        return folder / row[column] if row.get(column) else None

    masks = tuple((m, found) for m in MASKS if (found := path(m)) is not None)
    if row.get("ct", "") == "" and (masks or row.get("ct_landmarks")):
        raise InputError(f"{name.stem}: masks or ct_landmarks without a ct")
    aligned = row.get("aligned") == "yes"
    if aligned and row.get("ct_landmarks"):
        raise InputError(f"{name.stem}: an aligned CT needs no ct_landmarks: leave them out")
    mr, ct = folder / row["mr"], path("ct")
    return Line(name, mr, ct, masks, path("mr_landmarks"), path("ct_landmarks"), aligned)


def build(subject: str, lines: Iterable[Line]) -> Case:
    """Read one patient; a CT that several series share is written once.

    Raises:
        InputError: A file that cannot be used.
        GeometryError: A mask on another grid than its CT, or an aligned CT off the MR's grid.
    """
    case = Case(subject)
    scans: dict[Path, Line] = {}
    for line in lines:
        mr = read(line.mr, "mr")
        case.add(line.name, mr)
        if line.mr_landmarks:
            case.add_points(line.name, read_poi(line.mr_landmarks, mr.grid))
        if line.ct is None:
            continue
        if line.aligned:
            _add_aligned(case, line, mr)
        else:
            scans.setdefault(line.ct.resolve(), line)
    session = [line.name.get("ses") for line in scans.values()]
    names = number_runs(Name.make(subject, "ct", ses=s) for s in session)
    for name, line in zip(names, scans.values(), strict=True):
        _add_ct(case, name, line)
    return case


def _add_aligned(case: Case, line: Line, mr: Volume) -> None:
    assert line.ct is not None
    space = line.name.suffix
    case.add_aligned(line.name.derived("ct", space=space), read(line.ct, "ct"), mr)
    for desc, path in line.masks:
        mask = read(path, "labels")
        case.add_aligned(line.name.derived("dseg", space=space, desc=desc), mask, mr)


def _add_ct(case: Case, name: Name, line: Line) -> None:
    assert line.ct is not None
    ct = read(line.ct, "ct")
    case.add(name, ct)
    if line.ct_landmarks:
        case.add_points(name, read_poi(line.ct_landmarks, ct.grid))
    for desc, path in line.masks:
        mask = read(path, "labels")
        if not mask.grid.matches(ct.grid):
            raise GeometryError(
                f"{path.name} lies on {mask.grid}, {line.ct.name} on {ct.grid}: "
                "resample the mask onto the CT"
            )
        case.add(name.derived("dseg", desc=desc), mask)
