"""A spine of simple solids whose parts are known exactly."""

from types import SimpleNamespace

import numpy as np
import pytest

from spinect.geometry import Grid, Volume
from spinect.phantom.anatomy import field_of_view_grid, make_subject, rasterise

SHAPE, CANAL_Y, PITCH = (130, 140, 126), -4.0, np.radians(9)
CENTRES = {21: 38.0, 22: 0.0, 23: -38.0}  # mm along the spine
WALL = 9.0  # posterior wall in front of the canal's centre


def vertebra(x, y, z):
    """Subregion at points in a vertebra's own frame (origin in the canal at mid-body height)."""
    part = np.zeros(x.shape, np.uint8)
    ring = ((x / 11) ** 2 + (y / 9) ** 2 >= 1) & ((x / 18) ** 2 + (y / 15) ** 2 < 1)
    part[ring & (np.abs(z - 1) < 6)] = 41
    part[(np.abs(x) < 3.5) & (y < -14) & (y > -42) & (np.abs(z) < 8)] = 42
    beam = (np.abs(z - 1) < 4) & (np.abs(y + 1) < 5) & (np.abs(x) > 17) & (np.abs(x) < 42)
    part[beam] = np.where(x[beam] < 0, 43, 44)
    body = ((x / 23) ** 2 + ((y - WALL) / 32) ** 2 < 1) & (y > WALL) & (np.abs(z) < 14)
    part[body] = 50
    return part


@pytest.fixture(scope="session")
def model_spine():
    """Labels, subregions and a noisy CT of three vertebrae that lean 9 degrees."""
    affine = np.eye(4)
    affine[:3, 3] = [-65.0, -70.0, -63.0]
    grid = Grid(SHAPE, affine)
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    x, y, z = np.moveaxis(grid.world(index), -1, 0)
    c, s = np.cos(PITCH), np.sin(PITCH)
    front, head = c * (y - CANAL_Y) + s * z, -s * (y - CANAL_Y) + c * z
    vertebrae, parts = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    for number, centre in CENTRES.items():
        part = vertebra(x, front, head - centre)
        vertebrae[part > 0], parts[part > 0] = number, part[part > 0]
    unlabelled = vertebra(x, front, head + 76) > 0  # L5
    rib = ((x - 52) ** 2 + (head - 20) ** 2 < 25) & (np.abs(front) < 20)
    trunk = (x / 62) ** 2 + (y / 66) ** 2 < 1
    hu = np.where(trunk, np.where((x / 54) ** 2 + (y / 56) ** 2 < 1, 55.0, -100.0), -1000.0)
    hu[(np.hypot(x - 20, y - 50) < 6) & trunk] = -900  # bowel gas
    hu[(parts > 0) | unlabelled | rib] = 350
    hu = np.maximum(hu + np.random.default_rng(3).normal(0, 20, SHAPE), -1024)
    return SimpleNamespace(
        grid=grid,
        ct=Volume(hu.astype(np.float32), affine, "ct"),
        vertebrae=Volume(vertebrae, affine, "labels"),
        subregions=Volume(parts, affine, "labels"),
        canal=(np.abs(x) < 60) & ((x / 11) ** 2 + (front / 9) ** 2 < 1) & (np.abs(head) < 45),
        disc=((x / 20) ** 2 + ((front - WALL - 14) / 14) ** 2 < 1)
        & ((np.abs(head - 19) < 4) | (np.abs(head + 19) < 4)),
        unlabelled=unlabelled,
        rib=rib & (np.abs(x) < 64),
        gas=np.hypot(x - 20, y - 50) < 4,
        air=(x / 64) ** 2 + (y / 68) ** 2 > 1,
        axis=np.array([0.0, -s, c]),
    )


@pytest.fixture(scope="session")
def pool(tmp_path_factory):
    """One folder with a map of 70 x 110 x 80 mm about L3."""
    anatomy = make_subject(11)
    grid = field_of_view_grid(anatomy)
    middle = np.rint(grid.index(anatomy.subject.centres[22])).astype(int)
    folder = tmp_path_factory.mktemp("pool")
    rasterise(anatomy, grid.crop(middle - [35, 70, 40], (70, 110, 80))).save(folder / "sub-11")
    return folder
