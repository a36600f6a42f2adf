"""The files of a pair, read and found to fit together."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spinect.anatomy import SACRUM
from spinect.errors import GeometryError, InputError, LabelError, LandmarkError
from spinect.geometry import Grid, Volume
from spinect.geometry.landmarks import BODY_CENTRE, Landmarks, key_name
from spinect.io import read, read_landmarks
from spinect.workflows.register.pairs import Pair

WRONG_SHARE = 0.5  # of the body centres that lie in a vertebra of another name


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a registration works on; masks lie on the grids of their images."""

    mr: Volume
    ct: Volume
    mr_points: Landmarks | None
    ct_points: Landmarks | None
    ct_vertebrae: Volume | None
    ct_subregions: Volume | None
    mr_vertebrae: Volume | None


def load(pair: Pair, landmarks_needed: bool) -> Inputs:
    """Read a pair.

    Raises:
        InputError: A file that is missing or cannot be used.
        GeometryError: A mask on another grid than its image.
        LandmarkError: Points that are unusable, outside their image, or contradict the mask.
        LabelError: An empty mask.
    """
    if pair.problem or pair.ct is None:
        raise InputError(pair.problem or f"{pair.mr.name} has no CT: name one")
    mr, ct = read(pair.mr, "mr"), read(pair.ct, "ct")
    points = [
        _points(path, image, grid, landmarks_needed)
        for path, image, grid in (
            (pair.mr_landmarks, pair.mr, mr.grid),
            (pair.ct_landmarks, pair.ct, ct.grid),
        )
    ]
    inputs = Inputs(
        mr, ct, points[0], points[1],
        ct_vertebrae=_mask(pair.ct_vertebrae, ct.grid, pair.ct),
        ct_subregions=_mask(pair.ct_subregions, ct.grid, pair.ct),
        mr_vertebrae=_mask(pair.mr_vertebrae, mr.grid, pair.mr),
    )  # fmt: skip
    for marks, mask, path in (
        (inputs.mr_points, inputs.mr_vertebrae, pair.mr_vertebrae),
        (inputs.ct_points, inputs.ct_vertebrae, pair.ct_vertebrae),
    ):
        if marks is not None and mask is not None and path is not None:
            _check_levels(marks, mask, path.name)
    return inputs


def _points(path: Path | None, image: Path, grid: Grid, needed: bool) -> Landmarks | None:
    if path is not None:
        return read_landmarks(path, grid)
    if needed:
        raise InputError(
            f"{image.name} has no landmarks: make them (spinect landmarks), put them beside it as "
            "*_poi.json, or register with 0 points"
        )
    return None


def _mask(path: Path | None, grid: Grid, image: Path) -> Volume | None:
    if path is None:
        return None
    mask = read(path, "labels")
    if not mask.grid.matches(grid):
        gap = mask.grid.gap(grid)
        apart = "" if np.isinf(gap) else f", corners {gap:.2f} mm apart"
        raise GeometryError(
            f"{path.name} lies on {mask.grid}, {image.name} on {grid}{apart}: "
            "give the mask that was made on this image"
        )
    if not mask.data.any():
        raise LabelError(f"{path.name} is empty, no voxel has a label: make it again")
    return mask


def _check_levels(marks: Landmarks, mask: Volume, name: str) -> None:
    """Refuse landmarks and a mask that call the vertebrae differently."""
    last = np.array(mask.data.shape) - 1
    wrong, seen = [], 0
    for key in marks.of([BODY_CENTRE]):
        index = np.clip(np.rint(mask.grid.index(marks[key])).astype(int), 0, last)
        found = int(mask.data[tuple(index)])
        if found == 0 or (found in SACRUM and key[0] in SACRUM):
            continue
        seen += 1
        if found != key[0]:
            wrong.append(f"{key_name(key)} lies in label {found}")
    if wrong and len(wrong) >= WRONG_SHARE * seen:
        raise LandmarkError(
            f"landmarks and {name} name the levels differently: {wrong[0]}, and so for "
            f"{len(wrong)} of {seen} bodies: correct one of them"
        )
