"""HU errors inside stated masks, and the floor that no predictor of the tissue map can beat."""

import math

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


def mae(
    prediction: NDArray[np.floating], truth: NDArray[np.floating], mask: Mask | None = None
) -> float:
    """Mean absolute error inside the mask (None: of all voxels), in the unit of the arrays (HU).

    Raises:
        ImageError: The mask is empty.
    """
    return float(np.abs(_error(prediction, truth, mask, "mean absolute error")).mean())


def mse(
    prediction: NDArray[np.floating], truth: NDArray[np.floating], mask: Mask | None = None
) -> float:
    """Mean squared error inside the mask, in the squared unit of the arrays (HU^2).

    Raises:
        ImageError: The mask is empty.
    """
    error = _error(prediction, truth, mask, "mean squared error")
    return float(np.square(error, out=error).mean())


def bias(
    prediction: NDArray[np.floating], truth: NDArray[np.floating], mask: Mask | None = None
) -> float:
    """Mean of prediction minus truth inside the mask, in the unit of the arrays (HU).

    Raises:
        ImageError: The mask is empty.
    """
    return float(_error(prediction, truth, mask, "bias").mean())


def psnr(
    prediction: NDArray[np.floating],
    truth: NDArray[np.floating],
    mask: Mask | None,
    data_range: float,
) -> float:
    """Peak signal-to-noise ratio, dB: 10 log10(range^2 / MSE inside the mask).

    Infinite where both images agree.

    Args:
        mask: None for all voxels.
        data_range: In the unit of the arrays; a PSNR means nothing without it.
    Raises:
        ImageError: The mask is empty, or the range is not positive.
    """
    if not data_range > 0:
        raise ImageError(f"the range of the PSNR must be positive, not {data_range:g}")
    error = mse(prediction, truth, mask)
    return 10 * math.log10(data_range**2 / error) if error > 0 else math.inf


def _error(
    prediction: NDArray[np.floating], truth: NDArray[np.floating], mask: Mask | None, name: str
) -> NDArray[np.float64]:
    """Prediction minus truth of the voxels that count, in one row."""
    p, t = (a if mask is None else a[mask] for a in map(np.asarray, (prediction, truth)))
    error: NDArray[np.float64] = np.subtract(p, t, dtype=np.float64).ravel()
    if not error.size:
        raise ImageError(f"the mask of the {name} is empty: there is nothing to compare")
    return error


def oracle_floor(tissue: NDArray[np.integer], truth: NDArray[np.floating], mask: Mask) -> float:
    """MAE of the best predictor that knows the tissue map of this very case, and nothing else.

    It predicts the median HU of each tissue, which minimises the mean absolute error among all
    functions of the tissue; what is left is texture and partial volume.

    Raises:
        ImageError: The mask is empty.
    """
    if not mask.any():
        raise ImageError("the mask of the oracle floor is empty: there is nothing to predict")
    values, kinds = np.asarray(truth)[mask].astype(np.float64), np.asarray(tissue)[mask]
    total = 0.0
    for kind in np.unique(kinds):
        inside = values[kinds == kind]
        total += float(np.abs(inside - np.median(inside)).sum())
    return total / values.size
