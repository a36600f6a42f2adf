"""Do the masks of a case look like a spine? Numbers that need no truth.

Each is a pure function of what a run holds anyway. What they may be lies in
`workflows.plausibility`, where the thresholds are.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinect.anatomy import BODY, ORDER, POSTERIOR, PRESACRAL, VERTEBRA_CLASSES
from spinect.evaluation.overlap import dice
from spinect.geometry import Grid
from spinect.geometry.resample import resample
from spinect.inference import MaskHeads
from spinect.segmentation.result import Segmentation

Float = NDArray[np.float64]
Mask = NDArray[np.bool_]

_HALF: Final = 0.5  # of its largest sagittal cut at the face: the body is cut through
_FACE_VOXELS: Final = 2  # the plane of a face, and one beside it that a blend may leave empty
_SAMPLE_MM: Final = 5.0  # along the chain of bodies
_CANAL_MM: Final = 45.0  # farthest canal from the middle of a body at its level


@dataclass(frozen=True)
class Shape:
    """The vertebrae above the sacrum in numbers; None is what cannot be measured.

    Attributes:
        vertebrae: How many.
        body_ml: Least and largest volume of the bodies that no face of the grid cuts.
        step_mm: Least and largest distance of neighbouring body centres.
        canal: Share of the way along the body centres with canal beside it, 0-1.
        posterior: Volume of the posterior elements over that of the bodies.
        halved: Share of the bodies that one face, left or right, cuts through, 0-1. A slab that is
            narrower than the bodies on both sides halves none.
    """

    vertebrae: int
    body_ml: tuple[float, float] | None = None
    step_mm: tuple[float, float] | None = None
    canal: float | None = None
    posterior: float | None = None
    halved: float | None = None


def shape_of(found: Segmentation) -> Shape:
    """Measure a segmentation on its own grid; axes near R, A, S."""
    names, parts, grid = found.vertebrae.data, found.subregions.data, found.vertebrae.grid
    is_body = np.isin(parts, BODY)
    boxes = ndimage.find_objects(names)
    present = [v for v in ORDER if v in PRESACRAL and v <= len(boxes) and boxes[v - 1]]
    bodies = [_Body(names, is_body, grid, v, boxes[v - 1]) for v in present]
    bodies = [body for body in bodies if body.voxels > 0]
    if not bodies:
        return Shape(len(present))
    whole = [body.ml for body in bodies if not body.at_face]
    centres = np.array([body.centre for body in bodies])
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    column = np.isin(names, PRESACRAL)
    behind = int(np.count_nonzero(column & np.isin(parts, POSTERIOR)))
    return Shape(
        vertebrae=len(present),
        body_ml=(min(whole), max(whole)) if whole else None,
        step_mm=(float(steps.min()), float(steps.max())) if len(steps) else None,
        canal=canal_share(centres, _places(np.isin(parts, (60, 61)), grid)),
        posterior=behind / sum(body.voxels for body in bodies),
        halved=float(np.mean([body.halved for body in bodies])),
    )


class _Body:
    """The body of one vertebra."""

    def __init__(
        self, names: NDArray[np.uint8], is_body: Mask, grid: Grid, v: int, box: tuple[slice, ...]
    ) -> None:
        mask = (names[box] == v) & is_body[box]
        self.voxels = int(np.count_nonzero(mask))
        self.ml = self.voxels * float(np.prod(grid.spacing)) / 1000
        if self.voxels == 0:
            return
        index = np.argwhere(mask) + [b.start for b in box]
        self.centre = grid.world(index.mean(0))
        last = np.array(grid.shape) - 1
        self.at_face = bool((index.min(0) <= 0).any() or (index.max(0) >= last).any())
        areas = np.zeros(grid.shape[0], np.int64)
        areas[box[0]] = mask.sum((1, 2))
        left, right = areas[:_FACE_VOXELS].max(), areas[-_FACE_VOXELS:].max()
        self.halved = bool((left > _HALF * areas.max()) != (right > _HALF * areas.max()))


def canal_share(centres: Float, canal: Float) -> float:
    """Share of samples every 5 mm along the line through body centres with canal at their level.

    Args:
        centres: (n, 3) mm, head to feet, n >= 1; of a single one its own level counts.
        canal: (m, 3) mm, m >= 0.
    """
    if len(centres) == 1:
        samples, along = centres, np.array([[0.0, 0.0, 1.0]])
    else:
        steps = np.diff(centres, axis=0)
        length = np.linalg.norm(steps, axis=1)
        parts = np.maximum(np.ceil(length / _SAMPLE_MM), 1).astype(int)
        shares = np.concatenate([np.arange(n) / n for n in parts])
        samples = np.repeat(centres[:-1], parts, 0) + shares[:, None] * np.repeat(steps, parts, 0)
        along = np.repeat(steps / np.maximum(length, 1e-9)[:, None], parts, 0)
    beside = 0
    for sample, direction in zip(samples, along, strict=True):
        away = canal - sample
        level = np.abs(away @ direction) <= _SAMPLE_MM
        beside += bool((np.linalg.norm(away[level], axis=1) <= _CANAL_MM).any())
    return beside / len(samples)


def doubt_of(masks: MaskHeads) -> float | None:
    """Mean of 1 - p over voxels weighted by their probability p of vertebra; None below 1 mL.

    Sum of p (1 - p) over sum of p: 0 where the network is sure of every voxel, and 1/2 where all
    are even.
    """
    counts = np.zeros(256, np.int64)
    for plane in masks.vertebra:  # counting casts to eight bytes a voxel
        counts += np.bincount(plane.ravel(), minlength=256)
    p = np.arange(256) / 255
    total = float(counts @ p)
    enough = total * float(np.prod(masks.grid.spacing)) >= 1000
    return float(counts @ (p * (1 - p))) / total if enough else None


def whole_agreement(masks: MaskHeads, found: Segmentation) -> float:
    """Dice of everything that the mask heads call vertebra with the vertebrae of a segmentation.

    Unlike the vertebrae's own confidence it counts what belongs to no vertebra of the column. 1
    where both are empty.
    """
    low, high = min(VERTEBRA_CLASSES), max(VERTEBRA_CLASSES)
    direct = (masks.classes >= low) & (masks.classes <= high)
    other = found.vertebrae
    if not other.grid.matches(masks.grid):
        other = resample(other, masks.grid)
    final = np.isin(other.data, PRESACRAL)
    return dice(direct, final) if direct.any() or final.any() else 1.0


def _places(mask: Mask, grid: Grid) -> Float:
    return np.asarray(grid.world(np.argwhere(mask)), np.float64).reshape(-1, 3)
