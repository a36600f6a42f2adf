"""What a run asks of the models: the contract, so that a run can be tested without any."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from spinect.geometry import Grid, Volume
from spinect.workflows.options import RunOptions
from spinect.workflows.record import (
    ModelRecord,
    PlausibilityRecord,
    RegionRecord,
    SamplingRecord,
    Stopwatch,
)


@dataclass(frozen=True)
class Need:
    """What a case is expected to take.

    Attributes:
        memory_bytes: Peak of the process.
        temporary_bytes: Files in the folder that `tempfile` chooses, gone at the end.
    """

    memory_bytes: int
    temporary_bytes: int = 0


@dataclass(frozen=True, eq=False)
class Layer:
    """One volume that tells of the samples, on the grid of the input and at 1 mm.

    `facts` go to its sidecar.
    """

    native: Volume
    iso: Volume
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Region:
    """Which voxels were translated, 1 or 0, on the grid of the input and at 1 mm, and why."""

    native: Volume
    iso: Volume
    record: RegionRecord


@dataclass(frozen=True, eq=False)
class Result:
    """What was made of one MR, or of a CT.

    Attributes:
        ct: Synthetic CT, HU, float32, on the grid of the input; `ct_iso` at 1 mm. None for a CT
            that was only segmented; of one that an MR was made of, that MR, kind "mr".
        vertebrae, subregions: Masks on the grid of the input; None without a segmenter.
        vertebrae_iso, subregions_iso: The same at 1 mm.
        layers: What the samples of mode "mc" tell, by the names of `names.LAYERS`.
        sampling: The same in numbers; None without samples.
        region: What was translated, where not everything was asked for.
        rows: vertebrae.tsv, head to feet.
        plausibility: Whether the masks look like a spine; None without masks.
        warnings: What the reader of the report must know.
    """

    ct: Volume | None = None
    ct_iso: Volume | None = None
    vertebrae: Volume | None = None
    vertebrae_iso: Volume | None = None
    subregions: Volume | None = None
    subregions_iso: Volume | None = None
    layers: Mapping[str, Layer] = field(default_factory=dict)
    sampling: SamplingRecord | None = None
    region: Region | None = None
    rows: Sequence[Mapping[str, object]] = ()
    plausibility: PlausibilityRecord | None = None
    warnings: Sequence[str] = field(default_factory=tuple)


class Engine(Protocol):
    """Loaded models, used for one case after the other."""

    models: tuple[ModelRecord, ...]
    device: str

    def need(self, grid: Grid, options: RunOptions) -> Need:
        """Memory and temporary files that a case on this grid is expected to take."""
        ...

    def process(self, image: Volume, options: RunOptions, watch: Stopwatch) -> Result:
        """Everything between reading and writing; stages are timed with `watch`."""
        ...
