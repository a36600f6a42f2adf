"""HU errors inside stated masks, and the floor that no predictor of the tissue map can beat."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinect.errors import ImageError
from spinect.evaluation.surface import Mask, Spacing

NEAR_BONE_MM = 10.0


def near_bone(bone: Mask, spacing: Spacing, distance_mm: float = NEAR_BONE_MM) -> Mask:
    """Voxels within `distance_mm` (Euclidean) of bone, bone included.

    Args:
        bone: Boolean mask. spacing: mm per voxel along each axis.
    """
    if not bone.any():
        return np.zeros_like(bone)
    pad = np.ceil(distance_mm / np.broadcast_to(np.asarray(spacing, float), 3)).astype(int) + 1
    box = ndimage.find_objects(bone.astype(np.uint8))[0]
    grown = tuple(
        slice(max(s.start - p, 0), min(s.stop + p, n))
        for s, p, n in zip(box, pad, bone.shape, strict=True)
    )
    near = np.zeros_like(bone)
    distance = np.asarray(ndimage.distance_transform_edt(~bone[grown], sampling=spacing))
    near[grown] = distance <= distance_mm
    return near


def mae(prediction: NDArray[np.floating], truth: NDArray[np.floating], mask: Mask) -> float:
    """Mean absolute error inside the mask, in the unit of the arrays (HU).

    Raises:
        ImageError: The mask is empty.
    """
    if not mask.any():
        raise ImageError(
            "the mask of the mean absolute error is empty: there is nothing to compare"
        )
    difference = np.asarray(prediction)[mask].astype(np.float64) - np.asarray(truth)[mask]
    return float(np.abs(difference).mean())


def oracle_floor(tissue: NDArray[np.integer], truth: NDArray[np.floating], mask: Mask) -> float:
    """MAE of the best predictor that knows the tissue map of this very case, and nothing else.

    It predicts the median HU of each tissue, which minimises the mean absolute error among all
    functions of the tissue; what is left is texture and partial volume.
    """
    values, kinds = np.asarray(truth)[mask].astype(np.float64), np.asarray(tissue)[mask]
    total = 0.0
    for kind in np.unique(kinds):
        inside = values[kinds == kind]
        total += float(np.abs(inside - np.median(inside)).sum())
    return total / values.size
