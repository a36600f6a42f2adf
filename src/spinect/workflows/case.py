"""One case: read, translate, segment, write, report; whole or not at all."""

import logging
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Literal, Protocol, cast

import numpy as np

from spinect.errors import ConfigError, InputError, ResourceError, SpinectWarning
from spinect.geometry import Volume
from spinect.io import detect_stack, read
from spinect.report import Page, Scene
from spinect.workflows import record as records
from spinect.workflows.engine import Engine, Need, Result
from spinect.workflows.facts import facts
from spinect.workflows.names import output_ends
from spinect.workflows.options import human_time
from spinect.workflows.outputs import commit, workbench, write_report, write_result
from spinect.workflows.planning import Case, Plan
from spinect.workflows.record import InputRecord, Plane, RunRecord, Stopwatch

log = logging.getLogger(__name__)


class Watcher(Protocol):
    """Hears what happens; the command line draws its progress from it."""

    def planned(self, plan: Plan, need: Need) -> None:
        """Before the first case: what will be done, and what the largest one needs."""
        ...

    def begin(self, case: Case) -> None:
        """A case starts."""
        ...

    def stage(self, name: str) -> None:
        """A stage of the case under way starts."""
        ...

    def share(self, done: float) -> None:
        """Share of the stage under way that is done, 0-1; only some stages tell."""
        ...

    def end(self, outcome: "Outcome", done: int, remaining_s: float | None) -> None:
        """A case ended; the time that the others will take, None where nothing tells."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What became of one case.

    Attributes:
        status: "done", "kept" (up to date, with resume) or "failed".
        record: Of a case that is done or kept.
        error: One line, of a case that failed.
    """

    case: Case
    status: Literal["done", "kept", "failed"]
    seconds: float
    record: RunRecord | None = None
    error: str | None = None


def run_case(case: Case, engine: Engine, watcher: Watcher | None = None) -> Outcome:
    """Do one case.

    Its files appear in `case.folder` together at the end, run.json last; an error, Ctrl-C or a
    kill before that leaves none of them.

    Raises:
        SpinectError: What went wrong, in one line that names the file.
    """
    start = time.perf_counter()
    if case.options.resume and (kept := _up_to_date(case, engine)):
        return Outcome(case, "kept", round(time.perf_counter() - start, 3), kept)
    records.reset_peak()
    started = records.now()
    watch = Stopwatch(watcher.stage, watcher.share) if watcher else Stopwatch()
    with workbench(case.folder, case.stem) as bench:
        with warnings.catch_warnings(record=True) as caught, _deadline(case):
            warnings.simplefilter("always")
            with watch.stage("read"):
                options = case.options
                image = read(case.source, options.kind, volume=options.volume, force=options.force)
                plane = _plane(image, case)
                sha256 = records.sha256_of(case.source)
            result = engine.process(image, options, watch)
            with watch.stage("write"):
                write_result(result, case, bench)
            said = _spoken(caught, result)
            source = _input_record(case, image, sha256, plane)
            record = _closed(_record(case, engine, source, result, started), watch, said)
            with watch.stage("report"):
                scene = _scene(image, result)
                page = Page(case.stem, result.rows, said, facts(record))
                write_report(scene, page, case, bench)
        record = _closed(record, watch, said)
        commit(record, case, bench)
    return Outcome(case, "done", round(time.perf_counter() - start, 3), record)


def _scene(image: Volume, result: Result) -> Scene:
    """What the pictures show."""
    std, made = result.layers.get("std"), result.ct_iso
    in_hu = made is None or made.kind == "ct"  # the colours of the spread are of HU
    return Scene(
        image,
        made,
        result.vertebrae_iso,
        result.subregions_iso,
        spread=std.iso if std and in_hu else None,
    )


def _plane(image: Volume, case: Case) -> str:
    """The plane of the slices; a stack of MR slices that cannot be used is refused here."""
    if image.kind == "ct":
        return image.grid.plane
    return detect_stack(image, case.source.name, case.options.force)


def _input_record(case: Case, image: Volume, sha256: str, plane: str) -> InputRecord:
    x, y, z = (round(float(s), 6) for s in image.grid.spacing)
    return InputRecord(
        path=case.source.name,
        sha256=sha256,
        shape=image.grid.shape,
        spacing=(x, y, z),
        orientation=image.grid.axes,
        plane=cast(Plane, plane),
    )


def _record(
    case: Case, engine: Engine, source: InputRecord, result: Result, started: str
) -> RunRecord:
    sources = list(dict.fromkeys(str(row["level_source"]) for row in result.rows))
    trust = [c for row in result.rows if (c := _number(row.get("confidence"))) is not None]
    return RunRecord(
        commit=records.commit(),
        disclaimer=records.DISCLAIMER if case.options.makes == "ct" else records.MR_DISCLAIMER,
        started=started,
        inputs=(source,),
        outputs=tuple(case.stem + end for end in output_ends(case.options)[:-1]),
        models=engine.models,
        options=case.options.content(),
        options_sha256=case.options.content_hash(),
        seed=case.options.seed,
        device=engine.device,
        versions=records.versions(),
        seconds={},
        peak_bytes=0,
        sampling=result.sampling,
        region=result.region.record if result.region else None,
        vertebrae=tuple(str(row["name"]) for row in result.rows),
        level_source="+".join(sources) or None,
        confidence=round(float(np.mean(trust)), 3) if trust else None,
        plausibility=result.plausibility,
    )


def _number(value: object) -> float | None:
    """A finite number, or None."""
    if isinstance(value, int | float | np.integer | np.floating) and np.isfinite(value):
        return float(value)
    return None


def _closed(record: RunRecord, watch: Stopwatch, said: Sequence[str]) -> RunRecord:
    measured = {
        "seconds": dict(watch.seconds),
        "peak_bytes": records.peak_memory(),
        "warnings": tuple(said),
    }
    return record.model_copy(update=measured)


def _up_to_date(case: Case, engine: Engine) -> RunRecord | None:
    """The record of an earlier run, if input, options, models and outputs are still the same."""
    if not case.record.exists():
        return None
    try:
        kept = records.read_record(case.record)
    except InputError as problem:
        log.warning("%s: made again, %s", case.source, problem)
        return None
    same = (
        kept.options_sha256 == case.options.content_hash()
        and kept.models == tuple(engine.models)
        and all((case.folder / name).exists() for name in kept.outputs)
        and case.source.exists()
        and kept.inputs[0].sha256 == records.sha256_of(case.source)
    )
    return kept if same else None


def _spoken(caught: Sequence[warnings.WarningMessage], result: Result) -> list[str]:
    """Texts of the SpinectWarnings and of the result, each once; other warnings go to the log."""
    texts = []
    for entry in caught:
        if issubclass(entry.category, SpinectWarning):
            texts.append(str(entry.message))
        else:
            log.debug("%s: %s", entry.category.__name__, entry.message)
    return list(dict.fromkeys([*texts, *result.warnings]))


@contextmanager
def _deadline(case: Case) -> Iterator[None]:
    """Stop a case that takes longer than its timeout.

    The network and the file libraries return to Python several times a second, and there the
    alarm is heard.
    """
    limit = case.options.timeout
    if limit is None:
        yield
        return
    main = threading.current_thread() is threading.main_thread()
    if not (hasattr(signal, "setitimer") and main):
        raise ConfigError(
            "a timeout needs an alarm signal, which this system or thread does not have: "
            "run without timeout"
        )

    def ring(_signal: int, _frame: FrameType | None) -> None:
        raise ResourceError(
            f"{case.source.name}: not finished within the timeout of {human_time(limit)}; "
            "raise --timeout, or choose a faster mode"
        )

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
