"""From ideal mask heads to named vertebrae, and how far two segmentations agree."""

import numpy as np
import pytest

from spinect.anatomy import CLASS, VERTEBRAE
from spinect.evaluation.measures import at
from spinect.evaluation.protocols.strict_segmentation import strict_segmentation
from spinect.geometry import Volume
from spinect.inference import MaskHeads
from spinect.segmentation import (
    Segmentation,
    agreement,
    name_vertebrae,
    segment_heads,
    with_confidence,
)


def ideal_heads(pair):
    """What a perfect network says about the tiny pair."""
    truth, parts = pair.vertebrae.data, pair.subregions.data
    classes = np.zeros(truth.shape, np.uint8)
    classes[parts == 50], classes[parts == 42] = CLASS["body"], CLASS["spinous"]
    centre = np.zeros(truth.shape)
    offset = np.zeros((3, *truth.shape), np.int8)
    index = np.indices(truth.shape)
    for number in np.unique(truth[truth > 0]):
        own = truth == number
        middle = np.argwhere(own & (parts == 50)).mean(0).round()
        away = middle[:, None, None, None] - index
        centre = np.maximum(centre, np.exp(-(away**2).sum(0) / (2 * 4.0**2)))
        offset[:, own] = away[:, own]
    return MaskHeads(
        grid=pair.vertebrae.grid,
        classes=classes,
        vertebra=np.where(truth > 0, 255, 0).astype(np.uint8),
        centre=(centre * 255).astype(np.uint8),
        offset=offset,
        inside=np.ones(truth.shape, bool),
    )


def nothing(heads):
    """The same field of view without a vertebra."""
    empty = {name: np.zeros_like(getattr(heads, name)) for name in ("classes", "vertebra")}
    more = {name: np.zeros_like(getattr(heads, name)) for name in ("centre", "offset")}
    return MaskHeads(grid=heads.grid, inside=heads.inside, **empty, **more)


def test_ideal_heads_give_back_the_truth(tiny_pair):
    found = segment_heads(ideal_heads(tiny_pair), tiny_pair.ct, lowest=24)
    true = tiny_pair.vertebrae, tiny_pair.subregions
    score = strict_segmentation(found.vertebrae, found.subregions, *true)
    assert at(score, "vertebra", "wrong_level") == at(score, "vertebra", "missed") == 0
    assert at(score, "vertebra", "dice") > 0.97
    assert at(score, "vertebral_body", "dice") > 0.97
    assert [row["name"] for row in found.rows] == ["L3", "L4", "L5"]
    assert {row["level_source"] for row in found.rows} == {"user"}
    volume = np.count_nonzero(tiny_pair.vertebrae.data == 23)
    assert found.rows[1]["volume_mm3"] == pytest.approx(volume, rel=0.03)


def test_levels_without_an_anchor_are_a_guess_that_says_so(tiny_pair):
    found = segment_heads(ideal_heads(tiny_pair), tiny_pair.ct)
    assert len(found.rows) == 3
    assert {row["level_source"] for row in found.rows} == {"guess"}
    assert found.warnings
    assert {row["id"] for row in found.rows} <= set(VERTEBRAE)


def test_names_alone_are_those_of_the_whole_segmentation(tiny_pair):
    heads = ideal_heads(tiny_pair)
    named = name_vertebrae(heads, lowest=24)
    np.testing.assert_array_equal(named.data, segment_heads(heads, None, lowest=24).vertebrae.data)
    assert named.data.any()


def test_no_vertebra_gives_empty_masks_and_no_rows(tiny_pair):
    found = segment_heads(nothing(ideal_heads(tiny_pair)), tiny_pair.ct)
    assert not found.vertebrae.data.any()
    assert not found.subregions.data.any()
    assert found.rows == ()


def cubes(*places):
    """Cubes of 10 voxels edge: (id, start along z)."""
    data = np.zeros((12, 12, 60), np.uint8)
    for number, start in places:
        data[1:11, 1:11, start : start + 10] = number
    labels = Volume(data, np.eye(4), "labels")
    rows = tuple({"id": number, "confidence": None} for number, _ in places)
    return Segmentation(labels, labels.with_data(np.zeros_like(data)), rows)


def test_agreement_is_the_dice_of_shifted_cubes_whatever_their_names():
    a, b = cubes((20, 5), (21, 20), (22, 40)), cubes((23, 5), (24, 23))
    expected = {20: 1.0, 21: 0.7, 22: 0.0}
    assert agreement(a.vertebrae, b.vertebrae) == pytest.approx(expected)
    filled = with_confidence(a, agreement(a.vertebrae, b.vertebrae))
    assert {row["id"]: row["confidence"] for row in filled.rows} == pytest.approx(expected)
    (said,) = filled.warnings
    assert "on L3: look" in said


def test_full_agreement_warns_of_nothing():
    a = cubes((20, 5), (26, 30))
    assert with_confidence(a, {20: 0.5, 26: 0.1}).warnings == ()
