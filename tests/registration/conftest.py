"""A small spine with known motions."""

from types import SimpleNamespace

import numpy as np
import pytest

from spinect.geometry import Grid, Volume
from spinect.geometry.landmarks import Landmarks
from spinect.geometry.transform import apply, rigid

PARTS = {50: (0, 0, 0), 41: (0, -38, 2), 42: (0, -62, -8),
         43: (-38, -34, 0), 44: (38, -34, 0), 45: (-16, -34, 16), 46: (16, -34, 16),
         47: (-14, -38, -18), 48: (14, -38, -18)}  # fmt: skip
GLOBAL = rigid((0.1, -0.15, 0.2), (12, -5, 30), centre=(0, 0, 80))


def make_spine(degrees=0.0, noise=0.0, seed=0, parts=PARTS, levels=(20, 21, 22, 23, 24)):
    """Landmarks of both scans of a curved spine, and each vertebra's true ct_from_mr."""
    rng = np.random.default_rng(seed)
    mr, ct, truth = {}, {}, {}
    chain = GLOBAL
    for number, level in enumerate(levels):
        centre = np.array([3 * number, 0.6 * (number - 2) ** 2, 150 - (33 + 1.5 * number) * number])
        turn = np.deg2rad(degrees) * rng.standard_normal(3)
        chain = chain @ rigid(turn, centre=centre + np.array([0, 0, 17]))
        truth[level] = chain
        for part, arm in PARTS.items():
            point = centre + np.array(arm) * (1 + 0.04 * number)
            shaken = noise * rng.standard_normal((2, 3))
            if part in parts:
                mr[level, part] = point + shaken[0]
                ct[level, part] = apply(chain, point) + shaken[1]
    return SimpleNamespace(ct=Landmarks(ct), mr=Landmarks(mr), truth=truth)


@pytest.fixture
def spine():
    return make_spine


@pytest.fixture(scope="session")
def bones():
    """Vertebra mask at 2 mm that fits `make_spine`: bodies, arches, spinous processes."""
    grid = Grid((44, 60, 100), np.diag([2.0, 2, 2, 1]) + np.array([[0, 0, 0, -38], [0, 0, 0, -88],
                [0, 0, 0, -26], [0, 0, 0, 0]]))  # fmt: skip
    world = grid.world(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1))
    data = np.zeros(grid.shape, np.uint8)
    for (level, part), point in make_spine().mr.points.items():
        radii = {50: (20, 16, 13), 42: (4, 12, 8)}.get(part, (8, 7, 7))
        data[(((world - point) / radii) ** 2).sum(-1) < 1] = level
    return Volume(data, grid.affine, "labels")
