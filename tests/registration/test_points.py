"""What two sets share: levels, names, distances."""

import numpy as np
import pytest

from spinect.errors import ConfigError, LandmarkError
from spinect.geometry import Grid
from spinect.geometry.landmarks import Landmarks
from spinect.geometry.transform import rigid
from spinect.registration import align_centres, match_levels, natural_error, register
from spinect.registration.points import relabelled, spread


def test_spread_is_the_second_singular_value():
    points = np.array([[x, y, 0.0] for x in (-30, 30) for y in (-4, 4)])
    assert spread(points) == pytest.approx(4)


def test_natural_error_is_zero_under_any_rigid_motion_and_sees_a_stretched_gap(spine):
    marks = spine().mr.of([50])
    assert natural_error(marks.moved(rigid((1, 2, 0.5), (5, 6, 7))), marks) < 1e-9
    ends = Landmarks({(20, 50): np.zeros(3), (21, 50): np.array([0, 0, 30.0])})
    far = Landmarks({(20, 50): np.zeros(3), (21, 50): np.array([0, 34.0, 0])})
    assert natural_error(far, ends) == pytest.approx(4)
    assert np.isnan(natural_error(Landmarks({(20, 50): np.zeros(3)}), ends))


@pytest.mark.parametrize("steps", [-1, 1])
def test_a_set_shifted_by_a_level_is_said(spine, steps):
    case = spine(noise=0.3, seed=2 + steps)
    result = register(relabelled(case.ct, steps), case.mr, "all", "rigid")
    assert result.verdict == "reject"
    assert "levels look shifted" in result.reason
    assert f"towards the {'head' if steps > 0 else 'feet'}" in result.reason
    assert register(case.ct, case.mr, "all", "rigid").verdict == "accept"


@pytest.mark.parametrize("seed", range(5))
def test_right_levels_are_not_called_shifted(spine, seed):
    case = spine(degrees=4, noise=2.0, seed=seed)
    for points in ("2", "all"):
        assert "shifted" not in register(case.ct, case.mr, points, "rigid").reason


def test_relabelling_skips_levels_that_the_spine_does_not_have():
    marks = Landmarks({(v, 50): np.full(3, float(v)) for v in (18, 19, 20)})
    assert relabelled(marks, 1).vertebrae == (19, 20, 21)  # T12 -> L1, there is no T13
    with_t13 = Landmarks({(v, 50): np.zeros(3) for v in (19, 28, 20)})
    assert relabelled(with_t13, 1).vertebrae == (28, 20, 21)
    assert relabelled(marks, 1, among=(28,)).vertebrae == (19, 28, 21)  # T12 -> T13, L1 -> L2


def test_levels_are_matched_by_the_nearest_body_and_the_closer_wins(spine):
    case = spine()
    shifted = relabelled(case.mr, 1).moved(rigid(np.zeros(3), (3, -4, 5)))
    found, names = match_levels(shifted, case.mr, np.eye(4))
    assert names == {21: 20, 22: 21, 23: 22, 24: 23, 26: 24}
    assert set(found) == set(case.mr)
    with pytest.raises(LandmarkError, match="no body of one scan lies within 20 mm"):
        match_levels(case.mr.moved(rigid(np.zeros(3), (90, 0, 0))), case.mr, np.eye(4))


def test_no_common_names(spine):
    case = spine()
    with pytest.raises(LandmarkError, match="share no landmark"):
        register(case.ct.of([50]), case.mr.of([42]), "2", "rigid")
    with pytest.raises(ConfigError, match="no registration with points '3'"):
        register(case.ct, case.mr, "3", "rigid")


def test_centres_of_two_frames_are_put_together():
    ct = Grid((11, 11, 11), np.diag([2.0, 2, 2, 1]))
    moved = np.diag([1.0, 1, 4, 1])
    moved[:3, 3] = (100, -7, 3)
    mr = Grid((21, 5, 9), moved)
    np.testing.assert_array_equal(align_centres(ct, mr, same_frame=True), np.eye(4))
    matrix = align_centres(ct, mr, same_frame=False)
    np.testing.assert_allclose(matrix[:3, 3], np.array([10, 10, 10]) - [110, -5, 19])
