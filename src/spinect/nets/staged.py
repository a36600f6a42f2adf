"""Networks that show their features on the way."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn


class Staged(nn.Module, ABC):
    """A network whose output is the last of its stages."""

    divisor: int  # spatial sizes must be multiples of it

    @abstractmethod
    def stages(self, x: Tensor, *told: Any) -> Iterator[Tensor]:
        """The features after each piece, the output last."""

    def forward(self, x: Tensor, *told: Any) -> Tensor:
        """(B, in_channels, *S), sizes multiples of `divisor`, to (B, out_channels, *S)."""
        last = x
        for stage in self.stages(x, *told):
            last = stage
        return last
