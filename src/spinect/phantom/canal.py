"""The canal and the discs between vertebrae, for a phantom or for a real label map.

`Level` says where one vertebra stands; a head-to-feet list of them is all that the surroundings
need to know about a spine. Coordinates inside this module are the grid's own axes in mm ("grid
mm": voxel index times spacing), so that everything can be computed slice by slice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

from spinect.anatomy import SACRUM
from spinect.errors import LabelError
from spinect.geometry import Grid
from spinect.phantom.rasterise import Box, index_box, lattice
from spinect.phantom.shapes import Array, Float, scaled_radius_distance
from spinect.phantom.subject import RANK

DISC, CANAL, CORD = 100, 61, 60
NEIGHBOURS_MM = 55.0  # centres of bodies farther apart are not neighbours
SAC_END_RANK = 26.3  # the dural sac ends at S2


@dataclass(frozen=True, eq=False)
class Level:
    """Where one vertebra stands.

    Attributes:
        vertebra: Id; presacral from C2 (C1 if labelled) and S1-S5.
        centre: (3,) centre of the body, mm, RAS+ world.
        axes: (3, 3), columns are right, front and head of the vertebra, unit vectors.
        half_width, half_depth, height: Of the body, mm.
        canal: (3,) centre of the canal at this level, mm, RAS+ world.
        canal_half: Half width and half depth of the bony canal, mm.
    """

    vertebra: int
    centre: Float
    axes: Float
    half_width: float
    half_depth: float
    height: float
    canal: Float
    canal_half: tuple[float, float]

    @property
    def frame(self) -> Float:
        """4x4, world from the vertebra's body frame."""
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = self.axes, self.centre
        return matrix


@dataclass(frozen=True, eq=False)
class Columns:
    """The canal in every slice across the grid's third axis; arrays of length nz, grid mm.

    Attributes:
        rank: Continuous level (C1 = 1, T12 = 19, L5 = 24, S1 = 25), extrapolated at both ends.
        x, y: Centre of the canal. half_width, half_depth: Of the bony canal in the slice.
        body_x, body_y: Centre of the column of bodies. body_width, body_depth: Half sizes.
    """

    rank: Float
    x: Float
    y: Float
    half_width: Float
    half_depth: Float
    body_x: Float
    body_y: Float
    body_width: Float
    body_depth: Float


def own_axes(grid: Grid) -> Float:
    """4x4, grid mm from world mm."""
    return np.asarray(np.diag([*grid.spacing, 1.0]) @ np.linalg.inv(grid.affine))


def columns(grid: Grid, levels: Sequence[Level]) -> Columns:
    """Smooth curves through the levels, one value per slice.

    Raises:
        LabelError: Fewer than two levels.
    """
    if len(levels) < 2:
        raise LabelError(
            f"a spine needs at least 2 vertebrae to follow its canal, not {len(levels)}"
        )
    to_own = own_axes(grid)
    canal = np.array([lv.canal for lv in levels]) @ to_own[:3, :3].T + to_own[:3, 3]
    body = np.array([lv.centre for lv in levels]) @ to_own[:3, :3].T + to_own[:3, 3]
    rank = np.array([RANK[lv.vertebra] for lv in levels])
    sizes = np.array([[*lv.canal_half, lv.half_width, lv.half_depth] for lv in levels])
    z = np.arange(grid.shape[2]) * grid.spacing[2]

    def curve(at: Float, value: Float) -> Float:
        order = np.argsort(at)
        at, value = at[order], value[order]
        keep = np.concatenate([[True], np.diff(at) > 3.0])
        at, value = at[keep], value[keep]
        # straight on beyond the ends, with the slope of the last level
        first = (value[1] - value[0]) / (at[1] - at[0])
        last = (value[-1] - value[-2]) / (at[-1] - at[-2])
        at = np.concatenate([[at[0] - 400], at, [at[-1] + 400]])
        value = np.concatenate([[value[0] - 400 * first], value, [value[-1] + 400 * last]])
        smooth = PchipInterpolator(at, value)(z)
        return np.asarray(gaussian_filter1d(smooth, 4.0 / grid.spacing[2], mode="nearest"))

    def size(column: int) -> Float:
        order = np.argsort(canal[:, 2])
        return np.asarray(np.interp(z, canal[order, 2], sizes[order, column]))

    x, y = curve(canal[:, 2], canal[:, 0]), curve(canal[:, 2], canal[:, 1])
    lean = np.gradient(y, grid.spacing[2]) if len(z) > 1 else np.zeros_like(z)
    stretch = np.clip(np.sqrt(1 + lean**2), 1, 1.8)  # an oblique canal is deeper in the slice
    return Columns(
        rank=curve(canal[:, 2], rank),
        x=x,
        y=y,
        half_width=size(0),
        half_depth=size(1) * stretch,
        body_x=curve(body[:, 2], body[:, 0]),
        body_y=curve(body[:, 2], body[:, 1]),
        body_width=size(2),
        body_depth=size(3),
    )


def sac_radii(cols: Columns) -> tuple[Float, Float]:
    """Half width and half depth of the dural sac per slice: the canal less its epidural space.

    The sac ends at S2, where it tapers.
    """
    taper = np.clip((SAC_END_RANK - cols.rank) / 0.6, 0.0, 1.0) ** 0.5
    share = np.interp(cols.rank, (1, 6, 9, 17, 20, 24, 26), (0.8, 0.78, 0.84, 0.84, 0.76, 0.7, 0.6))
    wide = np.clip(cols.half_width * share * taper, 0.3, None)
    deep = np.clip(cols.half_depth * 0.88 * taper, 0.3, None)
    return np.asarray(wide), np.asarray(deep)


def sac_distance(grid: Grid, cols: Columns, room: float = 0.0) -> tuple[Box, Array]:
    """Box around the dural sac widened by `room` mm, and the signed distance to it there, mm."""
    rx, ry = (r.astype(np.float32) + np.float32(room) for r in sac_radii(cols))
    on = cols.rank < SAC_END_RANK
    box = tube_box(grid, cols.x, cols.y, rx, ry, on, 2.0)
    i, j, k = box
    if min(s.stop - s.start for s in box) <= 0:  # the sac lies outside the grid
        return (slice(0, 0),) * 3, np.zeros((0, 0, 0), np.float32)
    sx, sy = grid.spacing[:2]
    x = (np.arange(i.start, i.stop)[:, None, None] * sx - cols.x[k]).astype(np.float32)
    y = (np.arange(j.start, j.stop)[:, None] * sy - cols.y[k]).astype(np.float32)
    terms = [(x / rx[k], rx[k]), (y / ry[k], ry[k])]
    return box, scaled_radius_distance(terms, 2, -30.0)


def tube_box(
    grid: Grid, x: Float, y: Float, rx: NDArray[np.floating], ry: NDArray[np.floating],
    on: NDArray[np.bool_], margin: float,
) -> Box:  # fmt: skip
    """Smallest box of voxels around an upright tube given slice by slice."""
    k = np.flatnonzero(on)
    if not len(k):
        return slice(0, 0), slice(0, 0), slice(0, 0)
    spans = []
    for axis, (c, r) in enumerate(((x, rx), (y, ry))):
        low = (c[k] - r[k]).min() - margin
        high = (c[k] + r[k]).max() + margin
        s = grid.spacing[axis]
        start = int(np.clip(np.floor(low / s), 0, grid.shape[axis]))
        stop = int(np.clip(np.ceil(high / s) + 1, start, grid.shape[axis]))
        spans.append(slice(start, stop))
    return spans[0], spans[1], slice(int(k[0]), int(k[-1]) + 1)


def add_canal(
    grid: Grid, subregions: NDArray[np.uint8], bone: NDArray[np.bool_], cols: Columns
) -> None:
    """Label the dural sac 61 in place, wherever there is no bone."""
    box, distance = sac_distance(grid, cols)
    inside = (distance < 0) & ~bone[box] & (subregions[box] == 0)
    subregions[box][inside] = CANAL


def add_discs(
    grid: Grid, subregions: NDArray[np.uint8], bone: NDArray[np.bool_], levels: Sequence[Level]
) -> None:
    """Label 100 in place: the space between facing end plates of neighbours down to S1."""
    for upper, lower in pairwise(levels):
        apart = float(np.linalg.norm(upper.centre - lower.centre))
        if upper.vertebra in SACRUM or apart > NEIGHBOURS_MM:  # a level without a label between
            continue
        _disc(grid, subregions, bone, upper, lower)


def _disc(
    grid: Grid, subregions: NDArray[np.uint8], bone: NDArray[np.bool_], upper: Level, lower: Level
) -> None:
    a = (upper.half_width + lower.half_width) / 2
    b = (upper.half_depth + lower.half_depth) / 2
    foot = upper.centre - upper.axes[:, 2] * upper.height / 2
    head = lower.centre + lower.axes[:, 2] * lower.height / 2
    axes = np.linalg.svd(upper.axes + lower.axes)
    middle = np.eye(4)
    middle[:3, :3], middle[:3, 3] = axes[0] @ axes[2], (foot + head) / 2
    half = float(np.clip(np.linalg.norm(foot - head) / 2, 1, 12)) + 3.5
    bounds = np.array([[-a, -b, -half - 3], [a, b, half + 3]])
    box = index_box(bounds, middle, grid, 2.0)
    if box is None:
        return
    x, y, z = lattice(np.linalg.inv(middle) @ grid.affine, box)
    low = lattice(np.linalg.inv(lower.frame) @ grid.affine, box)[2]
    high = lattice(np.linalg.inv(upper.frame) @ grid.affine, box)[2]
    section = np.abs(x / np.float32(a * 0.98)) ** 2.3 + np.abs(y / np.float32(b * 0.98)) ** 2.6
    inside = (section < 1) & (low > lower.height / 2 - 3.5) & (high < 3.5 - upper.height / 2)
    free = inside & ~bone[box] & (np.abs(z) < half + 3)
    if free.sum() * np.prod(grid.spacing) < 0.15 * np.pi * a * b * 2:  # grown together
        return
    subregions[box][free & (subregions[box] == 0)] = DISC
