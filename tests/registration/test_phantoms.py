"""Exact landmarks of phantoms give back the true motions, over the whole of the bone."""

import numpy as np
import pytest

from spinect.geometry.landmarks import Landmarks
from spinect.geometry.transform import apply, invert
from spinect.phantom.anatomy import landmarks, make_subject, pose, rasterise
from spinect.phantom.pair import mr_grid
from spinect.registration import register
from spinect.registration.points import LEAST_SPREAD_MM, spread
from spinect.registration.result import piece_of


@pytest.fixture(scope="module", params=[1_000_001, 1_000_003])
def subject(request):
    """Anatomy, landmarks inside the MR, and bone voxels (mm) by vertebra."""
    anatomy = make_subject(request.param)
    grid = mr_grid(anatomy)
    inside = {k: p for k, p in landmarks(anatomy).items()
              if (np.abs(grid.index(p) - (np.array(grid.shape) - 1) / 2)
                  <= np.array(grid.shape) / 2).all()}  # fmt: skip
    truth = rasterise(anatomy, grid.canonical().with_spacing(4.0))
    bone = {int(v): truth.grid.world(np.argwhere(truth.vertebrae == v))
            for v in np.unique(truth.vertebrae) if v}  # fmt: skip
    return anatomy, Landmarks(inside), bone


def scan(anatomy, marks, degrees, seed=21):
    """Landmarks of the moved spine, and each vertebra's true motion."""
    neutral = pose(anatomy)
    moved = pose(anatomy, "articulated" if degrees else "rigid", seed, degrees=degrees)
    truth = {v: moved[v] @ invert(neutral[v]) for v in moved}
    return Landmarks({k: apply(truth[k[0]], p) for k, p in marks.points.items()}), truth


def worst(result, truth, bone):
    """Vertebra -> largest distance of its bone to where it belongs, mm."""
    return {
        v: np.linalg.norm(apply(result.of(v), x) - apply(truth[v], x), axis=1).max()
        for v, x in bone.items()
    }


@pytest.mark.parametrize("points", ["2", "all"])
@pytest.mark.parametrize("model", ["rigid", "polyrigid"])
def test_a_rigid_motion_is_exact(subject, points, model):
    anatomy, mr, bone = subject
    ct, truth = scan(anatomy, mr, degrees=0)
    assert max(worst(register(ct, mr, points, model), truth, bone).values()) < 1e-6


def test_motions_of_all_vertebrae_with_landmarks_are_exact(subject):
    """Those without three landmarks inside the MR cannot be known and are not asked for."""
    anatomy, mr, bone = subject
    ct, truth = scan(anatomy, mr, degrees=4)
    found = worst(register(ct, mr, "all", "polyrigid"), truth, bone)
    known = {v for v in bone if _determined(mr, piece_of(v))}
    assert {18, 19, 20, 21, 22, 23, 24} <= known
    assert max(found[v] for v in known) <= 0.2
    # their bone moves by much more than that against each other
    stiff = worst(register(ct, mr, "all", "rigid"), truth, bone)
    assert max(stiff[v] for v in known) > 5


def test_the_trace_of_the_prior_vanishes_where_a_rotation_is_nearly_open(subject):
    """Three sacral bodies, about 1 mm beside one line, say little of the turn about it."""
    anatomy, mr, bone = subject
    ct, truth = scan(anatomy, mr, degrees=4)
    found = worst(register(ct, mr, "all", "polyrigid"), truth, bone)
    assert max(found[v] for v in bone if piece_of(v) == 26) <= 0.1


def _determined(mr, piece):
    own = [k for k in mr if piece_of(k[0]) == piece]
    return len(own) >= 3 and spread(mr.array(own)) >= LEAST_SPREAD_MM
