"""What a network without fault says of a phantom."""

import numpy as np
import pytest

from spinect.anatomy import CLASS, VERTEBRA_CLASSES
from spinect.data.augment import FieldOfView, view
from spinect.data.targets import targets
from spinect.inference import MaskHeads
from spinect.protocols import OFFSET_MM


def make_ideal(tissue_map, matrix=None):
    """The scene under `matrix`, its vertebrae, and what a network without fault says of it."""
    shape = tissue_map.grid.shape
    turn = np.eye(3) if matrix is None else matrix
    scene = view(tissue_map, FieldOfView(shape, tuple((n - 1) / 2 for n in shape), turn, False))
    goal = targets(scene)
    classes = goal.classes.numpy()
    classes[classes >= len(CLASS)] = 0
    bone = np.isin(classes, VERTEBRA_CLASSES)
    offset = np.nan_to_num(goal.offset.numpy() * OFFSET_MM).round().clip(-127, 127)
    heads = MaskHeads(
        grid=tissue_map.grid,
        classes=classes,
        vertebra=(255 * bone).astype(np.uint8),
        centre=(255 * goal.centre[0].numpy()).round().astype(np.uint8),
        offset=(offset * bone).astype(np.int8),
        inside=np.ones(shape, bool),
    )
    return scene, np.where(bone, scene.vertebrae.numpy(), 0), heads


@pytest.fixture(scope="session")
def ideal():
    return make_ideal
