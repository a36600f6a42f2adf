"""Counting vertebrae: recognised, split, merged and invented ones.

All counts follow from the table of overlaps; no voxel is looked at twice.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import numpy as np

from spinect.evaluation.overlap import Ids, Labels, Overlaps

SHARE: Final = 0.25  # of a true vertebra's voxels; an instance with less only touches it
RECOGNISED: Final = 0.5  # intersection over union; above it a match is unique


@dataclass(frozen=True)
class Panoptic:
    """Panoptic quality of one class.

    Attributes:
        found: Pairs with an intersection over union above 0.5. iou: The sum of theirs.
        extra: Predicted instances without such a partner. lost: True ones without.
    """

    found: int
    iou: float
    extra: int
    lost: int

    @property
    def sq(self) -> float:
        """Segmentation quality: mean IoU of the pairs; NaN when there is none."""
        return self.iou / self.found if self.found else float("nan")

    @property
    def rq(self) -> float:
        """Recognition quality: found / (found + extra / 2 + lost / 2); NaN without any instance."""
        count = self.found + 0.5 * self.extra + 0.5 * self.lost
        return self.found / count if count else float("nan")

    @property
    def pq(self) -> float:
        """Sum of IoU / (found + extra / 2 + lost / 2) = sq * rq; NaN without any instance."""
        count = self.found + 0.5 * self.extra + 0.5 * self.lost
        return self.iou / count if count else float("nan")


def panoptic(
    table: Overlaps, void: Collection[int] = (), ignored: Collection[int] = ()
) -> Panoptic:
    """Panoptic quality of instances of one class.

    Args:
        void: True ids of which nothing is asked: their voxels leave the predicted instances before
            IoU is taken, and an unmatched instance that lies in them by more than half is no error.
        ignored: Predicted ids that are left out.

    Source: the panoptic quality of Kirillov et al. with one class, as torchmetrics computes it.
    """
    asked = ~np.isin(table.true_ids, list(void))
    kept = ~np.isin(table.pred_ids, list(ignored))
    shared = table.shared[asked][:, kept]
    in_void = table.shared[~asked].sum(0)[kept]
    sizes = table.pred_sizes[kept]
    union = table.true_sizes[asked][:, None] + (sizes - in_void)[None, :] - shared
    iou = shared / np.maximum(union, 1)  # an instance that is all void has no union with anything
    good = iou > RECOGNISED
    lone = ~good.any(0) & (2 * in_void <= sizes)
    return Panoptic(
        found=int(good.sum()),
        iou=float(iou[good].sum()),
        extra=int(lone.sum()),
        lost=int((~good.any(1)).sum()),
    )


def splits(table: Overlaps, of: Collection[int]) -> int:
    """True ids among `of` of which two or more instances hold a quarter each."""
    return int((_holds(table, of).sum(1) >= 2).sum())


def merges(table: Overlaps, of: Collection[int]) -> int:
    """Instances that hold a quarter of two or more true ids among `of`."""
    return int((_holds(table, of).sum(0) >= 2).sum())


def _holds(table: Overlaps, of: Collection[int]) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """(T', P) whether an instance holds `SHARE` of a true vertebra."""
    mine = np.isin(table.true_ids, list(of))
    return np.asarray(table.shared[mine] >= SHARE * table.true_sizes[mine][:, None])


def between(prediction: Labels, ids: Collection[int], rows: Ids, axis: int) -> set[int]:
    """Which predicted ids have their middle between the first and the last of `rows`.

    The middle, since the neighbours of the scored vertebrae reach into their rows.

    Args:
        rows: Indices along `axis` that the scored true vertebrae fill; none gives no id.
    """
    if not rows.size:
        return set()
    middles = {i: float(np.mean(np.nonzero(prediction == i)[axis])) for i in ids}
    return {i for i, middle in middles.items() if rows[0] <= middle <= rows[-1]}
