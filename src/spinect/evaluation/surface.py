"""Distances between the surfaces of two masks.

A surface is the set of mask voxels with a face neighbour outside the mask (the convention of
MONAI's and DeepMind's voxel variants); distances run between voxel centres, in mm.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

Mask = NDArray[np.bool_]
Float = NDArray[np.float64]
Spacing = NDArray[np.float64] | Sequence[float] | float


@dataclass(frozen=True)
class SurfaceDistances:
    """Surface distances of a predicted against a true mask, mm.

    Attributes:
        to_truth: Predicted surface voxels -> nearest true surface voxel; negative inside the truth.
        to_prediction: True surface voxels -> nearest predicted surface voxel, >= 0.
    """

    to_truth: Float
    to_prediction: Float

    def nsd(self, tolerance_mm: float) -> float:
        """Normalised surface Dice: share of both surfaces within the tolerance of the other.

        Source: Nikolov et al., arXiv 1809.04430, surface Dice, with voxel counts for areas.
        """
        near = (np.abs(self.to_truth) <= tolerance_mm).sum()
        near += (self.to_prediction <= tolerance_mm).sum()
        return float(near / (self.to_truth.size + self.to_prediction.size))

    def hausdorff(self, percentile: float = 95.0) -> float:
        """Larger of the two directed percentile distances, mm."""
        one = np.percentile(np.abs(self.to_truth), percentile)
        return float(max(one, np.percentile(self.to_prediction, percentile)))

    def average(self) -> float:
        """Average symmetric surface distance, mm."""
        return float(np.concatenate([np.abs(self.to_truth), self.to_prediction]).mean())

    def median_signed(self) -> float:
        """Median of `to_truth`, mm: positive where the prediction is too large."""
        return float(np.median(self.to_truth))


def surface(mask: Mask) -> Mask:
    """Mask voxels with a face neighbour outside the mask; beyond the array is outside."""
    padded = np.pad(mask, 1)
    inner = mask.copy()
    middle = [slice(1, -1)] * mask.ndim
    for axis in range(mask.ndim):
        for step in (slice(None, -2), slice(2, None)):
            inner &= padded[(*middle[:axis], step, *middle[axis + 1 :])]
    return np.asarray(mask & ~inner)


def surface_distances(prediction: Mask, truth: Mask, spacing: Spacing) -> SurfaceDistances | None:
    """Distances both ways, or None when a mask is empty.

    Args:
        prediction, truth: Boolean arrays of one shape.
        spacing: mm per voxel along each array axis.
    """
    if not prediction.any() or not truth.any():
        return None
    box = ndimage.find_objects((prediction | truth).astype(np.uint8))[0]
    truth = truth[box]
    edge_p, edge_t = surface(prediction[box]), surface(truth)
    step = np.broadcast_to(np.asarray(spacing, float), truth.ndim)
    away = _nearest(edge_p, edge_t, step)
    signed = np.where(truth[edge_p], -away, away)
    return SurfaceDistances(signed, _nearest(edge_t, edge_p, step))


def _nearest(of: Mask, to: Mask, step: Float) -> Float:
    """Distance of every voxel of one surface to the nearest voxel of another, mm.

    A search among surface voxels only: a distance transform would fill the whole box. Distances
    are taken from index differences, so that 3 voxels of 1/3 mm do not depend on where they lie.
    """
    distance = np.zeros(np.count_nonzero(of))
    apart = ~to[of]
    if apart.any():
        here, there = np.argwhere(of)[apart], np.argwhere(to)
        tree = cKDTree(there * step, balanced_tree=False)
        nearest = tree.query(here * step)[1]
        distance[apart] = np.linalg.norm((here - there[nearest]) * step, axis=1)
    return distance
