"""Folds are mended everywhere, and only where they are."""

import numpy as np
import pytest

from spinect.geometry import Grid
from spinect.geometry.transform import rigid
from spinect.registration import displacement, quality, register
from spinect.registration.lattice import jacobian
from spinect.registration.unfold import LEAST, REACH_MM, grown, unfold


def collision(depth_mm, shape=(40, 36, 32), spacing=(1.0, 1.0, 1.0)):
    """Two balls 2 mm apart along x that are pushed `depth_mm` into each other."""
    grid = Grid(shape, rigid((0.2, -0.1, 0.4), (5, 6, 7)) @ np.diag([*spacing, 1.0]))
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    local = index * spacing - (np.array(shape) - 1) * spacing / 2
    moved = np.zeros((*shape, 3), np.float32)
    for side in (-1, 1):
        away = np.maximum(np.linalg.norm(local - np.array([7 * side, 0, 0]), axis=-1) - 6, 0)
        moved[..., 0] -= side * depth_mm / 2 * (1 + away) ** -3
    moved[...] = moved @ grid.direction.T.astype(np.float32)
    return grid, moved


@pytest.mark.parametrize(("depth_mm", "spacing"), [(4, (1, 1, 1)), (9, (1, 1, 1)), (9, (2, 1, 1))])
def test_two_bones_pushed_into_each_other_do_not_fold_space(depth_mm, spacing):
    grid, moved = collision(depth_mm, spacing=np.array(spacing, float))
    before, change = moved.copy(), jacobian(moved, grid)
    assert change.min() < 0
    unfold(moved, change, grid)
    assert change.min() >= LEAST
    np.testing.assert_allclose(change, jacobian(moved, grid), atol=1e-5)
    np.testing.assert_array_equal(moved[:3], before[:3])


def test_a_field_without_folds_is_left_as_it_is():
    grid, moved = collision(1.0)
    before, change = moved.copy(), jacobian(moved, grid)
    assert LEAST < change.min() < 0.9
    unfold(moved, change, grid)
    np.testing.assert_array_equal(moved, before)


@pytest.mark.parametrize("size_mm", [5.0, 80.0])
def test_it_ends_even_on_noise(size_mm):
    """The reach grows past the grid, where smoothing makes everything constant."""
    grid = Grid((14, 12, 5), np.diag([1.0, 1, 4, 1]))
    rng = np.random.default_rng(4)
    moved = (size_mm * rng.standard_normal((*grid.shape, 3))).astype(np.float32)
    change = jacobian(moved, grid)
    unfold(moved, change, grid)
    assert jacobian(moved, grid).min() >= LEAST - 1e-5


def test_the_reach_is_in_millimetres_and_at_least_the_next_voxel():
    grid = Grid((9, 9, 9), np.diag([1.0, 1, 4, 1]))
    bad = np.zeros(grid.shape, bool)
    bad[4, 4, 4] = True
    away = np.linalg.norm(grid.world(np.argwhere(~bad)) - grid.world([4, 4, 4]), axis=1)
    for reach in (REACH_MM, 5.0):
        near = grown(bad, reach, grid)
        np.testing.assert_array_equal(near[~bad], away <= max(reach, 4.0) + 1e-3)
        assert near[4, 4, 4]


@pytest.mark.parametrize("seed", range(6))
def test_no_registration_folds_and_bone_stays_rigid(spine, bones, seed):
    """Landmarks so noisy that neighbours are moved into each other."""
    case = spine(degrees=6, noise=2.5, seed=seed)
    result = register(case.ct, case.mr, "all", "polyrigid")
    field = displacement(result, bones.grid, bones)
    found = quality(field, bones)
    assert jacobian(field.displacement, field.grid).min() >= LEAST - 1e-3
    assert found.min_jacobian >= LEAST
    assert found.rigidity_mm <= 0.5
