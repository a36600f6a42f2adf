"""A motion per vertebra: exact without noise, rigid without motion, better in between."""

import numpy as np
import pytest

from spinect.geometry.landmarks import Landmarks
from spinect.geometry.transform import apply
from spinect.registration import displacement, fit_polyrigid, fit_rigid, register


def errors(motions, case, bones):
    out = []
    for level, truth in case.truth.items():
        points = bones.grid.world(np.argwhere(bones.data == level))
        out.append(np.linalg.norm(apply(motions[level], points) - apply(truth, points), axis=1))
    return np.concatenate(out)


@pytest.mark.parametrize("seed", range(3))
def test_noise_free_motions_are_recovered_in_all_bone(spine, bones, seed):
    case = spine(degrees=4, seed=seed)
    result = register(case.ct, case.mr, "all", "polyrigid")
    assert errors(result.vertebrae, case, bones).max() < 0.2
    assert max(result.residual_mm.values()) < 0.2
    field = displacement(result, bones.grid, bones)
    for level, truth in case.truth.items():
        index = np.argwhere(bones.data == level)
        points = bones.grid.world(index)
        gap = points + field.displacement[tuple(index.T)] - apply(truth, points)
        assert np.percentile(np.linalg.norm(gap, axis=1), 95) < 0.2


@pytest.mark.parametrize("seed", range(6))
def test_without_motion_it_is_the_rigid_fit(spine, seed):
    case = spine(noise=1.5, seed=seed)
    fit, rigid = fit_polyrigid(case.ct, case.mr), fit_rigid(case.ct, case.mr)
    assert fit.motion_deg == 0
    for matrix in fit.vertebrae.values():
        np.testing.assert_allclose(matrix, rigid.moving_from_fixed, atol=1e-9)


def test_motion_above_the_noise_is_followed(spine, bones):
    squares = np.zeros((2, 8))
    for seed in range(8):
        case = spine(degrees=4, noise=1.5, seed=seed)
        fit, rigid = fit_polyrigid(case.ct, case.mr), fit_rigid(case.ct, case.mr)
        stiff = dict.fromkeys(case.truth, rigid.moving_from_fixed)
        squares[:, seed] = [(errors(m, case, bones) ** 2).mean() for m in (fit.vertebrae, stiff)]
    assert squares[0].mean() < 0.5**2 * squares[1].mean()


def test_noise_and_motion_are_estimated(spine):
    fits = [fit_polyrigid(*(lambda c: (c.ct, c.mr))(spine(degrees=4, noise=1.5, seed=s)))
            for s in range(8)]  # fmt: skip
    assert np.mean([f.noise_mm for f in fits]) == pytest.approx(1.5 * np.sqrt(2), rel=0.15)
    assert 2 < np.median([f.motion_deg for f in fits]) < 8


def test_what_two_points_leave_open_is_borrowed_and_said(spine):
    case = spine(degrees=6, noise=0.5, seed=3, parts=(50, 42))
    fit = fit_polyrigid(case.ct, case.mr)
    assert fit.motion_deg > 0
    assert fit.borrowed == (20, 21, 22, 23, 24)
    result = register(case.ct, case.mr, "2", "polyrigid")
    assert any(n.startswith("the points of L1, L2, L3, L4, L5 leave a rotation open")
               for n in result.notes)  # fmt: skip


def test_a_bad_landmark_is_told_from_motion(spine):
    case = spine(degrees=4, noise=1.0, seed=5)
    assert fit_polyrigid(case.ct, case.mr).rejected == ()
    bad = Landmarks({**case.ct.points, (23, 43): case.ct[23, 43] + [15, 0, 15]})
    assert fit_polyrigid(bad, case.mr).rejected == ((23, 43),)
    result = register(bad, case.mr, "all", "polyrigid")
    assert result.rejected == ((23, 43),)
    assert (23, 43) not in result.anchors
    assert any("rejected as outliers: L4 transverse process left" in n for n in result.notes)


def test_leave_one_vertebra_out_is_what_a_fit_without_it_predicts(spine):
    """The closed formula of the linear problem against a second fit."""
    from spinect.registration.chain import Chain, solve
    from spinect.registration.polyrigid import _left_out

    case = spine(degrees=1, noise=1.0, seed=2)
    keys = list(case.mr)
    start = fit_rigid(case.ct, case.mr).moving_from_fixed
    moving = apply(np.linalg.inv(start), case.ct.array())
    state = solve(Chain.of(keys, case.mr.array(), moving), 0.01)
    own = np.array([i for i, k in enumerate(keys) if k[0] == 24])
    left, error = _left_out(state, own)
    predicted = np.linalg.solve(left, error).reshape(-1, 3)
    # the same with that vertebra's landmarks so uncertain that they do not count
    rest = [i for i, k in enumerate(keys) if k[0] != 24]
    short = Chain.of([keys[i] for i in rest], case.mr.array()[rest], moving[rest])
    other = solve(short, 0.01)
    last = other.motion(short, 3)  # a random walk predicts the motion of the nearest vertebra
    again = moving[own] - apply(last, case.mr.array()[own])
    np.testing.assert_allclose(predicted, again, atol=0.15)


def test_the_sacrum_is_one_piece(spine):
    case = spine(degrees=4, levels=(23, 24, 26, 29, 30))
    # S1-S3 move together: carry the lower ones by the motion of S1
    ct = {k: apply(case.truth[26], case.mr[k]) if k[0] in (26, 29, 30) else p
          for k, p in case.ct.points.items()}  # fmt: skip
    fit = fit_polyrigid(Landmarks(ct), case.mr)
    np.testing.assert_array_equal(fit.vertebrae[26], fit.vertebrae[30])
    assert np.abs(fit.vertebrae[27] - case.truth[26]).max() < 0.05


def test_a_vertebra_without_landmarks_takes_its_neighbours_motion(spine):
    case = spine(degrees=4)
    result = register(case.ct, case.mr, "all", "polyrigid")
    np.testing.assert_array_equal(result.of(18), result.of(20))
    np.testing.assert_array_equal(result.of(26), result.of(24))
