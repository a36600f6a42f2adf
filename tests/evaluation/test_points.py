"""Registration errors and level names at points, with exact answers."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from spinect.errors import GeometryError, LandmarkError
from spinect.evaluation.measures import at
from spinect.evaluation.points import bone_errors, landmark_errors, level_agreement, target_errors
from spinect.geometry import Volume
from spinect.geometry.landmarks import Landmarks
from spinect.geometry.transform import apply, rigid


def column(names, pitch=35.0, start=0.0):
    """Body centres from head to feet, `pitch` mm apart."""
    return Landmarks({(v, 50): np.array([0, 0, start - pitch * n]) for n, v in enumerate(names)})


def still(_vertebra):
    return np.eye(4)


def test_a_shift_is_its_length_everywhere():
    found = landmark_errors(column((20, 21, 22)), still, lambda _: rigid([0, 0, 0], [3, 4, 0]))
    for metric in ("tre", "tre_p95", "tre_max"):
        assert at(found, "landmarks", metric) == pytest.approx(5)


def test_a_turn_costs_twice_the_sine_of_half_its_angle():
    points = Landmarks({(20, 50): [10.0, 0, 0], (20, 42): [0, -60.0, 5], (21, 50): [0, 0, 0]})
    angle = np.radians(7)
    found = landmark_errors(points, still, lambda _: rigid([0, 0, angle]))
    errors = 2 * np.sin(angle / 2) * np.array([10.0, 60.0, 0.0])
    assert at(found, "landmarks", "tre") == pytest.approx(errors.mean())
    assert at(found, "landmarks", "tre_max") == pytest.approx(errors.max())
    assert at(found, "landmarks", "tre_p95") == pytest.approx(np.percentile(errors, 95))


def test_every_vertebra_has_its_own_motion():
    rng = np.random.default_rng(0)
    points, names = rng.normal(size=(50, 3)) * 40, rng.integers(20, 23, 50)
    truth = {v: rigid(rng.normal(size=3) * 0.1, rng.normal(size=3)) for v in (20, 21, 22)}
    guess = {v: rigid(rng.normal(size=3) * 0.1, rng.normal(size=3)) for v in (20, 21, 22)}
    errors = target_errors(points, names, truth.__getitem__, guess.__getitem__)
    for point, name, error in zip(points, names, errors, strict=True):
        ends = [apply(maps[int(name)], point)[None] for maps in (truth, guess)]
        assert error == pytest.approx(cdist(*ends).item(), abs=1e-12)
    assert not target_errors(points, names, truth.__getitem__, truth.__getitem__).any()


def test_bone_voxels_count_the_posterior_apart():
    vertebrae, subregions = np.zeros((4, 10, 4), np.uint8), np.zeros((4, 10, 4), np.uint8)
    vertebrae[:, 0], subregions[:, 0] = 22, 42
    vertebrae[:, 9], subregions[:, 9] = 22, 50
    vertebrae[:, 5], subregions[:, 5] = 26, 41  # sacrum: bone, but no posterior element
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    maps = [Volume(d, affine, "labels") for d in (vertebrae, subregions)]
    stretch = np.diag([1.0, 1.5, 1.0, 1.0])  # an error that grows with y: 0, 5, 9 mm
    found = bone_errors(*maps, still, lambda _: stretch)
    assert at(found, "bone", "tre") == pytest.approx((0 + 5 + 9) / 3)
    assert at(found, "posterior", "tre_max") == 0
    none = bone_errors(maps[0], maps[1].with_data(subregions * 0), still, still)
    assert math.isnan(at(none, "posterior", "tre"))


def test_misuse_is_an_error():
    one = Volume(np.ones((3, 3, 3), np.uint8), np.eye(4), "labels")
    with pytest.raises(GeometryError, match="different grids"):
        bone_errors(one, Volume(one.data, 2 * np.eye(4), "labels"), still, still)
    with pytest.raises(LandmarkError, match="at least one"):
        landmark_errors(Landmarks({}), still, still)


def test_levels_agree_by_place_and_name():
    truth = column((19, 20, 21, 22, 23))
    assert at(level_agreement(truth, truth), "vertebral_body", "level_agreement") == 1
    shifted = column((20, 21, 22, 23, 24))
    assert at(level_agreement(shifted, truth), "vertebral_body", "level_agreement") == 0
    swapped = level_agreement(column((19, 21, 20, 22, 23)), truth)[0]
    assert swapped.value == pytest.approx(3 / 5)
    assert swapped.note == "L2 is called L1, L1 is called L2"
    part = column((21, 22), start=-70.0 + 15.0)
    assert at(level_agreement(part, truth), "vertebral_body", "level_agreement") == 1


def test_bodies_far_apart_are_not_common():
    truth = column((20, 21))
    away = level_agreement(column((20, 21), start=400.0), truth)[0]
    assert math.isnan(away.value)
    assert "no two of 2 and 2" in away.note
    assert math.isnan(level_agreement(Landmarks({}), truth)[0].value)


def test_neighbours_in_the_neck_are_not_paired_for_want_of_their_own():
    """17 mm apart and one body missing at either end: as many pairs as possible would be wrong."""
    truth, estimate = column((3, 4, 5, 6), 17.0), column((4, 5, 6, 7), 17.0, start=-17.0)
    assert at(level_agreement(estimate, truth), "vertebral_body", "level_agreement") == 1
