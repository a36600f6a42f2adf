"""The U-Net that Graf et al. 2023 use for pix2pix: pairs of convolutions, very wide inside."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from spinect.nets.blocks import conv, instance_norm, reflect
from spinect.nets.staged import Staged

_BRIDGE_DROPOUT = 0.5


class DoubleConvUNet(Staged):
    """Two convolutions of kernel 3 per level and way, instance norm, PReLU; tanh at the end.

    Each convolution goes without padding and the border is mirrored after its norm, as published;
    so the innermost level needs 4 voxels along each axis. Instance norm takes its statistics over
    the tile, so the answer depends on the tile.

    Source: the model `base_unet` of Graf et al. 2023, arXiv 2308.09345.

    Args:
        ndim: 2 or 3 spatial axes.
        in_channels, out_channels: Of the images.
        width: Features of the finest level, even; each level doubles them, the bridge once more.
        levels: Changes of size; sizes must be multiples of 4 * 2**levels.
        dropout: Probability, in training, after each level on the way up but the finest; in the
            bridge it is 0.5.
    """

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 64,
        levels: int = 6,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.divisor = 4 * 2**levels
        features = [width << level for level in range(levels)]
        deepest = features[-1]
        self.down = nn.ModuleList(
            nn.Sequential(*_settled(ndim, a, b), *_settled(ndim, b, b))
            for a, b in pairwise([in_channels, *features])
        )
        self.shrink = nn.ModuleList(conv(ndim, f, f, 2, 2) for f in features)
        self.bridge = nn.Sequential(
            *_settled(ndim, deepest, 2 * deepest, bridge=True),
            *_settled(ndim, 2 * deepest, deepest, bridge=True),
        )
        self.grow = nn.ModuleList(_doubling(ndim, f) for f in reversed(features))
        self.up = nn.ModuleList(
            nn.Sequential(
                *_settled(ndim, 2 * f, f),
                *_settled(ndim, f, f // 2),
                nn.Dropout(dropout if f > width else 0.0),
            )
            for f in reversed(features)
        )
        self.out = conv(ndim, width // 2, out_channels, 1)

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """The features after each pair of convolutions and each change of size, and the output."""
        kept, h = [], x
        for pair, shrink in zip(self.down, self.shrink, strict=True):
            h = pair(h)
            yield h
            kept.append(h)
            h = shrink(h)
            yield h
        h = self.bridge(h)
        yield h
        for grow, pair in zip(self.grow, self.up, strict=True):
            h = grow(h)
            yield h
            h = pair(torch.cat([h, kept.pop()], dim=1))
            yield h
        yield self.out(h).tanh()


def _settled(ndim: int, inputs: int, outputs: int, *, bridge: bool = False) -> list[nn.Module]:
    """A convolution without padding, its norm, the border mirrored, and what bends it."""
    kind = nn.Conv2d if ndim == 2 else nn.Conv3d
    layers = [kind(inputs, outputs, 3), instance_norm(ndim, outputs), reflect(ndim, 1)]
    if bridge:
        return [*layers, nn.Dropout(_BRIDGE_DROPOUT), nn.ReLU()]
    return [*layers, nn.PReLU(outputs)]


def _doubling(ndim: int, channels: int) -> nn.Module:
    """A transposed convolution of kernel 2 and stride 2."""
    kind = nn.ConvTranspose2d if ndim == 2 else nn.ConvTranspose3d
    return kind(channels, channels, 2, stride=2)
