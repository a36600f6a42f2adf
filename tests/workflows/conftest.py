"""Lets the tests of this folder import the modules beside them; what several of them share."""

import sys
from pathlib import Path

import numpy as np
import pytest

from spinect.geometry.resample import resample
from spinect.inference.heads import MaskHeads

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def ideal_heads(tiny_pair):
    """Ideal heads of some vertebrae of the tiny pair on any grid; None is all of them."""

    def made(grid, numbers=None):
        truth = resample(tiny_pair.vertebrae, grid).data
        truth = truth if numbers is None else truth * np.isin(truth, numbers)
        parts = resample(tiny_pair.subregions, grid).data * (truth > 0)
        classes = np.where(parts == 50, 2, np.where(parts == 42, 4, 0)).astype(np.uint8)
        offset, centre = np.zeros((3, *grid.shape), np.int8), np.zeros(grid.shape)
        index = np.indices(grid.shape)
        for number in np.unique(truth[truth > 0]):
            own = truth == number
            away = np.argwhere(own & (parts == 50)).mean(0).round()[:, None, None, None] - index
            offset[:, own] = away[:, own]
            centre = np.maximum(centre, np.exp(-(away**2).sum(0) / 32))
        vertebra = np.where(truth > 0, 255, 0).astype(np.uint8)
        inside = np.ones(grid.shape, bool)
        return MaskHeads(grid, classes, vertebra, (centre * 255).astype(np.uint8), offset, inside)

    return made
