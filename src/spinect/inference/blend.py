"""Put tiles together, slab by slab, so that no more than a tile's thickness is ever held."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from spinect.data.tiles import Box, Tiling

Call = Callable[[Sequence[Box]], Tensor]  # boxes -> (tiles, channels, *tile)


def main_axis(tiling: Tiling) -> int:
    """The axis that slabs follow: the longest."""
    return max(range(len(tiling.padded)), key=lambda a: tiling.padded[a])


def blend_slabs(
    tiling: Tiling, channels: int, call: Call, *, batch: int, device: torch.device
) -> Iterator[tuple[Box, Tensor]]:
    """Run all tiles and yield finished parts of the padded volume.

    Args:
        tiling: Which tiles; their weights sum to one.
        channels: What `call` puts out.
        call: The network, or anything else that maps boxes to tiles.
        batch: Tiles per call.
        device: Where the slab is added up.
    Yields:
        A box in padded coordinates, and its (channels, *box) values; they are only valid until
        the next one. The boxes follow the longest axis, side by side, and cover everything.
    """
    main = main_axis(tiling)
    size = tiling.tile[main]
    shape = list(tiling.padded)
    shape[main] = size
    slab = torch.zeros([channels, *shape], device=device)
    rows = list(tiling.rows(main))
    ends = [start for start, _ in rows[1:]] + [tiling.padded[main]]
    for (start, indices), end in zip(rows, ends, strict=True):
        for first in range(0, len(indices), batch):
            group = indices[first : first + batch]
            boxes = [tiling.box(index) for index in group]
            for index, box, values in zip(group, boxes, call(boxes), strict=True):
                here = [slice(None), *box]
                here[1 + main] = slice(0, size)
                weight = torch.from_numpy(tiling.weight(index)).to(device)
                slab[tuple(here)].addcmul_(values, weight)
        done = end - start
        finished = [slice(0, n) for n in tiling.padded]
        finished[main] = slice(start, end)
        yield tuple(finished), slab.narrow(1 + main, 0, done)
        rest = slab.narrow(1 + main, done, size - done).clone()
        slab.narrow(1 + main, 0, size - done).copy_(rest)
        slab.narrow(1 + main, size - done, done).zero_()


def blend(tiling: Tiling, channels: int, call: Call, *, batch: int, device: torch.device) -> Tensor:
    """The whole padded volume at once, (channels, *padded) on the host."""
    out = torch.empty([channels, *tiling.padded])
    for box, values in blend_slabs(tiling, channels, call, batch=batch, device=device):
        out[(slice(None), *box)] = values.cpu()
    return out


def without_padding(tiling: Tiling, box: Box) -> tuple[Box, Box]:
    """A padded box's share of the volume: its place in the volume, and its place in the box.

    Either is empty where the box holds padding only.
    """
    target, source = [], []
    for part, inner in zip(box, tiling.inner, strict=True):
        low, high = max(part.start, inner.start), min(part.stop, inner.stop)
        high = max(low, high)
        target.append(slice(low - inner.start, high - inner.start))
        source.append(slice(low - part.start, high - part.start))
    return tuple(target), tuple(source)
