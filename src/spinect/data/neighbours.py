"""2.5D: a slice's own channels, and those of the slices on both sides of it.

Slices are one voxel of the raster apart: `spacing_mm` on the raster "iso", the scan's own distance
from slice to slice on the raster "slices". Training and inference order the channels by the same
two functions.
"""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from spinect.protocols import Batch


def slices_of(at: int, reach: int, first: int, last: int) -> list[int]:
    """The slices that a network sees beside slice `at`: itself, then at - reach to at + reach.

    A slice's own channels come first, because methods look for the image in channel 0. Beyond the
    first and the last slice, the nearest one is repeated.

    >>> slices_of(5, 2, 0, 9)
    [5, 3, 4, 6, 7]
    >>> slices_of(0, 2, 0, 9)
    [0, 0, 0, 1, 2]
    """
    around = [*range(at - reach, at), *range(at + 1, at + reach + 1)]
    return [at, *(min(max(one, first), last) for one in around)]


def beside(image: Tensor, slices: Sequence[int]) -> Tensor:
    """Channels of several slices as those of one: all of the first slice, then of the next.

    Shapes: image (..., C, X, Y, Z) -> (..., len(slices) * C, 1, Y, Z).
    """
    chosen = image[..., list(slices), :, :]
    return chosen.transpose(-4, -3).flatten(-4, -3).unsqueeze(-3)


def middle_of(batch: Batch, reach: int, first: int, last: int, axis: int = 0) -> Batch:
    """A batch of slabs of 2 reach + 1 slices as one of their middle slices.

    Args:
        batch: Condition (B, C, *S) with 2 reach + 1 slices along `axis`, and the rest alike.
        first, last: Slices of the slab that lie inside the scan.
        axis: Of the slices, 0 to 2.
    Returns:
        Condition (B, (2 reach + 1) C, *S); the middle slice alone of everything else.
    """
    along = axis - 3
    held = {k: v.narrow(along, reach, 1) for k, v in vars(batch).items() if v is not None}
    slices = slices_of(reach, reach, first, last)
    seen = beside(batch.condition.movedim(along, -3), slices).movedim(-3, along)
    return replace(batch, **held | {"condition": seen})
