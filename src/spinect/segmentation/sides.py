"""The sagittal plane of each vertebra, whatever the spine's curve or turn."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinect.anatomy import CLASS
from spinect.inference.heads import MaskHeads
from spinect.segmentation.result import Instances

Float = NDArray[np.float64]

_CANAL_LEVEL_MM: Final = 6.0  # half the height of the piece of canal that belongs to a level
_CANAL_MM: Final = 35.0  # farthest canal that belongs to a centre
_MARGIN_MM: Final = 45.0
_WEIGHT: Final = 0.5  # of each neighbour's direction: vertebrae turn little by little


def midplanes(masks: MaskHeads, instances: Instances) -> Float:
    """Unit normals, to the right, of the sagittal planes through the body centres.

    The plane holds the local direction of the chain, and runs from the spinous process and from
    the canal at that level to the body centre. A vertebra without both takes its direction from
    its neighbours, and one without any from the front-back axis of the image.

    Returns:
        (n, 3), along the array axes.
    """
    spacing = masks.grid.spacing
    centres = instances.centres * spacing
    up = chain_directions(centres)
    forward = np.zeros((len(centres), 3))
    for i, box in enumerate(ndimage.find_objects(instances.labels, max_label=len(centres))):
        for behind in (_canal_centre(masks, centres[i], up[i]), _spinous(masks, instances, i, box)):
            if behind is not None:
                arrow = centres[i] - behind
                forward[i] += arrow - (arrow @ up[i]) * up[i]
    smooth = forward.copy()
    smooth[1:] += _WEIGHT * forward[:-1]
    smooth[:-1] += _WEIGHT * forward[1:]
    smooth[np.linalg.norm(smooth, axis=1) < 1.0] = (0.0, 1.0, 0.0)
    right = np.cross(smooth, up)
    return np.asarray(right / np.linalg.norm(right, axis=1, keepdims=True))


def chain_directions(centres: Float) -> Float:
    """(n, 3) unit vectors up the chain of centres (n, 3), head to feet; one stands upright."""
    if len(centres) < 2:
        return np.tile([0.0, 0.0, 1.0], (len(centres), 1))
    up = -np.gradient(centres, axis=0)
    return np.asarray(up / np.linalg.norm(up, axis=1, keepdims=True))


def _canal_centre(masks: MaskHeads, centre: Float, up: Float) -> Float | None:
    """Middle of the canal across the chain at a body centre, mm."""
    spacing = masks.grid.spacing
    low = np.floor((centre - _MARGIN_MM) / spacing).astype(int)
    high = np.ceil((centre + _MARGIN_MM) / spacing).astype(int) + 1
    box = tuple(slice(max(a, 0), max(b, 0)) for a, b in zip(low, high, strict=True))
    places = (np.argwhere(masks.classes[box] == CLASS["canal"]) + np.maximum(low, 0)) * spacing
    away = places - centre
    level = np.abs(away @ up) <= _CANAL_LEVEL_MM
    own = places[level & (np.linalg.norm(away, axis=1) <= _CANAL_MM)]
    return own.mean(0) if len(own) >= 20 and not _lopsided(masks, own[:, 0] / spacing[0]) else None


def _lopsided(masks: MaskHeads, across: Float) -> bool:
    """Whether one side face of the image, not both, cuts these indices: their middle is off."""
    seen = np.flatnonzero(masks.inside.any((1, 2)))
    if len(seen) == 0:
        return False
    return bool((across.min() <= seen[0] + 0.5) != (across.max() >= seen[-1] - 0.5))


def _spinous(
    masks: MaskHeads, instances: Instances, i: int, box: tuple[slice, ...] | None
) -> Float | None:
    """Middle of an instance's spinous process, mm."""
    if box is None:
        return None
    own = (instances.labels[box] == i + 1) & (masks.classes[box] == CLASS["spinous"])
    where = np.argwhere(own)
    if len(where) < 20:
        return None
    where = where + [b.start for b in box]
    if _lopsided(masks, where[:, 0].astype(np.float64)):
        return None
    return np.asarray(where.mean(0) * masks.grid.spacing)
