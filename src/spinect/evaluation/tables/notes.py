"""What stands under a table: what the figures are, and what is missing, counted."""

from collections import Counter
from collections.abc import Sequence

from spinect.evaluation.tables.gather import Column, Gathered

Notes = list[tuple[str, str]]  # (column, text)


def missing(column: Column, found: dict[str, Gathered]) -> Notes:
    """What is not defined and what was scored as missing, counted for each method."""
    notes = []
    for name, one in found.items():
        if one.undefined:
            total = len(one.pool) + one.undefined.total()
            text = f"{name}: {one.undefined.total()} of {total} values not defined"
            notes.append((column.name, f"{text} ({_counted(one.undefined)})"))
        if one.remarks:
            notes.append((column.name, f"{name}: {_counted(one.remarks)}"))
        if not one.pool and not one.undefined:
            notes.append((column.name, f"{name}: no values"))
    return notes


def _counted(reasons: Counter[str], most: int = 3) -> str:
    """Reasons with their counts, the most frequent first."""
    order = sorted(reasons.items(), key=lambda one: (-one[1], one[0]))
    shown = [f"{text} × {count}" for text, count in order[:most]]
    rest = sum(count for _, count in order[most:])
    return ", ".join(shown + ([f"other × {rest}"] if rest else []))


def merged(said: Notes, columns: Sequence[Column]) -> list[str]:
    """One line for each text, with the columns that it is about."""
    places: dict[str, list[str]] = {}
    for column, text in said:
        places.setdefault(text, [])
        if column not in places[text]:
            places[text].append(column)
    every = {column.name for column in columns}
    return [
        f"{'All columns' if set(where) == every and len(every) > 1 else '; '.join(where)}: {text}."
        for text, where in places.items()
    ]


def about(columns: Sequence[Column], spread: str) -> str:
    """What the figures are."""
    what = "Mean ± SD" if spread == "sd" else "Mean [95 % bootstrap interval]"
    pooled = [column.name for column in columns if column.pooled]
    if not pooled:
        return f"{what} over patients; n counts patients."
    how = "" if spread == "sd" else ", intervals by resampling patients"
    if len(pooled) == len(columns):
        return f"{what} over all values of all patients{how}; n counts patients."
    some = f"in {'; '.join(pooled)} over all their values{how}"
    return f"{what} over patients, {some}; n counts patients."
