"""Pieces of the networks, for two and three spatial axes alike.

In evaluation every piece acts on a bounded neighbourhood of each voxel: no statistic is taken over
space, so what a network says about a voxel does not depend on the tile around it.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Conv = nn.Conv2d | nn.Conv3d
Norm = Literal["rms", "batch"]
_EPS = 1e-6  # added to the mean square, in squared units of the features


def conv(
    ndim: int, inputs: int, outputs: int, kernel: int, stride: int = 1, *, bias: bool = True
) -> Conv:
    """A convolution over `ndim` axes.

    An odd kernel with stride 1 keeps the size; kernels of 2 and 4 with stride 2 halve it.
    """
    kind = nn.Conv2d if ndim == 2 else nn.Conv3d
    padding = (kernel - 1) // 2
    return kind(inputs, outputs, kernel, stride=stride, padding=padding, bias=bias)


def transposed_conv(ndim: int, inputs: int, outputs: int, *, bias: bool = True) -> nn.Module:
    """A transposed convolution of kernel 4 and stride 2: it doubles the size."""
    kind = nn.ConvTranspose2d if ndim == 2 else nn.ConvTranspose3d
    return kind(inputs, outputs, 4, stride=2, padding=1, bias=bias)


def instance_norm(ndim: int, channels: int) -> nn.Module:
    """Each channel of each image to mean 0 and variance 1; Ulyanov et al., arXiv 1607.08022."""
    return (nn.InstanceNorm2d if ndim == 2 else nn.InstanceNorm3d)(channels)


def reflect(ndim: int, width: int) -> nn.Module:
    """Mirror the border outwards by `width` voxels on every side."""
    return (nn.ReflectionPad2d if ndim == 2 else nn.ReflectionPad3d)(width)


def without_autocast(device: str) -> AbstractContextManager[object]:
    """Full precision; devices without autocast, such as "meta", need nothing."""
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


def sinusoids(step: Tensor, size: int) -> Tensor:
    """Sines, then cosines, of steps (B,) at falling frequencies: (B, size), size even.

    Source: Vaswani et al., arXiv 1706.03762, sec. 3.5.
    """
    half = size // 2
    frequencies = torch.exp(torch.arange(half, device=step.device) * (-math.log(1e4) / (half - 1)))
    angle = step[:, None] * frequencies
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class _ChannelRMSNorm(torch.autograd.Function):
    """y = x * r with r = 1 / sqrt(mean over channels of x**2 + eps).

    Written out because automatic differentiation of the formula costs about ten times as much
    as these passes on a CPU, and keeps three more copies of x.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        channels = x.shape[1]
        norm = torch.linalg.vector_norm(
            x, dim=1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32)
        )
        r = norm.square_().div_(channels).add_(_EPS).rsqrt_().to(x.dtype)
        y: Tensor = x * r
        ctx.save_for_backward(y, r)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        y, r = ctx.saved_tensors
        along = (grad * y).mean(dim=1, keepdim=True)
        return torch.addcmul(grad, y, along, value=-1).mul_(r)


def rms_norm(x: Tensor) -> Tensor:
    """Scale each voxel's channel vector to root mean square 1; shapes (B, C, *S) to the same.

    Source: Zhang and Sennrich, arXiv 1910.07467, eq. 4, over channels only. There is no gain: a
    convolution follows everywhere and holds it.
    """
    y: Tensor = _ChannelRMSNorm.apply(x)  # type: ignore[no-untyped-call]
    return y


def space_to_depth(x: Tensor, factor: int) -> Tensor:
    """(B, C, *S) to (B, factor**n * C, *S / factor), channels in order (offset, C).

    The copy runs over channels-last memory, where it moves whole voxels, and its result lies so.
    """
    batch, channels, *size = x.shape
    n = len(size)
    cells = [s // factor for s in size]
    split = list(chain.from_iterable((s, factor) for s in cells))
    order = (0, *range(1, 2 * n, 2), *range(2, 2 * n + 1, 2), 2 * n + 1)
    x = x.movedim(1, -1).reshape(batch, *split, channels)
    return x.permute(order).reshape(batch, *cells, factor**n * channels).movedim(-1, 1)


def depth_to_space(x: Tensor, factor: int) -> Tensor:
    """(B, factor**n * C, *S) to (B, C, *S * factor); the inverse of `space_to_depth`."""
    batch, channels, *cells = x.shape
    n = len(cells)
    order = (0, *chain.from_iterable((1 + axis, 1 + n + axis) for axis in range(n)), 2 * n + 1)
    x = x.movedim(1, -1).reshape(batch, *cells, *([factor] * n), channels // factor**n)
    return x.permute(order).reshape(batch, *(s * factor for s in cells), -1).movedim(-1, 1)


def batch_norm(ndim: int, channels: int) -> nn.Module:
    """Batch normalisation; in evaluation it is one gain and one shift per channel, whatever the
    tile. Source: Ioffe and Szegedy, arXiv 1502.03167.
    """
    return (nn.BatchNorm2d if ndim == 2 else nn.BatchNorm3d)(channels, momentum=0.05)


def freeze_statistics(module: nn.Module) -> None:
    """Make every batch normalisation use its running statistics, also in training.

    Weights that train on with frozen statistics learn what evaluation will show them.
    """
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d):
            part.eval()


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, the hidden channels modulated by an embedding.

    With "rms": x + conv(silu(conv(norm(x)))); the last convolution starts at zero, so that a deep
    network starts as a shallow one. With "batch": silu(x + norm(conv(silu(norm(conv(x)))))), as in
    He et al., arXiv 1512.03385, fig. 5 left.

    Args:
        ndim: 2 or 3 spatial axes.
        channels: Features in and out.
        embedding: Length of the noise-level vector; 0 for none.
        norm: "rms" or "batch".
    """

    def __init__(self, ndim: int, channels: int, embedding: int = 0, norm: Norm = "rms") -> None:
        super().__init__()
        self.first = conv(ndim, channels, channels, 3)
        self.last = conv(ndim, channels, channels, 3)
        self.norms = None
        if norm == "batch":
            self.norms = nn.ModuleList(batch_norm(ndim, channels) for _ in range(2))
            nn.init.kaiming_normal_(self.last.weight)
        else:
            for parameter in self.last.parameters():
                nn.init.zeros_(parameter)
        self.modulate = nn.Linear(embedding, 2 * channels) if embedding else None

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """(B, C, *S) and (B, embedding) to (B, C, *S)."""
        h = self.first(rms_norm(x)) if self.norms is None else self.norms[0](self.first(x))
        if self.modulate is not None:
            both = self.modulate(embedding).reshape(x.shape[0], -1, *[1] * (x.ndim - 2))
            scale, shift = both.chunk(2, dim=1)
            h = torch.addcmul(shift, h, 1 + scale)
        change: Tensor = self.last(F.silu(h))
        return x + change if self.norms is None else F.silu(x + self.norms[1](change))


class NoiseEmbedding(nn.Module):
    """Fourier features of a noise level, then two layers.

    Args:
        size: Length of the vector, even.
        top: Highest frequency in cycles per unit of the level.
    """

    frequencies: Tensor

    def __init__(self, size: int, top: float = 16.0) -> None:
        super().__init__()
        steps = torch.logspace(-2, math.log10(top), size // 2)
        # Not saved: half-precision weights would round it.
        self.register_buffer("frequencies", 2 * math.pi * steps, persistent=False)
        self.layers = nn.Sequential(nn.Linear(size, size), nn.SiLU(), nn.Linear(size, size))

    def forward(self, level: Tensor) -> Tensor:
        """(B,) to (B, size)."""
        angle = level[:, None].float() * self.frequencies
        vector: Tensor = self.layers(torch.cat([angle.cos(), angle.sin()], dim=1))
        return F.silu(vector)
