"""Votes of draws that are constructed: shifted, missing, renamed, merged and invented vertebrae."""

import numpy as np
import pytest

from spinect.errors import ResourceError
from spinect.geometry import Volume
from spinect.inference import plan
from spinect.segmentation import Segmentation, vote, with_spread, with_votes
from spinect.segmentation.spread import MUSCLE_HU
from spinect.segmentation.votes import matched

L3, L4, L5 = 22, 23, 24
SHAPE = (12, 12, 40)


def stack(**places):
    """Boxes of 10 x 10 x 8 voxels; the name is the level, the value where it begins."""
    data = np.zeros(SHAPE, np.uint8)
    for name, start in places.items():
        data[1:11, 1:11, start : start + 8] = {"L3": L3, "L4": L4, "L5": L5, "T4": 11}[name]
    return Volume(data, np.eye(4), "labels")


MEAN = stack(L5=2, L4=14, L3=26)


def test_draws_that_agree_are_sure():
    votes = vote(MEAN, [MEAN] * 4, 4)
    np.testing.assert_array_equal(votes.voted.data, MEAN.data)
    np.testing.assert_array_equal(votes.probability.data, MEAN.data > 0)
    assert votes.confidence == {L3: 1.0, L4: 1.0, L5: 1.0}
    assert votes.found == {L3: 1.0, L4: 1.0, L5: 1.0}


def test_a_shifted_vertebra_by_hand():
    """One draw of three has L4 two voxels higher: six of its eight layers are common."""
    votes = vote(MEAN, [MEAN, MEAN, stack(L5=2, L4=16, L3=26)], 3)
    np.testing.assert_array_equal(votes.voted.data, MEAN.data)
    share = votes.probability.data[5, 5]
    assert share[13:25] == pytest.approx([0, 2 / 3, 2 / 3] + 6 * [1] + [1 / 3, 1 / 3, 0])
    assert votes.confidence[L4] == pytest.approx((1 + 1 + 12 / 16) / 3)
    assert votes.confidence[L5] == 1
    assert votes.found[L4] == 1


def test_a_missing_vertebra_counts_as_zero():
    lacking = stack(L5=2, L3=26)
    votes = vote(MEAN, [MEAN, MEAN, lacking], 3)
    np.testing.assert_array_equal(votes.voted.data, MEAN.data)
    assert votes.confidence[L4] == pytest.approx(2 / 3)
    assert votes.found == pytest.approx({L3: 1, L4: 2 / 3, L5: 1})
    most = vote(MEAN, [MEAN, lacking, lacking], 3)
    assert L4 not in most.voted.data
    assert most.probability.data[5, 5, 16] == pytest.approx(1 / 3)
    assert (most.confidence[L4], most.found[L4]) == (0, pytest.approx(1 / 3))


def test_half_of_the_draws_is_no_majority():
    votes = vote(MEAN, [MEAN, stack(L5=2, L3=26)], 2)
    assert L4 not in votes.voted.data
    assert votes.probability.data[5, 5, 16] == 0.5
    np.testing.assert_array_equal(votes.voted.data > 0, votes.probability.data > 0.5)


def test_swapped_levels_change_nothing():
    """Names are those of the mean: the draws are asked where, not what."""
    swapped = stack(L4=2, L5=14, T4=26)
    votes = vote(MEAN, [MEAN, swapped, swapped], 3)
    np.testing.assert_array_equal(votes.voted.data, MEAN.data)
    assert votes.confidence == {L3: 1.0, L4: 1.0, L5: 1.0}


def test_a_vertebra_that_the_mean_lacks_gets_no_vote():
    votes = vote(stack(L5=2, L4=14), [stack(L5=2, L4=14, L3=26)] * 3, 3)
    assert not votes.voted.data[:, :, 26:].any()
    assert not votes.probability.data[:, :, 26:].any()


def test_merged_vertebrae_are_one_of_them():
    """The one-to-one matching gives the merged mask to the larger share, the other is missing."""
    merged = MEAN.data.copy()
    merged[merged == L4] = 0
    merged[1:11, 1:11, 2:20] = L5  # all of L5, the gap, and six of the eight layers of L4
    own, there = matched(merged, MEAN.data)
    assert np.unique(own).tolist() == [0, L3, L5]
    assert sorted(there) == [L3, L5]  # Dice 2 * 8 / (8 + 18)


def test_slabs_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    draws = [stack(L5=2 + s, L4=14 - s, L3=26 + s) for s in rng.integers(0, 4, 5)]
    whole = vote(MEAN, draws, 5)
    monkeypatch.setattr("spinect.inference.draws.SLAB_BYTES", 12 * 5 * 97)
    parts = vote(MEAN, draws, 5)
    np.testing.assert_array_equal(whole.voted.data, parts.voted.data)
    np.testing.assert_array_equal(whole.probability.data, parts.probability.data)
    assert whole.confidence == parts.confidence


def test_the_number_of_draws_is_checked_and_so_is_the_disk(monkeypatch):
    with pytest.raises(ValueError, match="shorter"):
        vote(MEAN, [MEAN], 2)
    few = type("Usage", (), {"free": 2 * MEAN.data.size - 1})
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _: few)
    with pytest.raises(ResourceError, match="temporary files"):
        vote(MEAN, [MEAN, MEAN], 2)


def found(volume):
    rows = tuple(
        {"id": n, "name": "", "confidence": None} for n in np.unique(volume.data[volume.data > 0])
    )
    return Segmentation(volume, volume, rows, ("said before",))


def test_the_table_tells_the_votes():
    lacking = stack(L5=2, L3=26)
    told = with_votes(found(MEAN), vote(MEAN, [MEAN, lacking, lacking], 3))
    by_id = {row["id"]: row for row in told.rows}
    assert by_id[L4] == {"id": L4, "name": "", "confidence": 0, "draws_found": 0.333}
    assert by_id[L5]["confidence"] == 1
    assert told.warnings[0] == "said before"
    assert "do not trust L4:" in told.warnings[1]
    calm = with_votes(found(MEAN), vote(MEAN, [MEAN] * 2, 2))
    assert calm.warnings == ("said before",)


def test_spread_of_each_vertebra_and_where_it_ends_trust():
    """Root of the mean variance; the bound is reached where bone has even odds."""
    bone, odds = 455.0, {L3: 0.9, L4: 0.49, L5: 0.51}
    ct, std = np.full(SHAPE, MUSCLE_HU), np.full(SHAPE, 10.0)
    for number, p in odds.items():
        own = MEAN.data == number
        ct[own] = MUSCLE_HU + p * (bone - MUSCLE_HU)
        std[own] = np.sqrt(p * (1 - p)) * (bone - MUSCLE_HU)
    std[1:11, 1:11, 26:34][:, :5] = 30.0  # half of L3
    volumes = Volume(ct, np.eye(4), "ct"), Volume(std, np.eye(4), "mr")
    told = with_spread(found(MEAN), *volumes)
    by_id = {row["id"]: row["spread_hu"] for row in told.rows}
    assert by_id[L5] == pytest.approx(200, abs=0.1)
    assert by_id[L3] == pytest.approx(np.sqrt((30**2 + 120**2) / 2), abs=0.1)
    assert len(told.warnings) == 2
    assert "do not trust L4 (200 against 196 HU)" in told.warnings[1]


def test_muscle_is_that_of_the_phantoms():
    from spinect.phantom.tissue_values import TISSUES
    from spinect.phantom.tissues import Tissue

    assert TISSUES[Tissue.MUSCLE].hu == MUSCLE_HU
