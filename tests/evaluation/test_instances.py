"""Panoptic quality against torchmetrics; counts on constructed instances."""

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.detection import panoptic_quality

from spinect.evaluation.instances import between, merges, panoptic, splits
from spinect.evaluation.overlap import overlaps

THING, BACKGROUND, VOID = 1, 0, 9


def blocks(seed, shape=(24, 24), size=6, jitter=1):
    """Instances 1, 2, ... in a checkerboard of rectangles with ragged places."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int64)
    for number, corner in enumerate(np.ndindex(shape[0] // size, shape[1] // size), 1):
        low = np.array(corner) * size + rng.integers(0, jitter + 1, 2)
        high = low + rng.integers(size - jitter, size + 1, 2)
        if rng.random() < 0.85:
            labels[low[0] : high[0], low[1] : high[1]] = number
    return labels


def foreign(prediction, truth, void=()):
    """(pq, sq, rq) of torchmetrics for the only class of things."""
    maps = []
    for labels in (prediction, truth):
        kind = np.where(labels > 0, THING, BACKGROUND)
        if labels is truth:
            kind = np.where(np.isin(labels, list(void)), VOID, kind)
        maps.append(torch.tensor(np.stack([kind, labels], -1)[None]))
    found = panoptic_quality(
        *maps, things={THING}, stuffs={BACKGROUND}, return_sq_and_rq=True, return_per_class=True
    )
    return found.reshape(-1, 3)[0].tolist()


@pytest.mark.parametrize("void", [(), (3,), (1, 2, 7, 8)])
@pytest.mark.parametrize("seed", range(6))
def test_panoptic_quality_equals_torchmetrics(seed, void):
    prediction, truth = blocks(seed), blocks(seed + 100)
    ours = panoptic(overlaps(prediction, truth), void)
    assert ours.found > 0
    assert (ours.pq, ours.sq, ours.rq) == pytest.approx(foreign(prediction, truth, void), abs=1e-6)


def test_void_leaves_an_instance_before_it_is_judged():
    truth, prediction = np.zeros((1, 20), np.int64), np.zeros((1, 20), np.int64)
    truth[0, :8], truth[0, 8:16], prediction[0, :16] = 1, 2, 5
    ours = panoptic(overlaps(prediction, truth), void={2})
    assert (ours.pq, ours.sq) == (1, 1)
    assert foreign(prediction, truth, void={2})[:2] == [1, 1]
    assert panoptic(overlaps(prediction, truth)).found == 0


def test_panoptic_quality_of_empty_maps():
    empty, full = np.zeros((8, 8), np.int64), blocks(0, (8, 8), jitter=0)
    lost, extra = panoptic(overlaps(empty, full)), panoptic(overlaps(full, empty))
    assert (lost.pq, lost.lost, lost.extra) == (0, 1, 0)
    assert (extra.pq, extra.lost, extra.extra) == (0, 0, 1)
    assert foreign(empty, full)[0] == 0
    assert math.isnan(lost.sq)
    assert math.isnan(panoptic(overlaps(empty, empty)).pq)


def test_ignored_instances_cost_nothing():
    truth, prediction = np.zeros((2, 10), np.int64), np.zeros((2, 10), np.int64)
    truth[0, :5] = prediction[0, :5] = 4
    prediction[1, :3] = 5
    assert panoptic(overlaps(prediction, truth)).rq == pytest.approx(1 / 1.5)
    assert panoptic(overlaps(prediction, truth), ignored={5}).rq == 1


def test_half_an_overlap_is_not_recognised():
    truth, prediction = np.zeros(12, np.int64), np.zeros(12, np.int64)
    truth[:8], prediction[:4] = 1, 1  # IoU is exactly 0.5
    assert panoptic(overlaps(prediction, truth)).found == 0


@pytest.mark.parametrize(("second", "count"), [(24, 0), (25, 1), (75, 1), (76, 0)])
def test_a_quarter_makes_a_split_and_a_merge(second, count):
    whole, halves = np.full(100, 1), np.full(100, 1)
    halves[:second] = 2
    assert splits(overlaps(halves, whole), {1}) == count
    assert splits(overlaps(halves, whole), set()) == 0
    assert merges(overlaps(whole, halves), {1, 2}) == 1  # it holds both, however small one is
    assert merges(overlaps(halves, whole), {1}) == 0


def test_a_merge_needs_a_quarter_of_both():
    truth = np.repeat([1, 2], 100)
    for taken, count in ((24, 0), (25, 1)):
        prediction = truth.copy()
        prediction[100 : 100 + taken] = 1
        assert merges(overlaps(prediction, truth), {1, 2}) == count


def test_between_asks_where_the_middle_lies():
    prediction = np.zeros((3, 20), np.int64)
    prediction[0, 0:7], prediction[1, 4:9], prediction[2, 15:20] = 1, 2, 3
    rows = np.arange(5, 16)
    assert between(prediction, {1, 2, 3}, rows, 1) == {2}
    assert between(prediction, {1, 2, 3}, rows[:0], 1) == set()
