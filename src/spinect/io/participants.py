"""Who is in a dataset, and the split that never cuts a person.

Several participants may be one person (one entry per contrast, or per visit): the column
`patient_id` of participants.tsv says so, and the split follows the person.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spinect.errors import InputError

Row = Mapping[str, str]
SPLITS: Final = ("train", "validation", "test")


def read_rows(path: Path, needed: Sequence[str] = ()) -> list[dict[str, str]]:
    """The rows of a tab-separated table; "n/a" and missing cells become "".

    Raises:
        InputError: Missing, empty, a missing column, or a row of another length.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: write it, with the columns {', '.join(needed)}")
    lines = [s.split("\t") for s in path.read_text("utf-8-sig").splitlines() if s.strip()]
    heads = [head.strip() for head in lines[0]] if lines else []
    if missing := [column for column in needed if column not in heads]:
        raise InputError(
            f"{path}: no column {', '.join(missing)}; it has {', '.join(heads) or 'none'}: "
            "add it, columns are separated by tabs"
        )
    if repeated := [head for head, times in Counter(heads).items() if times > 1]:
        raise InputError(f"{path}: column {repeated[0]!r} stands there twice: remove one")
    for number, cells in enumerate(lines[1:], start=2):
        if len(cells) != len(heads):
            raise InputError(f"{path}: row {number} has {len(cells)} cells, not {len(heads)}")
    clean = [["" if c.strip() == "n/a" else c.strip() for c in cells] for cells in lines[1:]]
    return [dict(zip(heads, cells, strict=True)) for cells in clean]


@dataclass(frozen=True)
class TwoSides:
    """One person on two sides of the split: `sides` is split -> what lies there."""

    person: str
    sides: Mapping[str, tuple[str, ...]]

    def __str__(self) -> str:
        where = "; ".join(f"{split}: {', '.join(what)}" for split, what in self.sides.items())
        return f"{self.person} is on {len(self.sides)} sides of the split ({where})"


def two_sides(rows: Iterable[Row], scans: Mapping[str, Iterable[Row]]) -> list[TwoSides]:
    """Every person that the split cuts.

    Args:
        rows: Of participants.tsv. The person is `patient_id` where that column is filled.
        scans: participant_id -> rows of its scans.tsv; a `split` there counts for that file.
    """
    where: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        name = row["participant_id"]
        sides = where[row.get("patient_id") or name]
        own = row.get("split", "")
        files = [(s.get("filename", "?"), s.get("split", "")) for s in scans.get(name, ())]
        for file, split in [(name, own), *files]:
            if split:
                sides[split].append(file)
    return [
        TwoSides(person, {split: tuple(what) for split, what in sides.items()})
        for person, sides in where.items()
        if len(sides) > 1
    ]


def people(folder: Path) -> dict[str, str]:
    """participant_id -> person: its `patient_id` where that column is filled, else itself.

    Raises:
        InputError: No usable participants.tsv.
    """
    rows = read_rows(folder / "participants.tsv", ("participant_id",))
    return {row["participant_id"]: row.get("patient_id") or row["participant_id"] for row in rows}


def read_scans(folder: Path, names: Iterable[str]) -> dict[str, list[dict[str, str]]]:
    """participant_id -> rows of ``sub-X/sub-X_scans.tsv``, for those that have one."""
    paths = {name: folder / name / f"{name}_scans.tsv" for name in names}
    return {k: read_rows(p, ("filename",)) for k, p in paths.items() if p.is_file()}


def patient_splits(folder: Path) -> dict[str, str]:
    """participant_id -> split; the one place that a loader asks, and it never cuts a person.

    Raises:
        InputError: No usable participants.tsv, a participant listed twice, or a person whose
            series or participants stand on two sides of the split.
    """
    rows = read_rows(folder / "participants.tsv", ("participant_id", "split"))
    names = [row["participant_id"] for row in rows]
    if repeated := [name for name, times in Counter(names).items() if times > 1]:
        raise InputError(f"{folder / 'participants.tsv'}: {repeated[0]} is listed twice")
    if cut := two_sides(rows, read_scans(folder, names)):
        raise InputError(
            f"{folder}: {cut[0]}: training would be tested on its own patient; "
            "give the person one split"
        )
    return {row["participant_id"]: row["split"] for row in rows}
