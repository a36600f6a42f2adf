"""Grids and volumes: nibabel as the oracle, and closed formulas."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from spinect.errors import GeometryError
from spinect.geometry import Grid, Volume

TURN = Rotation.from_rotvec((0.1, -0.2, 0.15)).as_matrix()


def oblique(shape, spacing):
    affine = np.eye(4)
    affine[:3, :3] = TURN * spacing
    affine[:3, 3] = (5, -7, 90)
    return Grid(shape, affine)


def test_world_is_nibabels_and_index_is_its_inverse():
    grid = oblique((9, 10, 11), (4, 0.5, 0.6))
    points = np.random.default_rng(0).uniform(0, 9, (20, 3))
    np.testing.assert_allclose(grid.world(points), nib.affines.apply_affine(grid.affine, points))
    np.testing.assert_allclose(grid.index(grid.world(points)), points)
    np.testing.assert_allclose(grid.spacing, nib.affines.voxel_sizes(grid.affine))


@pytest.mark.parametrize("axes", ["PIR", "LAS", "SRA"])
def test_reoriented_is_nibabels(axes):
    grid = oblique((9, 10, 11), (4, 0.5, 0.6))
    data = np.arange(990, dtype=np.float32).reshape(grid.shape)
    change = nib.orientations.ornt_transform(
        nib.io_orientation(grid.affine), nib.orientations.axcodes2ornt(axes)
    )
    expected = nib.Nifti1Image(data, grid.affine).as_reoriented(change)
    volume = Volume(data, grid.affine, "mr").reoriented(axes)
    np.testing.assert_array_equal(volume.data, np.asarray(expected.dataobj))
    np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-12)
    assert volume.grid.axes == axes
    assert volume.canonical().grid.matches(grid)


@given(
    spacing=st.tuples(*[st.floats(0.2, 6)] * 3),
    wanted=st.floats(0.2, 6),
    shape=st.tuples(*[st.integers(2, 60)] * 3),
)
def test_another_spacing_covers_the_same_box(spacing, wanted, shape):
    """Centred on it, at least as large, and larger by less than one voxel."""
    grid = oblique(shape, spacing)
    other = grid.with_spacing(wanted)
    middle = [g.world((np.array(g.shape) - 1) / 2) for g in (grid, other)]
    np.testing.assert_allclose(middle[0], middle[1], atol=1e-9)
    surplus = other.extent - grid.extent
    assert (surplus >= -2e-3 * wanted).all()
    assert (surplus < wanted).all()
    np.testing.assert_allclose(other.direction, grid.direction, atol=1e-12)


def test_crop_keeps_the_points():
    grid = oblique((9, 10, 11), (4, 0.5, 0.6))
    part = grid.crop((2, -1, 3), (4, 4, 4))
    np.testing.assert_allclose(part.world((0, 0, 0)), grid.world((2, -1, 3)))
    assert part.shape == (4, 4, 4)


def test_gap_is_the_largest_shift_of_a_corner():
    grid = Grid((11, 11, 11))
    scaled = Grid((11, 11, 11), np.diag([1.01, 1, 1, 1.0]))
    assert grid.gap(scaled) == pytest.approx(0.1)
    assert not grid.matches(scaled)
    assert grid.gap(Grid((11, 11, 12))) == np.inf


@pytest.mark.parametrize(
    ("spacing", "axes", "plane"),
    [
        ((4, 0.5, 0.5), "RAS", "sagittal"),
        ((0.5, 0.5, 4), "PIL", "sagittal"),
        ((0.5, 0.5, 5), "LPS", "axial"),
        ((0.5, 3, 0.5), "RAS", "coronal"),
        ((1, 1.1, 0.9), "RAS", "isotropic"),
    ],
)
def test_plane(spacing, axes, plane):
    places = [next(i for i, pair in enumerate(("RL", "AP", "SI")) if a in pair) for a in axes]
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, (row, letter, step) in enumerate(zip(places, axes, spacing, strict=True)):
        affine[row, column] = step if letter in "RAS" else -step
    assert Grid((20, 20, 20), affine).axes == axes
    assert Grid((20, 20, 20), affine).plane == plane


@pytest.mark.parametrize(
    ("shape", "affine", "wrong"),
    [
        ((3, 0, 3), np.eye(4), "at least one voxel"),
        ((3, 3, 3), np.diag([1.0, 0, 1, 1]), "singular"),
        ((3, 3, 3), np.full((4, 4), np.nan), "finite"),
    ],
)
def test_impossible_grids(shape, affine, wrong):
    with pytest.raises(GeometryError, match=wrong):
        Grid(shape, affine)


def test_a_volume_has_three_axes_and_keeps_its_grid():
    with pytest.raises(GeometryError, match=r"\(2, 2\)"):
        Volume(np.zeros((2, 2)), np.eye(4), "mr")
    volume = Volume(np.zeros((2, 3, 4), np.float32), np.eye(4), "ct")
    assert volume.rules.outside == -1000
    with pytest.raises(GeometryError, match="do not fit"):
        volume.with_data(np.zeros((4, 3, 2), np.float32))
