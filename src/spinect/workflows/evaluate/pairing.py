"""Which result belongs to which series, and what is then to be done."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from spinect.errors import ConfigError, InputError
from spinect.workflows.evaluate.cases import STORE, Job, JudgeMasks, Task
from spinect.workflows.evaluate.guards import Verdict
from spinect.workflows.evaluate.judge import Judge
from spinect.workflows.evaluate.options import EvaluateOptions
from spinect.workflows.evaluate.results import Method
from spinect.workflows.evaluate.score import CEILING
from spinect.workflows.evaluate.truth import Cohort, Series
from spinect.workflows.failures import reason
from spinect.workflows.options import listed

log = logging.getLogger(__name__)
THREADS: Final = 2  # of a single worker


def check_names(methods: Mapping[str, Method], options: EvaluateOptions) -> None:
    """Refuse an unknown reference, and a method called like the truth.

    Raises:
        ConfigError: One of these.
    """
    if CEILING in methods:
        raise ConfigError(f"no method may be called {CEILING!r}, the truth is: rename its folder")
    if options.reference is not None and options.reference not in methods:
        raise ConfigError(
            f"--reference {options.reference!r} is not among the methods {', '.join(methods)}"
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
            f"no result belongs to a series that is scored: results are {listed(sorted(have))}"
            f", series {listed(s.name for s in cohort.series)}; results keep the name of "
            "the MR, and only one side of the split is scored (--split)"
        )
    if not one_series:
        return list(cohort.series)
    chosen: dict[str, Series] = {}
    for series in sorted(cohort.series, key=lambda s: s.name not in have):
        chosen.setdefault(series.patient, series)
    return [series for series in cohort.series if chosen[series.patient] is series]


def not_independent(judge: Judge, methods: Mapping[str, Method]) -> list[str]:
    """Methods whose own run used the judge's weights."""
    used = [name for name, method in methods.items() if judge.sha256 in method.models]
    if not used:
        return []
    return [
        f"the judge {judge.name} also made the masks of {', '.join(used)}: as a judge of their "
        "CT it is not independent"
    ]


def make_job(
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
                log.info("judge %s: %s of %s", judge.name, series.name, method.name)
                try:
                    judge.masks(made.ct_iso)
                    files = judge.files(made.ct_iso)
                except Exception as problem:  # a CT that the judge cannot take fails this case only
                    refused = reason(problem, series.name, "out of memory in the judge")
            judged = JudgeMasks(judge.name, judge.sha256, files)
        tasks.append(Task(method.name, made, judged, refused or ""))
    threads = THREADS if options.workers == 1 else 1
    return Job(series, tuple(tasks), options.protocols, out / STORE, options.resume, threads)
