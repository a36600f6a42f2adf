"""All methods of one series, scored and kept; this is what a worker process does."""

import hashlib
import json
import time
import warnings
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final, Literal

import spinect
from spinect.errors import InputError, SpinectWarning
from spinect.evaluation.tables import Tidy, read_tidy, write_tidy
from spinect.io.records import write_text
from spinect.report.evaluation.plots import NO_RESULT
from spinect.workflows.evaluate.guards import file_hash
from spinect.workflows.evaluate.loading import Truth, read_masks
from spinect.workflows.evaluate.options import Protocol
from spinect.workflows.evaluate.results import Made
from spinect.workflows.evaluate.score import (
    CEILING,
    empty,
    rows_of,
    score_ceiling,
    score_judged,
    score_made,
)
from spinect.workflows.evaluate.truth import Series
from spinect.workflows.failures import reason

Status = Literal["done", "kept", "missing", "failed"]
STORE: Final = "cases"
_MEASURING: Final = ("evaluation", "geometry")  # packages whose code makes the values


@dataclass(frozen=True)
class JudgeMasks:
    """What the judge made of one CT: its name, its sha256, the files; no files without a result."""

    name: str
    sha256: str
    files: tuple[Path, Path] | None


@dataclass(frozen=True)
class Task:
    """One method on one series.

    Attributes:
        made: None: there is no result. judged: None where no judge was asked, or there is no CT.
        refused: Why it must not be scored; "" where it may.
    """

    method: str
    made: Made | None = None
    judged: JudgeMasks | None = None
    refused: str = ""


@dataclass(frozen=True)
class Job:
    """One series: what a worker gets.

    Attributes:
        tasks: Of all methods; the ceiling is the task of method `CEILING`.
        store: Folder of the values that are kept. resume: Take them where they are up to date.
        threads: Of the image protocols.
    """

    series: Series
    tasks: tuple[Task, ...]
    protocols: tuple[Protocol, ...]
    store: Path
    resume: bool
    threads: int


@dataclass(frozen=True)
class Outcome:
    """What became of one method on one series.

    Attributes:
        status: "done", "kept" from an earlier run, "missing" (scored as empty masks), "failed".
        error: One line; "" but for "failed".
        warnings: What was said while the files were read.
    """

    method: str
    series: Series
    status: Status
    seconds: float
    rows: tuple[Tidy, ...] = ()
    error: str = ""
    warnings: tuple[str, ...] = ()


def do_job(job: Job) -> list[Outcome]:
    """Every task of a series; one that fails leaves its reason, the others go on."""
    truth = Truth(job.series)
    return [_do(truth, task, job) for task in job.tasks]


def _do(truth: Truth, task: Task, job: Job) -> Outcome:
    start = time.perf_counter()
    status: Status = "done" if task.made is not None or task.method == CEILING else "missing"
    try:
        if task.refused:
            raise InputError(task.refused)
        place = job.store / task.method / f"{job.series.name}.{content_key(task, job)[:16]}.csv"
        if job.resume and place.is_file():
            rows, said = _kept(place)
            status = "missing" if status == "missing" else "kept"
        else:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", SpinectWarning)
                rows = _score(truth, task, job)
            said = [str(w.message) for w in caught]
            _keep(rows, said, place, job.series.name)
    except Exception as problem:  # the one place where a case may fail in any way
        memory = "out of memory: fewer --workers"
        error = reason(problem, job.series.name, memory)
        spent = round(time.perf_counter() - start, 3)
        return Outcome(task.method, job.series, "failed", spent, error=error)
    spent = round(time.perf_counter() - start, 3)
    return Outcome(task.method, job.series, status, spent, tuple(rows), warnings=tuple(said))


def _score(truth: Truth, task: Task, job: Job) -> list[Tidy]:
    if task.method == CEILING:
        return rows_of(score_ceiling(truth), truth, CEILING)
    rows = rows_of(score_made(truth, task.made, job.protocols, job.threads), truth, task.method)
    if task.judged is not None:
        files, judge = task.judged.files, task.judged.name
        masks = read_masks(*files) if files else empty(truth.masks)
        rows += rows_of(score_judged(truth, masks, judge, job.protocols), truth, task.method)
    if task.made is None:
        rows = [replace(row, note=NO_RESULT) for row in rows]
    return rows


def content_key(task: Task, job: Job) -> str:
    """sha256 over all that decides the values: formulas, protocols, judge, every file."""
    series, made = job.series, task.made
    files = [*series.native.paths(), *series.iso.paths(), *(made.images.values() if made else ())]
    judge = None if task.judged is None else (task.judged.name, task.judged.sha256)
    facts = {
        "program": program_hash(),
        "method": task.method,
        "patient": series.patient,
        "protocols": sorted(job.protocols),
        "judge": judge,
        "files": {path.name: file_hash(path) for path in files},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@cache
def program_hash() -> str:
    """sha256 of the sources that measure: other formulas make other values."""
    root = Path(spinect.__file__).parent
    files = [path for part in _MEASURING for path in sorted((root / part).rglob("*.py"))]
    own = [Path(__file__).with_name(name) for name in ("loading.py", "score.py")]
    digest = hashlib.sha256(spinect.__version__.encode())
    for path in (*files, *own):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _keep(rows: list[Tidy], said: list[str], place: Path, case: str) -> None:
    """Store the values, warnings first; those of other contents of the case go."""
    place.parent.mkdir(parents=True, exist_ok=True)
    own = {place, place.with_suffix(".txt")}
    former = [path for path in place.parent.glob(f"{case}.*") if path not in own]
    write_text("".join(f"{text}\n" for text in said), place.with_suffix(".txt"))
    write_tidy(rows, place)
    for path in former:
        path.unlink(missing_ok=True)


def _kept(place: Path) -> tuple[list[Tidy], list[str]]:
    return read_tidy(place), place.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
