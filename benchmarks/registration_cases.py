"""Articulated lumbar phantoms with noisy landmarks, and where their bone truly goes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spinect.anatomy import POSTERIOR, SACRUM
from spinect.evaluation.points import target_errors
from spinect.geometry import Grid, Volume
from spinect.geometry.landmarks import Landmarks
from spinect.geometry.transform import apply, invert
from spinect.phantom.anatomy import Anatomy, landmarks, make_subject, pose, rasterise
from spinect.phantom.pair import mr_grid

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Case:
    """One subject: bone voxels of the MR (mm), their vertebra and whether they are posterior."""

    anatomy: Anatomy
    grid: Grid
    mask: Volume
    points: Float
    vertebra: NDArray[np.uint8]
    posterior: NDArray[np.bool_]


def make_case(seed: int, spacing: float = 1.5) -> Case:
    """The neutral pose of a subject, rasterised."""
    anatomy = make_subject(seed)
    grid = mr_grid(anatomy)
    truth = rasterise(anatomy, grid.canonical().with_spacing(spacing))
    where = np.nonzero(truth.vertebrae)
    vertebra, part = truth.vertebrae[where], truth.subregions[where]
    posterior = np.isin(part, POSTERIOR) & ~np.isin(vertebra, list(SACRUM))
    mask = Volume(truth.vertebrae, truth.grid.affine, "labels")
    points = truth.grid.world(np.stack(where, -1))
    return Case(anatomy, grid, mask, points, vertebra, posterior)


def motions(case: Case, degrees: float, seed: int) -> dict[int, Float]:
    """Vertebra -> true ct_from_mr."""
    kind = "articulated" if degrees else "rigid"
    neutral = pose(case.anatomy)
    moved = pose(case.anatomy, kind, seed, degrees=degrees)
    return {v: moved[v] @ invert(neutral[v]) for v in moved}


def scans(
    case: Case, truth: dict[int, Float], noise: float, seed: int
) -> tuple[Landmarks, Landmarks]:
    """Noisy landmarks of the CT and the MR: those that lie inside the MR."""
    rng = np.random.default_rng([case.anatomy.seed, seed])
    last = np.array(case.grid.shape) - 0.5
    mr, ct = {}, {}
    for key, point in landmarks(case.anatomy).items():
        index = case.grid.index(point)
        if (index >= -0.5).all() and (index <= last).all():
            mr[key] = point + noise * rng.standard_normal(3)
            ct[key] = apply(truth[key[0]], point) + noise * rng.standard_normal(3)
    return Landmarks(ct), Landmarks(mr)


def errors(case: Case, truth: dict[int, Float], guess: Callable[[int], Float]) -> Float:
    """(N,) distance of every bone voxel to where it belongs, mm."""
    return target_errors(case.points, case.vertebra, truth.__getitem__, guess)
