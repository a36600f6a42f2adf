"""Tables over methods: means over patients with spread, ranks, and marks of significance."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from spinect.errors import InputError
from spinect.evaluation.measures import MEASURES
from spinect.evaluation.stats.compare import Comparison, Test, adjust, compare, patient_means
from spinect.evaluation.stats.intervals import Interval, bca, cluster_bootstrap
from spinect.evaluation.tables.gather import Column, Gathered, gather
from spinect.evaluation.tables.notes import Notes, about, merged, missing
from spinect.evaluation.tables.tidy import Tidy

_MARKS: Final = ((0.001, "***"), (0.01, "**"), (0.05, "*"))


@dataclass(frozen=True)
class Method:
    """A row.

    Attributes:
        name: As in the tidy rows.
        title: As printed; "" prints the name.
        stopped: Text instead of figures, such as "not converged (1,200 of 2,000 updates)".
        ranked: False for what is no competitor (a ceiling, an oracle floor), or where there are too
            few seeds to rank: neither best nor second, and never tested.
    """

    name: str
    title: str = ""
    stopped: str = ""
    ranked: bool = True


@dataclass(frozen=True)
class Against:
    """The method that the others are tested against."""

    method: str
    test: Test = "wilcoxon"


@dataclass(frozen=True)
class Cell:
    """One method in one column.

    Attributes:
        mean: NaN without any value.
        sd: Sample standard deviation (n - 1) over patients, or over all values in a pooled column;
            NaN for one value.
        interval: 95 % of the mean; None in a table of standard deviations.
        n, n_values: Patients and values behind it.
        rank: 1 best, 2 second best, 0 neither; equal as printed is equal.
        mark: "*" and so on.
        text: Printed instead of the figures.
    """

    mean: float
    sd: float
    interval: Interval | None
    n: int
    n_values: int
    rank: int = 0
    mark: str = ""
    text: str = ""


@dataclass(frozen=True)
class Table:
    """Rows are methods; `cells` is (methods, columns), `comparisons` one group for each column."""

    columns: tuple[Column, ...]
    methods: tuple[Method, ...]
    cells: tuple[tuple[Cell, ...], ...]
    comparisons: tuple[tuple[Comparison, ...], ...]
    notes: tuple[str, ...]


def make_table(
    rows: Sequence[Tidy],
    columns: Sequence[Column],
    methods: Sequence[Method],
    *,
    spread: Literal["sd", "interval"] = "interval",
    against: Against | None = None,
    notes: Sequence[str] = (),
) -> Table:
    """Average within patients, then over patients; rank, test, and count what is missing.

    Ranks are given where all ranked methods stand on the same patients; otherwise a note says why
    not. Marks compare every ranked method with the reference over the patients that both have, with
    Holm's correction over the tests of the column.

    Args:
        rows: Values of all methods; those of methods that are not listed are no part of this table.
        notes: Put under the table after its own: judge, "phantom data", seeds.
    Raises:
        InputError: No columns or methods, one method twice, a reference that is not among them, a
            column without rows, or a value that is there twice.
    """
    names = [method.name for method in methods]
    if not columns or not names or len(set(names)) < len(names):
        raise InputError(f"a table needs columns and methods, each once, got {', '.join(names)}")
    if against is not None and against.method not in names:
        raise InputError(f"the reference {against.method!r} is not one of {', '.join(names)}")
    said: Notes = []
    by_column, tests = [], []
    for column in columns:
        found = gather(rows, column, [m.name for m in methods if not m.stopped])
        cells = {m.name: _cell(column, found.get(m.name), m, spread) for m in methods}
        said += missing(column, found) + _interval_notes(column, cells.values())
        cells, ranking = _ranked(column, cells, found, methods)
        made = _compared(column, found, methods, against) if against else []
        said += ranking + [(column.name, f"{one.first}: {one.note}") for one in made if one.note]
        for one in made:
            cells[one.first] = replace(cells[one.first], mark=_mark(one.p_adjusted))
        by_column.append([cells[name] for name in names])
        tests.append(tuple(made))
    text = [about(columns, spread), *merged(said, columns)]
    text += _about_marks(against, tests) if against else []
    cells_by_method = tuple(zip(*by_column, strict=True))
    return Table(tuple(columns), tuple(methods), cells_by_method, tuple(tests), (*text, *notes))


def _cell(column: Column, found: Gathered | None, method: Method, spread: str) -> Cell:
    nan = math.nan
    if found is None or not found.values:
        return Cell(nan, nan, None, 0, 0, text=method.stopped or "—")
    pool, n = found.pool, len(found.values)
    if not np.isfinite(pool).all():  # a PSNR of equal images is infinite, and so is the mean
        signs = {value for value in pool if math.isinf(value)}
        return Cell(signs.pop() if len(signs) == 1 else nan, nan, None, n, len(pool))
    values = pool if column.pooled else list(patient_means(found.values).values())
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else nan
    interval = None
    if spread == "interval":
        interval = cluster_bootstrap(found.values) if column.pooled else bca(values)
    return Cell(float(np.mean(values)), sd, interval, n, len(pool))


def _ranked(
    column: Column,
    cells: dict[str, Cell],
    found: dict[str, Gathered],
    methods: Sequence[Method],
) -> tuple[dict[str, Cell], Notes]:
    """Best and second best among the ranked methods, by the printed value."""
    better = MEASURES[column.metric].better
    rivals = [m.name for m in methods if m.ranked and not math.isnan(cells[m.name].mean)]
    if better == "neither" or len(rivals) < 2:
        return cells, []
    if len({frozenset(found[name].values) for name in rivals}) > 1:
        return cells, [(column.name, "not ranked, the methods stand on different patients")]

    def badness(name: str) -> float:
        mean = cells[name].mean
        printed = mean if math.isinf(mean) else float(column.shown(mean))
        return {"lower": printed, "higher": -printed, "zero": abs(printed)}[better]

    order = sorted({badness(name) for name in rivals})
    if len(order) == 1:
        return cells, [(column.name, "not ranked, all methods are equal as printed")]
    place = {value: rank for rank, value in enumerate(order[:2], 1)}
    ranks = {name: place.get(badness(name), 0) for name in rivals}
    return {k: replace(c, rank=ranks.get(k, 0)) for k, c in cells.items()}, []


def _compared(
    column: Column, found: dict[str, Gathered], methods: Sequence[Method], against: Against
) -> list[Comparison]:
    """Every ranked method with figures against the reference."""
    if MEASURES[column.metric].better == "neither" or against.method not in found:
        return []
    finite = {
        name: {k: v for k, v in one.values.items() if np.isfinite(v).all()}
        for name, one in found.items()
    }
    base = finite[against.method]
    made = [
        compare(finite[m.name], base, names=(m.name, against.method), test=against.test)
        for m in methods
        if m.ranked and m.name != against.method and finite.get(m.name, {}).keys() & base.keys()
    ]
    return adjust(made, "Holm")


def _mark(p: float) -> str:
    return next((mark for limit, mark in _MARKS if p < limit), "")


def _interval_notes(column: Column, cells: Iterable[Cell]) -> Notes:
    notes = [cell.interval.note for cell in cells if cell.interval and cell.interval.note]
    return [(column.name, note) for note in dict.fromkeys(notes)]


def _about_marks(against: Against, tests: Sequence[Sequence[Comparison]]) -> list[str]:
    made = [one for group in tests for one in group]
    if not made:
        return [f"No tests: {against.method} has no figures, or nothing can be compared with it."]
    counts = sorted({one.n for one in made})
    n = str(counts[0]) if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"
    return [
        f"*, **, ***: p < 0.05, 0.01, 0.001 against {against.method}, {made[0].test} on patients "
        f"(n = {n}), Holm's correction over the tests of a column."
    ]
