"""Our own protocol for masks: nothing is forgiven except the level's name, which is counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinect.anatomy import BODY, POSTERIOR, PRESACRAL, VERTEBRAE
from spinect.evaluation.instances import between, merges, panoptic, splits
from spinect.evaluation.masks import (
    DISTANCES,
    OVERLAPS,
    check_masks,
    mask_values,
    mean_values,
    unknown,
)
from spinect.evaluation.measures import Value
from spinect.evaluation.overlap import Overlaps, cut_by_faces, head_axis, overlaps
from spinect.evaluation.shape import Spine, shape_values
from spinect.geometry import Volume
from spinect.geometry.resample import resample

Array = NDArray[Any]
Box = tuple[slice, ...]
MEANS: Final = (*OVERLAPS, *DISTANCES, "volume_error")
UNPAIRED: Final = "no predicted partner"


def strict_segmentation(
    prediction_vertebrae: Volume,
    prediction_subregions: Volume,
    truth_vertebrae: Volume,
    truth_subregions: Volume,
) -> list[Value]:
    """Score predicted vertebrae and subregions against the truth.

    A missing prediction is an empty label map on the truth's grid, and scores as one.

    Returns:
        Per scored vertebra (item "L3"): dice, hd95, assd, nsd_1mm, nsd_2mm, signed_distance,
        volume_true, volume_error of "vertebra", "vertebral_body" (49, 50) and "posterior" (41-48);
        spinous_length_error of "spinous_process", canal_width_error of "canal".
        Per case (item ""): the means of "vertebra" and "vertebral_body"; the figures of the union
        "posterior" and of "volume", all presacral labels of both maps as one mask, cut vertebrae
        included; the counts and panoptic quality of "vertebra". A vertebra without a partner has
        Dice and NSD 0 and no distances; a distance's mean is over the others and its note counts
        those it lacks. Where the truth does not label a region nothing of it is a number.
    Raises:
        GeometryError: The four volumes do not lie on one grid.
        LabelError: One is no label map.

    Source: ours; every formula in docs/evaluation.md.
    """
    case = _Case.of(
        (prediction_vertebrae, prediction_subregions), (truth_vertebrae, truth_subregions)
    )
    values = [v for vertebra in case.scored for v in _vertebra(case, vertebra)]
    for region in ("vertebra", "vertebral_body"):
        values += mean_values(values, region, MEANS)
    values += _unions(case)
    matched = {vertebra: case.pairs.get(vertebra, 0) for vertebra in case.scored}
    values += _recognised(values, matched)
    values += _counts(case)
    mine = Spine.of(prediction_vertebrae, prediction_subregions)
    return values + shape_values(mine, Spine.of(truth_vertebrae, truth_subregions), matched)


def ceiling(
    elsewhere_vertebrae: Volume,
    elsewhere_subregions: Volume,
    truth_vertebrae: Volume,
    truth_subregions: Volume,
) -> list[Value]:
    """What the truth itself scores after a change of grid: no method on that grid can pass it.

    Native ceiling: the 1 mm truth against the native one. 1 mm ceiling: the native truth against
    the 1 mm one. Where only one truth exists, `elsewhere` is that truth resampled to the other
    grid.

    Args:
        elsewhere_vertebrae, elsewhere_subregions: The truth on another grid of the same world.
        truth_vertebrae, truth_subregions: The truth on the grid where methods are scored.
    Returns:
        As `strict_segmentation`, with the same regions and items.
    """
    there = truth_vertebrae.grid
    return strict_segmentation(
        resample(elsewhere_vertebrae, there),
        resample(elsewhere_subregions, there),
        truth_vertebrae,
        truth_subregions,
    )


@dataclass(frozen=True, eq=False)
class _Case:
    """Both maps of one case, cropped to what is labelled as a vertebra in either.

    Attributes:
        pred, pred_sub, true, true_sub: Label arrays of one shape; `pred` is presacral only.
        spacing: (3,) mm. axis: The array axis along feet-head.
        cut: Ids that touch the head or feet face of the whole image.
    """

    pred: Array
    pred_sub: Array
    true: Array
    true_sub: Array
    spacing: NDArray[np.float64]
    axis: int
    cut: set[int]

    @classmethod
    def of(cls, prediction: tuple[Volume, Volume], truth: tuple[Volume, Volume]) -> "_Case":
        """Check the grids, crop, drop the predicted sacrum."""
        check_masks(prediction, truth)
        grid = truth[0].grid
        pred = np.where(np.isin(prediction[0].data, PRESACRAL), prediction[0].data, 0)
        box = _box((pred > 0) | (truth[0].data > 0))
        return cls(
            pred[box],
            prediction[1].data[box],
            truth[0].data[box],
            truth[1].data[box],
            grid.spacing,
            head_axis(grid),
            cut_by_faces(truth[0]),
        )

    @cached_property
    def table(self) -> Overlaps:
        return overlaps(self.pred, self.true)

    @cached_property
    def pairs(self) -> dict[int, int]:
        return self.table.pairs()

    @cached_property
    def scored(self) -> list[int]:
        present = set(self.table.true_ids.tolist()) - self.cut
        return [v for v in PRESACRAL if v in present]

    @cached_property
    def boxes(self) -> tuple[Sequence[Box | None], Sequence[Box | None]]:
        """Bounding boxes of the predicted and of the true ids, id - 1 -> box."""
        return ndimage.find_objects(self.pred), ndimage.find_objects(self.true)


def _box(mask: NDArray[np.bool_]) -> Box:
    """The smallest box around a mask; one voxel where it is empty."""
    found = ndimage.find_objects(mask.view(np.uint8))
    return found[0] if found else (slice(0, 1),) * 3


def _vertebra(case: _Case, vertebra: int) -> list[Value]:
    """Whole vertebra, body and posterior elements against the matched instance."""
    partner = case.pairs.get(vertebra, 0)
    item, box = VERTEBRAE[vertebra], case.boxes[1][vertebra - 1]
    assert box is not None  # scored ones occur
    other = case.boxes[0][partner - 1] if partner else None
    if other is not None:
        joined = zip(box, other, strict=True)
        box = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in joined)
    true = case.true[box] == vertebra
    pred = case.pred[box] == partner if partner else np.zeros_like(true)
    values = mask_values("vertebra", item, pred, true, case.spacing)
    for region, ids in (("vertebral_body", BODY), ("posterior", POSTERIOR)):
        part = true & np.isin(case.true_sub[box], ids)
        if part.any():
            found = pred & np.isin(case.pred_sub[box], ids)
            values += mask_values(region, item, found, part, case.spacing)
        else:
            values += unknown(region, item, "the truth does not label it")
    if partner:
        return values
    return [Value(v.region, v.item, v.metric, v.value, UNPAIRED if v.note else "") for v in values]


def _unions(case: _Case) -> list[Value]:
    """Posterior elements of the scored vertebrae as one mask, and all presacral labels as one."""
    true = np.isin(case.true, case.scored) & np.isin(case.true_sub, POSTERIOR)
    if true.any():
        partners = [case.pairs[v] for v in case.scored if v in case.pairs]
        pred = np.isin(case.pred, partners) & np.isin(case.pred_sub, POSTERIOR)
        behind = mask_values("posterior", "", pred, true, case.spacing)
    else:
        behind = unknown("posterior", "", "the truth labels none of a scored vertebra")
    whole = np.isin(case.true, PRESACRAL)
    return behind + mask_values("volume", "", case.pred > 0, whole, case.spacing)


def _recognised(values: list[Value], matched: dict[int, int]) -> list[Value]:
    """Identification, missed ones and wrong names; the notes say which."""
    if not matched:
        none = "no whole vertebra in the truth"
        return [
            Value("vertebra", "", "identified", float("nan"), none),
            Value("vertebra", "", "missed", 0, none),
            Value("vertebra", "", "wrong_level", 0, none),
        ]
    dices = [v.value for v in values if (v.region, v.metric) == ("vertebra", "dice") and v.item]
    missed = [VERTEBRAE[v] for v, partner in matched.items() if not partner]
    wrong = {v: partner for v, partner in matched.items() if partner not in (0, v)}
    names = ", ".join(f"{VERTEBRAE[v]} is called {VERTEBRAE[p]}" for v, p in wrong.items())
    return [
        Value("vertebra", "", "identified", float(np.mean([d > 0.5 for d in dices]))),
        Value("vertebra", "", "missed", len(missed), ", ".join(missed)),
        Value("vertebra", "", "wrong_level", len(wrong), names),
    ]


def _counts(case: _Case) -> list[Value]:
    """Spurious ones, splits, merges and panoptic quality."""
    table, others = case.table, [a for a in range(3) if a != case.axis]
    rows = np.flatnonzero(np.isin(case.true, case.scored).any(axis=tuple(others)))
    ids = set(table.pred_ids.tolist())
    lone = ids - set(case.pairs.values())
    beside = table.shared[np.isin(table.true_ids, case.scored)].any(0)
    touching = set(table.pred_ids[beside].tolist())
    within = between(case.pred, ids - touching, rows, case.axis)
    extra = between(case.pred, lone & touching, rows, case.axis) | (within & lone)
    void = [v for v in table.true_ids.tolist() if v not in case.scored]
    if table.true_ids.size:
        found = panoptic(table, void, ids - touching - within)
    else:  # nothing was to be found, so that everything found is wrong
        found, extra = panoptic(table), ids
    counts = {
        "spurious": len(extra),
        "splits": splits(table, case.scored),
        "merges": merges(table, case.scored),
    }
    values = [Value("vertebra", "", name, count) for name, count in counts.items()]
    notes = {"pq": "no instance on either side", "sq": "no instance recognised"}
    for name, number in (("pq", found.pq), ("rq", found.rq), ("sq", found.sq)):
        note = notes.get(name, notes["pq"]) if np.isnan(number) else ""
        values.append(Value("vertebra", "", name, number, note))
    return values
