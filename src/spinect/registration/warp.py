"""A CT or its masks on the MR's grid, through a rigid motion or a displacement field.

Images: true cubic B-spline (with its prefilter) or linear interpolation. Where the target's voxels
are thicker than the source's, several positions across a voxel are averaged, as a thick slice
averages. Voxels that meet a source voxel's centre take its value unchanged.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinect.errors import ConfigError, GeometryError
from spinect.geometry import Grid, Volume
from spinect.geometry.resample import resample
from spinect.geometry.transform import apply
from spinect.registration.field import Field
from spinect.registration.lattice import lattice, slabs
from spinect.registration.quality import trusted
from spinect.registration.result import Registration

Float = NDArray[np.float64]
Array = NDArray[Any]
Order = Literal["bspline", "linear"]

SNAP: Final = 1e-3  # a position this close to a voxel's centre takes its value, source voxels
HALF: Final = 0.5 - 1e-5  # as in geometry.resample: rounding must not lose a half
THREADS: Final = 2


def warp(
    moving: Volume,
    grid: Grid,
    transform: Registration | Float,
    field: Field | None = None,
    order: Order = "bspline",
) -> tuple[Volume, NDArray[np.bool_]]:
    """A volume of the CT's world on a grid of the MR's world.

    Args:
        moving: CT in HU, another image, or labels. Labels follow the rule of `resample`: the most
            probable label where all together hold half of the voxel; `order` is not used.
        transform: ct_from_mr (4, 4), or a registration.
        field: Needed for a polyrigid registration, on `grid`; it replaces the matrix.
        order: "bspline" (cubic, overshoot cut to the source's range) or "linear".
    Returns:
        The volume, with its kind's outside value (-1000 HU) beyond the source's field of view; and
        (X, Y, Z) bool, where it is valid: inside that field of view, Jacobian in [0.5, 2].
    Raises:
        GeometryError: A field on another grid, or a polyrigid registration without its field.
        ConfigError: Unknown order.
    """
    if order not in ("bspline", "linear"):
        raise ConfigError(f"no interpolation {order!r}: choose bspline or linear")
    matrix = _matrix(transform, field)
    if field is not None and not field.grid.matches(grid):
        raise GeometryError(
            f"the field lies on {field.grid}, the result on {grid}: compute the field on the "
            "result's grid"
        )
    where = _positions(moving.grid, grid, matrix, field)
    inside = _inside(grid, where, moving.grid.shape)
    if moving.rules.interpolation == "labels":
        data = _labels(moving, grid, matrix, where, field, inside)
    else:
        data = _image(moving, grid, where, order)
        data[~inside] = moving.rules.outside
    valid = inside if field is None else inside & trusted(field.jacobian)
    return Volume(data, grid.affine, moving.kind), valid


Where = Callable[[slice, Float], Array]  # slab and offset in target voxels -> source index


def _matrix(transform: Registration | Float, field: Field | None) -> Float:
    if isinstance(transform, Registration):
        if transform.vertebrae and field is None:
            raise GeometryError(
                "a polyrigid registration moves every vertebra by itself: hand its field over, "
                "displacement(registration, grid, mask)"
            )
        return transform.ct_from_mr
    return np.asarray(transform, np.float64)


def _positions(source: Grid, target: Grid, matrix: Float, field: Field | None) -> Where:
    """Which source index the voxels of a slab meet, (3, n, Y, Z), when shifted by an offset."""
    axes = target.affine[:3, :3]

    def where(box: slice, offset: Float) -> Array:
        points = lattice(target, box) + axes @ offset
        if field is None:
            world = apply(matrix, points)
        else:
            world = points + _between(field.displacement, box, offset)
        return np.moveaxis(source.index(world), -1, 0)

    return where


def _between(values: Array, box: slice, offset: Float) -> Array:
    """Linear interpolation of a slab of a lattice, shifted by less than one voxel."""
    rows = np.arange(box.start, box.stop)
    out = _blend(values, rows, float(offset[0]), 0)
    for axis in (1, 2):
        if offset[axis]:
            out = _blend(out, np.arange(out.shape[axis]), float(offset[axis]), axis)
    return out


def _blend(values: Array, rows: Array, shift: float, axis: int) -> Array:
    here = values.take(rows, axis)
    if shift == 0:
        return here
    next_ = np.clip(rows + (1 if shift > 0 else -1), 0, values.shape[axis] - 1)
    return np.asarray(here + (values.take(next_, axis) - here) * np.float32(abs(shift)))


def _inside(grid: Grid, where: Where, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Whether the voxels' centres lie within the source's outer faces."""
    out = np.empty(grid.shape, bool)
    last = np.array(shape).reshape(3, 1, 1, 1) - 0.5
    for box in slabs(grid):
        at = where(box, np.zeros(3))
        out[box] = ((at >= -0.5 - SNAP) & (at <= last + SNAP)).all(0)
    return out


def _offsets(grid: Grid, where: Where) -> list[Float]:
    """Positions across a target voxel that are averaged, in target voxels."""
    middle = grid.shape[0] // 2
    corner = np.array([0, grid.shape[1] // 2, grid.shape[2] // 2])
    lines = []
    for axis in range(3):
        ends = [where(slice(middle, middle + 1), s * np.eye(3)[axis] / 2) for s in (-1, 1)]
        step = (ends[1] - ends[0])[:, 0, corner[1], corner[2]]  # source voxels per target voxel
        count = max(1, round(float(np.linalg.norm(step))))
        lines.append((np.arange(count) + 0.5) / count - 0.5)
    return [np.array(o) for o in product(*lines)]


def _image(moving: Volume, grid: Grid, where: Where, order: Order) -> NDArray[np.float32]:
    source = np.asarray(moving.data, np.float32)
    low, high = float(source.min()), float(source.max())
    cubic = order == "bspline"
    values = ndimage.spline_filter(source, 3, np.float32, "mirror") if cubic else source
    offsets = _offsets(grid, where)
    out = np.zeros(grid.shape, np.float32)

    def fill(box: slice) -> None:
        for offset in offsets:
            at = where(box, offset)
            near = np.rint(at)
            part = ndimage.map_coordinates(
                values, at, np.float32, 3 if cubic else 1, "mirror" if cubic else "nearest",
                prefilter=False,
            )  # fmt: skip
            np.clip(part, low, high, out=part)
            exact = (np.abs(at - near) < SNAP).all(0)
            index = near[:, exact].astype(np.intp)
            last = np.array(source.shape)[:, None] - 1
            part[exact] = source[tuple(np.clip(index, 0, last))]
            out[box] += part
        if len(offsets) > 1:
            out[box] /= len(offsets)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(fill, slabs(grid)))
    return out


def _labels(
    moving: Volume,
    grid: Grid,
    matrix: Float,
    where: Where,
    field: Field | None,
    inside: NDArray[np.bool_],
) -> Array:
    if field is None:
        return resample(moving, grid, matrix).data
    boxes = [(i, b) for i, b in enumerate(ndimage.find_objects(moving.data), 1) if b is not None]
    offsets = _offsets(grid, where)
    out = np.zeros(grid.shape, moving.data.dtype)
    # Bone is a small part of the picture: only voxels that may meet a label are looked at closely.
    around = ndimage.binary_dilation(moving.data > 0, np.ones((3, 3, 3), bool))
    last = np.array(around.shape).reshape(3, 1, 1, 1) - 1

    def fill(box: slice) -> None:
        places = [where(box, offset) for offset in offsets]
        some = np.zeros(out[box].shape, bool)
        for at in places:
            some |= around[tuple(np.clip(np.rint(at), 0, last).astype(np.intp))]
        places = [at[:, some] for at in places]
        out[box][some] = _probable(moving.data, boxes, places)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(fill, slabs(grid)))
    out[~inside] = 0
    return out


def _probable(
    labels: Array, boxes: list[tuple[int, tuple[slice, ...]]], places: list[Array]
) -> Array:
    """The most probable label of N voxels, each met at several places (3, N); 0 below one half."""
    count = places[0].shape[1]
    found = np.zeros(count, labels.dtype)
    best, total = np.zeros(count, np.float32), np.zeros(count, np.float32)
    for label, part in boxes:
        start = np.array([p.start for p in part]).reshape(3, 1) - 1
        own = np.pad((labels[part] == label).astype(np.float32), 1)
        reach = np.array(own.shape).reshape(3, 1) - 1
        share = np.zeros(count, np.float32)
        for at in places:
            local = at - start
            near = ((local > 0) & (local < reach)).all(0)
            share[near] += ndimage.map_coordinates(own, local[:, near], np.float32, 1)
        share /= len(places)
        total += share
        better = share > best
        best[better] = share[better]
        found[better] = label
    found[total < HALF] = 0
    return found
