"""The U-Net of Graf et al. 2023: with self-attention in two dimensions, without it in three."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spinect.nets.blocks import conv, sinusoids, transposed_conv, without_autocast
from spinect.nets.staged import Staged

Skips = Literal["concat", "mean"]
_HEADS, _PER_HEAD = 4, 32
_GROUPS = 8


class SAUNet(Staged):
    """U-Net of residual blocks with group norm, as published for diffusion (arXiv 2308.09345).

    Stem 7x7; per level two residual blocks, linear attention and a strided convolution; full
    attention in the middle; the mirror image on the way up; at the end the stem beside the result.
    Group norm takes its statistics over the tile, so the answer depends on the tile.

    Args:
        ndim: 2 or 3 spatial axes.
        in_channels: Of the input, the noisy image among them.
        out_channels: Of the output.
        width: Features of the finest level.
        multiples: Features per level, in units of `width`; all but the last level halve the size.
        attention: Linear attention on every level and full attention in the middle.
        skips: "concat" puts what the encoder saw beside the decoder's, "mean" averages them.
        time: Whether the blocks are modulated by the time of a DDPM.
        tanh: Bound the output to [-1, 1].
    """

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 64,
        multiples: Sequence[int] = (1, 2, 4, 8),
        attention: bool = True,
        skips: Skips = "concat",
        time: bool = True,
        tanh: bool = False,
    ) -> None:
        super().__init__()
        steps = list(pairwise([width, *(width * m for m in multiples)]))
        levels, deepest = len(steps), steps[-1][1]
        self.divisor = 2 ** (levels - 1)
        self.skips: Skips = skips
        self.tanh = tanh
        told = 4 * width if time else 0
        self.time = TimeEmbedding(width) if time else None
        self.stem = conv(ndim, in_channels, width, 7)
        self.down = nn.ModuleList(
            _Level(ndim, a, b, told, attention, None if i == levels - 1 else conv(ndim, b, b, 4, 2))
            for i, (a, b) in enumerate(steps)
        )
        self.middle_first = GroupBlock(ndim, deepest, deepest, told)
        self.middle_attend = Attended(ndim, deepest, linear=False) if attention else None
        self.middle_last = GroupBlock(ndim, deepest, deepest, told)
        beside = 2 if skips == "concat" else 1
        self.up = nn.ModuleList(
            _Level(ndim, beside * b, a, told, attention, transposed_conv(ndim, a, a) if i else None)
            for i, (a, b) in reversed(list(enumerate(steps)))
        )
        self.tail = GroupBlock(ndim, 2 * width, width, told)
        self.out = conv(ndim, width, out_channels, 1)

    def share(self, condition: Tensor) -> Tensor:
        """What a condition adds in the stem, (B, C, *S) to (B, width, *S) float32.

        A convolution is linear, so the stem of [x, condition] is that of x plus this, which stays
        the same as long as the condition does.
        """
        return self._part(condition, self.stem.in_channels - condition.shape[1], None)

    def _part(self, x: Tensor, first: int, bias: Tensor | None) -> Tensor:
        """The stem of some of its input channels, from number `first` on, in float32."""
        weight = self.stem.weight[:, first : first + x.shape[1]]
        convolve = F.conv2d if x.ndim == 4 else F.conv3d
        with without_autocast(x.device.type):
            return convolve(x.to(weight.dtype), weight, bias, padding=self.stem.padding)

    def _with_share(self, x: Tensor, share: Tensor) -> Tensor:
        """The stem of the first channels and the rest's share, in the type of the other layers."""
        kind = x.device.type
        low = torch.is_autocast_enabled(kind)
        stem = self._part(x, 0, self.stem.bias).add_(share)
        return stem.to(torch.get_autocast_dtype(kind)) if low else stem

    def stages(
        self, x: Tensor, time: Tensor | None = None, share: Tensor | None = None
    ) -> Iterator[Tensor]:
        """The features after each piece: stem; on each level two blocks, attention and the change
        of size where there is one; the middle alike; the tail; the output.

        With a `share` of other channels x holds the first ones alone.
        """
        told = self.time(time) if self.time is not None and time is not None else None
        stem = self.stem(x) if share is None else self._with_share(x, share)
        yield stem
        kept, h = [], stem
        for level in self.down:
            for last, stage in level.stages(h, told):  # type: ignore[operator]
                h = stage
                yield h
                if last:
                    kept.append(h)
            if level.resize is not None:
                h = level.resize(h)  # type: ignore[operator]
                yield h
        h = self.middle_first(h, told)
        yield h
        if self.middle_attend is not None:
            h = self.middle_attend(h)
            yield h
        h = self.middle_last(h, told)
        yield h
        for level in self.up:
            skip = kept.pop()
            h = torch.cat([h, skip], dim=1) if self.skips == "concat" else (h + skip) / 2
            for _, stage in level.stages(h, told):  # type: ignore[operator]
                h = stage
                yield h
            if level.resize is not None:
                h = level.resize(h)  # type: ignore[operator]
                yield h
        h = self.tail(torch.cat([h, stem], dim=1), told)
        yield h
        h = self.out(h)
        yield h.tanh() if self.tanh else h


class _Level(nn.Module):
    """Two residual blocks, attention and a change of size."""

    def __init__(
        self,
        ndim: int,
        inputs: int,
        outputs: int,
        told: int,
        attention: bool,
        resize: nn.Module | None,
    ) -> None:
        super().__init__()
        self.first = GroupBlock(ndim, inputs, outputs, told)
        self.second = GroupBlock(ndim, outputs, outputs, told)
        self.attend = Attended(ndim, outputs, linear=True) if attention else None
        self.resize = resize

    def stages(self, h: Tensor, told: Tensor | None) -> Iterator[tuple[bool, Tensor]]:
        """Whether it is the level's last one, and the features, without the change of size."""
        h = self.first(h, told)
        yield False, h
        h = self.second(h, told)
        yield self.attend is None, h
        if self.attend is not None:
            yield True, self.attend(h)


class GroupBlock(nn.Module):
    """silu(gn(conv(silu(gn(conv(x)) (1 + scale) + shift)))) + x, x through 1x1 where it must."""

    def __init__(self, ndim: int, inputs: int, outputs: int, told: int) -> None:
        super().__init__()
        self.first = conv(ndim, inputs, outputs, 3)
        self.first_norm = nn.GroupNorm(_GROUPS, outputs)
        self.last = conv(ndim, outputs, outputs, 3)
        self.last_norm = nn.GroupNorm(_GROUPS, outputs)
        self.modulate = nn.Linear(told, 2 * outputs) if told else None
        self.shortcut = conv(ndim, inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Tensor, told: Tensor | None = None) -> Tensor:
        """(B, inputs, *S) and (B, told) to (B, outputs, *S)."""
        h = F.silu(self._modulated(self.first(x), told))
        h = F.silu(self.last_norm(self.last(h)))
        y: Tensor = h + (x if self.shortcut is None else self.shortcut(x))
        return y

    def _modulated(self, h: Tensor, told: Tensor | None) -> Tensor:
        """gn(h) (1 + scale) + shift; for one image the norm's own gain and shift do all of it."""
        norm = self.first_norm
        if self.modulate is None:
            return norm(h)  # type: ignore[no-any-return]
        assert told is not None  # a network that is told the time needs it
        with without_autocast(h.device.type):
            both = self.modulate(F.silu(told))
        if len(h) == 1:
            scale, shift = both[0].chunk(2)
            gain, base = norm.weight * (1 + scale), torch.addcmul(shift, norm.bias, 1 + scale)
            return F.group_norm(h, norm.num_groups, gain, base, norm.eps)
        both = both.to(h.dtype).reshape(len(h), -1, *[1] * (h.ndim - 2))
        scale, shift = both.chunk(2, dim=1)
        return norm(h) * (1 + scale) + shift  # type: ignore[no-any-return]


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each voxel, with gain and shift."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to the same."""
        y: Tensor = F.layer_norm(x, self.gain.shape, self.gain, self.shift, 1e-5)
        return y


class Attended(nn.Module):
    """x + attention(norm(x)): 4 heads of 32 channels.

    Linear attention (Shen et al., arXiv 1812.01243) costs the square of the channels, not of the
    voxels: softmax of the queries over channels, of the keys over voxels, keys times values first.
    Voxels come before channels throughout, so that channels-last images need no copy.
    """

    def __init__(self, ndim: int, channels: int, *, linear: bool) -> None:
        super().__init__()
        inner = _HEADS * _PER_HEAD
        self.linear = linear
        self.norm = ChannelNorm(channels)
        self.queries_keys_values = conv(ndim, channels, 3 * inner, 1, bias=False)
        self.join = conv(ndim, inner, channels, 1)
        self.out_norm = ChannelNorm(channels) if linear else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) to the same."""
        batch, channels, *size = x.shape
        voxels = self.norm(x.movedim(1, -1).reshape(batch, -1, channels))
        weights = self.queries_keys_values.weight.flatten(1).chunk(3)
        q, k, v = (F.linear(voxels, weight) for weight in weights)  # (B, N, all heads' channels)
        mixed = _linear_attention(q, k, v) if self.linear else _attention(q, k, v)
        y = F.linear(mixed, self.join.weight.flatten(1), self.join.bias)
        y = y if self.out_norm is None else self.out_norm(y)
        return x + y.reshape(batch, *size, channels).movedim(-1, 1)


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(B, N, heads * 32) three times to the same, each head for itself."""
    cut = (*q.shape[:2], _HEADS, _PER_HEAD)
    q, k, v = (part.reshape(cut).transpose(1, 2) for part in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def _linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same at a cost linear in N; heads are cut apart without being copied."""
    likely = q.reshape(*q.shape[:2], _HEADS, _PER_HEAD).softmax(dim=3) * _PER_HEAD**-0.5
    cut = [part.chunk(_HEADS, dim=2) for part in (likely.flatten(2), k.softmax(dim=1), v)]
    mixed = [mine @ (keys.mT @ values) for mine, keys, values in zip(*cut, strict=True)]
    return torch.cat(mixed, dim=2)


class TimeEmbedding(nn.Module):
    """A DDPM's time for the blocks: `sinusoids`, then two layers."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.layers = nn.Sequential(
            nn.Linear(size, 4 * size), nn.GELU(), nn.Linear(4 * size, 4 * size)
        )

    def forward(self, time: Tensor) -> Tensor:
        """Times (B,), counted from 0, to (B, 4 * size)."""
        with without_autocast(time.device.type):  # its cost is nothing, and its error is everywhere
            vector: Tensor = self.layers(sinusoids(time.float(), self.size))
        return vector
