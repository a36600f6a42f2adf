"""World coordinates and volume change of a grid, slab by slab to bound the memory."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from spinect.geometry import Grid

Float = NDArray[np.float64]
SLAB_VOXELS: Final = 500_000


def slabs(grid: Grid) -> list[slice]:
    """Parts of the first axis of a bounded number of voxels."""
    step = max(1, SLAB_VOXELS // (grid.shape[1] * grid.shape[2]))
    return [slice(x, min(x + step, grid.shape[0])) for x in range(0, grid.shape[0], step)]


def lattice(grid: Grid, box: slice) -> Float:
    """(n, Y, Z, 3) world of the voxel centres of a slab, mm."""
    axes = [np.arange(n, dtype=np.float64) for n in grid.shape]
    axes[0] = axes[0][box]
    parts = [a.reshape([-1 if i == j else 1 for j in range(3)]) for i, a in enumerate(axes)]
    out = np.empty((*(len(a) for a in axes), 3))
    for row in range(3):
        m = grid.affine[row]
        out[..., row] = m[0] * parts[0] + m[1] * parts[1] + m[2] * parts[2] + m[3]
    return out


def jacobian(moved_by: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    """Determinant of the map x -> x + displacement, by central differences.

    Args:
        moved_by: (X, Y, Z, 3) mm, on `grid`; an axis of one voxel counts as constant.
    """
    inverse = np.linalg.inv(grid.affine[:3, :3])
    out = np.empty(grid.shape, np.float32)
    for box in slabs(grid):
        low, high = max(box.start - 1, 0), min(box.stop + 1, grid.shape[0])
        part = moved_by[low:high].astype(np.float64)
        slope = np.zeros((*part.shape, 3))  # d displacement / d index
        for axis in range(3):
            if part.shape[axis] > 1:
                slope[..., axis] = np.gradient(part, axis=axis)
        slope = slope[box.start - low : box.stop - low] @ inverse + np.eye(3)
        out[box] = np.linalg.det(slope)
    return out
