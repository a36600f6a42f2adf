"""Dice of vertebrae, bodies and posterior elements, with one-to-one instance matching.

The definitions (matching, what is excluded, what counts as zero) are those of docs/evaluation.md:
every true vertebra outside the sacrum that is not cut by the head or feet face of the image is
matched one-to-one with the predicted instance of largest overlap, whatever its level name;
an unmatched one scores 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from spinect.anatomy import BODY, POSTERIOR, PRESACRAL
from spinect.errors import GeometryError
from spinect.evaluation.surface import surface_distances
from spinect.geometry import Volume

Labels = NDArray[np.integer]
Mask = NDArray[np.bool_]


def dice(prediction: Mask, truth: Mask) -> float:
    """2 |A and B| / (|A| + |B|); NaN when both are empty, which no average may swallow."""
    total = int(prediction.sum()) + int(truth.sum())
    return 2.0 * int((prediction & truth).sum()) / total if total else float("nan")


def match(prediction: Labels, truth: Labels) -> dict[int, int]:
    """One-to-one matching that maximises the total overlap in voxels.

    Returns:
        true id -> predicted id; true ids without any overlapping partner are absent.
    """
    both = (prediction > 0) & (truth > 0)
    true_ids, pred_ids = np.unique(truth[both]), np.unique(prediction[both])
    if not true_ids.size:
        return {}
    row = np.searchsorted(true_ids, truth[both])
    column = np.searchsorted(pred_ids, prediction[both])
    overlap = np.zeros((true_ids.size, pred_ids.size))
    np.add.at(overlap, (row, column), 1)
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    return {
        int(true_ids[r]): int(pred_ids[c])
        for r, c in zip(rows, columns, strict=True)
        if overlap[r, c] > 0
    }


def cut_by_faces(truth: Volume) -> set[int]:
    """Ids that touch the head or feet face of the image."""
    data = truth.canonical().data
    return {int(i) for i in np.unique(data[:, :, [0, -1]]) if i}


@dataclass(frozen=True)
class VertebraScore:
    """One true vertebra against its matched instance; distances are NaN when unmatched."""

    vertebra: int
    matched: int  # predicted id, 0 when there is none
    dice: float
    body_dice: float  # NaN when the truth holds no subregions of it
    nsd_1mm: float
    nsd_2mm: float
    signed_mm: float  # median signed surface distance, positive = too large


@dataclass(frozen=True)
class CaseScore:
    """All vertebrae of one subject.

    Attributes:
        vertebrae: One row for each scored true vertebra.
        posterior_dice: Union of 41-48 of the scored vertebrae; NaN without subregions.
        posterior_signed_mm: Median signed surface distance of that union.
        spurious: Predicted ids outside the sacrum that match nothing and whose middle lies between
            the first and the last scored vertebra; cut and sacral truth does not make one spurious.
        wrong_level: Matched vertebrae whose level name differs.
    """

    vertebrae: tuple[VertebraScore, ...]
    posterior_dice: float
    posterior_signed_mm: float
    spurious: int
    wrong_level: int

    @property
    def vertebra_dice(self) -> float:
        """Mean over the scored vertebrae."""
        return float(np.mean([v.dice for v in self.vertebrae]))

    @property
    def body_dice(self) -> float:
        """Mean body Dice over the scored vertebrae."""
        return float(np.mean([v.body_dice for v in self.vertebrae]))

    @property
    def identified(self) -> float:
        """Share of scored vertebrae matched at Dice > 0.5."""
        return float(np.mean([v.dice > 0.5 for v in self.vertebrae]))


def score_case(
    prediction: Volume,
    prediction_subregions: Volume,
    truth: Volume,
    truth_subregions: Volume,
) -> CaseScore:
    """Score predicted vertebrae and subregions against the truth on the same grid.

    Raises:
        GeometryError: The four volumes do not lie on one grid.
    """
    for other in (prediction_subregions, truth, truth_subregions):
        if not prediction.grid.matches(other.grid):
            raise GeometryError(f"score needs one grid: {prediction.grid} against {other.grid}")
    spacing = prediction.grid.spacing
    pred, pred_sub = np.asarray(prediction.data), np.asarray(prediction_subregions.data)
    true, true_sub = np.asarray(truth.data), np.asarray(truth_subregions.data)
    pairs = match(np.where(np.isin(pred, PRESACRAL), pred, 0), true)
    excluded = cut_by_faces(truth)
    scored = [int(i) for i in np.unique(true) if i in PRESACRAL and i not in excluded]
    boxes = ndimage.find_objects(np.maximum(true, 0).astype(np.int32))
    rows = []
    for vertebra in scored:
        partner = pairs.get(vertebra, 0)
        box = boxes[vertebra - 1]
        if partner:
            found = ndimage.find_objects((pred == partner).astype(np.uint8))[0]
            box = tuple(
                slice(min(a.start, b.start), max(a.stop, b.stop))
                for a, b in zip(box, found, strict=True)
            )
        t = true[box] == vertebra
        p = (pred[box] == partner) if partner else np.zeros_like(t)
        body_t = t & np.isin(true_sub[box], BODY)
        body_p = p & np.isin(pred_sub[box], BODY)
        near = surface_distances(p, t, spacing)
        rows.append(
            VertebraScore(
                vertebra=vertebra,
                matched=partner,
                dice=dice(p, t),
                body_dice=dice(body_p, body_t) if body_t.any() else float("nan"),
                nsd_1mm=near.nsd(1.0) if near else 0.0,
                nsd_2mm=near.nsd(2.0) if near else 0.0,
                signed_mm=near.median_signed() if near else float("nan"),
            )
        )
    posterior_t = np.isin(true, scored) & np.isin(true_sub, POSTERIOR)
    partners = [pairs[v] for v in scored if v in pairs]
    posterior_p = np.isin(pred, partners) & np.isin(pred_sub, POSTERIOR)
    behind = surface_distances(posterior_p, posterior_t, spacing)
    return CaseScore(
        vertebrae=tuple(rows),
        posterior_dice=dice(posterior_p, posterior_t) if posterior_t.any() else float("nan"),
        posterior_signed_mm=behind.median_signed() if behind else float("nan"),
        spurious=_spurious(prediction, truth, set(pairs.values()), scored),
        wrong_level=sum(1 for v in scored if v in pairs and pairs[v] != v),
    )


def _spurious(prediction: Volume, truth: Volume, matched: set[int], scored: list[int]) -> int:
    """Unmatched presacral instances whose middle lies between the first and last scored vertebra.

    The middle, since the neighbours of the scored vertebrae reach into their rows.
    """
    if not scored:
        return 0
    pred, true = prediction.canonical().data, truth.canonical().data
    rows = np.flatnonzero(np.isin(true, scored).any((0, 1)))
    lone = [int(i) for i in np.unique(pred) if i in PRESACRAL and int(i) not in matched]
    middles = [float(np.mean(np.nonzero(pred == i)[2])) for i in lone]
    return sum(1 for middle in middles if rows[0] <= middle <= rows[-1])
