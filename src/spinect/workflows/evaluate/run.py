"""Pair, check and score; one process or several."""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from spinect.errors import ResourceError
from spinect.evaluation.tables import Tidy
from spinect.report.evaluation.plots import NO_RESULT
from spinect.workflows.evaluate.cases import Job, Outcome, do_job
from spinect.workflows.evaluate.guards import judge_inputs
from spinect.workflows.evaluate.judge import Judge
from spinect.workflows.evaluate.options import EvaluateOptions
from spinect.workflows.evaluate.pairing import (
    check_names,
    expected_series,
    make_job,
    not_independent,
)
from spinect.workflows.evaluate.results import Method, find_methods
from spinect.workflows.evaluate.score import CEILING
from spinect.workflows.evaluate.truth import Cohort, find_cohort
from spinect.workflows.failures import exit_code
from spinect.workflows.record import Stopwatch

Tell = Callable[[Outcome, int, int], None]  # outcome, number of it, number of all


@dataclass(frozen=True)
class Scores:
    """Everything that was measured.

    Attributes:
        cohort: The series and their truth. methods: As found.
        outcomes: One per method and series, ceilings included.
        rows: Tidy values; undefined ones of missing and failed results included, with the reason.
        judge: (name, sha256) of the judge, if one was asked.
        warnings: Of pairing and checking.
    """

    cohort: Cohort
    methods: Mapping[str, Method]
    outcomes: tuple[Outcome, ...]
    rows: tuple[Tidy, ...]
    judge: tuple[str, str] | None
    warnings: tuple[str, ...]

    @property
    def phantom(self) -> bool:
        """Whether every scored patient is a phantom."""
        return all(series.phantom for series in self.cohort.series)

    @property
    def exit_code(self) -> int:
        """0 all scored, missing ones too; 1 the only one or every one failed, 3 some did."""
        return exit_code([o.status for o in self.outcomes if o.method != CEILING])

    def count(self, status: str, method: str | None = None) -> int:
        """Outcomes of a status, of one method or of all; ceilings do not count."""
        own = (o for o in self.outcomes if o.method != CEILING and method in (None, o.method))
        return sum(o.status == status for o in own)


def score_results(
    dataset: Path,
    results: Path,
    out: Path,
    options: EvaluateOptions,
    watch: Stopwatch,
    tell: Tell | None = None,
) -> Scores:
    """Pair results with truth and score every one; what fails does not stop the others.

    Args:
        out: Folder of the values and of the judge's masks that are kept.
    Raises:
        InputError: No dataset or result, a person on two sides of the split, nothing in common.
        ConfigError: An unknown reference method, or a method called like the ceiling.
        BundleError: An unknown judge.
        ResourceError: A worker process was killed.
    """
    with watch.stage("check"):
        cohort = find_cohort(dataset, options.split, options.contrasts)
        methods = find_methods(results)
        check_names(methods, options)
        expected = expected_series(cohort, methods, options.one_series)
        cohort = replace(cohort, series=tuple(expected))
        verdict = judge_inputs(dataset, cohort, methods)
    judge = Judge(options.judge, out) if options.judge else None
    with watch.stage("judge"):
        warnings = [*cohort.warnings, *verdict.warnings]
        warnings += not_independent(judge, methods) if judge else []
        jobs = [make_job(s, methods, verdict, judge, options, out) for s in cohort.series]
    with watch.stage("score"):
        outcomes = _work(jobs, options.workers, tell)
    rows = [row for outcome in outcomes for row in outcome.rows]
    warnings += [f"{o.method}, {o.series.name}: {text}" for o in outcomes for text in o.warnings]
    return Scores(
        cohort,
        methods,
        tuple(outcomes),
        (*rows, *undefined(rows, outcomes)),
        (judge.name, judge.sha256) if judge else None,
        tuple(warnings),
    )


def undefined(rows: Sequence[Tidy], outcomes: Sequence[Outcome]) -> Iterator[Tidy]:
    """Rows without a number for what a missing or failed result of a method lacks.

    So the tables count them: a missing result has no HU, a failed one has nothing.
    """
    shapes: dict[str, dict[tuple[str, str, str, str], None]] = {}
    for row in rows:
        if not row.item:
            key = (row.protocol, row.space, row.region, row.metric)
            shapes.setdefault(row.method, {})[key] = None
    for outcome in outcomes:
        if outcome.status not in ("missing", "failed"):
            continue
        own = {(r.protocol, r.space, r.region, r.metric) for r in outcome.rows if not r.item}
        note = NO_RESULT if outcome.status == "missing" else "failed"
        series = outcome.series
        for protocol, space, region, metric in shapes.get(outcome.method, {}):
            if (protocol, space, region, metric) not in own:
                yield Tidy(outcome.method, protocol, space, series.patient, series.name, region,
                           "", metric, float("nan"), note)  # fmt: skip


def _work(jobs: Sequence[Job], workers: int, tell: Tell | None) -> list[Outcome]:
    """All jobs, in their order."""
    outcomes: list[Outcome] = []
    total = sum(len(job.tasks) for job in jobs)

    def note(found: Sequence[Outcome]) -> None:
        for outcome in found:
            outcomes.append(outcome)
            if tell:
                tell(outcome, len(outcomes), total)

    if workers == 1:
        for job in jobs:
            note(do_job(job))
        return outcomes
    # Fresh processes: the threads of this one (networks, interpolation) do not survive a fork.
    # Ctrl-C reaches them too; this process decides what becomes of it.
    with ProcessPoolExecutor(
        workers, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN)
    ) as pool:
        try:
            for found in pool.map(do_job, jobs):
                note(found)
        except BrokenProcessPool as problem:
            raise ResourceError(
                f"one of {workers} worker processes was killed, most likely for want of memory: "
                "start again with fewer --workers and --resume, what was scored is kept"
            ) from problem
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return outcomes
