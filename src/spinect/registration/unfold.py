"""Mend a displacement field where it folds, and only there, until it folds nowhere."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinect.geometry import Grid
from spinect.registration.blend import to_mask
from spinect.registration.lattice import jacobian

LEAST: Final = 0.1  # local volume change that counts as folded
REACH_MM: Final = 2.0  # about a fold, the part that is smoothed first
GROWTH: Final = 1.2  # of the reach from one round to the next
KERNEL: Final = 2.0  # SD at which the smoothing kernel ends; the reach
RIM: Final = 3  # voxels in which smoothing fades out


def unfold(displacement: NDArray[np.float32], change: NDArray[np.float32], grid: Grid) -> None:
    """Smooth a displacement around its folds, in place, until none is left.

    Smoothing leaves a linear displacement as it is, so rigid bone beside the fold hardly moves.
    Each round reaches farther about the folds that are left. This ends: once the reach exceeds the
    grid, every round averages over all of it, the displacement tends to a constant, and a constant
    has the Jacobian 1.

    Args:
        displacement: (X, Y, Z, 3) mm, finite, changed in place: relative to the global rigid
            motion, for only then is a constant the motion that smoothing should end in.
        change: (X, Y, Z) its Jacobian determinant, changed in place; at least `LEAST` afterwards.
    """
    reach = REACH_MM
    while (bad := change < LEAST).any():
        pieces, _ = ndimage.label(grown(bad, reach, grid))
        for piece, box in enumerate(ndimage.find_objects(pieces), 1):
            wide = _wider(box, _margin(reach, grid), grid.shape)
            _smooth(displacement[wide], pieces[wide] == piece, reach, grid)
            _measure(displacement, change, wide, grid)
        reach *= GROWTH


def grown(bad: NDArray[np.bool_], reach: float, grid: Grid) -> NDArray[np.bool_]:
    """Everything within `reach` mm of the bad voxels, at least their neighbours."""
    reach = max(reach, float(grid.spacing.max()))
    (found,) = ndimage.find_objects(bad.astype(np.uint8))
    box = _wider(found, np.ceil(reach / grid.spacing).astype(int), grid.shape)
    near = np.zeros(bad.shape, bool)
    near[box] = to_mask(bad[box], grid.spacing) <= reach * (1 + 1e-6)
    return near


def _wider(
    box: tuple[slice, ...], margin: NDArray[np.int_], shape: tuple[int, ...]
) -> tuple[slice, ...]:
    """A box with a margin of voxels per axis, cut to the grid."""
    return tuple(
        slice(max(b.start - int(m), 0), min(b.stop + int(m), n))
        for b, m, n in zip(box, margin, shape, strict=True)
    )


def _margin(reach: float, grid: Grid) -> NDArray[np.int_]:
    """Voxels about a piece: what the kernel sees, and a border that smoothing leaves alone."""
    return np.ceil(reach / grid.spacing).astype(int) + RIM + 2


def _smooth(
    displacement: NDArray[np.float32], near: NDArray[np.bool_], reach: float, grid: Grid
) -> None:
    """Smooth a box in place where it is `near`; fading out over `RIM` voxels about it."""
    sigma = reach / KERNEL / grid.spacing
    faded = ndimage.gaussian_filter(near.astype(np.float32), 1.0, truncate=RIM)
    share = np.clip(faded * 1.5, 0, 1)
    for axis in range(3):
        own = displacement[..., axis]
        soft = ndimage.gaussian_filter(own, sigma, mode="nearest", truncate=KERNEL)
        own += share * (soft - own)


def _measure(
    displacement: NDArray[np.float32],
    change: NDArray[np.float32],
    box: tuple[slice, ...],
    grid: Grid,
) -> None:
    """Renew the Jacobian in a box whose own border did not move."""
    inner = tuple(
        slice(0 if b.start == 0 else 1, None if b.stop == n else -1)
        for b, n in zip(box, grid.shape, strict=True)
    )
    part = displacement[box]
    fresh = jacobian(part, grid.crop([b.start for b in box], part.shape[:3]))
    change[box][inner] = fresh[inner]
