"""evaluate.json: what was scored, with what, how long it took, and what was odd."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

import spinect
from spinect.report.evaluation.surfaces import Renderer
from spinect.workflows.evaluate.guards import file_hash
from spinect.workflows.evaluate.options import EvaluateOptions
from spinect.workflows.evaluate.run import Scores
from spinect.workflows.record import DISCLAIMER, Stopwatch, commit, versions


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MethodRecord(_Part):
    """One method."""

    done: int = Field(description="results scored in this run")
    kept: int = Field(description="results whose values of an earlier run are up to date")
    missing: int = Field(description="series without a result: Dice 0, no HU")
    failed: int = Field(description="results that could not be scored")
    models: dict[str, str] = Field(description="sha256 -> name, from the runs' records")


class Problem(_Part):
    """A result that is missing or failed."""

    method: str
    case: str
    status: Literal["missing", "failed"]
    reason: str


class EvaluateRecord(_Part):
    """The record of an evaluation, written last."""

    schema_version: Literal["1.0"] = "1.0"
    program: Literal["spinect"] = "spinect"
    version: str = spinect.__version__
    commit: str | None = None
    disclaimer: str = DISCLAIMER
    started: str = Field(description="UTC, ISO 8601")
    dataset: str = Field(description="name of the folder")
    phantom: bool = Field(description="whether every scored patient is a phantom")
    patients: int
    series: int
    methods: dict[str, MethodRecord]
    judge: dict[str, str] | None = Field(default=None, description="name and sha256")
    renderer: str = Field(description="what drew the surfaces: pyvista, matplotlib or none")
    options: dict[str, Any]
    inputs: dict[str, str] = Field(description="file name (with method) -> sha256")
    outputs: tuple[str, ...] = Field(description="files beside this record")
    parquet: bool = Field(description="whether values.parquet was written: pyarrow is installed")
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    versions: dict[str, str]
    seconds: dict[str, float] = Field(description="wall seconds per stage")


@dataclass(frozen=True)
class Finished:
    """A scored evaluation and how it was done; what the page and the record tell.

    Attributes:
        dataset: Name of its folder. renderer: Of the surfaces. started: UTC, ISO 8601.
    """

    dataset: str
    scores: Scores
    options: EvaluateOptions
    renderer: Renderer
    started: str
    watch: Stopwatch


def problems(scores: Scores) -> list[Problem]:
    """Missing and failed results, in the order of the series."""
    told = []
    for one in scores.outcomes:
        if one.status == "missing" or one.status == "failed":
            why = one.error or "no result: Dice 0, no HU"
            told.append(
                Problem(method=one.method, case=one.series.name, status=one.status, reason=why)
            )
    return told


def make_record(run: Finished, outputs: Sequence[str]) -> EvaluateRecord:
    """The record of a finished evaluation; `outputs` are files beside it."""
    scores = run.scores
    methods = {
        name: MethodRecord(
            done=scores.count("done", name),
            kept=scores.count("kept", name),
            missing=scores.count("missing", name),
            failed=scores.count("failed", name),
            models=method.models,
        )
        for name, method in scores.methods.items()
    }
    return EvaluateRecord(
        commit=commit(),
        started=run.started,
        dataset=run.dataset,
        phantom=scores.phantom,
        patients=len({series.patient for series in scores.cohort.series}),
        series=len(scores.cohort.series),
        methods=methods,
        judge=dict(zip(("name", "sha256"), scores.judge, strict=True)) if scores.judge else None,
        renderer=run.renderer,
        options=run.options.model_dump(mode="json"),
        inputs=_inputs(scores),
        outputs=tuple(outputs),
        parquet="values.parquet" in outputs,
        problems=tuple(problems(scores)),
        warnings=scores.warnings,
        versions=versions(),
        seconds=run.watch.seconds,
    )


def _inputs(scores: Scores) -> dict[str, str]:
    """sha256 of every file that was compared."""
    found = {}
    for series in scores.cohort.series:
        for path in (series.mr, *series.native.paths(), *series.iso.paths()):
            found[path.name] = file_hash(path)
        for name, method in scores.methods.items():
            if made := method.made.get(series.name):
                found |= {f"{name}/{path.name}": file_hash(path) for path in made.images.values()}
    return found
