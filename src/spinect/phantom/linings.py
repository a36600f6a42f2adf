"""What lies between the canal and the bone around it, and between the spinous processes.

Painted in place into a `surroundings.Scene`, like `organs`; lengths are mm.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spinect.phantom.canal import Level, own_axes
from spinect.phantom.organs import blob, cavity_front
from spinect.phantom.scene import Scene
from spinect.phantom.shapes import Limb, apply, point
from spinect.phantom.tissues import Tissue


def foramina(scene: Scene, levels: Sequence[Level], end: float = np.inf) -> None:
    """Fat beside the canal and in front of the sacrum, with one root a level and side.

    Args:
        end: Rank below which there is nothing.
    """
    cols, rng = scene.cols, scene.rng
    for side in (-1, 1):
        scene.tube(cols.x + side * (cols.half_width + 4), cols.y + 2, 9.0, cols.half_depth + 3,
                   Tissue.EPIDURAL_FAT, on=(cols.rank > 2.5) & (cols.rank < end))  # fmt: skip
    presacral = (cols.rank > 25.2) & (cols.rank < 30)
    scene.tube(cols.x, cavity_front(scene) + 2, 30, 7, Tissue.FAT, on=presacral)
    own = own_axes(scene.grid)
    for level in levels:
        w, h = level.canal_half[0], level.height
        for side in (-1, 1):
            start = level.canal + level.axes @ [side * w * 0.8, 1, -h * 0.35]
            out = level.canal + level.axes @ [side * (w + 22), 12, -h * 0.35 - 20]
            r = float(rng.uniform(1.4, 2.8))
            root = Limb(level.vertebra, 0, point(apply(own, start)), point(apply(own, out)),
                        (1, 0, 0), (r, r), (r, r))  # fmt: skip
            blob(scene, root, Tissue.ROOTS)


def canal_walls(scene: Scene, end: float = np.inf) -> None:
    """Flavum behind, epidural fat with its dorsal wedge, ligaments between spinous processes.

    Args:
        end: Rank below which there is nothing.
    """
    cols, rng = scene.cols, scene.rng
    thick = float(rng.uniform(2.0, 5.0))
    on = (cols.rank > 2.2) & (cols.rank < 25.6)
    w, d = cols.half_width, cols.half_depth
    _interspinous(scene, on)
    scene.tube(cols.x, cols.y - d - 1.5, w * 0.75, thick + 1.5, Tissue.FLAVUM, on=on)
    below = cols.rank < end
    scene.tube(cols.x, cols.y, w, d, Tissue.EPIDURAL_FAT, on=(cols.rank > 1.2) & below)
    wedge = float(rng.uniform(2.5, 6.0)) * np.interp(cols.rank, (8, 12, 20, 25), (0.4, 0.8, 1, 1.1))
    scene.tube(cols.x, cols.y - d + 0.5, w * 0.45, wedge, Tissue.EPIDURAL_FAT, on=on)


def _interspinous(scene: Scene, on: NDArray[np.bool_]) -> None:
    """A midline sheet of ligament and fat behind the canal with the supraspinous cord."""
    cols = scene.cols
    back = np.interp(cols.rank, (3, 6, 8, 14, 20, 23, 25), (30, 36, 48, 46, 48, 48, 38))
    x = cols.x
    scene.tube(x, cols.y - back / 2 - 5, 3.0, back / 2, Tissue.LIGAMENT, on=on)
    plane = (slice(0, 1), slice(0, scene.grid.shape[1]), slice(0, scene.grid.shape[2]))
    streak = scene.waves(plane, 8, (7.0, 26.0))[0]
    i = np.arange(scene.grid.shape[0])[:, None] * scene.grid.spacing[0]
    near = np.flatnonzero((np.abs(i - x) < 4).any(1))
    if len(near):
        part = scene.tissue[near[0] : near[-1] + 1]
        sheet = part == Tissue.LIGAMENT
        part[sheet & (streak > -0.4)] = Tissue.MUSCLE
        part[sheet & (streak > 0.1)] = Tissue.MUSCLE_FAT
        part[sheet & (streak > 0.8)] = Tissue.FAT
    scene.tube(x, cols.y - back - 5.0, 3.5, 1.8, Tissue.LIGAMENT, on=on)
