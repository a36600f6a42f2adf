"""Structural similarity, of one and of several scales, as maps that many regions share.

SSIM is arithmetic on local moments, weighted by a Gaussian of 1.5 voxels in a window of 11 voxels
along each axis (2D or 3D). Its maps are made once, slab by slab in float64, and averaged over as
many masks as asked for.

Borders: the images are mirrored about the centre of their outermost voxel, as torchmetrics does,
so that the map is as large as the image; an axis of fewer than 6 voxels cannot be mirrored so far,
and the similarity of such an image is not defined.

Source: Wang, Bovik, Sheikh, Simoncelli, IEEE TIP 13:600 (2004), eq. 13; Wang, Simoncelli, Bovik,
Asilomar 2003, eq. 7.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinect.errors import ImageError
from spinect.evaluation.surface import Mask

Image = NDArray[np.floating]

RADIUS: Final = 5  # the window has 2 * 5 + 1 voxels along each axis
SIGMA: Final = 1.5  # voxels
K1: Final = 0.01
K2: Final = 0.03
LEAST: Final = RADIUS + 1  # voxels along an axis that a mirrored border needs
WEIGHTS: Final = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # finest scale first
_SLAB_VOXELS: Final = 2**20  # what one thread filters at a time; about ten float64 arrays of it
_KERNEL: Final = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)


@dataclass(frozen=True, eq=False)
class Maps:
    """Similarity of every voxel's surroundings; both of the images' shape.

    Attributes:
        ssim: Luminance times contrast and structure, -1 to 1.
        contrast: Contrast and structure alone, -1 to 1.
    """

    ssim: Image
    contrast: Image


def similarity_maps(
    prediction: Image, truth: Image, data_range: float, workers: int = 1
) -> Maps | None:
    """SSIM and its contrast-structure part at every voxel.

    SSIM = (2 mx my + c1) (2 sxy + c2) / ((mx^2 + my^2 + c1) (sx^2 + sy^2 + c2)), where m and s are
    Gaussian-weighted local means and (population) variances, c1 = (0.01 R)^2 and c2 = (0.03 R)^2
    of the stated range R. The luminance term presumes that the darkest possible value is 0.

    Args:
        prediction, truth: One shape, 2D or 3D.
        data_range: R, in the unit of the images.
        workers: Threads.
    Returns:
        Maps of the images' floating type; None where an axis has fewer than 6 voxels.
    Raises:
        ImageError: Shapes differ, or the range is not positive.
    """
    _check(prediction, truth, data_range)
    if min(truth.shape) < LEAST:
        return None
    dtype = np.result_type(prediction.dtype, truth.dtype, np.float32)
    maps = Maps(np.empty(truth.shape, dtype), np.empty(truth.shape, dtype))
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2

    def fill(rows: slice) -> None:
        first = max(rows.start - RADIUS, 0)
        wide = slice(first, rows.stop + RADIUS)
        inner = slice(rows.start - first, rows.stop - first)
        x, y = prediction[wide].astype(np.float64), truth[wide].astype(np.float64)
        mean_x, mean_y = _blur(x, inner), _blur(y, inner)
        var_x = np.maximum(_blur(x * x, inner) - mean_x**2, 0)
        var_y = np.maximum(_blur(y * y, inner) - mean_y**2, 0)
        both = _blur(x * y, inner) - mean_x * mean_y
        contrast = (2 * both + c2) / (var_x + var_y + c2)
        luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
        maps.contrast[rows], maps.ssim[rows] = contrast, luminance * contrast

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(fill, slabs(truth.shape)))
    return maps


def ssim(prediction: Image, truth: Image, mask: Mask | None, data_range: float) -> float:
    """Mean of the SSIM map over the mask, or over the whole image where it is None.

    The windows of voxels at the rim of the mask look beyond it. NaN where an axis has fewer than
    6 voxels.

    Raises:
        ImageError: The mask is empty, shapes differ, or the range is not positive.
    """
    maps = similarity_maps(prediction, truth, data_range)
    if mask is not None and not mask.any():
        raise ImageError("the mask of the structural similarity is empty: nothing to compare")
    if maps is None:
        return math.nan
    return masked_mean(maps.ssim, np.ones(truth.shape, bool) if mask is None else mask)


def ms_ssim(
    prediction: Image,
    truth: Image,
    masks: Sequence[Mask | None],
    data_range: float,
    full: Maps | None = None,
    workers: int = 1,
) -> list[float]:
    """MS-SSIM for each mask: product over five scales of max(0, mean similarity)^weight.

    Contrast and structure count at the four finer scales, full SSIM at the coarsest. From scale to
    scale, neighbours are averaged in pairs; a last odd voxel is dropped. With a mask, the means run
    over the voxels at least half of which (by volume) the mask covers, borders are mirrored, and an
    axis is halved only while 6 voxels are left, so that thick slices stay slices. Without one, it
    is the published whole-image figure: all axes halved, windows inside the image only.

    Args:
        prediction, truth: One shape, 2D or 3D.
        masks: Boolean arrays of that shape; None stands for the whole image.
        full: Maps at full resolution, where they are known already.
    Returns:
        One number per mask. NaN where five scales do not fit (the longest axis below 96 voxels or
        one below 6; without a mask any below 176), and where nothing of the mask is left at one.

    Source: Wang, Simoncelli, Bovik, Asilomar 2003, eq. 7 and section 3.2; without a mask as
    monai.metrics.compute_ms_ssim, whose means leave out the border at every scale.
    """
    _check(prediction, truth, data_range)
    factor = 2 ** (len(WEIGHTS) - 1)
    whole = min(truth.shape) // factor > 2 * RADIUS
    if min(truth.shape) < LEAST or max(truth.shape) // factor < LEAST:
        return [math.nan] * len(masks)
    result = np.ones(len(masks))
    scales = _scales(prediction, truth, masks)
    for level, ((x, y, inside), weight) in enumerate(zip(scales, WEIGHTS, strict=True)):
        known = full if level == 0 else None
        maps = known or similarity_maps(x, y, data_range, workers)
        assert maps is not None  # the sizes were checked above
        chosen = maps.ssim if level == len(WEIGHTS) - 1 else maps.contrast
        for number, mask in enumerate(inside):
            mean = masked_mean(chosen, mask) if mask is not None else _inner_mean(chosen, whole)
            result[number] *= max(mean, 0) ** weight if not math.isnan(mean) else math.nan
    return [float(value) for value in result]


def masked_mean(image: Image, mask: Mask) -> float:
    """Mean over the mask, summed in float64; NaN when it is empty."""
    return float(image[mask].mean(dtype=np.float64)) if mask.any() else math.nan


def slabs(shape: Sequence[int], voxels: int = _SLAB_VOXELS) -> list[slice]:
    """Cuts along the first axis into pieces of at most about `voxels` voxels."""
    rows = max(1, voxels // math.prod(shape[1:]))
    return [slice(a, min(a + rows, shape[0])) for a in range(0, shape[0], rows)]


def halve(image: NDArray[Any], axes: Sequence[int]) -> NDArray[Any]:
    """Averages of neighbours in pairs along the axes; a last odd voxel is dropped."""
    for axis in axes:
        pairs = image.shape[axis] // 2
        picks = [[slice(None)] * image.ndim for _ in range(2)]
        picks[0][axis], picks[1][axis] = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
        image = image[tuple(picks[0])] / 2 + image[tuple(picks[1])] / 2  # integers cannot overflow
    return image


def _scales(
    x: Image, y: Image, masks: Sequence[Mask | None]
) -> Iterator[tuple[Image, Image, list[Mask | None]]]:
    """Both images and the masks at each scale, finest first."""
    yield x, y, list(masks)
    shares = [None if m is None else m.astype(np.float32) for m in masks]
    for _ in WEIGHTS[1:]:
        axes = [axis for axis, size in enumerate(x.shape) if size // 2 >= LEAST]
        x, y = halve(x, axes), halve(y, axes)
        shares = [None if s is None else halve(s, axes) for s in shares]
        yield x, y, [None if s is None else s >= 0.5 for s in shares]


def _inner_mean(image: Image, defined: bool) -> float:
    """Mean over the voxels whose window lies inside the image."""
    inner = (slice(RADIUS, -RADIUS),) * image.ndim
    return float(image[inner].mean(dtype=np.float64)) if defined else math.nan


def _blur(image: NDArray[np.float64], rows: slice) -> NDArray[np.float64]:
    """Gaussian-weighted local mean, of the given rows only."""
    kernel = _KERNEL / _KERNEL.sum()
    image = ndimage.correlate1d(image, kernel, 0, mode="mirror")[rows]
    for axis in range(1, image.ndim):
        image = ndimage.correlate1d(image, kernel, axis, mode="mirror")
    return image


def _check(prediction: Image, truth: Image, data_range: float) -> None:
    if prediction.shape != truth.shape:
        raise ImageError(
            f"similarity needs images of one shape, not {prediction.shape} and {truth.shape}: "
            "resample the prediction onto the grid of the truth first"
        )
    if not data_range > 0:
        raise ImageError(f"the range of the images must be positive, not {data_range:g}")
