"""Halving and doubling images through fixed low-pass filters, without aliasing."""

from collections.abc import Callable
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def separable(weights: tuple[float, ...], ndim: int, gain: float = 1.0) -> Tensor:
    """The product of one filter along each axis, its sum scaled to `gain`: (len(weights),) * ndim.

    Args:
        weights: Of one axis, any scale.
    """
    line = torch.tensor(weights, dtype=torch.float64)
    kernel = reduce(torch.multiply, torch.meshgrid(*[line] * ndim, indexing="ij"))
    return (kernel * (gain / kernel.sum())).float()


class BlurDown(nn.Module):
    """Binomial filter [1, 2, 1] per axis, reflected at the borders, every second voxel kept.

    Source: Zhang, arXiv 1904.11486, as in the generator of Park et al., arXiv 2007.15651.
    """

    kernel: Tensor

    def __init__(self, ndim: int) -> None:
        super().__init__()
        self.ndim = ndim
        self.register_buffer("kernel", separable((1, 2, 1), ndim), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) to (B, C, *S / 2)."""
        padded = F.pad(x, [1, 1] * self.ndim, mode="reflect")
        return depthwise(padded, self.kernel, stride=2)


class BlurUp(nn.Module):
    """Twice the size through [1, 3, 3, 1] per axis, borders repeated; gain 1 for constants.

    Source: as `BlurDown`.
    """

    kernel: Tensor

    def __init__(self, ndim: int) -> None:
        super().__init__()
        self.ndim = ndim
        kernel = separable((1, 3, 3, 1), ndim, gain=2.0**ndim)
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) to (B, C, 2 * *S)."""
        padded = F.pad(x, [1, 1] * self.ndim, mode="replicate")
        y = depthwise(padded, self.kernel, stride=2, padding=2, transposed=True)
        for axis in range(2, y.ndim):
            y = y.narrow(axis, 1, y.shape[axis] - 2)
        return y


def depthwise(
    x: Tensor, kernel: Tensor, *, stride: int = 1, padding: int = 0, transposed: bool = False
) -> Tensor:
    """The same kernel (*K) on every channel of x (B, C, *S); zeros around it."""
    weight = kernel.to(x.dtype).expand(x.shape[1], 1, *kernel.shape)
    run: Callable[..., Tensor]
    if transposed:
        run = F.conv_transpose2d if kernel.ndim == 2 else F.conv_transpose3d
    else:
        run = F.conv2d if kernel.ndim == 2 else F.conv3d
    return run(x, weight, stride=stride, padding=padding, groups=x.shape[1])
