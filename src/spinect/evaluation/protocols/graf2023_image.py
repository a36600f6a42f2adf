"""Image quality as Graf et al. 2023 compute it: per sagittal slice, masked, over a fixed frame.

Followed from the published script (img2img2D, RC2/scripts/statistics/test_image_quality.py) without
its randomness: one frame centred on the mask, no jitter, no flip. docs/evaluation.md lists what the
script did otherwise. The figures are for comparison with that paper; zeros outside the mask count,
so that they depend on its area and are no HU errors.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinect.errors import GeometryError
from spinect.evaluation import image
from spinect.evaluation.fidelity import vifp
from spinect.evaluation.measures import Value
from spinect.evaluation.protocols.pair import check_pair, tidy
from spinect.evaluation.similarity import ssim
from spinect.evaluation.surface import Mask
from spinect.geometry import Volume

FRAME: Final = 256  # pixels of 1 mm along both axes
LEAST_PIXELS: Final = 10  # segmented pixels that make a slice count
GROWTH: Final = 10  # pixels, city-block
FRAMED: Final = "frame"  # region: all 65,536 pixels, zero outside the grown mask
INSIDE: Final = "grown_mask"  # region: the pixels of the grown mask alone
_SPACING: Final = (1.0, 0.02)  # mm in plane, tolerance
_LOW, _SPAN = -1000.0, 2000.0  # HU that becomes 0, HU from 0 to 1
_METRICS: Final = (
    *((FRAMED, m) for m in ("l1", "mse_unit", "psnr", "ssim", "vifp")),
    *((INSIDE, m) for m in ("l1", "psnr")),
)
_FLAT: Final = "the masked truth of the slice is constant"
Slice = NDArray[np.floating]
Pixel = TypeVar("Pixel", np.float64, np.bool_)


def graf2023_image(
    prediction: Volume, truth: Volume, vertebrae: Volume, workers: int = 2
) -> list[Value]:
    """The published formulas for every sagittal slice with at least 10 segmented pixels.

    Images are mapped to [0, 1] by (HU + 1000) / 2000, clipped. In the frame of 256 x 256 pixels
    around the middle of the slice's mask (zeros beyond the image) the mask grows by 10 steps of
    the 4-neighbourhood; both images are multiplied by it. Over all 65,536 pixels: L1, MSE, PSNR
    (range: largest minus smallest value of the masked true slice), SSIM (range: the larger of both
    masked slices' ranges) and VIFp (images times 255). Beside them, over the pixels of the grown
    mask alone: L1, and PSNR with range 1.

    Args:
        prediction, truth: CT volumes on one grid, resampled by the caller to 1 x 1 mm in the
            sagittal plane; the distance between slices is free.
        vertebrae: Labels on that grid; everything above 0 is segmented.
    Returns:
        For each slice item "slice N", N along the left-to-right axis of the array in RAS
        orientation; last the means over slices, item "". Regions "frame" and "grown_mask".
    Raises:
        GeometryError: Grids differ, or the plane is not 1 x 1 mm.
        ImageError: A volume is not a finite CT.
    """
    check_pair(prediction, truth)
    if not vertebrae.grid.matches(truth.grid):
        raise GeometryError(f"the vertebrae have {vertebrae.grid}, the truth {truth.grid}")
    p, t, labels = (volume.canonical() for volume in (prediction, truth, vertebrae))
    plane = t.grid.spacing[1:]
    if np.abs(plane - _SPACING[0]).max() > _SPACING[1]:
        raise GeometryError(
            f"the protocol needs 1 x 1 mm in the sagittal plane, not {plane[0]:.3f} x "
            f"{plane[1]:.3f} mm: resample prediction, truth and vertebrae to that spacing first"
        )
    segmented = labels.data > 0
    numbers = [int(i) for i in np.flatnonzero(segmented.sum((1, 2)) >= LEAST_PIXELS)]

    def score(number: int) -> list[Value]:
        return _slice(p.data[number], t.data[number], segmented[number], f"slice {number}")

    with ThreadPoolExecutor(workers) as pool:
        rows = list(pool.map(score, numbers))
    return [value for row in rows for value in row] + _means(rows)


def _slice(prediction: Slice, truth: Slice, segmented: Mask, item: str) -> list[Value]:
    """All values of one slice."""
    middle = [(int(np.min(i)) + int(np.max(i)) + 1) // 2 for i in np.nonzero(segmented)]
    mask = framed(segmented, middle)
    cut = int(segmented.sum()) - int(mask.sum())
    mask = np.asarray(ndimage.binary_dilation(mask, iterations=GROWTH))
    # pixels beyond the image are 0 in both, as in the script, also where the mask reaches them
    p, t = (framed(unit(a), middle) * mask for a in (prediction, truth))
    own = float(t.max() - t.min())
    wide = max(own, float(p.max() - p.min()))
    found = (
        image.mae(p, t),
        image.mse(p, t),
        image.psnr(p, t, None, own) if own > 0 else math.nan,
        ssim(p, t, None, wide) if wide > 0 else math.nan,
        vifp(p, t, None, 1.0),
        image.mae(p, t, mask),
        image.psnr(p, t, mask, 1.0),
    )
    note = f"{cut} segmented pixels outside the frame" if cut else ""
    return [
        Value(region, item, metric, value, _FLAT if math.isnan(value) else note)
        for (region, metric), value in zip(_METRICS, found, strict=True)
    ]


def _means(rows: list[list[Value]]) -> list[Value]:
    """Means over the slices for which a value is defined."""
    result = []
    for index, (region, metric) in enumerate(_METRICS):
        values = [row[index].value for row in rows if not math.isnan(row[index].value)]
        mean = float(np.mean(values)) if values else math.nan
        why = f"defined in none of {len(rows)} slices with {LEAST_PIXELS} segmented pixels"
        if values and len(values) < len(rows):
            note = f"mean of {len(values)} of {len(rows)} slices, not defined in the others"
            result.append(Value(region, "", metric, mean, note))
        else:
            result.append(tidy(region, metric, mean, why))
    return result


def unit(hu: NDArray[np.floating]) -> NDArray[np.float64]:
    """-1000 HU -> 0, 1000 HU -> 1, clipped."""
    return np.asarray(np.clip((hu.astype(np.float64) - _LOW) / _SPAN, 0, 1))


def framed(plane: NDArray[Pixel], middle: list[int]) -> NDArray[Pixel]:
    """The 256 x 256 pixels whose pixel (128, 128) is `middle`; zero (or False) beyond the image."""
    frame = np.zeros((FRAME, FRAME), plane.dtype)
    first = [m - FRAME // 2 for m in middle]
    source = tuple(slice(max(a, 0), a + FRAME) for a in first)
    piece = plane[source]
    start = [max(-a, 0) for a in first]
    target = tuple(slice(a, a + n) for a, n in zip(start, piece.shape, strict=True))
    frame[target] = piece
    return frame
