"""Landmarks and rigid maps: closed formulas."""

import numpy as np
import pytest
from scipy import ndimage

from spinect.errors import GeometryError, LandmarkError
from spinect.geometry import Volume
from spinect.geometry.landmarks import WHOLE, Landmarks, centres_of_mass
from spinect.geometry.transform import apply, compose, invert, rigid

AFFINE = np.array([[0, 0, -2.0, 30], [0.5, 0, 0, -4], [0, 1.5, 0, 8], [0, 0, 0, 1]])


def test_a_quarter_turn_about_a_point():
    ct_from_mr = rigid((0, 0, np.pi / 2), (1, 2, 3), centre=(10, 0, 0))
    np.testing.assert_allclose(apply(ct_from_mr, (10, 0, 0)), [11, 2, 3], atol=1e-12)
    np.testing.assert_allclose(apply(ct_from_mr, [(11, 0, 0)]), [[11, 3, 3]], atol=1e-12)


def test_invert_and_compose():
    b_from_a = rigid((0.3, -0.2, 1.1), (5, -3, 2), centre=(1, 2, 3))
    c_from_b = rigid((-0.7, 0.1, 0.2), (0, 8, 1))
    points = np.random.default_rng(0).normal(0, 50, (9, 3))
    c_from_a = compose(c_from_b, b_from_a)
    np.testing.assert_allclose(apply(c_from_a, points), apply(c_from_b, apply(b_from_a, points)))
    np.testing.assert_allclose(compose(invert(b_from_a), b_from_a), np.eye(4), atol=1e-12)


@pytest.mark.parametrize("bad", [np.diag([1.0, 1, -1, 1]), np.diag([1.1, 1, 1, 1])])
def test_only_rigid_maps_are_inverted_by_the_transpose(bad):
    with pytest.raises(GeometryError, match="not rigid"):
        invert(bad)


def test_landmarks_are_ordered_and_frozen():
    marks = Landmarks({(20, 50): np.zeros(3), (28, 42): np.ones(3), (19, 50): np.full(3, 2.0)})
    assert list(marks) == [(19, 50), (28, 42), (20, 50)]  # T12, T13, L1
    assert marks.vertebrae == (19, 28, 20)
    np.testing.assert_array_equal(marks.array([(20, 50), (19, 50)]), [[0, 0, 0], [2, 2, 2]])
    np.testing.assert_array_equal(marks.of([42]).array(), [[1, 1, 1]])
    with pytest.raises(ValueError, match="read-only"):
        marks[19, 50][0] = 1
    with pytest.raises(LandmarkError, match="L2/vertebral body among 3: T12/vertebral body"):
        marks[21, 50]
    with pytest.raises(LandmarkError, match="three finite numbers"):
        Landmarks({(1, 50): np.array([1, np.nan, 3])})


def test_moved_and_common():
    marks = Landmarks({(20, 50): np.zeros(3), (21, 50): np.ones(3)})
    other = Landmarks({(21, 50): np.zeros(3), (22, 50): np.zeros(3)})
    assert marks.common(other) == ((21, 50),)
    np.testing.assert_allclose(marks.moved(rigid(np.zeros(3), (1, 2, 3)))[21, 50], [2, 3, 4])


def test_centres_of_mass_against_scipy():
    rng = np.random.default_rng(1)
    vertebrae = rng.choice([0, 19, 20, 28], (8, 9, 10)).astype(np.uint8)
    subregions = rng.choice([0, 41, 50], (8, 9, 10)).astype(np.uint8)
    whole = Volume(vertebrae, AFFINE, "labels")
    marks = centres_of_mass(whole, Volume(subregions, AFFINE, "labels"))
    assert len(marks) == 6
    for vertebra, subregion in marks:
        mask = (vertebrae == vertebra) & (subregions == subregion)
        expected = whole.grid.world(ndimage.center_of_mass(mask))
        np.testing.assert_allclose(marks[vertebra, subregion], expected)
    expected = whole.grid.world(ndimage.center_of_mass(vertebrae == 28))
    np.testing.assert_allclose(centres_of_mass(whole)[28, WHOLE], expected)


def test_small_pieces_and_empty_maps_give_no_point():
    data = np.zeros((5, 5, 5), np.uint8)
    data[0, 0, 0], data[2:, 2:, 2:] = 3, 4
    labels = Volume(data, AFFINE, "labels")  # a voxel is 1.5 mm3
    assert list(centres_of_mass(labels, min_mm3=2)) == [(4, WHOLE)]
    assert len(centres_of_mass(labels.with_data(np.zeros_like(data)))) == 0


def test_centres_of_mass_need_one_grid():
    labels = Volume(np.zeros((2, 2, 2), np.uint8), AFFINE, "labels")
    with pytest.raises(GeometryError, match="different grids"):
        centres_of_mass(labels, Volume(labels.data, np.eye(4), "labels"))
