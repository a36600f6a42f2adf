"""The image metrics of the SynthRAD2025 challenge: MAE, PSNR and MS-SSIM inside one mask.

Followed from github.com/SynthRAD2025/evaluation, image_metrics.py. Until 12 May 2025 (commit
921b42b) it clipped to [-1024, 3000], which is the default here; since then (17cac47) to
[-1024, 3071].
"""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinect.evaluation import image
from spinect.evaluation.measures import Value
from spinect.evaluation.protocols.pair import EMPTY, check_mask, check_pair, tidy
from spinect.evaluation.similarity import K1, K2, WEIGHTS, Image, slabs
from spinect.evaluation.surface import Mask
from spinect.geometry import Volume

CLIP: Final = (-1024.0, 3000.0)  # HU, range 4024
LEAST: Final = 97  # voxels along each axis, padded up to it by repeating the border
_WINDOW: Final = 7  # voxels, all of one weight
_REACH: Final = _WINDOW // 2
_METRICS: Final = ("mae", "psnr", "ms_ssim")
_LOST: Final = "the mask is lost at a coarse scale"
_SLAB_VOXELS: Final = 2**20


def synthrad(
    prediction: Volume,
    truth: Volume,
    mask: Mask,
    clip: tuple[float, float] = CLIP,
    workers: int = 2,
) -> list[Value]:
    """MAE (unclipped), PSNR and MS-SSIM of one case as the challenge computes them.

    Args:
        prediction, truth: CT volumes on one grid.
        mask: The patient, boolean, on that grid.
        clip: Lowest and highest HU for PSNR and MS-SSIM; their difference is the range.
    Returns:
        Values of the region "mask"; all NaN when it is empty.
    Raises:
        GeometryError: Grids or shapes differ.
        ImageError: A volume is not a finite CT, or the mask is not boolean.
    """
    check_pair(prediction, truth)
    check_mask("mask", mask, truth)
    if not mask.any():
        return [Value("mask", "", name, math.nan, EMPTY) for name in _METRICS]
    p, t = (np.clip(volume.data[mask], *clip) for volume in (prediction, truth))
    found = (
        image.mae(prediction.data, truth.data, mask),
        image.psnr(p, t, None, clip[1] - clip[0]),
        synthrad_ms_ssim(prediction.data, truth.data, mask, clip, workers),
    )
    return [tidy("mask", name, v, _LOST) for name, v in zip(_METRICS, found, strict=True)]


def synthrad_ms_ssim(
    prediction: NDArray[np.floating],
    truth: NDArray[np.floating],
    mask: Mask,
    clip: tuple[float, float] = CLIP,
    workers: int = 1,
) -> float:
    """MS-SSIM of the challenge: product over five scales of the masked mean of SSIM^weight.

    What differs from the published MS-SSIM, on purpose of the challenge or not: the weight is an
    exponent of every voxel's similarity, not of the mean; luminance counts at every scale, not at
    the coarsest only; the window is a cube of 7 voxels of one weight, with sample variances (n - 1)
    and borders mirrored with the outermost voxel repeated; 3 voxels of every face are left out at
    every scale; voxel j of the next scale is the mean of voxels 2j - 1 and 2j, with zero (the
    lowest HU) before the first, so that the first faces darken; of the mask every other voxel is
    kept. Outside the mask both images are set to the lowest HU.

    Args:
        prediction, truth, mask: (X, Y, Z), HU.
    Returns:
        0 to 1; NaN where no voxel of the mask is left at a scale.
    """
    low, high = clip
    pad = [((LEAST - min(n, LEAST)) // 2, -(-(LEAST - min(n, LEAST)) // 2)) for n in mask.shape]
    inside = np.pad(mask, pad, mode="edge")
    x, y = (
        np.pad(np.where(mask, np.clip(a, low, high) - low, 0), pad, mode="edge")
        for a in (prediction, truth)
    )
    result = 1.0
    for level, weight in enumerate(WEIGHTS):
        if level:
            x, y, inside = _next(x), _next(y), inside[::2, ::2, ::2]
        result *= _scale(x, y, inside, (high - low, weight), workers)
    return result


def _scale(
    x: Image, y: Image, mask: Mask, range_weight: tuple[float, float], workers: int
) -> float:
    """Masked mean of SSIM^weight away from the faces, clipped to [0, 1]."""
    data_range, weight = range_weight
    keep = np.zeros(mask.shape, bool)
    keep[(slice(_REACH, -_REACH),) * 3] = mask[(slice(_REACH, -_REACH),) * 3]

    def total(rows: slice) -> float:
        first = max(rows.start - _REACH, 0)
        wide, inner = slice(first, rows.stop + _REACH), slice(rows.start - first, rows.stop - first)
        part = _similarity(x[wide].astype(np.float64), y[wide].astype(np.float64), data_range)
        return float((part[inner][keep[rows]] ** weight).sum())

    with ThreadPoolExecutor(workers) as pool:
        sums = list(pool.map(total, slabs(x.shape, _SLAB_VOXELS)))
    count = int(keep.sum())
    return min(max(sum(sums) / count, 0.0), 1.0) if count else math.nan


def _similarity(
    x: NDArray[np.float64], y: NDArray[np.float64], data_range: float
) -> NDArray[np.float64]:
    """Luminance times contrast times structure, each at least 0."""
    mean_x, mean_y = _mean(x), _mean(y)
    unbiased = _WINDOW**3 / (_WINDOW**3 - 1)
    var_x = unbiased * (_mean(x * x) - mean_x**2)
    var_y = unbiased * (_mean(y * y) - mean_y**2)
    both = unbiased * (_mean(x * y) - mean_x * mean_y)
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    deviation = np.sqrt(np.maximum(var_x, 0)) * np.sqrt(np.maximum(var_y, 0))
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    contrast = (2 * deviation + c2) / (var_x + var_y + c2)
    structure = (both + c2 / 2) / (deviation + c2 / 2)
    return np.maximum(luminance, 0) * np.maximum(contrast, 0) * np.maximum(structure, 0)


def _mean(image: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(ndimage.uniform_filter(image, _WINDOW))


def _next(image: Image) -> Image:
    """The image of the next scale: means of voxels 2j - 1 and 2j, zero before the first."""
    for axis in range(3):
        turned = np.moveaxis(image, axis, 0)
        half = turned[::2] / 2
        half[1:] += turned[1:-1:2] / 2
        image = np.moveaxis(half, 0, axis)
    return image
