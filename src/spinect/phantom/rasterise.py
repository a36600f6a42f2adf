"""From continuous bones to voxels: distance, owner and subregion of every voxel of a grid."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects, label

from spinect.geometry import Grid
from spinect.phantom.maps import DISTANCE_STEP_MM
from spinect.phantom.shapes import (
    Array,
    Body,
    Bone,
    Coords,
    Float,
    Part,
    apply,
    smooth_max,
    smooth_min,
)

MARGIN_MM: Final = 4.0  # how far outside a bone its distance is still evaluated
FAR: Final = np.float32(30.0)
OWN: Final = np.float32(100.0)
Box = tuple[slice, slice, slice]


@dataclass
class Bones:
    """Voxels of all bones.

    Attributes:
        distance: float32, to the nearest bone, mm, negative inside; FAR where no bone is near.
        second: The same to the second nearest bone: small values are joints.
        vertebra: uint8 id of the nearest bone's part; 0 for unlabelled bone.
        label: uint8 subregion id of that part.
    """

    distance: Array
    second: Array
    vertebra: NDArray[np.uint8]
    label: NDArray[np.uint8]

    @classmethod
    def empty(cls, shape: tuple[int, int, int]) -> "Bones":
        """Nothing yet."""
        return cls(np.full(shape, FAR), np.full(shape, FAR), np.zeros(shape, np.uint8),
                   np.zeros(shape, np.uint8))  # fmt: skip


def index_box(bounds: Float, world: Float, grid: Grid, margin: float) -> Box | None:
    """Voxels that may lie within `margin` mm of a box; None when the grid misses it.

    Args:
        bounds: (2, 3) corners in the frame that the 4x4 `world` maps to the world.
    """
    low, high = bounds[0] - margin, bounds[1] + margin
    corners = np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), -1)
    index = grid.index(apply(world, corners.reshape(8, 3)))
    start = np.maximum(np.floor(index.min(0)), 0).astype(int)
    stop = np.minimum(np.ceil(index.max(0)) + 1, grid.shape).astype(int)
    if (stop <= start).any():
        return None
    return slice(start[0], stop[0]), slice(start[1], stop[1]), slice(start[2], stop[2])


def lattice(matrix: Float, box: Box) -> Coords:
    """Coordinates of the voxels of a box; `matrix` maps voxel index to the wanted frame."""
    i, j, k = (np.arange(s.start, s.stop, dtype=np.float32) for s in box)
    m = matrix.astype(np.float32)
    x, y, z = (
        (m[r, 0] * i[:, None, None] + (m[r, 1] * j[:, None] + m[r, 3])) + m[r, 2] * k
        for r in range(3)
    )
    return x, y, z


def add(bone: Bone, world: Float, grid: Grid, bones: Bones) -> None:
    """Evaluate one bone and merge it into the voxels.

    Args:
        world: 4x4, world from bone coordinates (pose included).
    """
    box = index_box(bone.bounds(), world, grid, MARGIN_MM)
    if box is None:
        return
    matrix = np.linalg.inv(world) @ grid.affine
    coords = lattice(matrix, box)
    distance, owner = _union(bone.parts, coords, box, matrix, grid)
    for hole in bone.holes:
        part = _part_box(hole, box, grid, world, 1.0)
        if part is not None:
            cut = hole.distance((coords[0][part], coords[1][part], coords[2][part]))
            distance[part] = smooth_max(distance[part], -cut, 1.0)
    if bone.noise is not None:
        start = [s.start for s in box]
        distance += bone.noise.on_lattice(matrix, start, distance.shape)
    ids = np.array([p.vertebra for p in bone.parts], np.uint8)
    labels = np.array([p.label for p in bone.parts], np.uint8)
    near, runner = bones.distance[box], bones.second[box]
    wins = distance < near
    runner[...] = np.where(wins, near, np.minimum(runner, distance))
    near[wins] = distance[wins]
    bones.vertebra[box][wins] = ids[owner[wins]]
    bones.label[box][wins] = labels[owner[wins]]


def _part_box(part: Part, box: Box, grid: Grid, world: Float, margin: float) -> Box | None:
    """The part's voxels relative to the bone's box."""
    own = index_box(part.bounds(), world, grid, margin)
    if own is None:
        return None
    starts = [max(o.start, b.start) for o, b in zip(own, box, strict=True)]
    stops = [min(o.stop, b.stop) for o, b in zip(own, box, strict=True)]
    if any(a >= b for a, b in zip(starts, stops, strict=True)):
        return None
    spans = [slice(a - b.start, c - b.start) for a, c, b in zip(starts, stops, box, strict=True)]
    return spans[0], spans[1], spans[2]


def probe(bone: Bone, points: Float) -> tuple[Float, NDArray[np.intp], Float]:
    """Distance to a bone, the part that owns each point, and by how much.

    Args:
        points: (N, 3), bone coordinates, mm.
    Returns:
        (N,) mm, negative inside, holes cut out; (N,) index into the bone's parts; (N,) mm to
        where a part with another label would take over.
    """
    x, y, z = (np.asarray(c, np.float32) for c in points.T)
    values = np.stack([p.distance((x, y, z)) for p in bone.parts])
    bodies = np.array([isinstance(p, Body) for p in bone.parts])[:, None]
    claims = np.where(bodies & (values < 0), values - OWN, values)
    holes = [-h.distance((x, y, z)) for h in bone.holes]
    owner = claims.argmin(0)
    kinds = np.array([100 * p.vertebra + p.label for p in bone.parts])
    rivals = np.where(kinds[:, None] == kinds[owner], FAR, claims).min(0)
    return np.max([values.min(0), *holes], axis=0), owner, (rivals - claims.min(0)) / 2


def _union(
    parts: tuple[Part, ...], coords: Coords, box: Box, matrix: Float, grid: Grid
) -> tuple[Array, NDArray[np.uint8]]:
    """Smooth union of the parts, and which part is nearest."""
    shape = np.broadcast_shapes(*(c.shape for c in coords))
    total, best = np.full(shape, FAR), np.full(shape, FAR)
    owner = np.zeros(shape, np.uint8)
    world = grid.affine @ np.linalg.inv(matrix)
    for number, part in enumerate(parts):
        spans = _part_box(part, box, grid, world, MARGIN_MM)
        if spans is None:
            continue
        value = part.distance((coords[0][spans], coords[1][spans], coords[2][spans]))
        # a pedicle is rooted in the body, but the voxels inside the body are the body's
        claim = np.where(value < 0, value - OWN, value) if isinstance(part, Body) else value
        nearer = claim < best[spans]
        best[spans][nearer] = claim[nearer]
        owner[spans][nearer] = number
        total[spans] = smooth_min(total[spans], value, part.blend)
    return total, owner


def separate(bones: Bones, gap: float) -> None:
    """Open a joint of `gap` mm between neighbouring bones, half of it on each side."""
    close = bones.second < gap
    middle = (bones.distance[close] - bones.second[close]) / 2 + np.float32(gap / 2)
    bones.distance[close] = np.maximum(bones.distance[close], middle)


def drop_crumbs(bones: Bones) -> None:
    """Keep one piece per labelled vertebra; parts cut apart by the image's faces stay."""
    inside = bones.distance < 0
    labels = np.where(inside, bones.vertebra, 0)
    for number, box in enumerate(find_objects(labels), start=1):
        if box is None:
            continue
        pieces, count = label(labels[box] == number)
        if count < 2:
            continue
        sizes = np.bincount(pieces.ravel())[1:]
        largest = int(np.argmax(sizes)) + 1
        for piece in range(1, count + 1):
            crumb = pieces == piece
            if piece != largest and not _touches_face(crumb, box, labels.shape):
                bones.distance[box][crumb] = np.float32(0.3)


def _touches_face(mask: NDArray[np.bool_], box: tuple[slice, ...], shape: tuple[int, ...]) -> bool:
    faces = []
    for axis, (span, n) in enumerate(zip(box, shape, strict=True)):
        if span.start == 0:
            faces.append(mask.take(0, axis))
        if span.stop == n:
            faces.append(mask.take(-1, axis))
    return any(bool(face.any()) for face in faces)


def bone_distance(distance: Array, grid: Grid) -> NDArray[np.int8]:
    """Signed distance to any bone in steps of `DISTANCE_STEP_MM`, clipped to +-12.7 mm.

    Within `MARGIN_MM` it is the shapes' own distance; farther out a distance transform at about
    2 mm continues it.
    """
    stride = [max(1, round(2.0 / s)) for s in grid.spacing]
    coarse = distance[tuple(slice(None, None, s) for s in stride)] < 0.5
    if coarse.any():
        far = distance_transform_edt(~coarse, sampling=grid.spacing * stride).astype(np.float32)
        for axis, (step, n) in enumerate(zip(stride, grid.shape, strict=True)):
            far = np.repeat(far, step, axis)
            far = far[tuple(slice(0, n) if a == axis else slice(None) for a in range(3))]
        near = distance < MARGIN_MM - 0.5
        signed = np.where(near, distance, np.maximum(far, np.float32(MARGIN_MM - 0.5)))
    else:
        signed = distance
    steps = np.clip(np.rint(signed / DISTANCE_STEP_MM), -127, 127)
    # rounding must not move a voxel across the surface
    steps = np.where(distance < 0, np.minimum(steps, -1), np.maximum(steps, 0))
    return np.asarray(steps, np.int8)
