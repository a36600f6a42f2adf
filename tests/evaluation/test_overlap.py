"""Dice, overlaps and matching: constructed cases and foreign oracles."""

import numpy as np
import pytest
import torch
from monai.metrics import DiceMetric
from scipy.optimize import linear_sum_assignment
from skimage.metrics import contingency_table

from spinect.evaluation.overlap import cut_by_faces, dice, match, overlaps
from spinect.geometry import Volume


def labels(seed, shape=(12, 9, 14), count=5):
    """Random labels in blocks, so that both maps overlap in part."""
    return np.random.default_rng(seed).integers(0, count, shape).astype(np.uint8)


def test_dice_of_shifted_cubes():
    a, b = np.zeros((30, 10, 10), bool), np.zeros((30, 10, 10), bool)
    a[5:15], b[8:18] = True, True
    assert dice(a, b) == pytest.approx(2 * 7 / 20)
    assert np.isnan(dice(a & False, b & False))
    assert dice(a, b & False) == dice(a & False, b) == 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_dice_equals_monai(seed, share):
    rng = np.random.default_rng(seed)
    a, b = rng.random((8, 9, 10)) < share, rng.random((8, 9, 10)) < 0.5
    metric = DiceMetric(include_background=True, ignore_empty=True)
    foreign = metric(*[torch.tensor(m[None, None].astype(np.float32)) for m in (a, b)])
    assert dice(a, b) == pytest.approx(float(foreign), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_overlaps_equal_the_contingency_table(seed):
    prediction, truth = labels(seed), labels(seed + 10, count=7)
    table = overlaps(prediction, truth)
    foreign = contingency_table(truth, prediction).toarray().astype(int)
    assert np.array_equal(table.shared, foreign[1:, 1:])
    assert np.array_equal(table.true_sizes, foreign.sum(1)[1:])
    assert np.array_equal(table.pred_sizes, foreign.sum(0)[1:])
    assert table.true_ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert table.dice(3, 2) == pytest.approx(dice(prediction == 2, truth == 3))
    rows, columns = linear_sum_assignment(-foreign[1:, 1:])
    assert table.pairs() == {int(r) + 1: int(c) + 1 for r, c in zip(rows, columns, strict=True)}


def test_overlaps_of_empty_maps():
    empty, full = np.zeros((3, 3, 3), np.uint8), np.full((3, 3, 3), 7, np.uint8)
    assert overlaps(empty, empty).pairs() == {}
    assert overlaps(empty, full).dice(7, 7) == 0
    assert overlaps(full, full).dice(7, 7) == 1
    with pytest.raises(KeyError, match="no label 7"):
        overlaps(full, empty).dice(7, 7)


def test_match_maximises_the_total_overlap():
    truth = np.array([1] * 10 + [2] * 10)
    prediction = np.array([7] * 16 + [8] * 4)
    assert match(prediction, truth) == {1: 7, 2: 8}


@pytest.mark.parametrize("axes", ["RAS", "PSR", "AIL", "SLP"])
def test_only_head_and_feet_faces_cut_whatever_the_axes(axes):
    data = np.zeros((6, 7, 8), np.uint8)
    data[2, 2, 0], data[3, 3, 7], data[0, 3, 4], data[5, 3, 4], data[3, 0, 4] = 24, 20, 21, 22, 23
    volume = Volume(data, np.eye(4), "labels").reoriented(axes)
    assert cut_by_faces(volume) == {24, 20}
