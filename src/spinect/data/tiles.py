"""Overlapping tiles over a volume, and the smooth weights that put their results together.

The weights of all tiles sum to one at every voxel, so blending needs no division, and a network
that does nothing gives back what it was given. A tile's outer rim counts for nothing wherever
another tile covers it, because a convolution sees padding there instead of the image.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spinect.errors import ConfigError

Float32 = NDArray[np.float32]
Box = tuple[slice, ...]

_RIM = 0.25  # share of an overlap at each of its ends that counts for nothing
_LEAST = 4  # voxels that a tile keeps at a network's lowest resolution, where norms need several


@dataclass(frozen=True, eq=False)
class Axis:
    """Tiles along one axis: where they start, and one window for each.

    Attributes:
        starts: First voxel of each tile, rising.
        windows: (tiles, size) weights; at each voxel those of all tiles sum to one.
    """

    starts: tuple[int, ...]
    windows: Float32


@dataclass(frozen=True, eq=False)
class Tiling:
    """All tiles of a volume in two or three dimensions.

    Attributes:
        shape: Voxels of the volume.
        tile: Voxels of every tile, never more than were asked for.
        before: Voxels of padding in front of the volume, per axis.
        padded: Voxels of the padded volume, which the tiles cover exactly.
        axes: Tiles along each axis, in padded coordinates.
    """

    shape: tuple[int, ...]
    tile: tuple[int, ...]
    before: tuple[int, ...]
    padded: tuple[int, ...]
    axes: tuple[Axis, ...]

    def __len__(self) -> int:
        return math.prod(len(axis.starts) for axis in self.axes)

    @property
    def inner(self) -> Box:
        """The volume's own box in padded coordinates."""
        return tuple(slice(b, b + n) for b, n in zip(self.before, self.shape, strict=True))

    def rows(self, main: int) -> Iterator[tuple[int, list[tuple[int, ...]]]]:
        """Tiles row by row along the axis `main`.

        Yields:
            The row's first voxel along `main`, and the index of each of its tiles per axis.
        """
        counts = [range(len(axis.starts)) for axis in self.axes]
        for row, start in enumerate(self.axes[main].starts):
            counts[main] = range(row, row + 1)
            yield start, list(itertools.product(*counts))

    def box(self, index: Sequence[int]) -> Box:
        """Where a tile lies, padded coordinates."""
        starts = [axis.starts[i] for axis, i in zip(self.axes, index, strict=True)]
        return tuple(slice(s, s + n) for s, n in zip(starts, self.tile, strict=True))

    def weight(self, index: Sequence[int]) -> Float32:
        """Weights of a tile, of its shape."""
        out = np.ones((), np.float32)
        for axis, i in zip(self.axes, index, strict=True):
            out = np.multiply.outer(out, axis.windows[i])
        return out


def shifted(box: Box, by: Sequence[int]) -> Box:
    """The same box, so many voxels further along each axis."""
    return tuple(slice(part.start + n, part.stop + n) for part, n in zip(box, by, strict=True))


def plan_tiles(
    shape: Sequence[int], tile: Sequence[int], overlap: float = 0.25, divisor: int = 1
) -> Tiling:
    """Cover a volume with tiles.

    Args:
        shape: Voxels of the volume, any size.
        tile: Most voxels of a tile; an axis of one voxel means slices, which do not overlap. Along
            an axis where the volume is shorter, the tile shrinks to it: padding costs time and is
            nothing that a network was trained on.
        overlap: Least share of a tile that it has in common with its neighbour, [0, 1).
        divisor: Tiles start at multiples of this, so that a network that halves the resolution
            treats equal voxels equally in every tile; the tile itself must be a multiple of it
            along every axis longer than one voxel.
    Raises:
        ConfigError: A tile that is no multiple of the divisor, or an overlap out of range.
    """
    if len(shape) != len(tile) or min(shape) < 1 or min(tile) < 1:
        raise ConfigError(f"a volume of {tuple(shape)} cannot be cut into tiles of {tuple(tile)}")
    if not 0 <= overlap < 1:
        raise ConfigError(f"tiles overlap by a share in [0, 1), not {overlap}")
    wrong = [n for n in tile if n > 1 and n % divisor]
    if wrong:
        raise ConfigError(
            f"a tile of {tuple(tile)} voxels does not suit a network with divisor {divisor}: "
            f"make {wrong[0]} a multiple of {divisor}"
        )
    axes, before, padded, sizes = [], [], [], []
    for n, most in zip(shape, tile, strict=True):
        step = divisor if most > 1 else 1
        size = min(most, step * max(math.ceil(n / step), _LEAST if most > 1 else 1))
        full = size if n <= size else math.ceil(n / step) * step
        starts = _starts(full, size, 0.0 if size == 1 else overlap, step)
        axes.append(Axis(starts, _windows(starts, size)))
        before.append((full - n) // 2)
        padded.append(full)
        sizes.append(size)
    return Tiling(tuple(shape), tuple(sizes), tuple(before), tuple(padded), tuple(axes))


@dataclass(frozen=True, eq=False)
class Part:
    """The tiles of a volume that a box needs.

    Attributes:
        tiling: Of the part that they cover. Within the box its weights are those of the whole
            tiling, to the bit; where tiles are missing, those that are left sum to one.
        first: Where its padded volume begins in the padded volume of the whole, per axis.
        corner: Where its own volume begins in the whole volume, per axis.
    """

    tiling: Tiling
    first: tuple[int, ...]
    corner: tuple[int, ...]


def part_of(whole: Tiling, box: Box) -> Part:
    """The tiles that count for anything inside a box.

    Args:
        box: In voxels of the volume, inside it, with one voxel or more.
    Raises:
        ConfigError: A box that is empty or reaches beyond the volume.
    """
    if any(
        b.start < 0 or b.stop > n or b.start >= b.stop
        for b, n in zip(box, whole.shape, strict=True)
    ):
        ends = " x ".join(f"{b.start}:{b.stop}" for b in box)
        raise ConfigError(f"a box of {ends} voxels does not lie in a volume of {whole.shape}")
    axes, first, before, shape, corner = [], [], [], [], []
    for axis, size, pad, n, side in zip(
        whole.axes, whole.tile, whole.before, whole.shape, box, strict=True
    ):
        kept, start = _kept(axis, size, side.start + pad, side.stop + pad)
        stop = start + kept.starts[-1] + size
        axes.append(kept)
        first.append(start)
        before.append(max(pad - start, 0))
        corner.append(max(start - pad, 0))
        shape.append(min(stop - pad, n) - corner[-1])
    padded = tuple(axis.starts[-1] + n for axis, n in zip(axes, whole.tile, strict=True))
    tiling = Tiling(tuple(shape), whole.tile, tuple(before), padded, tuple(axes))
    return Part(tiling, tuple(first), tuple(corner))


def _kept(axis: Axis, size: int, low: int, high: int) -> tuple[Axis, int]:
    """The tiles that weigh something in [low, high), starting at 0, and where the first began."""
    ends = [(max(low - s, 0), min(high - s, size)) for s in axis.starts]
    used = [i for i, (a, b) in enumerate(ends) if a < b and axis.windows[i, a:b].any()]
    rows = slice(used[0], used[-1] + 1)
    origin = axis.starts[used[0]]
    starts = tuple(s - origin for s in axis.starts[rows])
    windows = axis.windows[rows].copy()
    alone = _windows(starts, size)
    missing = np.zeros(axis.starts[-1] + size)
    for i, start in enumerate(axis.starts):
        if not rows.start <= i < rows.stop:
            missing[start : start + size] += axis.windows[i]
    for own, fresh, start in zip(windows, alone, starts, strict=True):
        lacks = missing[origin + start : origin + start + size] > 0
        own[lacks] = fresh[lacks]
    return Axis(starts, windows), origin


def _starts(full: int, size: int, overlap: float, step: int) -> tuple[int, ...]:
    """The fewest tiles that overlap at least so much, spread evenly on multiples of `step`."""
    stride = max(step, int(size * (1 - overlap)) // step * step)
    count = 1 + math.ceil((full - size) / stride)
    last = (full - size) // step
    even = [i * last // (count - 1) * step for i in range(count)] if count > 1 else [0]
    return tuple(even)


def _windows(starts: tuple[int, ...], size: int) -> Float32:
    """Raised cosines over the overlaps, zero on the rims, normalised to sum one."""
    windows = np.ones((len(starts), size))
    for i, (here, following) in enumerate(itertools.pairwise(starts)):
        shared = here + size - following
        ramp = _ramp(shared)
        windows[i, size - shared :] *= ramp[::-1]
        windows[i + 1, :shared] *= ramp
    total = np.zeros(starts[-1] + size)
    for start, window in zip(starts, windows, strict=True):
        total[start : start + size] += window
    for start, window in zip(starts, windows, strict=True):
        window /= total[start : start + size]
    return windows.astype(np.float32)


def _ramp(n: int) -> NDArray[np.float64]:
    """Rises from 0 to 1 over `n` voxels, flat on the rims; its mirror image completes it to 1."""
    rim = int(n * _RIM)
    inner = n - 2 * rim
    rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(inner) + 0.5) / max(inner, 1))
    return np.concatenate([np.zeros(rim), rise, np.ones(rim)])
