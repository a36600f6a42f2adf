"""Elastic deformation against scipy, and what makes a copy the copy that it is."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from spinect.data.elastic import Elastic, draw_lattice, is_deformed
from spinect.data.warp import Warp
from spinect.errors import ConfigError

SHAPE, SPACING = (14, 30, 26), (3.3, 1.0, 1.0)
VOXELS, MM = Elastic(rule="voxels"), Elastic(sigma=(1.6, 3.6))


def crop(start, shape, flipped=None):
    matrix = np.eye(3)
    if flipped is not None:
        matrix[flipped, flipped] = -1
    middle = np.array(start) + (np.array(shape) - 1) / 2
    return Warp(middle, matrix, torch.zeros(1).expand(3, *shape))


def lattice(rule=MM, copy=0, name="sub-1_T2w", shape=SHAPE, spacing=SPACING):
    return draw_lattice(rule, shape, spacing, name, copy)


@pytest.mark.parametrize("rule", [VOXELS, MM])
def test_field_is_scipys_spline_through_the_control_points(rule):
    drawn = lattice(rule)
    axes = [np.arange(n, dtype=float) for n in SHAPE]
    field = drawn.bend(axes).numpy()
    knots = np.array(drawn.moved.shape[1:])
    index = np.stack(np.meshgrid(*axes, indexing="ij"))
    span = np.array(SHAPE) - 1 + 2 * drawn.margin
    at = (index + drawn.margin) * ((knots - 1) / span)[:, None, None, None]
    wanted = [ndimage.map_coordinates(m, at, order=3, mode="mirror") for m in drawn.moved]
    np.testing.assert_allclose(field, wanted, atol=2e-5)
    assert drawn.margin == (10 if rule is VOXELS else 0)


@pytest.mark.parametrize(("mode", "order"), [("linear", 1), ("cubic", 3), ("nearest", 0)])
def test_reading_is_that_of_scipy_with_the_same_field(mode, order):
    rng = np.random.default_rng(1)
    image = rng.random(SHAPE).astype(np.float32) * (1 if order else 20)
    image = image if order else np.floor(image)
    warp = crop((0, 0, 0), SHAPE).bent(lattice(VOXELS, 4))
    box, at = warp.box(SHAPE, reach=10, margin=8)
    read = warp.read(torch.from_numpy(image[box])[None], at, mode)[0].numpy()
    places = warp.sources().numpy().astype(float)
    wanted = ndimage.map_coordinates(image, places, order=order, mode="mirror")
    size = np.array(SHAPE)[:, None, None, None]
    within = ((places > -10.4) & (places < size + 9.4)).all(0)
    if order == 0:  # ties may go either way
        within &= (np.abs(places % 1 - 0.5) > 1e-3).all(0)
        assert set(np.unique(read)) <= set(np.unique(image)) | {0.0}
    assert within.mean() > 0.9
    np.testing.assert_allclose(read[within], wanted[within], atol=2e-4)


@pytest.mark.parametrize("flipped", [None, 1])
def test_a_patch_of_a_copy_is_that_part_of_the_whole_copy(flipped):
    image = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    drawn = lattice(VOXELS, 2)

    def read(warp, mode):
        box, at = warp.box(SHAPE, reach=10, margin=8)
        return warp.read(image[(slice(None), *box)], at, mode)

    start, size = (3, 5, 7), (6, 12, 10)
    for mode in ("linear", "cubic", "nearest"):
        whole = read(crop((0, 0, 0), SHAPE).bent(drawn), mode)[:, 3:9, 5:17, 7:17]
        part = read(crop(start, size, flipped).bent(drawn), mode)
        part = part if flipped is None else part.flip(flipped + 1)
        # A spline looks 8 voxels far, the tail behind that is 3e-5 of a voxel's value.
        torch.testing.assert_close(part, whole, atol=2e-4, rtol=0)


def test_copies_are_seeded_by_series_and_number():
    assert np.array_equal(lattice(copy=3).moved, lattice(copy=3).moved)
    assert not np.array_equal(lattice(VOXELS, 3).moved, lattice(VOXELS, 4).moved)
    first, other = lattice(VOXELS, 3), lattice(VOXELS, 3, "sub-2_T2w")
    assert first.moved.shape != other.moved.shape or not np.array_equal(first.moved, other.moved)
    assert [is_deformed(c, 10) for c in range(10)] == [True] * 9 + [False]
    assert not is_deformed(0, 1)
    with pytest.raises(ConfigError, match="copy 10 of 10"):
        is_deformed(10, 10)


def test_the_published_rule_counts_voxels_and_ours_millimetres():
    """Spread along the thick axis: equal in voxels there, equal in mm here."""
    many = [lattice(VOXELS, c) for c in range(300)]
    sd = np.array([m.moved.std() for m in many])
    points = np.array([m.moved.shape[1] for m in many])
    assert points.min() == 2
    assert points.max() == 12
    assert all(len(set(m.moved.shape[1:])) == 1 for m in many)
    wide = np.concatenate([m.moved.reshape(3, -1) for m in many if m.moved.shape[1] > 8], 1)
    assert wide.std(1) == pytest.approx([wide.std()] * 3, rel=0.05)
    assert 1.5 < np.median(sd) < 3.7
    ours = [lattice(MM, c, shape=(40, 200, 200)) for c in range(60)]
    mm = np.concatenate([m.moved.reshape(3, -1) for m in ours], 1).std(1) * SPACING
    assert mm == pytest.approx([mm.mean()] * 3, rel=0.1)


def test_ours_does_not_fold():
    shape = (15, 256, 200)
    for copy in range(12):
        drawn = lattice(copy=copy, shape=shape)
        field = drawn.bend([np.arange(n, dtype=float) for n in shape]).numpy()
        slope = np.stack([np.stack(np.gradient(f)) for f in field])
        jacobian = np.linalg.det(np.moveaxis(slope, (0, 1), (-2, -1)) + np.eye(3))
        assert jacobian.min() > 0


def test_ranges_are_checked():
    with pytest.raises(ValueError, match="least first"):
        Elastic(sigma=(3, 2))
