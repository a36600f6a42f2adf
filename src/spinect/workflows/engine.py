"""What a run asks of the models: the contract, so that a run can be tested without any."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from spinect.geometry import Grid, Volume
from spinect.workflows.options import RunOptions
from spinect.workflows.record import ModelRecord, Stopwatch


@dataclass(frozen=True, eq=False)
class Result:
    """What was made of one MR, or of a CT.

    Attributes:
        ct: Synthetic CT, HU, float32, on the grid of the input; `ct_iso` at 1 mm. None for a CT
            that was only segmented; of one that an MR was made of, that MR, kind "mr".
        std: Spread of the samples in its unit, on the grid of the input; mode "mc" only.
        vertebrae, subregions: Masks on the grid of the input; None without a segmenter.
        vertebrae_iso, subregions_iso: The same at 1 mm.
        rows: vertebrae.tsv, head to feet.
        warnings: What the reader of the report must know.
    """

    ct: Volume | None = None
    ct_iso: Volume | None = None
    std: Volume | None = None
    vertebrae: Volume | None = None
    vertebrae_iso: Volume | None = None
    subregions: Volume | None = None
    subregions_iso: Volume | None = None
    rows: Sequence[Mapping[str, object]] = ()
    warnings: Sequence[str] = field(default_factory=tuple)


class Engine(Protocol):
    """Loaded models, used for one case after the other."""

    models: tuple[ModelRecord, ...]
    device: str

    def memory_need(self, grid: Grid, options: RunOptions) -> int:
        """Peak resident bytes that a case on this grid is expected to take."""
        ...

    def process(self, image: Volume, options: RunOptions, watch: Stopwatch) -> Result:
        """Everything between reading and writing; stages are timed with `watch`."""
        ...
