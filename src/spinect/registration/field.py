"""The motions of all vertebrae as one smooth displacement of the MR's world into the CT's.

Log-Euclidean polyrigid blend: in every voxel the logarithms of the vertebrae's motions relative to
the global one are averaged with weights that fall with the distance to each bone, and the
exponential of the mean moves the voxel. Source: Arsigny et al., J Math Imaging Vis 33:222 (2009),
the fast transform of section 4.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spinect.geometry import Grid, Volume
from spinect.geometry.transform import apply, invert
from spinect.registration.blend import blended_twists, pieces
from spinect.registration.result import Registration
from spinect.registration.twist import log_motion, move

Float = NDArray[np.float64]
SLAB_VOXELS: Final = 500_000


@dataclass(frozen=True, eq=False)
class Field:
    """Where the voxels of an MR's grid lie in the CT's world.

    Attributes:
        grid: The lattice, MR world.
        displacement: (X, Y, Z, 3) float32 mm, CT world minus MR world, RAS+.
        jacobian: (X, Y, Z) float32, local volume in the CT over that in the MR.
    """

    grid: Grid
    displacement: NDArray[np.float32]
    jacobian: NDArray[np.float32]


def displacement(
    registration: Registration, grid: Grid, vertebrae_mask: Volume | None = None
) -> Field:
    """The displacement field of a registration.

    Args:
        grid: In the MR's world.
        vertebrae_mask: Vertebra ids in the MR's world, any grid. None, or a vertebra that it does
            not hold: a capsule of 15 mm from body to spinous process stands for the bone.
    """
    whole = registration.ct_from_mr
    twists = {v: log_motion(invert(whole) @ m) for v, m in pieces(registration).items()}
    out = np.empty((*grid.shape, 3), np.float32)
    mixed = blended_twists(grid, registration, vertebrae_mask, twists) if twists else None
    for box in slabs(grid):
        points = lattice(grid, box)
        own = points if mixed is None else move(mixed[box].astype(np.float64), points)
        out[box] = apply(whole, own) - points
    return Field(grid, out, jacobian(out, grid))


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
