"""One rigid motion: exact without noise, refused where it is not determined."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from spinect.errors import ConfigError, LandmarkError
from spinect.geometry.landmarks import Landmarks
from spinect.geometry.transform import apply, rigid
from spinect.registration import fit_rigid, register
from spinect.registration.points import kabsch


@pytest.mark.parametrize("seed", range(6))
def test_any_motion_is_recovered(spine, seed):
    case = spine(seed=seed)
    rng = np.random.default_rng(seed)
    ct_from_mr = rigid(rng.normal(0, 1, 3), rng.normal(0, 200, 3), centre=rng.normal(0, 50, 3))
    fit = fit_rigid(case.mr.moved(ct_from_mr), case.mr)
    points = rng.normal(0, 100, (50, 3))
    gap = apply(fit.moving_from_fixed, points) - apply(ct_from_mr, points)
    assert np.abs(gap).max() < 1e-6
    assert max(fit.residual_mm.values()) < 1e-6
    assert max(fit.loo_mm.values()) < 1e-6
    assert fit.rejected == ()


def test_least_squares_against_scipy():
    rng = np.random.default_rng(1)
    fixed, moving = rng.normal(0, 30, (2, 12, 3))
    matrix = kabsch(moving, fixed)
    turn, _ = Rotation.align_vectors(moving - moving.mean(0), fixed - fixed.mean(0))
    np.testing.assert_allclose(matrix[:3, :3], turn.as_matrix(), atol=1e-9)
    np.testing.assert_allclose(apply(matrix, fixed.mean(0)), moving.mean(0))


def test_a_mirrored_set_is_refused(spine):
    case = spine(noise=1.0)
    mirror = np.diag([-1.0, 1, 1, 1])
    with pytest.raises(LandmarkError, match=r"mirrored: a reflection leaves"):
        fit_rigid(case.ct.moved(mirror), case.mr)


def test_a_flat_set_looks_the_same_in_a_mirror_and_is_fitted():
    points = {(20 + i, p): np.array([0.0, -50 * (p == 42), -35 * i])
              for i in range(4) for p in (50, 42)}  # fmt: skip
    marks = Landmarks(points)
    fit = fit_rigid(marks.moved(np.diag([-1.0, 1, 1, 1])), marks)
    assert max(fit.residual_mm.values()) < 1e-9


def test_too_few_or_collinear(spine):
    two = Landmarks({k: p for k, p in list(spine().mr.points.items())[:2]})
    with pytest.raises(LandmarkError, match=r"2 common landmark\(s\)"):
        fit_rigid(two, two)
    line = Landmarks({(20 + i, 50): np.array([0.0, 0.3 * (i % 2), 30.0 * i]) for i in range(5)})
    with pytest.raises(LandmarkError, match="on one line"):
        fit_rigid(line, line)


def test_one_bad_landmark_is_rejected_and_none_of_a_good_set(spine):
    case = spine(noise=1.0)
    assert fit_rigid(case.ct, case.mr).rejected == ()
    bad = Landmarks({**case.ct.points, (22, 42): case.ct[22, 42] + [0, 25, 25]})
    fit = fit_rigid(bad, case.mr)
    assert fit.rejected == ((22, 42),)
    assert fit.residual_mm[22, 42] > 25
    clean = fit_rigid(case.ct, case.mr)
    gap = apply(fit.moving_from_fixed, case.mr.array()) - apply(
        clean.moving_from_fixed, case.mr.array()
    )
    assert np.abs(gap).max() < 1
    assert fit_rigid(bad, case.mr, robust_share=0).rejected == ()


def test_never_more_than_the_share_is_rejected(spine):
    case = spine(parts=(50, 42))
    rng = np.random.default_rng(0)
    spoilt = {k: p + 60 * rng.standard_normal(3) * (i % 2) for i, (k, p) in
              enumerate(case.ct.points.items())}  # fmt: skip
    assert len(fit_rigid(Landmarks(spoilt), case.mr, robust_share=0.2).rejected) <= 2
    with pytest.raises(ConfigError, match=r"robust_share is 0\.5"):
        fit_rigid(case.ct, case.mr, robust_share=0.5)


def test_one_point_per_vertebra_is_for_review_and_says_the_axial_error(spine):
    case = spine(noise=1.0)
    result = register(case.ct, case.mr, "1", "rigid")
    assert 1 < result.spread_mm < 6
    assert result.verdict == "review"
    assert result.axial_error_deg > 5
    assert f"{result.axial_error_deg:.1f} degrees" in result.reason
    assert register(case.ct, case.mr, "2", "rigid").verdict == "accept"


def test_the_axial_error_is_what_repeated_noise_shows(spine):
    found, expected = [], []
    axis = spine().mr.of([50]).array()
    axis = np.linalg.svd(axis - axis.mean(0))[2][0]
    for seed in range(150):
        case = spine(noise=1.0, seed=seed, parts=(50, 42))
        fit = fit_rigid(case.ct, case.mr)
        off = fit.moving_from_fixed[:3, :3] @ case.truth[20][:3, :3].T
        found.append(
            np.rad2deg(Rotation.from_matrix(off).as_rotvec() @ case.truth[20][:3, :3] @ axis)
        )
        expected.append(fit.axial_error_deg)
    assert np.std(found) == pytest.approx(np.mean(expected), rel=0.25)
