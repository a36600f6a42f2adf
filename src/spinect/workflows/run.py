"""Many cases with one loaded model; what fails does not stop the others."""

import csv
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from spinect.errors import OutputError
from spinect.io import write_table
from spinect.workflows.case import Outcome, Watcher, run_case
from spinect.workflows.engine import Engine, Need
from spinect.workflows.failures import exit_code, reason
from spinect.workflows.options import RunOptions, human_size
from spinect.workflows.planning import Case, Plan, plan
from spinect.workflows.shipped import load_engine

log = logging.getLogger(__name__)

COHORT_COLUMNS: Final = (
    "input",
    "outputs",
    "status",
    "seconds",
    "vertebrae",
    "confidence",
    "level_source",
    "warnings",
    "error",
)


@dataclass(frozen=True)
class Summary:
    """What became of all cases, in order."""

    outcomes: tuple[Outcome, ...]

    @property
    def exit_code(self) -> int:
        """0 all done or kept, 1 the only case or every case failed, 3 some of several failed."""
        return exit_code([outcome.status for outcome in self.outcomes])

    def as_json(self) -> dict[str, Any]:
        """Machine-readable: one entry per case, the run record inside."""
        return {
            "schema_version": "1.0",
            "exit_code": self.exit_code,
            "cases": [
                {
                    "input": str(outcome.case.source),
                    "folder": str(outcome.case.folder),
                    "status": outcome.status,
                    "seconds": outcome.seconds,
                    "error": outcome.error,
                    "record": outcome.record.model_dump(mode="json") if outcome.record else None,
                }
                for outcome in self.outcomes
            ],
        }


def run_files(
    inputs: Sequence[Path],
    out: Path,
    options: RunOptions,
    *,
    table: Path | None = None,
    root: Path | None = None,
    shard: tuple[int, int] | None = None,
    watcher: Watcher | None = None,
) -> Summary:
    """What `spinect run` does: plan, load the models once, do every case.

    Arguments as in `planning.plan`.

    Raises:
        SpinectError: Before the first case: a plan that cannot begin, an unknown or damaged model,
            less memory than the smallest tile needs.
    """
    planned = plan(inputs, out, options, table=table, root=root, shard=shard)
    engine = load_engine(options)
    if watcher:
        grids = [case.grid for case in planned.cases if case.grid is not None]
        needs = [engine.need(grid, options) for grid in grids] or [Need(0)]
        memory = max(need.memory_bytes for need in needs)
        watcher.planned(planned, Need(memory, max(need.temporary_bytes for need in needs)))
    return run_many(planned, engine, watcher)


def run_many(plan: Plan, engine: Engine, watcher: Watcher | None = None) -> Summary:
    """Do all cases of a plan, and keep `cohort.tsv` up to date after each of several.

    A case that fails leaves its reason in the table and in the summary; the others go on.
    """
    outcomes: list[Outcome] = []
    former = _former(plan.cohort) if plan.cohort else {}
    clock = _Clock(plan.cases)
    for case in plan.cases:
        if watcher:
            watcher.begin(case)
        start = time.perf_counter()
        try:
            outcome = run_case(case, engine, watcher)
        except Exception as problem:  # the one place where a case may fail in any way, see _reason
            spent = round(time.perf_counter() - start, 3)
            outcome = Outcome(case, "failed", spent, error=_reason(problem, case))
        outcomes.append(outcome)
        clock.note(outcome)
        if plan.cohort:
            former |= {row["input"]: row for row in [_row(outcome, plan.out)]}
            write_table(list(former.values()), plan.cohort, COHORT_COLUMNS)
        if watcher:
            watcher.end(outcome, len(outcomes), clock.remaining())
    return Summary(tuple(outcomes))


class _Clock:
    """Remaining time at the pace of the cases done so far; kept and failed ones teach nothing."""

    def __init__(self, cases: Iterable[Case]) -> None:
        self._left = {id(case): _weight(case) for case in cases}
        self._seconds = self._weight = 0.0

    def note(self, outcome: Outcome) -> None:
        weight = self._left.pop(id(outcome.case))
        if outcome.status == "done":
            self._seconds += outcome.seconds
            self._weight += weight

    def remaining(self) -> float | None:
        """Seconds for the cases that are left; None before the first one is done."""
        if not self._left:
            return 0.0
        if self._weight == 0:
            return None
        return self._seconds / self._weight * sum(self._left.values())


def _weight(case: Case) -> float:
    """Work grows with the imaged volume, mm3: the networks see 1 mm voxels."""
    return float(case.grid.extent.prod()) if case.grid else 0.0


def _reason(problem: Exception, case: Case) -> str:
    need = f", about {human_size(case.grid.extent.prod() * 64)}" if case.grid else ""
    memory = f"out of memory{need}: lower --max-memory or crop the image"
    return reason(problem, case.source.name, memory)


def _row(outcome: Outcome, out: Path) -> dict[str, Any]:
    record = outcome.record
    return {
        "input": str(outcome.case.source),
        "outputs": str((outcome.case.folder / outcome.case.stem).relative_to(out)),
        "status": outcome.status,
        "seconds": outcome.seconds,
        "vertebrae": " ".join(record.vertebrae) if record else None,
        "confidence": record.confidence if record else None,
        "level_source": record.level_source if record else None,
        "warnings": " | ".join(record.warnings) if record else None,
        "error": outcome.error,
    }


def _former(table: Path) -> dict[str, dict[str, Any]]:
    """Rows of an earlier run into the same folder, by input; they stay unless done again."""
    if not table.exists():
        return {}
    with table.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    if rows and set(rows[0]) != set(COHORT_COLUMNS):
        raise OutputError(
            f"{table} has other columns than this version writes: move it away, or choose "
            "another --out"
        )
    return {row["input"]: dict(row) for row in rows}
