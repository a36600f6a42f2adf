"""Twists, weights, fields, and the CT on the MR's grid."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.linalg import expm, logm

from spinect.errors import ConfigError, GeometryError
from spinect.geometry import Grid, Volume
from spinect.geometry.resample import resample
from spinect.geometry.transform import apply, rigid
from spinect.registration import Field, blend, displacement, quality, register, warp
from spinect.registration.lattice import jacobian, lattice
from spinect.registration.twist import cross, exp_motion, log_motion, move

ONE = np.eye(4)


def random_ct(shape=(14, 15, 16), spacing=1.0, seed=0):
    data = np.random.default_rng(seed).integers(-1000, 1500, shape).astype(np.float32)
    return Volume(data, np.diag([spacing] * 3 + [1.0]), "ct")


def still(grid):
    return Field(grid, np.zeros((*grid.shape, 3), np.float32), np.ones(grid.shape, np.float32))


@pytest.mark.parametrize("size", [0.0, 1e-7, 1e-4, 0.01, 0.5, 2.5])
def test_twists_against_scipy(size):
    rng = np.random.default_rng(3)
    twist = np.concatenate([size * np.array([0.6, -0.64, 0.48]), rng.normal(0, 20, 3)])
    matrix = np.zeros((4, 4))
    matrix[:3, :3], matrix[:3, 3] = cross(twist[:3]), twist[3:]
    np.testing.assert_allclose(exp_motion(twist), expm(matrix), atol=1e-9)
    np.testing.assert_allclose(log_motion(exp_motion(twist)), twist, atol=1e-7)
    if size:
        np.testing.assert_allclose(logm(exp_motion(twist)).real[:3, 3], twist[3:], atol=1e-6)
    points = rng.normal(0, 50, (7, 3))
    np.testing.assert_allclose(move(twist, points), apply(expm(matrix), points), atol=1e-9)


@pytest.mark.parametrize("masked", [True, False])
def test_weights_sum_to_one(spine, bones, masked):
    case = spine(degrees=3)
    result = register(case.ct, case.mr, "all", "polyrigid")
    same = dict.fromkeys(blend.pieces(result), np.arange(1.0, 7.0))
    mixed = blend.blended_twists(bones.grid, result, bones if masked else None, same)
    np.testing.assert_allclose(mixed, np.broadcast_to(np.arange(1, 7), mixed.shape), rtol=1e-5)


def test_a_capsule_stands_for_a_missing_mask(spine, bones):
    case = spine(degrees=3)
    result = register(case.ct, case.mr, "all", "polyrigid")
    only = bones.with_data(np.where(bones.data == 22, 0, bones.data))
    found = dict(blend.distances(bones.grid, result, only))
    radius = blend.capsule_radii(result.anchors, [20, 21, 22, 23, 24])[22]
    assert radius == pytest.approx(min(15, 0.45 * 36), abs=1.5)
    body = np.rint(bones.grid.index(case.mr[22, 50])).astype(int)
    assert found[22][tuple(body)] == 0
    start, stop = case.mr[22, 50], case.mr[22, 42]
    point = (start + stop) / 2 + [radius + 7, 0, 0]
    voxel = np.rint(bones.grid.index(point)).astype(int)
    axis = (stop - start) / np.linalg.norm(stop - start)
    away = bones.grid.world(voxel) - start
    exact = np.linalg.norm(away - (away @ axis) * axis) - radius
    assert found[22][tuple(voxel)] == pytest.approx(exact, abs=1e-3)
    assert found[21][tuple(np.argwhere(bones.data == 21)[0])] == 0


def test_a_rigid_registration_gives_the_field_of_its_matrix(spine, bones):
    case = spine()
    result = register(case.ct, case.mr, "2", "rigid")
    field = displacement(result, bones.grid)
    points = lattice(bones.grid, slice(0, bones.grid.shape[0]))
    expected = apply(result.ct_from_mr, points) - points
    np.testing.assert_allclose(field.displacement, expected, atol=1e-4)
    np.testing.assert_allclose(field.jacobian, 1, atol=1e-4)


def test_bone_stays_rigid_and_space_unfolded(spine, bones):
    case = spine(degrees=2, noise=1.0, seed=1)
    result = register(case.ct, case.mr, "all", "polyrigid")
    found = quality(displacement(result, bones.grid, bones), bones)
    assert found.rigidity_mm < 0.5
    assert found.min_jacobian > 0
    assert found.outside < 0.01


def test_jacobian_of_an_affine_map():
    grid = Grid((9, 8, 7), rigid((0.3, 0.2, 0.1)) @ np.diag([2.0, 0.7, 4, 1]))
    linear = np.array([[1.2, 0.1, 0], [0, 0.8, 0.05], [0.1, 0, 1.1]])
    points = lattice(grid, slice(0, 9))
    moved = (points @ linear.T - points).astype(np.float32)
    np.testing.assert_allclose(jacobian(moved, grid), np.linalg.det(linear), atol=1e-4)
    thin = Grid((1, 8, 7), grid.affine)
    np.testing.assert_allclose(jacobian(np.ones((1, 8, 7, 3), np.float32), thin), 1, atol=1e-6)


@pytest.mark.parametrize("order", ["bspline", "linear"])
def test_the_identity_returns_the_ct_bit_for_bit(order):
    ct = random_ct()
    for field in (None, still(ct.grid)):
        out, valid = warp(ct, ct.grid, ONE, field, order)
        np.testing.assert_array_equal(out.data, ct.data)
        assert valid.all()


@pytest.mark.parametrize("order", ["bspline", "linear"])
def test_an_impulse_keeps_its_height(order):
    ct = Volume(np.zeros((11, 11, 11), np.float32), ONE, "ct")
    ct.data[5, 5, 5] = 1000
    nudged = rigid(np.zeros(3), (0.002, 0, 0))  # far enough that no value is copied
    out, _ = warp(ct, ct.grid, nudged, None, order)
    assert out.data[5, 5, 5] != 1000
    assert out.data[5, 5, 5] > 990


def test_the_bspline_is_the_one_of_simpleitk():
    ct = random_ct((20, 21, 22), seed=4)
    ct_from_mr = rigid((0.05, -0.1, 0.08), (0.4, 0.3, -0.2), centre=(10, 10, 10))
    ours, _ = warp(ct, ct.grid, ct_from_mr, None, "bspline")
    image = sitk.GetImageFromArray(ct.data.T)
    move_ = sitk.AffineTransform(3)
    move_.SetMatrix(ct_from_mr[:3, :3].ravel())
    move_.SetTranslation(ct_from_mr[:3, 3])
    other = sitk.Resample(image, image, move_, sitk.sitkBSpline, -1000.0, sitk.sitkFloat32)
    inner = (slice(6, -6),) * 3
    theirs = np.clip(sitk.GetArrayFromImage(other).T, ct.data.min(), ct.data.max())
    np.testing.assert_allclose(ours.data[inner], theirs[inner], atol=2)


def test_air_outside_the_ct_and_the_validity_mask():
    ct = random_ct()
    grid = ct.grid.crop((-3, 0, 0), (20, 15, 16))
    field = still(grid)
    field.jacobian[10] = 0.4
    out, valid = warp(ct, grid, ONE, field)
    assert (out.data[:3] == -1000).all()
    assert (out.data[17:] == -1000).all()
    assert not valid[:3].any()
    assert not valid[10].any()
    assert valid[3:10].all()
    assert valid[11:17].all()


def test_thick_slices_average():
    ct = random_ct((12, 9, 8))
    grid = ct.grid.with_spacing([4.0, 1, 1])
    for field in (None, still(grid)):
        out, _ = warp(ct, grid, ONE, field, "linear")
        expected = ct.data.reshape(3, 4, 9, 8).mean(1)
        np.testing.assert_allclose(out.data, expected, atol=1e-2)


def test_labels_follow_the_rule_of_resample(bones):
    mr_grid = bones.grid.with_spacing([4.0, 2, 2])
    ct_from_mr = rigid((0.1, 0.05, -0.1), (3, 2, 1), centre=(0, -30, 80))
    by_matrix, _ = warp(bones, mr_grid, ct_from_mr)
    np.testing.assert_array_equal(by_matrix.data, resample(bones, mr_grid, ct_from_mr).data)
    points = lattice(mr_grid, slice(0, mr_grid.shape[0]))
    moved = (apply(ct_from_mr, points) - points).astype(np.float32)
    field = Field(mr_grid, moved, np.ones(mr_grid.shape, np.float32))
    by_field, _ = warp(bones, mr_grid, ct_from_mr, field)
    assert by_field.data.dtype == bones.data.dtype
    for level in (20, 22, 24):
        one, two = by_field.data == level, by_matrix.data == level
        assert 2 * (one & two).sum() / (one.sum() + two.sum()) > 0.96
    same, _ = warp(bones, bones.grid, ONE, still(bones.grid))
    np.testing.assert_array_equal(same.data, bones.data)


def test_what_does_not_fit_is_refused(spine, bones):
    case = spine(degrees=5)
    result = register(case.ct, case.mr, "all", "polyrigid")
    ct = random_ct()
    with pytest.raises(GeometryError, match="hand its field over"):
        warp(ct, ct.grid, result)
    with pytest.raises(GeometryError, match="the field lies on"):
        warp(ct, ct.grid, result, still(bones.grid))
    with pytest.raises(ConfigError, match="no interpolation 'cubic'"):
        warp(ct, ct.grid, ONE, None, "cubic")
