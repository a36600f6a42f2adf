"""Resampling against closed formulas, brute force and scipy."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from spinect.errors import GeometryError, LabelError
from spinect.geometry import Grid, Volume, average_mask, resample, to_iso
from spinect.geometry.transform import rigid

RNG = np.random.default_rng(5)
ORIENTATIONS = [
    "".join(signs[axis] for axis, signs in zip(order, flips, strict=True))
    for order in itertools.permutations(range(3))
    for flips in itertools.product(("RAS", "LPI"), repeat=3)
]


def oblique(shape, spacing, rotation=(0.1, -0.2, 0.15), origin=(-20.0, 5.0, 11.0)):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec(rotation).as_matrix() * np.asarray(spacing, float)
    affine[:3, 3] = origin
    return Grid(shape, affine)


def smooth(grid, kind="mr"):
    """A blob in the world, the same whatever the grid."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    world = grid.world(index)
    return Volume(
        (200 * np.exp(-((world / 12) ** 2).sum(-1))).astype(np.float32), grid.affine, kind
    )


def brute_average(mask, source, target, sub):
    """Share of sub-points of each target voxel whose nearest source voxel is set."""
    steps = (np.arange(sub) + 0.5) / sub - 0.5
    index = np.stack(np.meshgrid(*map(np.arange, target.shape), indexing="ij"), -1).astype(float)
    total = np.zeros(target.shape)
    count = np.zeros(target.shape)
    for shift in itertools.product(steps, repeat=3):
        at = np.floor(source.index(target.world(index + shift)) + 0.5 + 1e-9).astype(int)
        ok = ((at >= 0) & (at < source.shape)).all(-1)
        at = np.where(ok[..., None], at, 0)
        total += np.where(ok, mask[tuple(np.moveaxis(at, -1, 0))], 0)
        count += ok
    return total / np.maximum(count, 1)


def test_identity_returns_the_data_bit_for_bit():
    volume = Volume(
        RNG.normal(size=(7, 8, 9)).astype(np.float32), oblique((7, 8, 9), 0.7).affine, "mr"
    )
    same = resample(volume, volume.grid)
    assert np.array_equal(same.data, volume.data)
    assert same.data.dtype == np.float32


@pytest.mark.parametrize("axes", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["ct", "labels"])
def test_reorienting_moves_values_only(axes, kind):
    data = RNG.integers(0, 200, (4, 5, 6)).astype(np.float32 if kind == "ct" else np.uint8)
    volume = Volume(data, oblique((4, 5, 6), (4, 0.5, 0.6)).affine, kind)
    expected = volume.reoriented(axes)
    result = resample(volume, expected.grid)
    assert np.array_equal(result.data, expected.data)
    assert result.data.dtype == data.dtype


@pytest.mark.parametrize(("kind", "outside"), [("mr", 0), ("ct", -1000), ("labels", 0)])
def test_outside_the_field_of_view(kind, outside):
    data = np.full((4, 4, 4), 9, np.uint8 if kind == "labels" else np.float32)
    volume = Volume(data, np.diag([2.0, 2, 2, 1]), kind)
    shifted = resample(volume, volume.grid.crop((-2, 0, 1), (4, 4, 4)))
    assert (shifted.data[:2] == outside).all()
    assert (shifted.data[:, :, 3] == outside).all()
    assert (shifted.data[2:, :, :3] == 9).all()
    finer = resample(volume, Grid((10, 8, 8), np.diag([1.0, 1, 1, 1])))  # centres from 0 mm on
    assert (finer.data[:8, :8, :8] == 9).all()  # the last outer face lies at 7 mm
    assert (finer.data[8:] == outside).all()
    turned = resample(volume, volume.grid, rigid((0, 0, np.pi / 4), centre=(3, 3, 3)))
    assert turned.data[0, 0, 1] == outside
    assert turned.data[1, 1, 1] == 9


@settings(max_examples=40, deadline=None)
@given(
    spacing=st.tuples(*[st.floats(0.3, 5.0)] * 3),
    wanted=st.tuples(*[st.floats(0.3, 5.0)] * 3),
    axes=st.sampled_from(ORIENTATIONS),
)
def test_a_constant_stays_constant(spacing, wanted, axes):
    grid = oblique((9, 7, 8), spacing)
    volume = Volume(np.full(grid.shape, 137.0, np.float32), grid.affine, "ct")
    target = grid.with_spacing(wanted).reoriented(axes)
    np.testing.assert_allclose(resample(volume, target).data, 137, rtol=1e-6)


@pytest.mark.parametrize(
    ("wanted", "tolerance"), [(0.3, 1e-5), (0.8, 1e-5), (3.0, 1e-5), (2.3, 0.13)]
)
def test_a_linear_ramp_stays_linear(wanted, tolerance):
    """Exact where the box is a whole number of voxels; else within an eighth of a voxel."""
    data = np.broadcast_to(np.arange(30, dtype=np.float32)[:, None, None], (30, 3, 3))
    volume = Volume(np.ascontiguousarray(data), np.eye(4), "mr")
    target = volume.grid.with_spacing((wanted, 1, 1))
    result = resample(volume, target).data[:, 1, 1]
    expected = target.world(np.stack([np.arange(len(result)), *np.zeros((2, len(result)))], -1))[
        :, 0
    ]
    inner = (expected > 2) & (expected < 27)
    np.testing.assert_allclose(result[inner], expected[inner], atol=tolerance)


@pytest.mark.parametrize("spacing", [(1.7, 2.4, 3.1), (4.0, 1.0, 1.0), (1.05, 1.3, 5.5)])
def test_downsampling_keeps_the_mass(spacing):
    volume = Volume(np.zeros((24, 22, 26), np.float32), np.eye(4), "mr")
    volume.data[6:18, 6:16, 7:19] = RNG.random((12, 10, 12))
    coarse = resample(volume, volume.grid.with_spacing(spacing))
    assert coarse.data.sum() * np.prod(spacing) == pytest.approx(volume.data.sum(), rel=1e-5)


def test_upsampling_is_scipys_linear_interpolation():
    volume = Volume(
        RNG.normal(size=(6, 7, 8)).astype(np.float32), oblique((6, 7, 8), (4, 1, 2)).affine, "mr"
    )
    target = volume.grid.with_spacing((0.9, 0.7, 0.8)).reoriented("PIR")
    index = np.stack(np.meshgrid(*map(np.arange, target.shape), indexing="ij"), -1)
    where = np.moveaxis(volume.grid.index(target.world(index)), -1, 0)
    expected = ndimage.map_coordinates(volume.data, where, order=1, mode="nearest")
    np.testing.assert_allclose(resample(volume, target).data, expected, atol=2e-5)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.8, 0.9, 0.7)])
def test_a_turned_grid_is_scipys_linear_interpolation(spacing):
    volume = Volume(RNG.normal(size=(9, 8, 7)).astype(np.float32), np.eye(4), "mr")
    target = oblique((10, 9, 9), spacing, origin=(0.3, -0.2, 0.4))
    ct_from_mr = rigid((0.05, 0.1, -0.3), (1, 0.5, -0.2), centre=(4, 4, 4))
    index = np.stack(np.meshgrid(*map(np.arange, target.shape), indexing="ij"), -1)
    world = target.world(index) @ ct_from_mr[:3, :3].T + ct_from_mr[:3, 3]
    expected = ndimage.map_coordinates(
        volume.data, np.moveaxis(world, -1, 0), order=1, mode="nearest"
    )
    faces = np.array(volume.data.shape) - 0.499  # a thousandth of a voxel beyond is still inside
    inside = ((world > -0.501) & (world < faces)).all(-1)
    np.testing.assert_allclose(
        resample(volume, target, ct_from_mr).data, np.where(inside, expected, 0), atol=1e-5
    )


def test_a_turned_coarse_grid_averages():
    """Fine noise has the standard deviation of an average, not that of a pick."""
    volume = Volume(RNG.normal(size=(60, 60, 60)).astype(np.float32), np.eye(4), "mr")
    target = oblique((10, 10, 10), 4.0, rotation=(0.2, 0.1, 0.3), origin=(10, 8, 10))
    assert resample(volume, target).data.std() < 2 * 4**-1.5


def test_moving_from_fixed_maps_the_targets_world_into_the_volumes():
    ct = smooth(
        Grid(
            (40, 40, 40), np.array([[2, 0, 0, -40], [0, 2, 0, -40], [0, 0, 2, -40], [0, 0, 0, 1.0]])
        )
    )
    ct_from_mr = rigid((0, 0, 0), (6.0, -4.0, 2.0))
    moved = resample(ct, ct.grid, ct_from_mr)
    centre = np.array(ndimage.center_of_mass(moved.data.astype(float)))
    np.testing.assert_allclose(ct.grid.world(centre), [-6, 4, -2], atol=0.05)


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.eye(3), np.full((4, 4), np.nan)])
def test_a_singular_map_is_refused(bad):
    volume = Volume(np.zeros((3, 3, 3), np.float32), np.eye(4), "mr")
    with pytest.raises(GeometryError, match="invertible 4x4 affine"):
        resample(volume, volume.grid, bad)


def test_parallel_and_turned_ways_agree():
    """A turn just beyond what counts as parallel gives nearly the same as none."""
    volume = smooth(
        Grid(
            (30, 40, 35),
            np.array([[2, 0, 0, -30], [0, 1.5, 0, -30], [0, 0, 2, -35], [0, 0, 0, 1.0]]),
        )
    )
    target = volume.grid.with_spacing(1.0)
    tiny = rigid((0, 0, 2e-3))
    straight, turned = resample(volume, target), resample(volume, target, tiny)
    assert np.abs(straight.data - turned.data).max() < 1.0
    assert not np.array_equal(straight.data, turned.data)


@pytest.mark.parametrize("native", [(4.0, 0.6, 0.6), (0.8, 0.8, 5.0), (3.3, 1.4, 0.9)])
def test_there_and_back(native):
    grid = oblique((12, 60, 60), native, origin=(-20, -20, -20))
    volume = smooth(grid)
    back = resample(to_iso(volume), grid)
    assert np.abs(back.data - volume.data).mean() < 0.02 * volume.data.max()


def test_to_iso_keeps_obliquity_and_covers_the_box():
    grid = oblique((12, 60, 50), (4.0, 0.6, 0.7)).reoriented("IAR")
    iso = to_iso(Volume(np.ones(grid.shape, np.float32), grid.affine, "mr"))
    np.testing.assert_allclose(iso.grid.spacing, 1)
    assert iso.grid.axes == "RAS"
    np.testing.assert_allclose(
        np.abs(iso.grid.direction), np.abs(grid.canonical().direction), atol=1e-12
    )
    assert (iso.grid.extent >= grid.canonical().extent - 1e-3).all()
    np.testing.assert_allclose(iso.data, 1, rtol=1e-6)


@pytest.mark.parametrize(("spacing", "sub"), [((4, 1, 2), 8), ((2.5, 0.5, 1.25), 10)])
def test_average_mask_against_sub_sampling(spacing, sub):
    """Sub-points see each source voxel as a box: that is the definition."""
    source = Grid((20, 12, 15), np.eye(4))
    mask = RNG.random(source.shape) > 0.6
    coarse = np.maximum(spacing, 1)  # below the source's spacing it is interpolation
    target = source.with_spacing(coarse).reoriented("LSA")
    expected = brute_average(mask, source, target, sub)
    np.testing.assert_allclose(average_mask(mask, source, target), expected, atol=1e-5)


def test_average_mask_of_a_part_is_that_of_the_whole():
    """Only the box around the mask is worked on; that must not show, at the rim neither."""
    source, target = Grid((30, 30, 30)), oblique((9, 9, 9), 3.0, origin=(1, 2, 0))
    for box in (np.s_[10:16, 11:14, 12:20], np.s_[0:5, 20:30, 7:9]):
        mask = np.zeros(source.shape, bool)
        mask[box] = True
        whole = resample(Volume(mask.astype(np.float32), np.eye(4), "mr"), target).data
        np.testing.assert_allclose(average_mask(mask, source, target), whole, atol=1e-5)


def test_average_mask_refuses_another_shape():
    with pytest.raises(GeometryError, match="does not fit"):
        average_mask(np.zeros((2, 2, 2), bool), Grid((3, 3, 3)), Grid((3, 3, 3)))


def test_labels_are_area_averaged_not_picked():
    """Foreground where all labels together hold half of the voxel, then the most probable one."""
    source = Grid((24, 16, 20))
    labels = np.zeros(source.shape, np.uint8)
    labels[2:22, 3:14, 2:18] = RNG.choice([0, 3, 20, 49], (20, 11, 16), p=[0.3, 0.2, 0.3, 0.2])
    target = source.with_spacing((4, 2, 2)).reoriented("PIR")
    share = {i: brute_average(labels == i, source, target, sub=8) for i in (3, 20, 49)}
    total = sum(share.values())
    best = np.array(list(share))[np.argmax(list(share.values()), axis=0)]
    clear = np.abs(total - 0.5) > 1e-4
    ranked = np.sort(list(share.values()), axis=0)
    clear &= (ranked[-1] - ranked[-2] > 1e-4) | (total < 0.5)
    result = resample(Volume(labels, source.affine, "labels"), target).data
    expected = np.where(total >= 0.5, best, 0)
    assert result.dtype == np.uint8
    assert clear.mean() > 0.5
    assert np.array_equal(result[clear], expected[clear])


def test_two_labels_that_share_a_voxel_are_foreground():
    data = np.zeros((4, 2, 2), np.uint8)
    data[1], data[2] = 7, 9
    labels = Volume(data, np.eye(4), "labels")
    result = resample(labels, labels.grid.with_spacing((4, 1, 1)))  # a quarter each
    assert (result.data == 7).all()  # exactly a half counts; the smaller id wins a draw
    data[2] = 0
    assert (resample(labels, labels.grid.with_spacing((4, 1, 1))).data == 0).all()


def test_labels_upsampled_have_half_way_borders():
    data = np.zeros((6, 3, 3), np.uint16)
    data[2:4] = 300
    labels = Volume(data, np.diag([4.0, 1, 1, 1]), "labels")
    result = resample(labels, labels.grid.with_spacing(1.0))
    assert np.array_equal(np.flatnonzero(result.data[:, 1, 1]), np.arange(8, 16))
    assert result.data.dtype == np.uint16
    assert set(np.unique(result.data)) == {0, 300}


def test_labels_on_a_turned_grid():
    """A turned ball stays a ball: same volume, centre where the map puts it."""
    source = Grid((40, 40, 40))
    index = np.stack(np.meshgrid(*[np.arange(40)] * 3, indexing="ij"), -1)
    labels = Volume(
        (np.linalg.norm(index - [18, 20, 22], axis=-1) < 9).astype(np.uint8) * 5,
        np.eye(4),
        "labels",
    )
    target = oblique((40, 30, 45), (1.0, 1.5, 0.9), rotation=(0.2, -0.1, 0.4), origin=(2, -6, 4))
    result = resample(labels, target)
    volume = (result.data == 5).sum() * np.prod(target.spacing)
    assert volume == pytest.approx((labels.data > 0).sum(), rel=0.03)
    centre = target.world(ndimage.center_of_mass(result.data))
    np.testing.assert_allclose(centre, [18, 20, 22], atol=0.15)
    assert source.matches(labels.grid)


@pytest.mark.parametrize("data", [np.ones((2, 2, 2), np.float32), np.full((2, 2, 2), -1, np.int16)])
def test_labels_must_be_ids(data):
    with pytest.raises(LabelError, match="integers of at least 0"):
        resample(Volume(data, np.eye(4), "labels"), Grid((1, 1, 1)))
