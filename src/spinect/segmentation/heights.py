"""Heights of vertebral bodies in front, in the middle and behind."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

_MIDDLE_MM: Final = 5.0  # half the width of the mid-sagittal slab that is measured
_COLUMN_MM: Final = 2.0  # width and depth of a column
_LEAST: Final = 50  # voxels of a body that is worth measuring
_EDGE: Final = 2.5  # percentile that counts as the front or back edge of a body


def body_heights(
    places: Float, voxel: Float, up: Float, forward: Float
) -> tuple[float, float, float] | None:
    """Median heights of the columns in the front, middle and back third of a body.

    Columns stand along `up` within 5 mm of the body's middle; the thirds are those of the
    body's extent along `forward`.

    Args:
        places: (n, 3) world mm of the body's voxels.
        voxel: (3, 3) edges of one voxel as columns, mm.
        up: Unit vector towards the head. forward: Unit vector to the front, orthogonal to `up`.
    Returns:
        Anterior, middle and posterior height in mm; None for a body of less than 50 voxels, or
        without columns in one of the thirds.
    """
    if len(places) < _LEAST:
        return None
    away = places - places.mean(axis=0)
    ahead, aside, height = away @ forward, away @ np.cross(forward, up), away @ up
    front, back = np.percentile(ahead, [100 - _EDGE, _EDGE])
    slab = np.abs(aside) <= _MIDDLE_MM
    cells = np.stack([ahead[slab], aside[slab]], axis=1) / _COLUMN_MM
    columns, which = np.unique(np.floor(cells).astype(int), axis=0, return_inverse=True)
    which = which.ravel()
    top, bottom = np.full(len(columns), -np.inf), np.full(len(columns), np.inf)
    np.maximum.at(top, which, height[slab])
    np.minimum.at(bottom, which, height[slab])
    # Places are centres of voxels: half a voxel is added at each end.
    tall = top - bottom + float(np.abs(voxel.T @ up).max())
    at = (columns[:, 0] + 0.5) * _COLUMN_MM
    third = np.floor(3 * (at - back) / max(front - back, 1e-6))
    parts = [tall[third == part] for part in (2, 1, 0)]
    if any(len(part) == 0 for part in parts):
        return None
    anterior, middle, posterior = (float(np.median(part)) for part in parts)
    return anterior, middle, posterior


def upward(centres: Float, place: int, body: Float, head: Float) -> Float:
    """Unit vector towards the head at one vertebra.

    Args:
        centres: (n, 3) world mm of the body centres, head to feet.
        place: Row of the vertebra.
        body: (m, 3) world mm of its body's voxels.
        head: (3,) the image's direction to the head.
    Returns:
        The direction of the chain of its neighbours; alone, that principal axis of the body which
        is nearest to `head`.
    """
    if len(centres) > 1:
        step = centres[max(place - 1, 0)] - centres[min(place + 1, len(centres) - 1)]
        return np.asarray(step / max(float(np.linalg.norm(step)), 1e-6))
    if len(body) < _LEAST:
        return head
    axes = np.linalg.eigh(np.cov(body.T))[1].T
    axis = axes[np.abs(axes @ head).argmax()]
    return np.asarray(axis * np.sign(axis @ head))


def ahead_of(up: Float, arrow: Float | None, front: Float) -> Float:
    """Unit vector to the front, orthogonal to `up`.

    Args:
        arrow: From the posterior elements to the body, mm; None where either is missing.
        front: (3,) the image's direction to the front, which decides then.
    """
    for way in (arrow, front):
        if way is None:
            continue
        flat = way - (way @ up) * up
        length = float(np.linalg.norm(flat))
        if length > 1e-3:
            return np.asarray(flat / length)
    return np.asarray(np.cross(up, [1.0, 0.0, 0.0]))
