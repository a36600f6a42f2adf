"""Classes -> subregion ids with sides, sacral bodies, and the pieces of the sacrum.

The body's border (49) is merged into the body (50). Positions are mm along the array axes, near
R, A, S: the first axis grows to the right.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from spinect.anatomy import CLASS, VERTEBRA_IDS
from spinect.inference.heads import MaskHeads
from spinect.segmentation.result import Instances
from spinect.segmentation.sides import Float

_ID: Final = {"body": 50, "arcus": 41, "spinous": 42}
_LEFT: Final = {"transverse": 43, "superior articular": 45, "inferior articular": 47}
_BODY, _REST, _CANAL, _DISC = 50, 41, 61, 100

DISC_MM: Final = 40.0  # farthest from the line through the centres
CANAL_MM: Final = 45.0
NEAR_SACRUM_MM: Final = 10.0  # of the canal and the lowest disc
SMALL_ML: Final = 0.3  # smaller pieces of disc and canal go
_CUBE_MM: Final = 6.0  # of the places that are asked for their distance together
_BEYOND: Final = 1.5  # the line goes on past its ends by so many steps

# Lengths along the curved axis and half widths of the bodies, mm, and the spacing of the lowest
# lumbar centres that they belong to: rounded means of adults, assumed, not measured here.
SACRAL_PIECES: Final = ("S1", "S2", "S3", "S4", "S5", "coccyx")
SACRAL_LENGTHS_MM: Final = (30.0, 25.0, 21.5, 19.0, 16.0)
_HALF_WIDTHS_MM: Final = (25.0, 19.0, 15.0, 12.5, 10.5, 8.0)
USUAL_SPACING_MM: Final = 37.0
_FOLLOWS: Final = 1 / 3  # of what the spacing differs by, the sacrum differs: slope over phantoms
_STEP_MM: Final = 5.0  # of the walk along the sacrum
_WINDOW_MM: Final = 12.0  # half the thickness and the radius-to-be of what a step looks at


def subregion_map(
    masks: MaskHeads, instances: Instances, planes: Float, axis: "SacralAxis | None"
) -> NDArray[np.uint8]:
    """Subregion ids of every voxel.

    Left and right are the sides of each vertebra's own sagittal plane. A sacral voxel is body
    (50) if it lies in front of the canal's front edge in its row and within the half width of
    the sacral bodies at its height, else 41. Disc and canal far from the column go, and so do
    pieces of them under `SMALL_ML`.

    Args:
        planes: What `midplanes` says of the instances.
        axis: That of the sacrum, from `sacral_axis`.
    Returns:
        (X, Y, Z) of 41-48, 50, 61, 100 and 0; the body's border is part of 50.
    """
    table = np.zeros(256, np.uint8)
    for name, number in (_ID | _LEFT).items():
        table[CLASS[name]] = number
    parts = table[masks.classes]
    parts[instances.labels == 0] = 0
    _set_sides(parts, masks, instances, planes)
    _keep_near(parts, masks, instances, "disc")
    _keep_near(parts, masks, instances, "canal")
    if axis is not None:
        parts[tuple(axis.voxels.T)] = np.where(axis.body, _BODY, _REST)
    return parts


def _set_sides(
    parts: NDArray[np.uint8], masks: MaskHeads, instances: Instances, planes: Float
) -> None:
    """Raise the ids of what lies to the right of its own vertebra's sagittal plane by one."""
    spacing = masks.grid.spacing
    for i, box in enumerate(ndimage.find_objects(instances.labels)):
        if box is None:
            continue
        paired = (instances.labels[box] == i + 1) & np.isin(parts[box], list(_LEFT.values()))
        where = np.argwhere(paired)
        at = (where + [b.start for b in box] - instances.centres[i]) * spacing
        parts[box][tuple(where[at @ planes[i] > 0].T)] += 1


def _keep_near(parts: NDArray[np.uint8], masks: MaskHeads, instances: Instances, name: str) -> None:
    """Write disc or canal where it is near the column and not a stray."""
    limit, number = (DISC_MM, _DISC) if name == "disc" else (CANAL_MM, _CANAL)
    mask = masks.classes == CLASS[name]
    boxes = ndimage.find_objects(mask.astype(np.uint8))
    if not boxes:
        return
    spacing = masks.grid.spacing
    corner = np.array([b.start for b in boxes[0]])
    where = np.argwhere(mask[boxes[0]])
    places = (where + corner) * spacing
    near = np.zeros(len(where), bool)
    line = _line(instances.centres * spacing)
    if len(line):
        near |= within(places, line, limit)
    sacral = np.argwhere(instances.sacrum)[::5] * spacing
    if len(sacral):
        reach = NEAR_SACRUM_MM
        near |= within(places, sacral, reach)
    kept = np.zeros(mask[boxes[0]].shape, bool)
    kept[tuple(where[near].T)] = True
    pieces, _ = ndimage.label(kept, np.ones((3, 3, 3), bool))
    size = np.bincount(pieces.ravel())
    size[0] = 0
    large = size * float(np.prod(spacing)) >= 1000 * SMALL_ML
    parts[boxes[0]][large[pieces]] = number


def within(places: Float, points: Float, limit: float) -> NDArray[np.bool_]:
    """(n,) whether each of (n, 3) places has one of (m, 3) points within `limit`, mm.

    Places are asked cube by cube first: most cubes are near or far as a whole, and only the
    places in the others are asked one by one.
    """
    low = places.min(0)
    cube = ((places - low) / _CUBE_MM).astype(np.int64)
    shape = tuple(cube.max(0) + 1)
    of = np.ravel_multi_index(tuple(cube.T), shape)
    used = np.flatnonzero(np.bincount(of))
    middle = (np.stack(np.unravel_index(used, shape), 1) + 0.5) * _CUBE_MM + low
    tree, corner = cKDTree(points), _CUBE_MM * np.sqrt(3) / 2 + 1e-6
    away = np.full(np.prod(shape), np.inf)
    away[used] = tree.query(middle, distance_upper_bound=limit + corner)[0]
    near = away[of] <= limit - corner
    unsure = np.flatnonzero(~near & (away[of] <= limit + corner))
    near[unsure] = tree.query(places[unsure], distance_upper_bound=limit)[0] <= limit
    return np.asarray(near)


def _line(centres: Float) -> Float:
    """Points every millimetre or so through the centres and some way past both ends."""
    if len(centres) < 2:
        up = np.array([0.0, 0.0, USUAL_SPACING_MM * _BEYOND])
        ends = np.concatenate([centres + up, centres, centres - up]) if len(centres) else centres
    else:
        first = centres[0] + _BEYOND * (centres[0] - centres[1])
        last = centres[-1] + _BEYOND * (centres[-1] - centres[-2])
        ends = np.concatenate([first[None], centres, last[None]])
    if len(ends) == 0:
        return ends
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(ends, axis=0), axis=1))])
    at = np.arange(0, length[-1], 1.0)
    return np.stack([np.interp(at, length, ends[:, a]) for a in range(3)], 1)


@dataclass(frozen=True, eq=False)
class SacralAxis:
    """The sacrum's voxels in the coordinates of its own curved axis.

    Attributes:
        voxels: (n, 3) indices.
        along: (n,) length from the top of the bodies along the axis, mm, in units of a usual
            person's (`USUAL_SPACING_MM`).
        body: (n,) bool, bodies as against alae, arches and crest.
    """

    voxels: NDArray[np.intp]
    along: Float
    body: NDArray[np.bool_]


def sacral_axis(masks: MaskHeads, instances: Instances, planes: Float) -> SacralAxis | None:
    """Walk down the middle of the sacral bodies; None without a sacrum.

    Args:
        planes: What `midplanes` says of the instances.
    """
    spacing = masks.grid.spacing
    voxels = np.argwhere(instances.sacrum)
    if len(voxels) == 0:
        return None
    places = voxels * spacing
    scale = _scale(instances.centres * spacing)
    frame = _frame(planes)
    places = places @ frame
    middle, front = _canal_front(masks, places, frame)
    ahead = places[:, 1] >= front
    aside = np.abs(places[:, 0] - middle)
    core = ahead & (aside <= _HALF_WIDTHS_MM[2] * scale)
    curve = _walk(places[core] if core.any() else places)
    along = _along(places, curve)
    if core.any():
        along -= np.percentile(along[core], 0.5)
    along /= scale
    ends = np.cumsum(SACRAL_LENGTHS_MM)
    middles = np.append(ends - np.array(SACRAL_LENGTHS_MM) / 2, ends[-1] + 10)
    half = np.interp(along, middles, _HALF_WIDTHS_MM) * scale
    return SacralAxis(voxels, along, ahead & (aside <= half))


def _scale(centres: Float) -> float:
    """Size of the sacrum against the usual one, as far as the lowest spacings foretell it."""
    steps = np.linalg.norm(np.diff(centres[-4:], axis=0), axis=1)
    steps = steps[(steps > 20) & (steps < 50)]  # neither a neck nor a missed vertebra
    if len(steps) == 0:
        return 1.0
    return 1 + _FOLLOWS * (float(np.median(steps)) / USUAL_SPACING_MM - 1)


def _frame(planes: Float) -> Float:
    """(3, 3) columns right, front, up of the pelvis: turned as the lowest vertebra is."""
    if len(planes) == 0:
        return np.eye(3)
    right = planes[-1]
    front = np.cross([0.0, 0.0, 1.0], right)
    front /= np.linalg.norm(front)
    return np.stack([right, front, np.cross(right, front)], 1)


def _canal_front(masks: MaskHeads, places: Float, frame: Float) -> tuple[Float, Float]:
    """Middle (right) and front edge of the canal in the row (up) of each sacral place, mm.

    Rows without canal take their neighbours'; below the canal everything lies in front. Without
    any canal near the sacrum the middle is the sacrum's own and all of it lies in front.

    Args:
        places: (n, 3) in the frame whose axes are the columns of `frame`.
    """
    spacing = masks.grid.spacing
    index = places @ frame.T / spacing
    low = np.maximum(np.floor(index.min(0)).astype(int) - 5, 0)
    high = np.ceil(index.max(0)).astype(int) + 6
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    canal = (np.argwhere(masks.classes[box] == CLASS["canal"]) + low) * spacing @ frame
    if len(canal) == 0:
        return np.full(len(places), np.median(places[:, 0])), np.full(len(places), -np.inf)
    row = np.rint(canal[:, 2] / spacing[2]).astype(int)
    rows = np.unique(row)
    edge = np.array([np.percentile(canal[row == r, 1], 98) for r in rows])
    centre = np.array([canal[row == r, 0].mean() for r in rows])
    height = places[:, 2] / spacing[2]
    front = np.interp(height, rows, edge)
    front[height < rows[0] - 1] = -np.inf
    return np.interp(height, rows, centre), front


def _walk(places: Float) -> Float:
    """(m, 3) points down the middle of elongated matter, a few mm apart, head to feet."""
    spread = np.linalg.eigh(np.cov(places.T) + 1e-6 * np.eye(3))[1][:, -1]
    direction = spread if spread[2] < 0 else -spread
    order = places @ direction
    at = places[order <= order.min() + _WINDOW_MM].mean(0)
    first, curve = direction, [at]
    while len(curve) < 100:
        reach = at + direction * _STEP_MM
        away = places - reach
        level = np.abs(away @ direction)
        near = (level <= _WINDOW_MM / 2) & (np.linalg.norm(away, axis=1) <= 3 * _WINDOW_MM)
        if np.count_nonzero(near) < 10:
            break
        middle = places[near].mean(0)
        turn = middle - at
        if turn @ direction < _STEP_MM / 4:
            break
        direction = direction + 0.5 * turn / np.linalg.norm(turn)
        direction /= np.linalg.norm(direction)
        at = middle
        curve.append(at)
    # A walk wiggles, and a wiggle makes the way longer.
    smooth = ndimage.gaussian_filter1d(np.array(curve), 2.0, axis=0, mode="nearest")
    beyond = 3 * _WINDOW_MM
    return np.concatenate([[smooth[0] - beyond * first], smooth, [smooth[-1] + beyond * direction]])


def _along(places: Float, curve: Float) -> Float:
    """Length along the curve of the point nearest to each place, mm."""
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    at = np.arange(0, length[-1], 0.5)
    fine = np.stack([np.interp(at, length, curve[:, a]) for a in range(3)], 1)
    return np.asarray(at[cKDTree(fine).query(places)[1]], np.float64)


def sacrum_ids(instances: Instances, axis: SacralAxis | None, single: bool) -> NDArray[np.uint8]:
    """Vertebra ids of the sacrum.

    The sacrum is cut across its own curved axis into pieces of fixed length (`SACRAL_LENGTHS_MM`,
    assumed, scaled by the spacing of the lowest vertebrae), from the top as far as it is imaged:
    a cut sacrum has fewer pieces, not shorter ones. What is beyond S5 is coccyx.

    Args:
        axis: Its own, from `sacral_axis`.
        single: Every sacral voxel becomes 26.
    Returns:
        (X, Y, Z) of 26, 29-32, 27 on sacral voxels, 0 elsewhere.
    """
    ids = np.zeros(instances.sacrum.shape, np.uint8)
    ids[instances.sacrum] = VERTEBRA_IDS["S1"]
    if axis is not None and not single:
        numbers = np.array([VERTEBRA_IDS[name] for name in SACRAL_PIECES], np.uint8)
        piece = np.searchsorted(np.cumsum(SACRAL_LENGTHS_MM), axis.along)
        ids[tuple(axis.voxels.T)] = numbers[piece]
    return ids
