"""Mend a displacement field where it folds, and only there."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinect.geometry import Grid
from spinect.registration.lattice import jacobian

LEAST: Final = 0.1  # local volume change that counts as folded
REACH_MM: Final = 2.0  # about a fold, the part that is smoothed
MARGIN: Final = 4  # voxels about it that the smoothing looks at
ROUNDS: Final = 12


def unfold(
    displacement: NDArray[np.float32], change: NDArray[np.float32], grid: Grid
) -> NDArray[np.bool_]:
    """Smooth a field around its folds, in place, until none is left or `ROUNDS` are over.

    Smoothing leaves a linear displacement as it is, so rigid bone beside the fold hardly moves.

    Args:
        displacement: (X, Y, Z, 3) mm, changed in place.
        change: (X, Y, Z) its Jacobian determinant, changed in place.
    Returns:
        (X, Y, Z) where the field was changed.
    """
    touched = np.zeros(grid.shape, bool)
    for step in range(ROUNDS):
        bad = change < LEAST
        if not bad.any():
            break
        reach = REACH_MM * (1 + step / 4)
        near = _grown(bad, reach, grid)
        touched |= near
        pieces, _ = ndimage.label(near)
        for box in ndimage.find_objects(pieces):
            _smooth(displacement, change, near, box, grid, reach)
    return touched


def _grown(bad: NDArray[np.bool_], reach: float, grid: Grid) -> NDArray[np.bool_]:
    """Everything within `reach` mm of the bad voxels, by an ellipsoid of voxels."""
    radius = np.maximum(np.ceil(reach / grid.spacing), 1).astype(int)
    offsets = np.meshgrid(*[np.arange(-r, r + 1) for r in radius], indexing="ij")
    away = sum((o * s) ** 2 for o, s in zip(offsets, grid.spacing, strict=True))
    ball = away <= max(reach, float(grid.spacing.max())) ** 2
    return np.asarray(ndimage.binary_dilation(bad, ball))


def _smooth(
    displacement: NDArray[np.float32],
    change: NDArray[np.float32],
    near: NDArray[np.bool_],
    box: tuple[slice, ...],
    grid: Grid,
    reach: float,
) -> None:
    """Smooth what is `near` within a box."""
    wide = tuple(
        slice(max(b.start - MARGIN, 0), min(b.stop + MARGIN, n))
        for b, n in zip(box, grid.shape, strict=True)
    )
    sigma = reach / 2 / grid.spacing
    share = np.clip(ndimage.gaussian_filter(near[wide].astype(np.float32), 1.0) * 1.5, 0, 1)
    part = displacement[wide]
    for axis in range(3):
        soft = ndimage.gaussian_filter(part[..., axis], sigma, mode="nearest")
        part[..., axis] += share * (soft - part[..., axis])
    start = [w.start for w in wide]
    inner = tuple(
        slice(0 if w.start == 0 else 1, None if w.stop == n else -1)
        for w, n in zip(wide, grid.shape, strict=True)
    )
    fresh = jacobian(part, grid.crop(start, part.shape[:3]))
    change[wide][inner] = fresh[inner]
