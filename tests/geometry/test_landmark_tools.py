"""Merging bodies, normalising second points, joining sets: closed formulas."""

import numpy as np
import pytest

from spinect.errors import LandmarkError
from spinect.geometry import Grid, Volume
from spinect.geometry.landmarks import (
    Landmarks,
    centres_of_mass,
    key_name,
    merge_bodies,
    normalise_spinous,
)


def test_a_merged_body_is_weighted_by_its_voxels():
    """One voxel of 49 at 0, three of 50 at 1, 2, 3: the centre is 1.5, not the mean of centres."""
    subregions = Volume(np.array([49, 50, 50, 50], np.uint8).reshape(4, 1, 1), np.eye(4), "labels")
    vertebrae = subregions.with_data(np.full((4, 1, 1), 20, np.uint8))
    marks = centres_of_mass(vertebrae, merge_bodies(subregions))
    assert list(marks) == [(20, 50)]
    np.testing.assert_allclose(marks[20, 50], [1.5, 0, 0])
    assert subregions.data[0, 0, 0] == 49


def test_the_second_point_lies_50_mm_behind_at_the_height_of_the_body():
    marks = Landmarks(
        {
            (20, 50): np.array([10.0, 20, 30]),
            (20, 42): np.array([10.0 - 3, 20 - 4, 2]),  # 3-4-5: five mm behind, 28 below
            (20, 43): np.array([1.0, 2, 3]),
        }
    )
    made = normalise_spinous(marks)
    np.testing.assert_allclose(made.landmarks[20, 42], [10 - 30, 20 - 40, 30])
    np.testing.assert_array_equal(made.landmarks[20, 43], [1, 2, 3])
    assert made[1:] == ((), (), ())


def test_what_replaces_and_what_is_left_out():
    zero, back = np.zeros(3), np.array([0.0, -30, 5])
    marks = Landmarks(
        {
            (20, 50): zero, (20, 41): back,  # arcus
            (21, 50): zero,  # nothing
            (22, 42): back,  # no body
            (26, 50): zero, (26, 41): back,  # the sacrum's 41 is no arch
        }
    )  # fmt: skip
    made = normalise_spinous(marks)
    np.testing.assert_allclose(made.landmarks[20, 42], [0, -50, 0])
    assert (made.from_arcus, made.without, made.bodiless) == ((20,), (21, 26), (22,))
    assert (20, 41) in made.landmarks
    assert not {(21, 42), (22, 42), (26, 42)} & set(made.landmarks)


def test_no_direction_is_an_error():
    marks = Landmarks({(20, 50): np.zeros(3), (20, 42): np.array([0.2, -0.3, -40])})
    with pytest.raises(LandmarkError, match=r"L1/spinous process lies 0\.36 mm"):
        normalise_spinous(marks)


def test_joined_keeps_every_point_and_refuses_a_name_twice():
    one, two = Landmarks({(20, 50): np.zeros(3)}), Landmarks({(20, 42): np.ones(3)})
    assert list(one.joined(two)) == [(20, 42), (20, 50)]
    with pytest.raises(LandmarkError, match=r"stand in both sets \(L1/vertebral body\)"):
        one.joined(one)


def test_outside_counts_to_the_outer_faces():
    grid = Grid((10, 10, 10), np.diag([-2.0, 2, 2, 1]))
    at = {20: (0.9, 0, 0), 21: (1.1, 0, 0), 22: (-18.9, 18.9, 18.9), 23: (-9, 9, 19.1)}
    marks = Landmarks({(v, 50): np.array(p) for v, p in at.items()})
    assert marks.outside(grid) == ((21, 50), (23, 50))
    assert Landmarks({}).outside(grid) == ()
    assert key_name((21, 40)) == "L2/whole"
