"""The motions of all vertebrae as one smooth displacement of the MR's world into the CT's.

Log-Euclidean polyrigid blend: in every voxel the logarithms of the vertebrae's motions relative to
the global one are averaged with weights that fall with the distance to each bone, and the
exponential of the mean moves the voxel. Where bones slide along each other in a joint so narrow
that space would fold there, or the motions push one into the other, the field is smoothed until no
voxel has a Jacobian below `unfold.LEAST`.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spinect.geometry import Grid, Volume
from spinect.geometry.transform import apply, invert
from spinect.registration.blend import THREADS, blended_twists, pieces
from spinect.registration.lattice import jacobian, lattice, slabs
from spinect.registration.result import Registration
from spinect.registration.twist import log_motion, move
from spinect.registration.unfold import unfold


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
    """The displacement field of a registration; its Jacobian is above 0 everywhere.

    Args:
        grid: In the MR's world.
        vertebrae_mask: Vertebra ids in the MR's world, any grid. None, or a vertebra that it does
            not hold: a capsule of 15 mm from body to spinous process stands for the bone.
    """
    whole = registration.ct_from_mr
    twists = {v: log_motion(invert(whole) @ m) for v, m in pieces(registration).items()}
    out = np.empty((*grid.shape, 3), np.float32)
    mixed = blended_twists(grid, registration, vertebrae_mask, twists) if twists else None

    # Folds are mended before the global motion, which changes no Jacobian, is put on top.
    def bend(box: slice) -> None:
        points = lattice(grid, box)
        own = points if mixed is None else move(mixed[box].astype(np.float64), points)
        out[box] = own - points

    def carry(box: slice) -> None:
        points = lattice(grid, box)
        out[box] = apply(whole, points + out[box]) - points

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(bend, slabs(grid)))
        change = jacobian(out, grid)
        unfold(out, change, grid)
        list(pool.map(carry, slabs(grid)))
    return Field(grid, out, change)
