"""The diffusive generator of SynDiff: a score network whose blocks take a style from noise."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spinect.nets.blocks import conv, sinusoids
from spinect.nets.fir import FirConvDown, FirDown, FirUp

_MOST_GROUPS, _PER_GROUP = 32, 4
_EPS = 1e-6  # of the group norms
_ROOT_HALF = math.sqrt(0.5)  # keeps the variance of a sum of two


class NCSN(nn.Module):
    """U-Net of residual blocks that are told the step and styled by a random vector.

    Blocks halve and double through filters; the halved input enters each level anew; sums are
    divided by sqrt(2). Group norm takes its statistics over the tile, so the answer depends on it.

    Source: the NCSN++ of Song et al., arXiv 2011.13456, with the style of Xiao et al.,
    arXiv 2112.07804, as Ozbey et al., arXiv 2207.08208, use it.

    Args:
        ndim: 2 or 3 spatial axes.
        in_channels, out_channels: Of the images; the output lies in [-1, 1].
        width: Features of the finest level.
        multiples: Features per level, in units of `width`; all but the last level halve the size.
        blocks: Residual blocks per level on the way down; one more on the way up.
        attention: Level, from 0, with attention beside that in the middle.
        style: Length of the random vector.
        mapped: Length of what its mapping makes of it.
        mappings: Layers of that mapping after the first.
    """

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 64,
        multiples: Sequence[int] = (1, 1, 2, 2, 4, 4),
        blocks: int = 2,
        attention: int = 4,
        style: int = 100,
        mapped: int = 256,
        mappings: int = 3,
    ) -> None:
        super().__init__()
        features = [width * m for m in multiples]
        told, levels = 4 * width, len(features)
        self.divisor = 2 ** (levels - 1)
        self.width = width
        self.time = nn.Sequential(nn.Linear(width, told), nn.SiLU(), nn.Linear(told, told))
        sizes = pairwise([style, *[mapped] * (mappings + 1)])
        self.mapping = nn.Sequential(
            *(part for a, b in sizes for part in (nn.Linear(a, b), nn.SiLU()))
        )
        spread_uniform(self.time)
        spread_uniform(self.mapping, by_outputs=True)
        self.stem = conv(ndim, in_channels, width, 3)

        def piece(
            inputs: int, outputs: int, change: nn.Module | None = None, attend: bool = False
        ) -> _Piece:
            block = StyledBlock(ndim, inputs, outputs, (told, mapped), change)
            return _Piece(block, Attention(ndim, outputs) if attend else None)

        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        self.pyramid = nn.ModuleList()
        kept, now = [width], width
        for level, then in enumerate(features):
            inputs = [now, *[then] * (blocks - 1)]
            pieces = [piece(a, then, attend=level == attention) for a in inputs]
            self.down.append(nn.ModuleList(pieces))
            kept += [then] * blocks
            now = then
            if level < levels - 1:
                self.shrink.append(piece(now, now, FirDown(ndim)))
                self.pyramid.append(
                    FirConvDown(ndim, features[level - 1] if level else in_channels, now)
                )
                kept.append(now)
        self.middle = nn.ModuleList([piece(now, now, attend=True), piece(now, now)])
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for level, then in reversed(list(enumerate(features))):
            pieces = []
            for index in range(blocks + 1):
                last = level == attention and index == blocks
                pieces.append(piece(now + kept.pop(), then, attend=last))
                now = then
            self.up.append(nn.ModuleList(pieces))
            if level:
                self.grow.append(piece(now, now, FirUp(ndim)))
        self.norm = nn.GroupNorm(_groups(now), now, _EPS)
        self.out = conv(ndim, now, out_channels, 3)
        for part in (self.stem, self.pyramid):
            spread_uniform(part)
        spread_uniform(self.out, nothing=True)

    def forward(self, x: Tensor, step: Tensor, style: Tensor) -> Tensor:
        """An image from an image.

        Args:
            x: (B, in_channels, *S), sizes multiples of `divisor`.
            step: (B,), of the chain, from 0.
            style: (B, style), unit normal.
        Returns:
            (B, out_channels, *S) in [-1, 1].
        """
        told = self.time(sinusoids(step, self.width).to(x))
        style = style * (style.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
        styled = self.mapping(style)
        h = self.stem(x)
        kept, pyramid = [h], x
        for index, level in enumerate(self.down):
            for piece in level:  # type: ignore[attr-defined]
                h = piece(h, told, styled)
                kept.append(h)
            if index < len(self.shrink):
                h = self.shrink[index](h, told, styled)
                h = pyramid = (self.pyramid[index](pyramid) + h) * _ROOT_HALF
                kept.append(h)
        for piece in self.middle:
            h = piece(h, told, styled)
        for index, level in enumerate(self.up):
            for piece in level:  # type: ignore[attr-defined]
                h = piece(torch.cat([h, kept.pop()], dim=1), told, styled)
            if index < len(self.grow):
                h = self.grow[index](h, told, styled)
        y: Tensor = self.out(F.silu(self.norm(h))).tanh()
        return y


class _Piece(nn.Module):
    """A block, and attention after it where there is some."""

    def __init__(self, block: "StyledBlock", attend: "Attention | None") -> None:
        super().__init__()
        self.block = block
        self.attend = attend

    def forward(self, x: Tensor, told: Tensor, styled: Tensor) -> Tensor:
        h: Tensor = self.block(x, told, styled)
        y: Tensor = h if self.attend is None else self.attend(h)
        return y


class StyledBlock(nn.Module):
    """(x + conv(silu(sn(conv(silu(sn(x))) + step)))) / sqrt(2), sn a `StyledNorm`.

    Args:
        ndim: 2 or 3 spatial axes.
        inputs, outputs: Features; where they differ, x passes through a convolution of kernel 1.
        vectors: Lengths of the vectors of the step and of the style.
        change: Of the size, of both x and what the first convolution sees.
    """

    def __init__(
        self,
        ndim: int,
        inputs: int,
        outputs: int,
        vectors: tuple[int, int],
        change: nn.Module | None = None,
    ) -> None:
        super().__init__()
        told, styled = vectors
        self.change = change
        self.first_norm = StyledNorm(inputs, styled)
        self.first = conv(ndim, inputs, outputs, 3)
        self.step = nn.Linear(told, outputs)
        self.last_norm = StyledNorm(outputs, styled)
        self.last = conv(ndim, outputs, outputs, 3)
        straight = inputs == outputs and change is None
        self.shortcut = None if straight else conv(ndim, inputs, outputs, 1)
        for part in (self.first, self.step, self.shortcut):
            if part is not None:
                spread_uniform(part)
        spread_uniform(self.last, nothing=True)

    def forward(self, x: Tensor, told: Tensor, styled: Tensor) -> Tensor:
        """(B, inputs, *S), (B, told), (B, styled) to (B, outputs, *S as `change` leaves it)."""
        h = F.silu(self.first_norm(x, styled))
        if self.change is not None:
            h, x = self.change(h), self.change(x)
        step = self.step(F.silu(told))
        h = self.first(h) + step.reshape(*step.shape, *[1] * (x.ndim - 2))
        h = self.last(F.silu(self.last_norm(h, styled)))
        y: Tensor = ((x if self.shortcut is None else self.shortcut(x)) + h) * _ROOT_HALF
        return y


class StyledNorm(nn.Module):
    """Group norm whose gain and shift a style decides; gain 1 and shift 0 for a style of zeros."""

    def __init__(self, channels: int, styled: int) -> None:
        super().__init__()
        self.groups = _groups(channels)
        self.style = nn.Linear(styled, 2 * channels)
        spread_uniform(self.style, by_outputs=True)
        with torch.no_grad():
            self.style.bias[:channels] = 1

    def forward(self, x: Tensor, styled: Tensor) -> Tensor:
        """(B, C, *S) and (B, styled) to (B, C, *S)."""
        both = self.style(styled).reshape(len(x), -1, *[1] * (x.ndim - 2))
        gain, shift = both.chunk(2, dim=1)
        y: Tensor = F.group_norm(x, self.groups, eps=_EPS) * gain + shift
        return y


class Attention(nn.Module):
    """(x + out(softmax(q k / sqrt(C)) v)) / sqrt(2) over all voxels, one head; arXiv 1711.07971.

    It takes any size; its cost grows with the square of the voxels.
    """

    def __init__(self, ndim: int, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_groups(channels), channels, _EPS)
        self.queries, self.keys, self.values, self.join = (
            conv(ndim, channels, channels, 1) for _ in range(4)
        )
        for part in (self.queries, self.keys, self.values):
            spread_uniform(part)
        spread_uniform(self.join, nothing=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) to the same."""
        h = self.norm(x)
        q, k, v = (
            part(h).flatten(2).transpose(1, 2) for part in (self.queries, self.keys, self.values)
        )
        mixed = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        y: Tensor = (x + self.join(mixed.transpose(1, 2).reshape(x.shape))) * _ROOT_HALF
        return y


def spread_uniform(module: nn.Module, *, by_outputs: bool = False, nothing: bool = False) -> None:
    """Weights uniform with variance 1 / fan, biases 0.

    Args:
        by_outputs: The fan is that of the outputs, not the mean of inputs and outputs. That is
            what the published code does in its linear layers of styles and in its critic.
        nothing: Variance smaller by 1e-10, so that a residual path begins as nothing.
    """
    for part in module.modules():
        weight = getattr(part, "weight", None)
        if not isinstance(weight, nn.Parameter) or weight.ndim < 2:
            continue
        place = weight[0, 0].numel()
        inputs, outputs = weight.shape[1] * place, weight.shape[0] * place
        fan = outputs if by_outputs else (inputs + outputs) / 2
        bound = math.sqrt(3 * (1e-10 if nothing else 1) / fan)
        nn.init.uniform_(weight, -bound, bound)
        bias = getattr(part, "bias", None)
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)


def _groups(channels: int) -> int:
    """As many groups of 4 or more channels as divide them evenly, 32 at most."""
    most = max(1, min(channels // _PER_GROUP, _MOST_GROUPS))
    return next(n for n in range(most, 0, -1) if channels % n == 0)
