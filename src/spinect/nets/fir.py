"""Halving and doubling through the filter [1, 3, 3, 1], zeros around the image.

Unlike `BlurDown` and `BlurUp`, these darken the borders: a constant of 1 becomes 0.875 at an edge
when it is halved, 0.75 when it is doubled. The networks of SynDiff were published with it. All are
linear in the image, so a penalty on gradients can be differentiated through them.

Source: the published code of Ozbey et al., arXiv 2207.08208, and Xiao et al., arXiv 2112.07804,
there written for GPUs alone; zeros, order and gain are theirs.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from spinect.nets.resample import depthwise, separable

_FILTER = (1.0, 3.0, 3.0, 1.0)


class FirDown(nn.Module):
    """Half the size."""

    kernel: Tensor

    def __init__(self, ndim: int) -> None:
        super().__init__()
        self.register_buffer("kernel", separable(_FILTER, ndim), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) to (B, C, *S / 2), odd sizes rounded down."""
        return depthwise(x, self.kernel, stride=2, padding=1)


class FirUp(nn.Module):
    """Twice the size."""

    kernel: Tensor

    def __init__(self, ndim: int) -> None:
        super().__init__()
        kernel = separable(_FILTER, ndim, gain=2.0**ndim)
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) to (B, C, 2 * *S)."""
        return depthwise(x, self.kernel, stride=2, padding=1, transposed=True)


class FirConvDown(nn.Module):
    """The filter, then a convolution of kernel 3 and stride 2, which no padding follows."""

    kernel: Tensor

    def __init__(self, ndim: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.ndim = ndim
        self.register_buffer("kernel", separable(_FILTER, ndim), persistent=False)
        self.conv = (nn.Conv2d if ndim == 2 else nn.Conv3d)(inputs, outputs, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, *S), S even, to (B, outputs, *S / 2)."""
        y: Tensor = self.conv(depthwise(F.pad(x, [2, 2] * self.ndim), self.kernel))
        return y
