"""Distances between the surfaces of two masks.

A surface is the set of mask voxels with a face neighbour outside the mask (the convention of
MONAI's and DeepMind's voxel variants); distances run between voxel centres, in mm.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
Spacing = NDArray[np.float64] | Sequence[float] | float


@dataclass(frozen=True)
class SurfaceDistances:
    """Surface distances of a predicted against a true mask, mm.

    Attributes:
        to_truth: Predicted surface voxels -> nearest true surface voxel; negative inside the truth.
        to_prediction: True surface voxels -> nearest predicted surface voxel, >= 0.
    """

    to_truth: NDArray[np.float64]
    to_prediction: NDArray[np.float64]

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
    return np.asarray(mask & ~ndimage.binary_erosion(mask, border_value=0))


def surface_distances(prediction: Mask, truth: Mask, spacing: Spacing) -> SurfaceDistances | None:
    """Distances both ways, or None when a mask is empty.

    Args:
        prediction, truth: Boolean arrays of one shape.
        spacing: mm per voxel along each array axis.
    """
    if not prediction.any() or not truth.any():
        return None
    box = ndimage.find_objects((prediction | truth).astype(np.uint8))[0]
    prediction, truth = np.pad(prediction[box], 1), np.pad(truth[box], 1)
    edge_p, edge_t = surface(prediction), surface(truth)
    far_t = np.asarray(ndimage.distance_transform_edt(~edge_t, sampling=spacing))
    far_p = np.asarray(ndimage.distance_transform_edt(~edge_p, sampling=spacing))
    signed = np.where(truth, -far_t, far_t)
    return SurfaceDistances(signed[edge_p], far_p[edge_t])
