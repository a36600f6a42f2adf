"""The Dice of Graf et al. 2023, which forgives level names vertebra by vertebra."""

import numpy as np

from spinect.anatomy import BODY, PRESACRAL, VERTEBRA_IDS, VERTEBRAE
from spinect.evaluation.masks import check_masks, mean_values
from spinect.evaluation.measures import Value
from spinect.evaluation.overlap import Labels, Overlaps, cut_by_faces, dice, overlaps
from spinect.geometry import Volume

_NEAR = (-1, 0, 1)
_FAR = (-2, 2)  # tried only where the near ones stay below a half
_HALF = 0.5
_T12 = VERTEBRA_IDS["T12"]
_TO_L6 = VERTEBRA_IDS["L6"] - _T12


def graf2023_segmentation(
    prediction_vertebrae: Volume,
    prediction_subregions: Volume,
    truth_vertebrae: Volume,
    truth_subregions: Volume,
) -> list[Value]:
    """Dice as published: tolerant of level names, blind to extra vertebrae.

    A true label i takes the best Dice among the predicted labels i - 1, i and i + 1 (T12 also L6),
    and where that is below 0.5 also i - 2 and i + 2. Every true vertebra chooses for itself, so
    that two may choose one instance; a predicted vertebra that none chooses costs nothing. The
    numbers are label ids: T13 (28) has no neighbours, and 0 is no label. The sacrum is taken out
    of both maps; vertebrae that the head or feet face cuts are not scored one by one, but stay
    in the merged masks of both sides, since their label is as good a truth as any. A missing
    prediction is an empty map, which scores 0.

    Returns:
        "volume" (item ""): all labels merged. "vertebra" (items "L3"): the above; item "" is this
        case's mean, while the paper pools all items of all cases. "posterior": the same without
        bodies (49, 50), items and, with item "", the merged mask; "posterior_per_vertebra" (item
        "") is the mean of the items. A vertebra without a posterior voxel in the truth has no
        item; where the truth has none at all, the merged figure is no number either.
    Raises:
        GeometryError: The four volumes do not lie on one grid.
        LabelError: One is no label map.

    Source: the evaluation script published with Graf et al. 2023 (denoising diffusion-based MRI to
    CT translation); what it did otherwise stands in docs/evaluation.md.
    """
    check_masks((prediction_vertebrae, prediction_subregions), (truth_vertebrae, truth_subregions))
    pred, true = _presacral(prediction_vertebrae.data), _presacral(truth_vertebrae.data)
    cut = cut_by_faces(truth_vertebrae)
    values = _region("volume", "vertebra", pred, true, cut)
    pred = np.where(np.isin(prediction_subregions.data, BODY), 0, pred)
    true = np.where(np.isin(truth_subregions.data, BODY), 0, true)
    values += _region("posterior", "posterior", pred, true, cut)
    means = mean_values(values, "vertebra", ("dice",))
    mean = mean_values(values, "posterior", ("dice",))[0]
    return [*values, *means, Value("posterior_per_vertebra", "", "dice", mean.value, mean.note)]


def tolerant_dice(table: Overlaps, vertebra: int) -> float:
    """Best Dice of a true label over the shifts of the published script."""
    near = [*_NEAR, _TO_L6] if vertebra == _T12 else _NEAR
    best = max(_shifted(table, vertebra, shift) for shift in near)
    if best < _HALF:
        best = max(best, *(_shifted(table, vertebra, shift) for shift in _FAR))
    return best


def _shifted(table: Overlaps, vertebra: int, shift: int) -> float:
    return table.dice(vertebra, vertebra + shift)


def _presacral(labels: Labels) -> Labels:
    """Labels without the sacrum; values that are no vertebra (fill, wrap-around) go with it."""
    return np.where(np.isin(labels, PRESACRAL), labels, 0)


def _region(merged: str, single: str, pred: Labels, true: Labels, cut: set[int]) -> list[Value]:
    """Dice of the merged mask and of every vertebra that is not cut."""
    table = overlaps(pred, true)
    if merged == "posterior" and not table.true_ids.size:
        return [Value(merged, "", "dice", float("nan"), "the truth labels none")]
    whole = dice(pred > 0, true > 0)
    values = [Value(merged, "", "dice", whole, "both are empty" if np.isnan(whole) else "")]
    present = set(table.true_ids.tolist()) - cut
    for vertebra in PRESACRAL:
        if vertebra in present:
            score = tolerant_dice(table, vertebra)
            values.append(Value(single, VERTEBRAE[vertebra], "dice", score))
    return values
