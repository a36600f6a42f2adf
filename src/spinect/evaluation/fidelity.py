"""Visual information fidelity in the pixel domain (VIFp), of slices and of regions of slices.

At four scales, truth and prediction are modelled by local Gaussians seen through noise; VIFp is the
information that the prediction still carries about the truth over what the truth carries itself.
Both are sums over pixels, so that a region has a VIFp of its own: the sums over the pixels whose
window is centred in it.

Source: Sheikh and Bovik, IEEE TIP 15:430 (2006), in the pixel-domain form of its authors (Gaussian
windows of 17, 9, 5 and 3 pixels with sigma = window / 5), as piq.vif_p and torchmetrics compute it.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinect.errors import ImageError
from spinect.evaluation.similarity import Image, slabs
from spinect.evaluation.surface import Mask

NOISE: Final = 2.0  # variance of the visual noise, for images of range 255
LEAST: Final = 41  # pixels along an axis that the four scales need
_RANGE: Final = 255.0
_TINY: Final = 1e-10  # variances below count as none
_SCALES: Final = 4
_SLAB_PIXELS: Final = 2**19
Float = NDArray[np.float64]


def vifp(
    prediction: Image, truth: Image, mask: Mask | None, data_range: float, workers: int = 1
) -> float:
    """VIFp of one image, or of a stack of slices whose information is added up.

    Not symmetric: the prediction comes first. 1 for equal images, above 1 for a prediction with
    more contrast than the truth.

    Args:
        prediction, truth: (H, W), or (slices, H, W).
        mask: Pixels that count, of that shape; None for all. Pixels nearer to the border of the
            image than the reach of the scales (8, 12, 16 and 20 pixels) never count.
        data_range: What is scaled to 255, in the unit of the images.
    Returns:
        NaN where the truth carries no information in the mask (constant, or no pixel counts), and
        where H or W is below 41.
    Raises:
        ImageError: Shapes differ, or the range is not positive.
    """
    return region_vifp(prediction, truth, [mask], data_range, workers)[0]


def region_vifp(
    prediction: Image,
    truth: Image,
    masks: Sequence[Mask | None],
    data_range: float,
    workers: int = 1,
) -> list[float]:
    """`vifp` for several masks at the price of one."""
    if prediction.shape != truth.shape:
        raise ImageError(f"VIFp needs one shape, not {prediction.shape} and {truth.shape}")
    if not data_range > 0:
        raise ImageError(f"the range of the images must be positive, not {data_range:g}")
    if min(truth.shape[-2:]) < LEAST:
        return [math.nan] * len(masks)
    stack = (-1, *truth.shape[-2:])
    x, y = prediction.reshape(stack), truth.reshape(stack)
    inside = [None if m is None else m.reshape(stack) for m in masks]

    def sums(rows: slice) -> Float:
        part = [None if m is None else m[rows] for m in inside]
        scale = _RANGE / data_range
        return _sums(x[rows].astype(np.float64) * scale, y[rows].astype(np.float64) * scale, part)

    with ThreadPoolExecutor(workers) as pool:
        total = sum(pool.map(sums, slabs(y.shape, _SLAB_PIXELS)), np.zeros((len(masks), 2)))
    return [float(kept / own) if own > 0 else math.nan for kept, own in total]


def _sums(x: Float, y: Float, masks: Sequence[Mask | None]) -> Float:
    """(masks, 2): information kept by the prediction, information of the truth."""
    result = np.zeros((len(masks), 2))
    for kept, own, first, step in _information(x, y):
        height, width = own.shape[1:]
        for number, mask in enumerate(masks):
            if mask is None:
                result[number] += kept.sum(), own.sum()
                continue
            centres = mask[:, first::step, first::step][:, :height, :width]
            result[number] += kept[centres].sum(), own[centres].sum()
    return result


def _information(x: Float, y: Float) -> Iterator[tuple[Float, Float, int, int]]:
    """Per scale: information kept and own, at pixels first, first + step, ... of the image."""
    origin, step = 0, 1  # where the pixels of the current scale lie in the full image
    for scale in range(_SCALES):
        radius = 2 ** (3 - scale)
        kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) * 5 / (2 * radius + 1)) ** 2)
        kernel /= kernel.sum()
        if scale:
            x, y = (_blur(image, kernel)[:, ::2, ::2] for image in (x, y))
            origin, step = origin + radius * step, step * 2
        yield *_gain(x, y, kernel), origin + radius * step, step


def _gain(x: Float, y: Float, kernel: Float) -> tuple[Float, Float]:
    """Bits (to base 10) kept and own at each window; degenerate windows as in torchmetrics."""
    mean_x, mean_y = _blur(x, kernel), _blur(y, kernel)
    var_x = np.maximum(_blur(x * x, kernel) - mean_x**2, 0)
    var_y = np.maximum(_blur(y * y, kernel) - mean_y**2, 0)
    both = _blur(x * y, kernel) - mean_x * mean_y
    gain = both / (var_y + _TINY)
    rest = var_x - gain * both
    flat_y = var_y < _TINY
    gain[flat_y], var_y[flat_y] = 0, 0
    rest[flat_y] = var_x[flat_y]
    flat_x = var_x < _TINY
    gain[flat_x], rest[flat_x] = 0, 0
    opposed = gain < 0
    rest[opposed], gain[opposed] = var_x[opposed], 0
    kept = np.log10(1 + gain**2 * var_y / (np.maximum(rest, _TINY) + NOISE))
    return kept, np.log10(1 + var_y / NOISE)


def _blur(image: Float, kernel: Float) -> Float:
    """Local mean of each slice where the window lies inside it."""
    reach = len(kernel) // 2
    image = ndimage.correlate1d(image, kernel, 1)[:, reach : image.shape[1] - reach]
    return ndimage.correlate1d(image, kernel, 2)[:, :, reach : image.shape[2] - reach]
