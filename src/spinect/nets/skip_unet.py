"""The U-Net of the original pix2pix: every level halves the size, down to a few voxels."""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from spinect.nets.blocks import batch_norm, conv, instance_norm, transposed_conv
from spinect.nets.staged import Staged

SkipNorm = Literal["batch", "instance"]
_SLOPE = 0.2
_MOST = 8  # times `width`
_FULL = 4  # levels until the features stop doubling; dropout lies between them and the innermost


class SkipUNet(Staged):
    """Strided convolutions of kernel 4 down, transposed ones up, each level's input beside.

    With depth 8 it is `unet_256`, with depth 7 `unet_128` of the published code. The innermost
    level has no norm on its way in, for at the smallest size it is a single voxel. Instance norm
    takes its statistics over the tile, so the answer depends on the tile.

    Source: Isola et al., arXiv 1611.07004, app. 6.1.1.

    Args:
        ndim: 2 or 3 spatial axes.
        in_channels, out_channels: Of the images.
        width: Features of the first level; each level doubles them, up to eight times.
        depth: Levels; sizes must be multiples of 2**depth.
        norm: "batch" or "instance".
        dropout: Probability, in training, on the way up between the innermost and the fourth
            level; 0.5 in the paper, which needs more than five levels.
    """

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 64,
        depth: int = 8,
        norm: SkipNorm = "instance",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.divisor = 2**depth
        settle = batch_norm if norm == "batch" else instance_norm
        bias = norm == "instance"  # batch norm has a shift of its own
        features = [width * min(2**i, _MOST) for i in range(depth)]
        down: list[nn.Module] = [conv(ndim, in_channels, width, 4, 2, bias=bias)]
        up: list[nn.Module] = []
        for level in range(1, depth):
            above, here, innermost = features[level - 1], features[level], level == depth - 1
            inwards: list[nn.Module] = [
                nn.LeakyReLU(_SLOPE),
                conv(ndim, above, here, 4, 2, bias=bias),
            ]
            inwards += [] if innermost else [settle(ndim, here)]
            inputs = here if innermost else 2 * here
            outwards: list[nn.Module] = [nn.ReLU(), transposed_conv(ndim, inputs, above, bias=bias)]
            outwards += [settle(ndim, above)]
            if dropout and level >= _FULL and not innermost:
                outwards += [nn.Dropout(dropout)]
            down.append(nn.Sequential(*inwards))
            up.append(nn.Sequential(*outwards))
        last = [nn.ReLU(), transposed_conv(ndim, 2 * width, out_channels), nn.Tanh()]
        self.down = nn.ModuleList(down)
        self.up = nn.ModuleList([*reversed(up), nn.Sequential(*last)])

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """The features after each level on the way down, then after each on the way up."""
        kept, h = [], x
        for level in self.down:
            h = level(h)
            yield h
            kept.append(h)
        for level in self.up:
            skip = kept.pop()
            h = level(h if h is skip else torch.cat([h, skip], dim=1))
            yield h
