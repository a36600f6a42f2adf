"""The strict protocol for masks on constructed spines with exact answers."""

import math

import numpy as np
import pytest

from spinect.errors import GeometryError, LabelError
from spinect.evaluation.measures import MEASURES, at
from spinect.evaluation.protocols.strict_segmentation import ceiling, strict_segmentation
from spinect.geometry import Volume
from spinect.geometry.resample import resample


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


def changed(volume, **boxes):
    """Other labels in places; keys "_LABEL"."""
    data = volume.data.copy()
    for label, box in boxes.items():
        data[box] = int(label[1:])
    return volume.with_data(data)


def items(score, region="vertebra", metric="dice"):
    return {v.item: v.value for v in score if (v.region, v.metric) == (region, metric) and v.item}


def test_perfect_prediction_scores_one_whatever_its_names():
    truth, sub = spine()
    renamed = truth.with_data(np.where(truth.data > 0, truth.data - 1, 0).astype(np.uint8))
    score = strict_segmentation(renamed, sub, truth, sub)
    for region in ("vertebra", "vertebral_body", "posterior", "volume"):
        assert at(score, region, "dice") == at(score, region, "nsd_1mm") == 1
        assert at(score, region, "hd95") == at(score, region, "assd") == 0
        assert at(score, region, "volume_error") == 0
    assert at(score, "vertebra", "wrong_level") == 3
    assert next(v.note for v in score if v.metric == "wrong_level").startswith("L1 is called T12")
    for metric in ("spurious", "missed", "splits", "merges"):
        assert at(score, "vertebra", metric) == 0
    for metric in ("pq", "sq", "rq", "identified"):
        assert at(score, "vertebra", metric) == 1
    assert set(items(score)) == {"L1", "L2", "L3"}
    assert at(score, "vertebra", "volume_true", "L2") == 2000
    assert at(score, "spinous_process", "spinous_length_error", "L2") == 0


def test_a_shift_costs_what_geometry_says():
    truth, sub = spine()
    score = strict_segmentation(*spine(shift=2), truth, sub)
    assert at(score, "vertebra", "dice") == pytest.approx(18 / 20)
    assert at(score, "vertebral_body", "dice") == pytest.approx(8 / 10)
    assert at(score, "posterior", "dice") == pytest.approx(8 / 10)
    assert at(score, "volume", "dice") == pytest.approx(18 / 20)
    assert at(score, "vertebra", "hd95") == 2
    assert at(score, "vertebra", "sq") == pytest.approx(18 / 22)


def test_spacing_counts_in_volumes_and_distances():
    (truth, sub), moved = spine(), spine(shift=2)
    affine = np.diag([2.0, 0.5, 3.0, 1.0])
    four = [Volume(v.data, affine, "labels") for v in (*moved, truth, sub)]
    score = strict_segmentation(*four)
    assert at(score, "vertebra", "hd95") == 1
    assert at(score, "vertebra", "nsd_1mm") == 1
    assert at(score, "vertebra", "volume_true", "L1") == 6000
    nothing = four[0].with_data(np.zeros_like(truth.data))
    score = strict_segmentation(nothing, nothing, *four[2:])
    assert at(score, "volume", "volume_error") == -18000


def test_an_unmatched_vertebra_is_zero_and_its_distances_are_not_numbers():
    truth, sub = spine()
    prediction = truth.with_data(np.where(truth.data == 21, 0, truth.data))
    score = strict_segmentation(prediction, sub, truth, sub)
    assert items(score) == {"L1": 1, "L2": 0, "L3": 1}
    assert at(score, "vertebra", "nsd_2mm", "L2") == 0
    assert at(score, "vertebra", "volume_error", "L2") == -2000
    assert math.isnan(at(score, "vertebral_body", "hd95", "L2"))
    assert at(score, "vertebra", "dice") == pytest.approx(2 / 3)
    mean = next(v for v in score if (v.region, v.metric, v.item) == ("vertebra", "assd", ""))
    assert (mean.value, mean.note) == (0, "1 of 3 items are not numbers")
    assert at(score, "vertebra", "missed") == 1
    assert at(score, "vertebra", "identified") == pytest.approx(2 / 3)
    assert at(score, "vertebra", "rq") == pytest.approx(2 / 2.5)
    assert {v.note for v in score if v.item == "L2" and v.region == "vertebra" and v.note} == {
        "no predicted partner"
    }


def test_extra_instances_count_between_the_scored_ones_only():
    truth, sub = spine()
    inside = changed(truth, _24=np.s_[:3, :3, 30:33])
    score = strict_segmentation(inside, sub, truth, sub)
    assert at(score, "vertebra", "spurious") == 1
    assert at(score, "vertebra", "rq") == pytest.approx(3 / 3.5)
    above = changed(truth, _19=np.s_[:3, :3, 55:60])
    score = strict_segmentation(above, sub, truth, sub)
    assert at(score, "vertebra", "spurious") == 0
    assert at(score, "vertebra", "rq") == 1


def test_split_and_merged_instances():
    truth, sub = spine()
    split = changed(truth, _24=np.s_[5:15, 5:25, 30:34])
    score = strict_segmentation(split, sub, truth, sub)  # 4 of L2's 10 layers are another's
    assert (at(score, "vertebra", "splits"), at(score, "vertebra", "merges")) == (1, 0)
    assert at(score, "vertebra", "dice", "L2") == pytest.approx(2 * 6 / 16)
    merged = truth.with_data(np.where(truth.data == 21, 20, truth.data))
    score = strict_segmentation(merged, sub, truth, sub)
    assert (at(score, "vertebra", "splits"), at(score, "vertebra", "merges")) == (0, 1)
    assert sorted(items(score).values()) == pytest.approx([0, 2 / 3, 1])
    assert at(score, "vertebra", "pq") == pytest.approx(1 / (1 + 0.5 + 1))


def test_faces_exclude_only_head_and_feet():
    truth, sub = spine()
    data = truth.data.copy()
    data[5:15, 5:25, 0:10][data[5:15, 5:25, 0:10] == 0] = 20
    data[0:5, 5:25, 24:34] = 21
    cut = truth.with_data(data)
    score = strict_segmentation(cut, sub, cut, sub)
    assert set(items(score)) == {"L2", "L3"}
    assert at(score, "volume", "volume_true") == np.count_nonzero(data)
    without = truth.with_data(np.where(data == 20, 0, data))  # nothing is asked of what is cut
    score = strict_segmentation(without, sub, cut, sub)
    assert at(score, "vertebra", "dice") == at(score, "vertebra", "pq") == 1


def test_sacrum_is_not_scored_and_grids_must_agree():
    truth, sub = spine((22, 26))
    assert set(items(strict_segmentation(truth, sub, truth, sub))) == {"L3"}
    other = Volume(truth.data, np.diag([2.0, 1, 1, 1]), "labels")
    with pytest.raises(GeometryError, match="one grid"):
        strict_segmentation(other, sub, truth, sub)
    with pytest.raises(LabelError, match="kind 'ct'"):
        strict_segmentation(truth, sub, truth.with_data(truth.data, "ct"), sub)


def test_a_planted_swap_of_two_names_is_counted_and_named():
    truth, sub = spine()
    names = np.arange(256).astype(np.uint8)
    names[[20, 21]] = 21, 20
    score = strict_segmentation(truth.with_data(names[truth.data]), sub, truth, sub)
    wrong = next(v for v in score if v.metric == "wrong_level")
    assert (wrong.value, wrong.note) == (2, "L1 is called L2, L2 is called L1")
    assert at(score, "vertebra", "dice") == 1


def test_an_empty_prediction_scores_zero_everywhere():
    truth, sub = spine()
    nothing = truth.with_data(np.zeros_like(truth.data))
    score = strict_segmentation(nothing, nothing, truth, sub)
    for region in ("vertebra", "vertebral_body", "posterior", "volume"):
        assert at(score, region, "dice") == at(score, region, "nsd_2mm") == 0
        assert math.isnan(at(score, region, "hd95"))
    assert at(score, "vertebra", "missed") == 3
    assert at(score, "vertebra", "pq") == at(score, "vertebra", "rq") == 0
    assert math.isnan(at(score, "vertebra", "sq"))


def test_an_empty_truth_is_never_a_success():
    prediction, sub = spine()
    nothing = sub.with_data(np.zeros_like(sub.data))
    score = strict_segmentation(prediction, sub, nothing, nothing)
    assert math.isnan(at(score, "vertebra", "dice"))
    assert math.isnan(at(score, "vertebra", "identified"))
    assert at(score, "volume", "dice") == 0
    assert at(score, "volume", "volume_error") == 6000
    assert at(score, "vertebra", "spurious") == 3
    assert at(score, "vertebra", "pq") == 0
    both = strict_segmentation(nothing, nothing, nothing, nothing)
    assert all(math.isnan(v.value) for v in both if v.metric in ("dice", "pq", "hd95"))
    assert at(both, "volume", "volume_error") == at(both, "vertebra", "spurious") == 0


def test_a_region_that_the_truth_does_not_label_is_no_number():
    truth, sub = spine()
    bodies = sub.with_data(np.where(sub.data == 50, 50, 0).astype(np.uint8))
    score = strict_segmentation(truth, sub, truth, bodies)
    assert math.isnan(at(score, "posterior", "dice"))
    assert math.isnan(at(score, "posterior", "nsd_1mm", "L1"))
    assert math.isnan(at(score, "spinous_process", "spinous_length_error"))
    assert at(score, "vertebral_body", "dice") == 1


@pytest.mark.parametrize("axes", ["PSR", "LIA"])
def test_axes_of_the_array_change_nothing(axes):
    truth, sub = spine()
    prediction = changed(truth, _24=np.s_[:3, :3, 30:33], _0=np.s_[5:15, 5:9, 40:44])
    straight = strict_segmentation(prediction, sub, truth, sub)
    turned = strict_segmentation(*[v.reoriented(axes) for v in (prediction, sub, truth, sub)])
    for one, other in zip(straight, turned, strict=True):
        assert (one.region, one.item, one.metric) == (other.region, other.item, other.metric)
        assert other.value == pytest.approx(one.value, abs=1e-9, nan_ok=True)


def test_values_keep_to_the_bounds_of_their_measures():
    truth, sub = spine()
    for value in strict_segmentation(*spine((19, 20, 21), shift=3), truth, sub):
        measure = MEASURES[value.metric]
        assert math.isnan(value.value) or measure.low <= value.value <= measure.high


def test_the_ceiling_is_what_the_grid_costs():
    truth, sub = spine()
    same = ceiling(truth, sub, truth, sub)
    assert at(same, "vertebra", "dice") == 1
    coarse = truth.grid.with_spacing([1.0, 8.0, 1.0])
    there = [resample(v, coarse) for v in (truth, sub)]
    best = ceiling(*there, truth, sub)
    back = strict_segmentation(*[resample(v, truth.grid) for v in there], truth, sub)
    assert at(best, "vertebra", "dice") == at(back, "vertebra", "dice") < 1
