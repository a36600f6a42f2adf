"""Constructed cases with exact answers."""

import numpy as np
import pytest

from spinect.errors import GeometryError
from spinect.evaluation.overlap import dice, match, score_case
from spinect.geometry import Volume


def spine(ids=(20, 21, 22), size=10, gap=4, shift=0):
    """Cubes stacked along S: the front half body (50), the back half spinous process (42)."""
    height = len(ids) * (size + gap) + 20
    vertebrae = np.zeros((20, 30, height), np.uint8)
    subregions = np.zeros_like(vertebrae)
    for n, label in enumerate(ids):
        low = 10 + n * (size + gap)
        box = np.s_[5 : 5 + size, 5 + shift : 25 + shift, low : low + size]
        vertebrae[box] = label
        subregions[5 : 5 + size, 15 + shift : 25 + shift, low : low + size] = 50
        subregions[5 : 5 + size, 5 + shift : 15 + shift, low : low + size] = 42
    return Volume(vertebrae, np.eye(4), "labels"), Volume(subregions, np.eye(4), "labels")


def test_dice_of_shifted_cubes():
    a, b = np.zeros((30, 10, 10), bool), np.zeros((30, 10, 10), bool)
    a[5:15], b[8:18] = True, True
    assert dice(a, b) == pytest.approx(2 * 7 / 20)
    assert np.isnan(dice(a & False, b & False))


def test_perfect_prediction_scores_one_whatever_its_names():
    truth, sub = spine()
    renamed = truth.with_data(np.where(truth.data > 0, truth.data - 1, 0).astype(np.uint8))
    score = score_case(renamed, sub, truth, sub)
    assert score.vertebra_dice == score.body_dice == score.posterior_dice == 1
    assert score.wrong_level == 3
    assert score.spurious == 0
    assert all(v.signed_mm == 0 and v.nsd_1mm == 1 for v in score.vertebrae)


def test_a_shift_costs_what_geometry_says():
    truth, sub = spine()
    moved, moved_sub = spine(shift=2)
    score = score_case(moved, moved_sub, truth, sub)
    assert score.vertebra_dice == pytest.approx(18 / 20)
    assert score.body_dice == pytest.approx(8 / 10)
    assert score.posterior_dice == pytest.approx(8 / 10)


def test_a_missing_vertebra_is_zero_and_an_extra_one_is_counted():
    truth, sub = spine((20, 21, 22))
    data = truth.data.copy()
    data[data == 21] = 0
    data[14:15, 5:25, 24:30] = 25
    data[:3, :3, 30:33] = 24
    score = score_case(truth.with_data(data), sub, truth, sub)
    assert [round(v.dice, 2) for v in score.vertebrae] == [1.0, 0.11, 1.0]
    assert score.spurious == 1
    assert score.identified == pytest.approx(2 / 3)


def test_merged_instances_match_only_once():
    truth, sub = spine((20, 21))
    merged = truth.with_data(np.where(truth.data > 0, 20, 0).astype(np.uint8))
    score = score_case(merged, sub, truth, sub)
    assert sorted(v.dice for v in score.vertebrae) == pytest.approx([0, 2 / 3])


def test_faces_exclude_only_head_and_feet():
    truth, sub = spine((20, 21, 22))
    data = truth.data.copy()
    data[5:15, 5:25, 0:10][data[5:15, 5:25, 0:10] == 0] = 20
    data[0:5, 5:25, 24:34] = 21
    score = score_case(truth.with_data(data), sub, truth.with_data(data), sub)
    assert [v.vertebra for v in score.vertebrae] == [21, 22]


def test_sacrum_is_not_scored_and_grids_must_agree():
    truth, sub = spine((22, 26))
    assert [v.vertebra for v in score_case(truth, sub, truth, sub).vertebrae] == [22]
    other = Volume(truth.data, np.diag([2.0, 1, 1, 1]), "labels")
    with pytest.raises(GeometryError, match="one grid"):
        score_case(other, sub, truth, sub)


def test_match_maximises_the_total_overlap():
    truth = np.array([1] * 10 + [2] * 10)
    prediction = np.array([7] * 16 + [8] * 4)
    assert match(prediction, truth) == {1: 7, 2: 8}
