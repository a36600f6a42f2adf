"""How much each vertebra's motion counts at a point: it falls with the distance to the bone."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinect.geometry import Grid, Volume
from spinect.geometry.landmarks import Landmarks
from spinect.geometry.resample import resample
from spinect.registration.points import BODY_CENTRE, SPINOUS
from spinect.registration.result import Registration, piece_of, rank

Float = NDArray[np.float64]
Array = NDArray[Any]

CAPSULE_MM: Final = 15.0  # radius of what stands for a vertebra without a mask
CAPSULE_SHARE: Final = 0.45  # of the distance to the neighbour, so that capsules do not overlap
SOFT_MM: Final = 1.0  # distance at which a weight has fallen to 2^-POWER
POWER: Final = 3

THREADS: Final = 2


def weight(distance_mm: Array) -> Array:
    """Weight of a motion at some distance from its bone, 1 inside: (1 + d / SOFT_MM)^-POWER."""
    return np.asarray((1 + distance_mm / np.float32(SOFT_MM)) ** np.float32(-POWER))


def pieces(registration: Registration) -> dict[int, Float]:
    """Rigid piece -> ct_from_mr, head to feet; the sacrum is one piece."""
    found = {piece_of(v): m for v, m in registration.vertebrae.items()}
    return dict(sorted(found.items(), key=lambda item: rank(item[0])))


def bones(mask: Volume, grid: Grid, registration: Registration) -> Array:
    """Piece ids on a grid, uint8; vertebrae without a motion join the piece that lends theirs."""
    labels = resample(mask, grid).data
    table = np.zeros(256, np.uint8)
    for vertebra in np.unique(labels[labels > 0]):
        lender = registration.nearest(int(vertebra))
        table[vertebra] = 0 if lender is None else piece_of(lender)
    return np.asarray(table[labels])


def distances(
    grid: Grid, registration: Registration, mask: Volume | None
) -> Iterator[tuple[int, Array]]:
    """Piece, and (X, Y, Z) float32 mm from every voxel centre to it, 0 inside.

    A piece that the mask does not show is a capsule from its body to its spinous process.
    """
    labels = None if mask is None else bones(mask, grid, registration)
    radii = capsule_radii(registration.anchors, list(pieces(registration)))

    def away(piece: int) -> tuple[int, Array]:
        inside = None if labels is None else labels == piece
        if inside is None or not inside.any():
            ends = capsule(registration.anchors, piece)
            return piece, to_segment(grid, *ends, radii[piece])
        return piece, to_mask(inside, grid.spacing)

    todo = list(pieces(registration))
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(todo), THREADS):  # no more than these in memory at once
            yield from pool.map(away, todo[start : start + THREADS])


def to_mask(inside: NDArray[np.bool_], spacing: Float) -> NDArray[np.float32]:
    """(X, Y, Z) mm from every voxel centre to the nearest one of a mask, 0 inside.

    scipy's own sum over the axes takes six times the memory, in float64.
    """
    nearest = ndimage.distance_transform_edt(
        ~inside, sampling=spacing, return_distances=False, return_indices=True
    )
    square = np.zeros(inside.shape, np.float32)
    for axis, step in enumerate(spacing):
        at = np.arange(inside.shape[axis], dtype=np.int32)
        away = nearest[axis] - at.reshape([-1 if a == axis else 1 for a in range(3)])
        square += (away * np.float32(step)).astype(np.float32) ** 2
    return np.asarray(np.sqrt(square, out=square))


def capsule(anchors: Landmarks, piece: int) -> tuple[Float, Float]:
    """Ends of a piece's axis, mm: body and spinous process, or twice the middle of its points."""
    own = {k: p for k, p in anchors.points.items() if piece_of(k[0]) == piece}
    if (piece, BODY_CENTRE) in own and (piece, SPINOUS) in own:
        return own[piece, BODY_CENTRE], own[piece, SPINOUS]
    middle = np.mean(list(own.values()), axis=0)
    return middle, middle


def capsule_radii(anchors: Landmarks, chain: list[int]) -> Mapping[int, float]:
    """Radius of each piece's capsule, mm: 15, less where the neighbours are nearer."""
    starts = np.array([capsule(anchors, piece)[0] for piece in chain])
    steps = np.linalg.norm(np.diff(starts, axis=0), axis=1)
    nearest = np.minimum(np.append(steps, np.inf), np.append(np.inf, steps))
    radii = np.minimum(CAPSULE_MM, CAPSULE_SHARE * nearest)
    return dict(zip(chain, radii.tolist(), strict=True))


def to_segment(grid: Grid, start: Float, stop: Float, radius: float) -> NDArray[np.float32]:
    """(X, Y, Z) mm from every voxel centre to a capsule, 0 inside."""
    out = np.empty(grid.shape, np.float32)
    axis = stop - start
    length2 = float(axis @ axis)
    j, k = (np.arange(n) for n in grid.shape[1:])
    plane = j[:, None, None] * grid.affine[:3, 1] + k[None, :, None] * grid.affine[:3, 2]
    for x in range(grid.shape[0]):
        away = plane + (grid.affine[:3, 0] * x + grid.affine[:3, 3] - start)
        along = np.clip(away @ axis / length2, 0, 1) if length2 > 0 else np.zeros(away.shape[:2])
        gap = np.linalg.norm(away - along[..., None] * axis, axis=-1)
        out[x] = np.maximum(gap - radius, 0)
    return out


def blended_twists(
    grid: Grid, registration: Registration, mask: Volume | None, twists: Mapping[int, Float]
) -> NDArray[np.float32]:
    """(X, Y, Z, 6) mean of the pieces' twists, weighted by `weight`; the weights sum to one."""
    total = np.zeros(grid.shape, np.float32)
    mixed = np.zeros((*grid.shape, 6), np.float32)
    for piece, away in distances(grid, registration, mask):
        share = weight(away)
        total += share
        for axis, value in enumerate(twists[piece]):
            mixed[..., axis] += share * np.float32(value)
    mixed /= total[..., None]
    return mixed
