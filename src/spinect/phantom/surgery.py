"""What operations leave behind: scar where laminae were, screws and rods of metal."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spinect.geometry import Grid
from spinect.phantom.rasterise import index_box, lattice
from spinect.phantom.shapes import Float, Limb, apply, point
from spinect.phantom.subject import Build
from spinect.phantom.tissues import Tissue
from spinect.phantom.vertebra import VertebraShape

_SOFT: Final = (
    Tissue.MUSCLE, Tissue.MUSCLE_FAT, Tissue.FAT, Tissue.LIGAMENT, Tissue.FLAVUM,
    Tissue.EPIDURAL_FAT,
)  # fmt: skip


def operate(
    tissue: NDArray[np.uint8], grid: Grid, build: Build, frames: Mapping[int, Float]
) -> None:
    """Paint scar and metal into a tissue map, in place; labels stay as they are.

    Args:
        frames: Vertebra id -> 4x4, posed world from the body's frame.
    """
    for shape in build.shapes:
        if shape.no_lamina:
            _paint(tissue, grid, frames[shape.vertebra], _scar(shape), Tissue.SCAR, _SOFT)
    heads: dict[int, list[Float]] = {-1: [], 1: []}
    for shape in build.shapes:
        if shape.vertebra not in build.screws:
            continue
        frame = frames[shape.vertebra]
        for side in (-1, 1):
            screw, head = _screw(shape, side)
            _paint(tissue, grid, frame, screw, Tissue.METAL)
            _paint(tissue, grid, frame, head, Tissue.METAL)
            heads[side].append(apply(frame, head.end))
    for joined in heads.values():
        for upper, lower in pairwise(joined):
            rod = Limb(0, 0, point(upper), point(lower), (1, 0, 0), (2.8, 2.8), (2.8, 2.8))
            _paint(tissue, grid, np.eye(4), rod, Tissue.METAL)


def _scar(s: VertebraShape) -> Limb:
    y = s.canal_y - s.canal[1]
    return Limb(0, 0, (0, y - 3, -s.height * 0.3), (0, y - 24, -s.height * 0.4), (1, 0, 0),
                (s.canal[0], 15), (9, 13))  # fmt: skip


def _screw(s: VertebraShape, side: int) -> tuple[Limb, Limb]:
    x = s.canal[0] + s.pedicle[0]
    entry = (side * (x + 3.5), s.canal_y - 4, s.height * 0.2)
    tip = (side * x * 0.65, s.half_depth * 0.35, s.height * 0.14)
    back = (side * (x + 5), s.canal_y - 17, s.height * 0.22)
    shaft = Limb(0, 0, entry, tip, (0, 0, 1), (3.0, 3.0), (2.4, 2.4))
    return shaft, Limb(0, 0, entry, back, (0, 0, 1), (3.5, 3.5), (6.0, 6.0))


def _paint(
    tissue: NDArray[np.uint8], grid: Grid, frame: Float, limb: Limb, value: int,
    over: tuple[int, ...] | None = None,
) -> None:  # fmt: skip
    box = index_box(limb.bounds(), frame, grid, 1.0)
    if box is None:
        return
    inside = limb.distance(lattice(np.linalg.inv(frame) @ grid.affine, box)) < 0
    if over is not None:
        inside &= np.isin(tissue[box], over)
    tissue[box][inside] = value
