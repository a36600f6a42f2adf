"""The record of one registration, `*_registration.json`, and its row in registration.tsv."""

import json
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import spinect
from spinect.anatomy import VERTEBRAE
from spinect.errors import InputError
from spinect.registration import Quality, Registration
from spinect.registration.points import name as landmark_name
from spinect.workflows.record import DISCLAIMER

SCHEMA_VERSION: Final = "1.0"
COLUMNS: Final = (
    "participant_id", "mr", "ct", "outputs", "status", "verdict", "reason", "points", "model",
    "landmarks", "rejected", "mean_mm", "p95_mm", "max_mm", "loo_mm", "natural_mm",
    "natural_all_mm", "spread_mm",
    "axial_error_deg", "rigidity_mm", "min_jacobian", "valid", "seconds", "error",
)  # fmt: skip


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRecord(_Part):
    """One input; the name only, because folders often name patients."""

    path: str
    sha256: str


class RegistrationRecord(_Part):
    """What was done to one pair, and how good it is; null where something does not apply."""

    schema_version: Literal["1.0"] = SCHEMA_VERSION
    program: Literal["spinect"] = "spinect"
    version: str = spinect.__version__
    commit: str | None = None
    disclaimer: str = DISCLAIMER
    started: str = Field(description="UTC, ISO 8601")
    inputs: dict[str, FileRecord]
    outputs: tuple[str, ...] = Field(description="file names beside this record")
    options: dict[str, Any]
    options_sha256: str
    verdict: Literal["accept", "review", "reject"]
    reason: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    landmarks: int = Field(description="common to both scans, rejected ones included")
    rejected: tuple[str, ...] = Field(description="landmarks left out as outliers")
    mean_mm: float | None = Field(description="distance that remains, over the landmarks used")
    p95_mm: float | None
    max_mm: float | None
    loo_mm: float | None = Field(description="mean over left-out vertebrae of their distance")
    loo_by_vertebra_mm: dict[str, float]
    natural_mm: float | None = Field(description="difference of neighbours' distances, used ones")
    natural_all_mm: float | None = Field(None, description="the same with rejected landmarks")
    spread_mm: float | None = Field(description="of the points about their long axis")
    axial_error_deg: float | None = Field(description="expected SD of the rotation about it")
    rigidity_mm: float | None = Field(description="95 % of the bending inside bone")
    min_jacobian: float | None = Field(description="least local volume change; 1 is rigid")
    valid: float = Field(description="share of the MR's voxels where the CT is known")
    seconds: dict[str, float]
    peak_bytes: int
    versions: dict[str, str]

    def row(self) -> dict[str, Any]:
        """The fields that stand in registration.tsv."""
        own = {c: getattr(self, c) for c in COLUMNS if c in type(self).model_fields}
        asked = {key: self.options[key] for key in ("points", "model")}
        total = round(sum(self.seconds.values()), 3)
        return own | asked | {"rejected": len(self.rejected), "seconds": total}


def facts(
    registration: Registration, quality: Quality | None, jacobian: float | None
) -> dict[str, Any]:
    """The measured part of a record.

    Args:
        quality: Over bone, of a field. jacobian: Least one of the field, without quality too.
    """
    used = [r for k, r in registration.residual_mm.items() if k not in registration.rejected]
    loo = {VERTEBRAE[v]: _number(e) for v, e in registration.loo_mm.items()}
    rigid = not registration.vertebrae
    return {
        "verdict": registration.verdict,
        "reason": registration.reason,
        "notes": registration.notes,
        "landmarks": len(registration.residual_mm),
        "rejected": tuple(landmark_name(k) for k in registration.rejected),
        "mean_mm": _number(np.mean(used)) if used else None,
        "p95_mm": _number(np.percentile(used, 95)) if used else None,
        "max_mm": _number(np.max(used)) if used else None,
        "loo_mm": _number(np.mean(list(registration.loo_mm.values()))) if loo else None,
        "loo_by_vertebra_mm": loo,
        "natural_mm": _number(registration.natural_mm),
        "natural_all_mm": _number(registration.natural_all_mm),
        "spread_mm": _number(registration.spread_mm),
        "axial_error_deg": _number(registration.axial_error_deg),
        "rigidity_mm": 0.0 if rigid else None if quality is None else _number(quality.rigidity_mm),
        "min_jacobian": 1.0 if rigid else _number(jacobian),
    }


def _number(value: Any) -> float | None:
    """Rounded to a micrometre; None for NaN."""
    return None if value is None or not np.isfinite(value) else round(float(value), 3)


def read_record(path: Path) -> RegistrationRecord:
    """Load a record.

    Raises:
        InputError: It is not one of this version.
    """
    try:
        return RegistrationRecord.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as problem:
        first = str(problem).splitlines()[0]
        raise InputError(
            f"{path.name} is no registration record of this version: {first}"
        ) from None
