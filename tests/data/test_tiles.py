"""Tiles cover a volume, and their weights sum to one."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinect.data.tiles import part_of, plan_tiles
from spinect.errors import ConfigError


def _covered(tiling):
    total = np.zeros(tiling.padded)
    for _, indices in tiling.rows(0):
        for index in indices:
            total[tiling.box(index)] += tiling.weight(index)
    return total


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 45), min_size=2, max_size=3),
    st.integers(1, 6),
    st.floats(0, 0.7),
    st.sampled_from([1, 2, 4]),
)
def test_weights_sum_to_one_for_any_size(shape, tile, overlap, divisor):
    tiling = plan_tiles(shape, [tile * 4] * len(shape), overlap, divisor)
    np.testing.assert_allclose(_covered(tiling), 1, atol=1e-6)
    for axis, n in zip(tiling.axes, tiling.tile, strict=True):
        assert axis.starts[-1] + n == tiling.padded[tiling.axes.index(axis)]
        assert all(start % divisor == 0 for start in axis.starts)
        gaps = [b - a for a, b in itertools.pairwise(axis.starts)]
        assert all(0 < gap <= max(divisor, n * (1 - overlap)) for gap in gaps)


def test_inner_box_is_the_volume_in_the_middle_of_the_padding():
    tiling = plan_tiles((13, 50, 7), (16, 16, 16), 0.25, 8)
    assert tiling.padded == (16, 56, 16)
    assert tiling.before == (1, 3, 4)
    assert tuple(s.stop - s.start for s in tiling.inner) == (13, 50, 7)


def test_a_tile_shrinks_to_a_short_volume_but_keeps_four_voxels_at_the_lowest_resolution():
    assert plan_tiles((13, 50, 7), (64, 16, 64), 0.25, 2).tile == (14, 16, 8)
    assert plan_tiles((13, 50, 80), (64, 64, 64), 0.25, 8).tile == (32, 56, 64)
    assert plan_tiles((3, 10, 40), (1, 48, 48), 0.25, 16).tile == (1, 48, 48)
    whole = plan_tiles((80, 240, 370), (128, 256, 512), 0.25, 16)
    assert (len(whole), whole.tile, whole.padded) == (1, (80, 240, 384), (80, 240, 384))


def test_rim_counts_for_nothing_where_another_tile_covers_it():
    axis = plan_tiles((40,), (24,), 1 / 3).axes[0]
    assert axis.starts == (0, 16)
    assert axis.windows[0, -2:].tolist() == [0, 0]  # a quarter of the overlap of 8
    assert axis.windows[0, 0] == 1  # the volume's own border has no other tile
    assert (np.diff(axis.windows[1, :8]) >= 0).all()


def test_slices_do_not_overlap():
    tiling = plan_tiles((5, 20, 20), (1, 16, 16), 0.25, 8)
    assert tiling.axes[0].starts == (0, 1, 2, 3, 4)
    assert tiling.padded == (5, 24, 24)


def test_rows_run_along_the_main_axis_and_hold_every_tile_once():
    tiling = plan_tiles((30, 50, 20), (16, 16, 16))
    rows = list(tiling.rows(1))
    assert [start for start, _ in rows] == list(tiling.axes[1].starts)
    assert len({index for _, indices in rows for index in indices}) == len(tiling)


@pytest.mark.parametrize(("tile", "overlap"), [((12, 16, 16), 0.25), ((16, 16, 16), 1.0)])
def test_bad_plans_are_refused(tile, overlap):
    with pytest.raises(ConfigError):
        plan_tiles((30, 30, 30), tile, overlap, divisor=8)


@pytest.mark.parametrize("overlap", [0, 0.25, 0.6, 0.8])
@pytest.mark.parametrize(
    "box",
    [
        (slice(0, 50), slice(0, 61), slice(0, 20)),  # everything
        (slice(22, 25), slice(60, 61), slice(3, 20)),
        (slice(0, 1), slice(7, 33), slice(9, 10)),
    ],
)
def test_a_box_takes_the_tiles_that_count_in_it_and_their_own_weights(box, overlap):
    whole = plan_tiles((50, 61, 20), (16, 24, 32), overlap, 4)
    part = part_of(whole, box)
    sizes = zip(part.first, part.tiling.padded, strict=True)
    covered = tuple(slice(f, f + n) for f, n in sizes)
    inner = [slice(b.start + p, b.stop + p) for b, p in zip(box, whole.before, strict=True)]
    for axis, own, cover, side, size in zip(
        whole.axes, part.tiling.axes, covered, inner, whole.tile, strict=True
    ):
        kept = [s + cover.start for s in own.starts]
        assert set(kept) <= set(axis.starts)
        total = np.zeros(cover.stop - cover.start)
        for start, window in zip(own.starts, own.windows, strict=True):
            total[start : start + size] += window
        np.testing.assert_allclose(total, 1, atol=1e-6)
        for start, window in zip(axis.starts, axis.windows, strict=True):
            here = slice(max(side.start - start, 0), max(side.stop - start, 0))
            if start in kept:  # the same weights to the bit
                np.testing.assert_array_equal(own.windows[kept.index(start)][here], window[here])
            else:  # no weight
                assert not window[here].any()
    # The part's own volume is the whole volume as far as its tiles reach.
    for n, before, corner, shape, cover in zip(
        whole.shape, whole.before, part.corner, part.tiling.shape, covered, strict=True
    ):
        assert corner == max(cover.start - before, 0)
        assert corner + shape == min(cover.stop - before, n)


@pytest.mark.parametrize("side", [slice(-1, 4), slice(3, 3), slice(40, 51)])
def test_a_box_must_lie_in_the_volume(side):
    whole = plan_tiles((50, 61, 20), (16, 24, 32), 0.25, 4)
    with pytest.raises(ConfigError, match="does not lie in a volume of"):
        part_of(whole, (side, slice(0, 5), slice(0, 5)))
