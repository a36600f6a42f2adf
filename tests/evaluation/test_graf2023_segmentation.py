"""The published, tolerant Dice: exact answers on swapped, shifted and missing levels."""

import math

import numpy as np
import pytest

from spinect.errors import GeometryError
from spinect.evaluation.measures import at
from spinect.evaluation.protocols.graf2023_segmentation import graf2023_segmentation
from spinect.geometry import Volume


def spine(ids, height=10):
    """A bar per label along S, margins empty: the front half body (50), the back half arch (41)."""
    vertebrae = np.zeros((4, 8, height * len(ids) + 2), np.uint8)
    for n, label in enumerate(ids):
        vertebrae[:, :, 1 + n * height : 1 + (n + 1) * height] = label
    subregions = np.where(vertebrae > 0, 41, 0).astype(np.uint8)
    subregions[:, 4:][vertebrae[:, 4:] > 0] = 50
    return Volume(vertebrae, np.eye(4), "labels"), Volume(subregions, np.eye(4), "labels")


def renamed(pair, **names):
    """Other labels; keys "_OLD"."""
    table = np.arange(256).astype(np.uint8)
    for old, new in names.items():
        table[int(old[1:])] = new
    return pair[0].with_data(table[pair[0].data]), pair[1]


def each(score, region="vertebra"):
    return {v.item: v.value for v in score if v.region == region and v.item}


TRUTH = spine((24, 23, 22, 21))


def test_the_truth_scores_one():
    score = graf2023_segmentation(*TRUTH, *TRUTH)
    assert {v.value for v in score} == {1.0}
    assert set(each(score)) == set(each(score, "posterior")) == {"L5", "L4", "L3", "L2"}
    assert {v.region for v in score if not v.item} == {
        "volume",
        "vertebra",
        "posterior",
        "posterior_per_vertebra",
    }


def test_names_off_by_one_or_two_are_forgiven_and_by_three_are_not():
    for step, wanted in ((-1, 1), (1, 1), (2, 1), (-2, 1), (-3, 0)):
        names = {f"_{v}": v + step for v in (21, 22, 23, 24)}
        score = graf2023_segmentation(*renamed(spine((21, 22, 23)), **names), *spine((21, 22, 23)))
        # one of three finds the label of a neighbour at a shift of its own, but not its place
        assert set(each(score).values()) == {wanted}
        assert at(score, "volume", "dice") == 1


def test_swapped_levels_cost_nothing():
    """Two neighbours with each other's names: each chooses a shift of its own."""
    score = graf2023_segmentation(*renamed(TRUTH, _22=23, _23=22), *TRUTH)
    assert set(each(score).values()) == {1.0}


def test_two_vertebrae_may_choose_one_instance():
    score = graf2023_segmentation(*renamed(TRUTH, _23=22), *TRUTH)
    assert each(score) == pytest.approx({"L5": 1, "L4": 2 / 3, "L3": 2 / 3, "L2": 1})


def test_t12_may_be_called_l6_and_others_may_not():
    truth = spine((20, 19, 18))
    assert each(graf2023_segmentation(*renamed(truth, _19=25), *truth))["T12"] == 1
    assert each(graf2023_segmentation(*renamed(truth, _18=24), *truth))["T11"] == 0


def test_two_levels_are_tried_only_below_a_half():
    """The label at +1 is above a half, so that the better one at -2 is not looked at."""
    truth = spine((23,), height=12)
    data = truth[0].data.copy()
    data[:, :, 1:6], data[:, :, 6:13] = 24, 21  # 5 and 7 of 12 layers: 10 / 17 and 14 / 19
    score = graf2023_segmentation(truth[0].with_data(data), truth[1], *truth)
    assert each(score)["L4"] == pytest.approx(10 / 17)
    data[:, :, 1:4], data[:, :, 4:13] = 24, 21  # 6 / 15 is below a half: 18 / 21 at -2
    score = graf2023_segmentation(truth[0].with_data(data), truth[1], *truth)
    assert each(score)["L4"] == pytest.approx(18 / 21)


def test_extra_vertebrae_and_the_sacrum_cost_a_vertebra_nothing():
    truth = renamed(TRUTH, _24=0)
    score = graf2023_segmentation(*TRUTH, *truth)
    assert at(score, "vertebra", "dice") == 1
    assert at(score, "volume", "dice") == pytest.approx(2 * 3 / 7)  # the merged mask does see it
    sacral = renamed(TRUTH, _24=26)
    score = graf2023_segmentation(*TRUTH, *sacral)
    assert set(each(score)) == {"L4", "L3", "L2"}
    score = graf2023_segmentation(*sacral, *sacral)
    assert at(score, "volume", "dice") == 1


def test_posterior_is_what_is_no_body():
    data = TRUTH[1].data.copy()
    data[:2, :4][data[:2, :4] == 41] = 49  # half of the arch is taken for body
    score = graf2023_segmentation(TRUTH[0], TRUTH[1].with_data(data), *TRUTH)
    assert at(score, "vertebra", "dice") == at(score, "volume", "dice") == 1
    assert at(score, "posterior", "dice") == pytest.approx(2 / 3)
    assert at(score, "posterior_per_vertebra", "dice") == pytest.approx(2 / 3)
    assert each(score, "posterior")["L3"] == pytest.approx(2 / 3)


def test_a_missing_prediction_scores_zero():
    nothing = TRUTH[0].with_data(np.zeros_like(TRUTH[0].data))
    score = graf2023_segmentation(nothing, nothing, *TRUTH)
    assert len(score) == 12
    assert {v.value for v in score} == {0.0}


def test_an_empty_truth_and_bodies_only():
    nothing = TRUTH[0].with_data(np.zeros_like(TRUTH[0].data))
    assert at(graf2023_segmentation(*TRUTH, nothing, nothing), "volume", "dice") == 0
    score = graf2023_segmentation(nothing, nothing, nothing, nothing)
    assert all(math.isnan(v.value) and v.note for v in score)
    bodies = TRUTH[1].with_data(np.where(TRUTH[0].data > 0, 50, 0).astype(np.uint8))
    score = graf2023_segmentation(*TRUTH, TRUTH[0], bodies)
    assert math.isnan(at(score, "posterior", "dice"))
    assert math.isnan(at(score, "posterior_per_vertebra", "dice"))


def test_cut_vertebrae_are_merged_but_not_scored():
    data = TRUTH[0].data[:, :, 1:]  # the feet face cuts L5
    cut = Volume(data, np.eye(4), "labels"), Volume(TRUTH[1].data[:, :, 1:], np.eye(4), "labels")
    score = graf2023_segmentation(*renamed(cut, _24=0), *cut)
    assert set(each(score)) == {"L4", "L3", "L2"}
    assert at(score, "volume", "dice") == pytest.approx(2 * 3 / 7)


def test_t13_has_no_neighbours_and_c1_has_none_above():
    truth = spine((28, 1))
    score = graf2023_segmentation(*renamed(truth, _28=19, _1=0), *truth)
    assert each(score) == {"T13": 0, "C1": 0}


def test_grids_must_agree():
    other = Volume(TRUTH[0].data, np.diag([2.0, 1, 1, 1]), "labels")
    with pytest.raises(GeometryError, match="one grid"):
        graf2023_segmentation(other, *TRUTH[1:], *TRUTH)
