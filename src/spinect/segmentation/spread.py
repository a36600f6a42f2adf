"""The spread of the draws, vertebra by vertebra, and where it forbids trust."""

from dataclasses import replace
from typing import Final

from scipy import ndimage

from spinect.anatomy import SACRUM, VERTEBRAE
from spinect.evaluation.uncertainty import spread
from spinect.geometry import Volume
from spinect.geometry.resample import resample
from spinect.segmentation.result import Segmentation

MUSCLE_HU: Final = 55.0  # what a vertebra stands out from; the mean of the phantoms' muscle


def with_spread(segmentation: Segmentation, ct: Volume, std: Volume) -> Segmentation:
    """The same masks, the table's column `spread_hu` filled.

    `spread_hu` is the root of the mean variance over the voxels of a vertebra. A warning names
    the vertebrae outside the sacrum where it reaches the contrast of the mean CT to muscle. Why
    there: if the draws place bone of b HU with probability p and muscle of m HU otherwise, the
    contrast of the mean is p (b - m), the spread sqrt(p (1 - p)) (b - m), and the spread reaches
    the contrast where p falls to one half: the draws do not even agree that there is bone.

    Args:
        ct: Mean of the draws, HU.
        std: Their standard deviation, HU.
    """
    grid = segmentation.vertebrae.grid
    names = segmentation.vertebrae.data
    mean, off = resample(ct, grid).data, resample(std, grid).data
    boxes = ndimage.find_objects(names)
    rows, poor = [], []
    for row in segmentation.rows:
        number = int(str(row["id"]))
        box = boxes[number - 1]
        mask = names[box] == number
        apart, contrast = spread(off[box], mask), float(mean[box][mask].mean()) - MUSCLE_HU
        rows.append({**row, "spread_hu": round(apart, 1)})
        if number not in SACRUM and apart >= contrast:
            poor.append(f"{VERTEBRAE[number]} ({apart:.0f} against {max(contrast, 0):.0f} HU)")
    said = segmentation.warnings
    if poor:
        said += (
            f"do not trust {', '.join(poor)}: the spread of the draws reaches the contrast of the "
            "vertebra to muscle, they do not agree that there is bone",
        )
    return replace(segmentation, rows=tuple(rows), warnings=said)
