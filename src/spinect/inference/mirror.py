"""How far a network agrees with itself on the mirrored image, at the price of one sum per tile."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from spinect.anatomy import VERTEBRA_CLASSES
from spinect.inference.compute import head_slices

LEAST_VOXELS: Final = 1000  # 1 mL at 1 mm: less is nothing that two predictions could agree on


def vertebra_probability(values: Tensor, heads: Sequence[str]) -> Tensor:
    """Probability of any vertebra class: logits (tiles, channels, *S) -> (tiles, *S)."""
    classes = values[:, head_slices(heads)["classes"]]
    low, high = min(VERTEBRA_CLASSES), max(VERTEBRA_CLASSES)
    return classes.softmax(1)[:, low : high + 1].sum(1)


@dataclass
class Overlap:
    """Soft overlap of pairs of probabilities, added up over tiles.

    Attributes:
        common: Sum of the smaller of each pair. union: Sum of the larger.
    """

    common: float = field(default=0.0, init=False)
    union: float = field(default=0.0, init=False)

    def add(self, one: Tensor, other: Tensor) -> None:
        """Two tensors of one shape, 0-1."""
        self.common += float(torch.minimum(one, other).sum(dtype=torch.float64))
        self.union += float(torch.maximum(one, other).sum(dtype=torch.float64))

    def share(self) -> float | None:
        """Common over union, 0-1; None where the union is below `LEAST_VOXELS`."""
        return self.common / self.union if self.union >= LEAST_VOXELS else None
