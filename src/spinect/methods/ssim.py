"""Structural similarity of two images in [-1, 1] as a loss, for two and three axes."""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from spinect.methods.gan import known
from spinect.nets.resample import depthwise

RADIUS: Final = 5  # voxels that a window of 11 reaches; the border is mirrored, so sizes exceed it
_SIGMA: Final = 1.5  # voxels
_RANGE: Final = 2.0
_C1, _C2 = (0.01 * _RANGE) ** 2, (0.03 * _RANGE) ** 2


def ssim_loss(pred: Tensor, target: Tensor, inside: Tensor) -> Tensor:
    """1 - SSIM of the images, shifted to [0, 2], over the voxels inside.

    Outside, both images are air, so that a window which reaches beyond the border compares what
    is known with what is equal; of the resulting map the voxels inside count.

    Args:
        pred, target: (B, 1, *S), float32, every size above `RADIUS`.
        inside: (B, 1, *S), weight of each voxel, 0 where nothing is known.
    Source: Wang et al., IEEE TIP 13:600 (2004), eq. 13, Gaussian windows of sigma 1.5 voxels;
    borders as in torchmetrics, to which it is equal where everything is inside.
    """
    a, b = (known(image, inside) + 1 for image in (pred, target))
    moments = _blur(torch.cat([a, b, a * a, b * b, a * b], dim=1)).chunk(5, dim=1)
    mean_a, mean_b, square_a, square_b, product = moments
    var_a, var_b = (square_a - mean_a**2).clamp(min=0), (square_b - mean_b**2).clamp(min=0)
    cov = product - mean_a * mean_b
    ssim = (2 * mean_a * mean_b + _C1) * (2 * cov + _C2)
    ssim = ssim / ((mean_a**2 + mean_b**2 + _C1) * (var_a + var_b + _C2))
    return ((1 - ssim) * inside).sum() / inside.sum().clamp(min=1e-6)


def _blur(x: Tensor) -> Tensor:
    """Gaussian means around each voxel of (B, C, *S), axis by axis."""
    ndim = x.ndim - 2
    steps = torch.arange(-RADIUS, RADIUS + 1, dtype=x.dtype, device=x.device)
    line = torch.softmax(-0.5 * (steps / _SIGMA) ** 2, dim=0)
    x = F.pad(x, [RADIUS] * (2 * ndim), mode="reflect")
    for axis in range(ndim):
        x = depthwise(x, line.reshape([-1 if i == axis else 1 for i in range(ndim)]))
    return x
