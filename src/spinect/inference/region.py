"""A box of a volume that is worked on while the rest is left out; in the world, so that it can be
told on every grid whose axes run along its own."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from spinect.data.tiles import Box
from spinect.errors import GeometryError
from spinect.geometry import Grid, Volume
from spinect.geometry.resample import average_mask

_PARALLEL: Final = 1e-3  # cosine of what counts as a right angle
_WHOLE: Final = 1 - 1e-4  # float32 sums of weights that are exactly one must count as one


def box_on(region: Grid, grid: Grid) -> Box:
    """The voxels of a grid whose centres lie within the outer faces of a region.

    Args:
        region: Its shape and spacing say how large it is; its voxels have no other meaning.
        grid: With axes along those of the region, in any order and direction.
    Raises:
        GeometryError: Axes that are not parallel, or a region that holds no voxel of the grid.
    """
    turn = np.abs(grid.direction.T @ region.direction)
    if np.any((turn > _PARALLEL) & (turn < 1 - _PARALLEL)):
        raise GeometryError(
            f"the axes of the region ({region}) and of the image ({grid}) are not parallel: take "
            "a region on the image's own axes"
        )
    faces = np.stack([np.full(3, -0.5), np.array(region.shape) - 0.5])
    ends = grid.index(region.world(faces))
    low = np.maximum(np.ceil(ends.min(0) - 1e-6), 0).astype(int)
    high = np.minimum(np.floor(ends.max(0) + 1e-6) + 1, grid.shape).astype(int)
    if np.any(low >= high):
        raise GeometryError(f"the region ({region}) lies outside the image ({grid})")
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def mask_of(box: Box, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """True inside a box."""
    mask = np.zeros(shape, bool)
    mask[box] = True
    return mask


def region_mask(region: Grid | None, made: Grid, grid: Grid) -> Volume:
    """1 where an image that was made in a region says something, on any grid.

    A voxel belongs to it if all the voxels that it averages do, so that inside nothing is mixed
    with what was left out. None is a region that holds everything.

    Args:
        made: The grid that the image was made on.
        grid: The grid of the mask.
    """
    if region is None:
        return Volume(np.ones(grid.shape, np.uint8), grid.affine, "labels")
    own = mask_of(box_on(region, made), made.shape)
    return Volume((average_mask(own, made, grid) >= _WHOLE).astype(np.uint8), grid.affine, "labels")


def leave_out(volume: Volume, mask: Volume) -> None:
    """Write what its kind says lies outside into a volume wherever a mask on its grid is 0."""
    volume.data[mask.data == 0] = volume.rules.outside
