"""`spinect evaluate`: pair, check, score, then tables, report and record."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from spinect.errors import ConfigError, InputError
from spinect.evaluation.tables import Tidy
from spinect.workflows.evaluate.cases import (
    NO_RESULT,
    STORE,
    Job,
    JudgeMasks,
    Outcome,
    Task,
    do_job,
)
from spinect.workflows.evaluate.guards import Verdict, judge_inputs
from spinect.workflows.evaluate.judge import Judge
from spinect.workflows.evaluate.options import EvaluateOptions
from spinect.workflows.evaluate.results import Method, find_methods
from spinect.workflows.evaluate.score import CEILING
from spinect.workflows.evaluate.truth import Cohort, Series, find_cohort
from spinect.workflows.failures import exit_code, reason
from spinect.workflows.record import Stopwatch

Tell = Callable[[Outcome, int, int], None]  # outcome, number of it, number of all
THREADS: Final = 2  # of a single worker


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
    """
    with watch.stage("check"):
        cohort = find_cohort(dataset, options.split, options.contrasts)
        methods = find_methods(results)
        _check_names(methods, options)
        expected = expected_series(cohort, methods, options.one_series)
        cohort = replace(cohort, series=tuple(expected))
        verdict = judge_inputs(dataset, cohort, methods)
    judge = Judge(options.judge, out) if options.judge else None
    with watch.stage("judge"):
        warnings = [*cohort.warnings, *verdict.warnings]
        warnings += _not_independent(judge, methods) if judge else []
        jobs = [_job(s, methods, verdict, judge, options, out) for s in cohort.series]
    with watch.stage("score"):
        outcomes = _work(jobs, options.workers, tell)
    rows = [row for outcome in outcomes for row in outcome.rows]
    return Scores(
        cohort,
        methods,
        tuple(outcomes),
        (*rows, *undefined(rows, outcomes)),
        (judge.name, judge.sha256) if judge else None,
        tuple(warnings),
    )


def expected_series(
    cohort: Cohort, methods: Mapping[str, Method], one_series: bool
) -> list[Series]:
    """The series of which every method must have a result.

    Args:
        one_series: One for each patient: the first that any method has, else the first of all.
    Raises:
        InputError: No method has a result of any of them.
    """
    have = {name for method in methods.values() for name in method.made}
    if not have & {series.name for series in cohort.series}:
        raise InputError(
            f"no result belongs to a series that is scored: results are {', '.join(sorted(have)[:3])}"
            f", series {', '.join(s.name for s in cohort.series[:3])}; results keep the name of "
            "the MR, and only one side of the split is scored (--split)"
        )
    if not one_series:
        return list(cohort.series)
    chosen: dict[str, Series] = {}
    for series in sorted(cohort.series, key=lambda s: s.name not in have):
        chosen.setdefault(series.patient, series)
    return [series for series in cohort.series if chosen[series.patient] is series]


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


def _check_names(methods: Mapping[str, Method], options: EvaluateOptions) -> None:
    if CEILING in methods:
        raise ConfigError(f"no method may be called {CEILING!r}, the truth is: rename its folder")
    if options.reference is not None and options.reference not in methods:
        raise ConfigError(
            f"--reference {options.reference!r} is not among the methods {', '.join(methods)}"
        )


def _not_independent(judge: Judge, methods: Mapping[str, Method]) -> list[str]:
    """Methods whose own run used the judge's weights."""
    used = []
    for method in methods.values():
        for made in method.made.values():
            record = None if made.run is None else made.record()
            if record and judge.sha256 in {model.sha256 for model in record.models}:
                used.append(method.name)
                break
    if not used:
        return []
    return [
        f"the judge {judge.name} also made the masks of {', '.join(used)}: as a judge of their "
        "CT it is not independent"
    ]


def _job(
    series: Series,
    methods: Mapping[str, Method],
    verdict: Verdict,
    judge: Judge | None,
    options: EvaluateOptions,
    out: Path,
) -> Job:
    """What is to be done for one series; the judge segments here, where it is loaded once."""
    tasks = [Task(CEILING)] if "strict" in options.protocols else []
    for method in methods.values():
        made = method.made.get(series.name)
        refused = verdict.leaked.get(series.name) or verdict.refused.get((method.name, series.name))
        if made is not None and not refused and (lack := method.kinds - made.images.keys()):
            refused = f"{series.name}: incomplete, no {', '.join(sorted(lack))}; run it again"
        judged = None
        if judge is not None and not refused and "ct_iso" in method.kinds and series.iso.masks:
            files = None
            if made is not None and made.ct_iso is not None:
                try:
                    judge.masks(made.ct_iso)
                    files = judge.files(made.ct_iso)
                except Exception as problem:  # a CT that the judge cannot take fails this case only
                    refused = reason(problem, series.name, "out of memory in the judge")
            judged = JudgeMasks(judge.name, judge.sha256, files)
        tasks.append(Task(method.name, made, judged, refused or ""))
    threads = THREADS if options.workers == 1 else 1
    return Job(series, tuple(tasks), options.protocols, out / STORE, options.resume, threads)


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
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            for found in pool.map(do_job, jobs):
                note(found)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return outcomes
