"""Landmarks drawn as label masks: one blob of paint for each vertebra."""

import warnings
from pathlib import Path
from typing import Final

import numpy as np
from scipy import ndimage

from spinect.anatomy import VERTEBRAE
from spinect.errors import LandmarkError, SpinectWarning
from spinect.geometry import Volume
from spinect.geometry.landmarks import BODY_CENTRE, Key, Landmarks, key_name
from spinect.io.read import read

CRUMB: Final = 0.1  # a piece of less than this share of a label's largest one is a slip


def read_blobs(path: str | Path, subregion: int = BODY_CENTRE) -> Landmarks:
    """Centres of mass of the blobs in a mask file; mm, RAS+.

    Args:
        path: Label map of vertebra ids, any grid: bodies in one file, spinous processes in another.
        subregion: What the blobs stand for.
    Raises:
        ImageError, LabelError: Not a label map.
        LandmarkError: No blob, an id that is no vertebra, or a vertebra with two blobs.
    """
    path = Path(path)
    mask = read(path, "labels")
    boxes = ndimage.find_objects(mask.data)
    found = [label for label, box in enumerate(boxes, start=1) if box is not None]
    if not found:
        raise LandmarkError(f"{path}: the mask is empty: paint one blob for each vertebra")
    if unknown := [label for label in found if label not in VERTEBRAE]:
        raise LandmarkError(
            f"{path}: labels {', '.join(map(str, unknown[:8]))} are no vertebrae: "
            "use ids 1-32 (L1 is 20)"
        )
    return Landmarks(
        {(v, subregion): _centre(mask, boxes[v - 1], (v, subregion), path) for v in found}
    )


def _centre(
    mask: Volume, box: tuple[slice, ...], key: Key, path: Path
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Centre of the largest piece, mm; a second piece of some size is a second point."""
    pieces, count = ndimage.label(mask.data[box] == key[0], np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel())[1:]
    large = np.flatnonzero(sizes >= CRUMB * sizes.max()) + 1
    start = [part.start for part in box]
    index = np.array([np.argwhere(pieces == piece).mean(0) for piece in large]) + start
    centres = mask.grid.world(index)
    if len(large) > 1:
        raise LandmarkError(
            f"{path}: {key_name(key)} is painted in {len(large)} places, at "
            f"{' and '.join(str(np.round(c, 1).tolist()) for c in centres)} mm: keep one of them"
        )
    if count > 1:
        warnings.warn(
            f"{path.name}: {count - 1} stray pieces of {key_name(key)} "
            f"({sizes.sum() - sizes.max()} of {sizes.sum()} voxels) do not count",
            SpinectWarning,
            stacklevel=3,
        )
    return np.asarray(centres[0], np.float64)
