"""Does the first vertebra have a dens? Then it is C2."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinect.segmentation.result import Instances
from spinect.segmentation.succession import PITCH

# How far bone reaches above the body's centre, in units of the distance to the next centre: mean
# and SD, assumed, around what phantoms measure (tests/segmentation/test_levels.py).
_WITH: Final = (1.35, 0.30)
_WITHOUT: Final = (0.50, 0.18)
_COLUMN_MM: Final = 7.0  # radius of the column above the centre that is looked at
_SPREAD: Final = 0.25  # by which it widens per mm, since the dens does not follow the chain's line
_MOST: Final = 6.0  # bound of the evidence, nat
_C2: Final = 2


def dens_evidence(instances: Instances, spacing_mm: float) -> float:
    """Log of how much better the first instance fits C2 than another vertebra.

    Measured is how high its mask reaches above the centre, along the chain. A mask that ends at
    the head side of the image may go on there, so it can only speak for a dens.

    Returns:
        Between -6 and 6; 0 if nothing can be said.
    """
    box = ndimage.find_objects(instances.labels, max_label=1)[0]
    if box is None:
        return 0.0
    up, unit = _chain_direction(instances, spacing_mm)
    where = np.argwhere(instances.labels[box] == 1) + [b.start for b in box]
    away = (where - instances.centres[0]) * spacing_mm
    height = away @ up
    aside = np.linalg.norm(away - height[:, None] * up, axis=1)
    column = (height > 0) & (aside <= _COLUMN_MM + _SPREAD * height)
    if not column.any():
        return 0.0
    reach = float(np.percentile(height[column], 98)) / unit
    evidence = _log_normal(reach, *_WITH) - _log_normal(reach, *_WITHOUT)
    if box[2].stop >= instances.labels.shape[2] - 1:
        evidence = max(evidence, 0.0)
    return float(np.clip(evidence, -_MOST, _MOST))


def _chain_direction(instances: Instances, spacing_mm: float) -> tuple[NDArray[np.float64], float]:
    """Up at the first instance, and the distance to the next centre, mm."""
    if len(instances.centres) < 2:
        return np.array([0.0, 0.0, 1.0]), PITCH[_C2]
    step = (instances.centres[0] - instances.centres[1]) * spacing_mm
    length = max(float(np.linalg.norm(step)), 1e-6)
    return step / length, length


def _log_normal(x: float, mean: float, sd: float) -> float:
    return float(-0.5 * ((x - mean) / sd) ** 2 - np.log(sd))
