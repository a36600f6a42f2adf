"""How far a network agrees with itself on the mirrored image, at the price of one sum per tile."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spinect.anatomy import VERTEBRA_CLASSES
from spinect.inference.compute import head_slices


def vertebra_probability(values: Tensor, heads: Sequence[str]) -> Tensor:
    """Probability of any vertebra class: logits (tiles, channels, *S) -> (tiles, *S)."""
    classes = values[:, head_slices(heads)["classes"]]
    low, high = min(VERTEBRA_CLASSES), max(VERTEBRA_CLASSES)
    part = classes[:, low : high + 1].logsumexp(1)
    return (part - classes.logsumexp(1)).exp()


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

    def share(self, least: float = 1.0) -> float | None:
        """Common over union, 0-1; None where the union is below `least` voxels."""
        return self.common / self.union if self.union >= least else None
