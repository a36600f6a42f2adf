"""evaluate.json: what was scored, with what, how long it took, and what was odd."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

import spinect
from spinect.workflows.record import DISCLAIMER


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
