"""Dice, the overlaps of two label maps, and their one-to-one matching.

The definitions (matching, what is excluded, what counts as zero) are those of docs/evaluation.md:
every true vertebra outside the sacrum that is not cut by the head or feet face of the image is
matched one-to-one with the predicted instance of largest overlap, whatever its level name;
an unmatched one scores 0. `protocols.strict_segmentation` puts them together.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from spinect.geometry import Grid, Volume

Labels = NDArray[np.integer]
Mask = NDArray[np.bool_]
Ids = NDArray[np.int64]


def dice(prediction: Mask, truth: Mask) -> float:
    """2 |A and B| / (|A| + |B|); NaN when both are empty, which no average may swallow."""
    total = int(np.count_nonzero(prediction)) + int(np.count_nonzero(truth))
    return 2.0 * int(np.count_nonzero(prediction & truth)) / total if total else float("nan")


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Voxels that every true label shares with every predicted one; background is no label.

    Attributes:
        true_ids: (T,) ascending. pred_ids: (P,) ascending.
        shared: (T, P) voxels in common.
        true_sizes: (T,) voxels. pred_sizes: (P,) voxels.
    """

    true_ids: Ids
    pred_ids: Ids
    shared: Ids
    true_sizes: Ids
    pred_sizes: Ids

    def dice(self, truth: int, prediction: int) -> float:
        """Dice of a true and a predicted label; 0 when the prediction lacks its label.

        Raises:
            KeyError: The truth has no such label.
        """
        row = np.flatnonzero(self.true_ids == truth)
        if not row.size:
            raise KeyError(f"the truth has no label {truth}, only {self.true_ids.tolist()}")
        column = np.flatnonzero(self.pred_ids == prediction)
        if not column.size:
            return 0.0
        r, c = int(row[0]), int(column[0])
        return 2.0 * int(self.shared[r, c]) / int(self.true_sizes[r] + self.pred_sizes[c])

    def pairs(self) -> dict[int, int]:
        """True id -> predicted id, one-to-one, so that the total overlap is largest.

        The Hungarian assignment; true ids without any overlapping partner are absent.
        """
        rows, columns = linear_sum_assignment(self.shared, maximize=True)
        return {
            int(self.true_ids[r]): int(self.pred_ids[c])
            for r, c in zip(rows, columns, strict=True)
            if self.shared[r, c] > 0
        }


def overlaps(prediction: Labels, truth: Labels) -> Overlaps:
    """Count what two label maps of one shape share, in one pass."""
    either = (prediction > 0) | (truth > 0)
    pred, true = np.maximum(prediction[either], 0), np.maximum(truth[either], 0)
    pred_ids = np.union1d(0, np.unique(pred)).astype(np.int64)  # row and column 0: background
    true_ids = np.union1d(0, np.unique(true)).astype(np.int64)
    cell = np.searchsorted(true_ids, true) * pred_ids.size + np.searchsorted(pred_ids, pred)
    table = np.bincount(cell, minlength=true_ids.size * pred_ids.size)
    table = table.reshape(true_ids.size, pred_ids.size).astype(np.int64)
    sizes = table.sum(1)[1:], table.sum(0)[1:]
    return Overlaps(true_ids[1:], pred_ids[1:], table[1:, 1:], *sizes)


def match(prediction: Labels, truth: Labels) -> dict[int, int]:
    """One-to-one matching that maximises the total overlap in voxels; see `Overlaps.pairs`.

    Returns:
        true id -> predicted id; true ids without any overlapping partner are absent.
    """
    return overlaps(prediction, truth).pairs()


def head_axis(grid: Grid) -> int:
    """The array axis that runs closest to feet-head."""
    return next(axis for axis, letter in enumerate(grid.axes) if letter in "SI")


def cut_by_faces(truth: Volume) -> set[int]:
    """Ids that touch the head or feet face of the image."""
    faces = np.take(truth.data, [0, -1], head_axis(truth.grid))
    return {int(i) for i in np.unique(faces) if i}
