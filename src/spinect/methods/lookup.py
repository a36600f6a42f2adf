"""The baselines that every method must beat: one HU for each grey value, or one HU for all."""

from collections.abc import Iterator
from typing import ClassVar, Literal, Self

import torch
from pydantic import BaseModel, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from spinect.errors import ConfigError
from spinect.methods.losses import l1_loss
from spinect.methods.one_call import OneCall
from spinect.methods.pairs import refuse_unpaired
from spinect.methods.registry import register
from spinect.protocols import Batch

_STEP = 10.0  # a knot moves so many times as far per update as a weight: it starts far from home
_SPREAD = 0.02  # standard deviation of the knots before training


class LookupConfig(BaseModel, frozen=True, extra="forbid"):
    """What a user may write under "method" when its name is "lookup"."""

    ndim: Literal[2, 3] = 3  # of the patches; the answer is the same
    in_channels: PositiveInt = 3  # channels of the condition, of which the first one is looked up
    bins: PositiveInt = 64  # knots of the table; 1 is one HU for every voxel
    low: float = 0.0  # grey value of the first knot
    high: float = 1.5  # of the last one; values beyond take the HU of the nearest knot
    near_bone: PositiveFloat = 4.0  # weight of a voxel within 10 mm of bone, as for the networks

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        return self


class Table(nn.Module):
    """A piecewise linear function with evenly spaced knots."""

    def __init__(self, bins: int, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high
        self.knots = nn.Parameter(torch.randn(bins) * (_SPREAD / _STEP))

    def forward(self, x: Tensor) -> Tensor:
        """Grey values of any shape -> CT in [-1, 1], float32, the same shape."""
        values = self.knots.float() * _STEP
        last = len(values) - 1
        if last == 0:
            return values.expand(x.shape)
        at = ((x.float() - self.low) * (last / (self.high - self.low))).clamp(0, last)
        left = at.floor().clamp(max=last - 1)
        share, index = at - left, left.long()
        return torch.lerp(values[index], values[index + 1], share)


@register("lookup", LookupConfig)
class Lookup(OneCall):
    """HU as a function of the MR's grey value alone.

    Its L1 loss is least at the weighted conditional median of the CT given the grey value, so that
    is what the trainer converges to.
    """

    parts: tuple[str, ...] = ("network",)
    heads: tuple[str, ...] = ("ct",)
    dims: ClassVar[tuple[int, ...]] = (2, 3)
    divisor = 1
    summary: ClassVar[str] = "baseline: a table from grey value to HU, or one HU for every voxel"
    citation: ClassVar[str] = (
        "a baseline of this project, which methods such as those of Graf et al., 2023, "
        "arXiv 2308.09345, must beat"
    )

    def __init__(self, config: LookupConfig) -> None:
        super().__init__()
        self.config = config
        self.ndim: int = config.ndim
        self.in_channels: int = config.in_channels
        self.network = Table(config.bins, config.low, config.high)
        self.terms: dict[str, Tensor] = {}

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """Yield ("network", loss): mean absolute error, weighted near bone.

        Raises:
            ConfigError: The batch has no CT, or is not paired.
        """
        refuse_unpaired(batch)
        if batch.target is None:
            raise ConfigError("a training batch holds no CT; a lookup learns from paired CTs only")
        weight = batch.inside
        if batch.near_bone is not None:
            weight = weight * (1 + (self.config.near_bone - 1) * batch.near_bone)
        loss = l1_loss(self.predict(batch.condition), batch.target, weight)
        self.terms = {"l1": loss.detach()}
        yield "network", loss

    def predict(self, condition: Tensor) -> Tensor:
        """(B, in_channels, *S) -> (B, 1, *S) float32."""
        answer: Tensor = self.network(condition[:, :1])
        return answer
