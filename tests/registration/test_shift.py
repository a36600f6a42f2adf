"""Names moved by a level: what the landmarks and the headers say, and what nothing can say."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from spinect.geometry.landmarks import Landmarks
from spinect.geometry.transform import rigid
from spinect.registration import natural_error, register, shift
from spinect.registration.points import relabelled
from spinect.registration.shift import level_odds
from spinect.registration.twist import cross

LEVELS = (20, 21, 22, 23, 24)


@pytest.fixture
def alike():
    """Five equal vertebrae in equal steps of a constant curve: one level is as good as the next."""
    points, step = {}, rigid((0.15, 0, 0), (0, 4, -34))
    pose = np.eye(4)
    for level in LEVELS:
        for part, arm in {50: (0, 0, 0), 42: (0, -60, -10)}.items():
            points[level, part] = pose[:3, :3] @ arm + pose[:3, 3]
        pose = pose @ step
    return Landmarks(points)


def test_evidence_is_the_density_of_the_linear_gaussian_chain(spine, monkeypatch):
    """Against scipy, the motion of the whole as a wide normal; the second spine lacks a level."""
    ratio, noise, wide = 2e-3, 0.4, np.repeat([1.0, 100.0], 3)  # rad, mm
    monkeypatch.setattr(shift, "RATIOS", np.array([ratio]))
    monkeypatch.setattr(shift, "NOISE_MM", np.array([noise]))
    found, expected = [], []
    for parts, levels in (((50, 42, 43), LEVELS), ((50, 41, 47), (19, 20, 21, 22, 24))):
        case = spine(parts=parts, levels=levels)
        keys = list(case.mr)
        base = case.mr.array(keys)
        points = base + 0.4 * np.random.default_rng(len(found)).standard_normal(base.shape)
        found.append(shift._evidence(points, base, keys))
        expected.append(_density(points, base, keys, levels, (ratio, noise, wide)))
    assert found[1] - found[0] == pytest.approx(expected[1] - expected[0], abs=0.02)


def _density(points, base, keys, levels, scales):
    """Normal density of the points: noise, bends at the joints, and the motion of the whole."""
    ratio, noise, wide = scales
    bodies = [base[keys.index((level, 50))] for level in levels]
    covariance = noise**2 * np.eye(base.size)
    for joint in range(-1, len(levels) - 1):
        centre = base.mean(0) if joint < 0 else (bodies[joint] + bodies[joint + 1]) / 2
        slope = np.zeros((*base.shape, 6))
        for i, key in enumerate(keys):
            if levels.index(key[0]) > joint:
                slope[i, :, :3], slope[i, :, 3:] = -cross(base[i] - centre), np.eye(3)
        sd = wide
        if joint >= 0:
            missing = levels[joint + 1] - levels[joint] == 2
            sd = np.repeat([ratio, 20 * ratio], 3) * noise * (2**0.5 if missing else 1)
        slope = slope.reshape(base.size, 6) * sd
        covariance += slope @ slope.T
    return multivariate_normal.logpdf((points - base).ravel(), cov=covariance)


def test_odds_do_not_depend_on_where_the_scans_lie(spine):
    case = spine(degrees=2, noise=1.0, seed=4)
    far = rigid((0.4, -0.2, 1.0), (90, -30, 400))
    odds = level_odds(case.ct, case.mr)
    assert set(odds) == {-2, -1, 1, 2}
    for moving, fixed in ((case.ct.moved(far), case.mr), (case.ct, case.mr.moved(far))):
        again = level_odds(moving, fixed)
        assert {s: np.log(o) for s, o in again.items()} == pytest.approx(
            {s: np.log(o) for s, o in odds.items()}, abs=1e-2
        )


@pytest.mark.parametrize("steps", [-2, -1, 1, 2])
def test_moved_names_are_found_and_the_way_back(spine, steps):
    case = spine(degrees=2, noise=0.3, seed=3)
    odds = level_odds(relabelled(case.ct, steps), case.mr)
    assert max(odds, key=odds.get) == -steps
    assert odds[-steps] > 1e4


def test_equal_vertebrae_in_equal_steps_leave_the_odds_even(alike):
    odds = level_odds(alike, alike)
    assert odds[1] == pytest.approx(1, abs=1e-3)
    assert odds[-1] == pytest.approx(1, abs=1e-3)
    result = register(alike.moved(rigid((0, 0, 0.1), (0, 80, 0))), alike, "2", "rigid")
    assert result.verdict == "accept"
    assert any("do not exclude that the CT's names should move" in n for n in result.notes)


@pytest.mark.parametrize("steps", [-1, 1])
def test_headers_of_one_frame_speak_where_landmarks_cannot(alike, steps):
    nudged = alike.moved(rigid((0, 0, 0.02), (2, -3, 1)))
    result = register(relabelled(nudged, steps), alike, "2", "rigid")
    assert result.verdict == "review"
    assert "if the scans share a frame, the levels are shifted" in result.reason
    assert f"towards the {'head' if steps > 0 else 'feet'}" in result.reason
    right = register(nudged, alike, "2", "rigid")
    assert right.verdict == "accept"
    elsewhere = relabelled(nudged.moved(rigid((0, 0, 0), (0, 80, 0))), steps)
    assert register(elsewhere, alike, "2", "rigid").verdict == "accept"


def test_few_points_say_that_they_cannot_tell(alike):
    few = Landmarks({k: p for k, p in alike.points.items() if k[0] in LEVELS[:2]})
    assert level_odds(few, few) == {}
    assert "too few landmarks to tell" in register(few, few, "2", "rigid").notes[-1]


def test_one_bad_click_does_not_decide_the_natural_error(spine):
    case = spine(noise=0.5, seed=6)
    bad = (22, 42)
    shaken = {**case.ct.points, bad: case.ct[bad] + [0, -90, 120]}
    result = register(Landmarks(shaken), case.mr, "2", "rigid")
    assert result.rejected == (bad,)
    kept = [
        Landmarks({k: p for k, p in marks.of([50, 42]).points.items() if k != bad})
        for marks in (case.ct, case.mr)
    ]
    assert result.natural_mm == natural_error(*kept)
    assert result.natural_all_mm > 6 > result.natural_mm
    assert result.verdict == "accept"
