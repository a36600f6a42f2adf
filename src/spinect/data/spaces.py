"""What lies between real vertebrae: the spinal canal, the discs, the ligaments.

All of it follows from the frames of `parts`; no image is looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import PchipInterpolator
from scipy.spatial import cKDTree

from spinect.anatomy import ORDER
from spinect.data.parts import Frame, radius
from spinect.geometry import Grid
from spinect.phantom.tissues import Tissue

Float = NDArray[np.float64]
STEP = 0.5  # mm between samples of the canal line
BEYOND = 120.0  # mm that the line runs straight on beyond the outermost labelled vertebrae
WIDER = 0.8  # mm: the silhouette that shows the foramen also hides a rim of it
REACH = 26.0  # mm around the canal line that is looked at
CONUS = 20  # the cord ends at the middle of L1
OPTIONAL = (28, 25)  # T13 and L6: their absence leaves no gap


@dataclass(frozen=True, eq=False)
class Canal:
    """The canal as a tube along a line through the foramina, feet to head.

    Attributes:
        line: (M, 3) points STEP mm apart, mm, RAS+.
        axes: (M, 3, 3) right, front and head of each point.
        contour: (M, ANGLES) radius, mm.
        height: (M,) rank of the vertebra in ORDER, a half between two; falls towards the head.
        within: (M,) whether the point lies between the outermost labelled vertebrae.
    """

    line: Float
    axes: Float
    contour: Float
    height: Float
    within: NDArray[np.bool_]

    def nearest(self, world: Float, reach: float) -> tuple[NDArray[np.intp], Float]:
        """Sample of the line next to each point (N, 3), and its distance; inf beyond `reach` mm."""
        distance, at = cKDTree(self.line).query(world, distance_upper_bound=reach)
        return np.minimum(at, len(self.line) - 1), np.asarray(distance)

    def local(self, world: Float, at: NDArray[np.intp]) -> tuple[Float, Float]:
        """Offset to the right and to the front of the line at samples `at`, mm."""
        offset = world - self.line[at]
        axes = self.axes[at]
        return (
            np.einsum("ij,ij->i", offset, axes[:, 0]),
            np.einsum("ij,ij->i", offset, axes[:, 1]),
        )


def canal_of(frames: Mapping[int, Frame]) -> Canal:
    """The canal through all vertebrae whose foramen was seen."""
    whole = sorted((f for f in frames.values() if f.whole), key=lambda f: -ORDER.index(f.vertebra))
    shifts = (-0.3, 0.0, 0.3)
    knots = np.array([f.origin + k * f.height * f.axes[2] for f in whole for k in shifts])
    owner = np.repeat(np.arange(len(whole)), len(shifts))
    knots = np.vstack(
        [knots[0] - BEYOND * whole[0].axes[2], knots, knots[-1] + BEYOND * whole[-1].axes[2]]
    )
    owner = np.concatenate([[0], owner, [len(whole) - 1]])
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    samples = np.arange(0, along[-1], STEP)
    line = PchipInterpolator(along, knots)(samples)
    line = ndimage.gaussian_filter1d(line, 5 / STEP, axis=0, mode="nearest")
    share = np.interp(samples, along[2:-1:3], np.arange(len(whole), dtype=float))
    low = np.floor(share).astype(int)
    high = np.minimum(low + 1, len(whole) - 1)
    part = (share - low)[:, None]
    contours = np.stack([f.contour for f in whole]) + WIDER
    fronts = np.stack([f.axes[1] for f in whole])
    head = np.gradient(line, axis=0)
    head /= np.linalg.norm(head, axis=1, keepdims=True)
    front = fronts[low] * (1 - part) + fronts[high] * part
    front -= head * (front * head).sum(1, keepdims=True)
    front /= np.linalg.norm(front, axis=1, keepdims=True)
    ranks = np.array([ORDER.index(f.vertebra) for f in whole], float)
    ends = [0.55 * f.height for f in (whole[0], whole[-1])]
    first, last = along[2] - ends[0], along[-3] + ends[1]
    return Canal(
        line=line,
        axes=np.stack([np.cross(front, head), front, head], 1),
        contour=contours[low] * (1 - part) + contours[high] * part,
        height=np.interp(samples, along[2:-1:3], ranks),
        within=(samples > first) & (samples < last),
    )


def fill_canal(
    canal: Canal, free: NDArray[np.bool_], grid: Grid, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Tissues of the canal and of the ligamenta flava behind it.

    Args:
        free: Where there is no bone, on `grid`.
    Returns:
        Tissue (AIR where nothing was put) and subregion (60 cord, 61 rest of the canal) on `grid`.
    """
    tissue, subregions = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, np.uint8)
    index, at, x, y = _around(canal, free, grid, REACH)
    keep = canal.within[at]
    index, at, x, y = index[keep], at[keep], x[keep], y[keep]
    edge = radius(canal.contour[at], x, y)
    off = np.hypot(x, y)
    put = np.full(len(at), Tissue.AIR, np.uint8)
    lamina = (y < 0) & (np.abs(x) < 13) & (off < edge + rng.uniform(2.0, 4.0))
    put[lamina & (off >= edge)] = Tissue.FLAVUM
    inside = off < edge
    put[inside] = Tissue.EPIDURAL_FAT
    depth = -radius(canal.contour[at], np.zeros(len(at)), -np.ones(len(at)))
    swell = 0.35 + 0.65 * np.sin(np.pi * canal.height[at]) ** 2  # thickest between the laminae
    wedge = (y < depth + rng.uniform(3.0, 6.0) * swell) & (np.abs(x) < rng.uniform(4.0, 7.0))
    sac = inside & (off < edge * rng.uniform(0.82, 0.95)) & ~wedge
    put[sac] = Tissue.CSF
    _fill_sac(put, sac, canal, at, (x, y), rng)
    cells = tuple(index.T)
    tissue[cells] = put
    subregions[cells] = np.where(inside, np.where(put == Tissue.CORD, 60, 61), 0)
    return tissue, subregions


def _around(
    canal: Canal, free: NDArray[np.bool_], grid: Grid, reach: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], Float, Float]:
    """Free voxels within `reach` mm of the line: index, sample of the line, right, front."""
    at = np.round(grid.index(canal.line)).astype(int)
    low = np.maximum(at.min(0) - int(reach), 0)
    high = np.maximum(np.minimum(at.max(0) + int(reach) + 1, grid.shape), low)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    near = np.ones([b - a for a, b in zip(low, high, strict=True)], bool)
    held = np.all((at >= low) & (at < high), axis=1)
    near[tuple((at[held] - low).T)] = False
    index = np.argwhere(free[box] & (ndimage.distance_transform_edt(near) < reach)) + low
    world = grid.world(index)
    sample, _ = canal.nearest(world, np.inf)
    x, y = canal.local(world, sample)
    return index, sample, x, y


def _fill_sac(
    put: NDArray[np.uint8],
    sac: NDArray[np.bool_],
    canal: Canal,
    at: NDArray[np.intp],
    offset: tuple[Float, Float],
    rng: np.random.Generator,
) -> None:
    """Cord down to the conus, strands of the cauda equina below it; writes into `put`."""
    x, y = offset
    conus = ORDER.index(CONUS) + rng.uniform(-1.0, 0.6)
    rank = canal.height[at]
    wide = rng.uniform(4.5, 6.0) * np.clip((conus - rank) * 1.2, 0, 1)  # tapers to the conus
    cord = sac & (rank < conus) & ((x / (wide + 1e-6)) ** 2 + (y / (0.8 * wide + 1e-6)) ** 2 < 1)
    put[cord] = Tissue.CORD
    below = sac & (rank > conus - 0.4) & ~cord
    length = canal.line.shape[0]
    width = np.median(canal.contour[:, 0])
    for _ in range(14):
        drift = ndimage.gaussian_filter1d(rng.normal(size=(2, length)), 40, axis=1) * 12
        start = rng.uniform(-0.65, 0.65) * width, rng.uniform(-0.6, 0.1) * width
        near = np.hypot(x - start[0] - drift[0, at], y - start[1] - drift[1, at])
        put[below & (near < rng.uniform(0.7, 1.1))] = Tissue.ROOTS


def fill_discs(
    vertebrae: NDArray[np.uint8],
    subregions: NDArray[np.uint8],
    grid: Grid,
    frames: Mapping[int, Frame],
) -> NDArray[np.uint8]:
    """Nucleus and annulus between the facing end plates of neighbouring bodies.

    Args:
        vertebrae, subregions: Ids on `grid`; bodies are subregion 50.
    Returns:
        Tissue on `grid`, AIR where there is no disc; bone is left free.
    """
    out = np.zeros(grid.shape, np.uint8)
    for upper, lower in neighbours(list(frames)):
        centre = (frames[upper].centre + frames[lower].centre) / 2
        span = float(np.linalg.norm(frames[upper].centre - frames[lower].centre))
        reach = int(max(frames[upper].width, frames[lower].width, span) / 2 + 12)
        at = np.round(grid.index(centre)).astype(int)
        box = tuple(
            slice(max(a - reach, 0), min(a + reach + 1, n))
            for a, n in zip(at, grid.shape, strict=True)
        )
        if all(s.stop > s.start for s in box):
            pair = frames[upper], frames[lower]
            here = _disc(
                vertebrae[box], subregions[box], grid.crop([s.start for s in box], [1] * 3), pair
            )
            view = out[box]
            view[(here > 0) & (vertebrae[box] == 0)] = here[(here > 0) & (vertebrae[box] == 0)]
    return out


def neighbours(present: list[int]) -> list[tuple[int, int]]:
    """Pairs (upper, lower) of vertebrae with nothing missing between them."""
    order = [v for v in ORDER if v in present]
    pairs = []
    for upper, lower in pairwise(order):
        between = ORDER[ORDER.index(upper) + 1 : ORDER.index(lower)]
        if all(v in OPTIONAL for v in between):
            pairs.append((upper, lower))
    return pairs


def _disc(
    vertebrae: NDArray[np.uint8],
    subregions: NDArray[np.uint8],
    corner: Grid,
    pair: tuple[Frame, Frame],
) -> NDArray[np.uint8]:
    """The disc of one pair inside a box whose first voxel is `corner`'s."""
    upper, lower = pair
    head = upper.centre - lower.centre
    head /= np.linalg.norm(head)
    front = upper.axes[1] + lower.axes[1]
    front -= head * (front @ head)
    front /= np.linalg.norm(front)
    axes = np.stack([np.cross(front, head), front, head])
    middle = (upper.centre + lower.centre) / 2
    body = (subregions == 50) | (subregions == 49)
    size = max(vertebrae.shape)
    plates = []
    for frame, sign in ((upper, -1.0), (lower, 1.0)):
        index = np.argwhere(body & (vertebrae == frame.vertebra))
        if len(index) < 100:
            return np.zeros(vertebrae.shape, np.uint8)
        plates.append(_plate((corner.world(index) - middle) @ axes.T, sign, size))
    inside = (plates[0][1] + plates[1][1]) / 2
    index = np.argwhere(vertebrae == 0)
    x, y, z = ((corner.world(index) - middle) @ axes.T).T
    cell = [np.clip(np.round(v + size).astype(int), 0, 2 * size) for v in (x, y)]
    top, bottom, depth = plates[0][0][*cell], plates[1][0][*cell], inside[*cell]
    held = (z <= top + 0.5) & (z >= bottom - 0.5) & (depth > 0) & (top - bottom < 22)
    put = np.where(depth > 0.42 * inside.max(), Tissue.NUCLEUS, Tissue.ANNULUS)
    out = np.zeros(vertebrae.shape, np.uint8)
    out[tuple(index[held].T)] = put[held]
    return out


def _plate(local: Float, sign: float, size: int) -> tuple[Float, Float]:
    """Height map of an end plate and the signed depth inside its outline, on 1 mm cells.

    `sign` is 1 for the upper face of a body, -1 for its lower face.
    """
    height = np.full((2 * size + 1, 2 * size + 1), -np.inf)
    cell = np.clip(np.round(local[:, :2] + size).astype(int), 0, 2 * size)
    np.maximum.at(height, tuple(cell.T), sign * local[:, 2])
    face = ndimage.binary_opening(ndimage.binary_closing(np.isfinite(height), iterations=2))
    height = np.where(np.isfinite(height), height, -1e3)
    height = ndimage.median_filter(height, 3)
    face &= height > -500
    if not face.any():
        return np.zeros_like(height), np.full_like(height, -1.0)
    outside, nearest = ndimage.distance_transform_edt(~face, return_indices=True)
    filled = ndimage.gaussian_filter(height[tuple(nearest)], 1.0)
    depth = ndimage.distance_transform_edt(face) - outside
    return sign * filled, np.asarray(depth)


def ligaments(
    body: NDArray[np.bool_], disc: NDArray[np.bool_], canal: Canal, grid: Grid
) -> NDArray[np.bool_]:
    """The longitudinal ligaments: a layer of 1.5 mm in front of and behind bodies and discs."""
    column = body | disc
    out = np.zeros(grid.shape, bool)
    box = ndimage.find_objects(ndimage.binary_dilation(column, iterations=2).astype(np.uint8))
    if not box:
        return out
    inner = box[0]
    near = ndimage.distance_transform_edt(~column[inner])
    index = np.argwhere((near > 0) & (near < 1.8)) + [s.start for s in inner]
    world = grid.world(index)
    at, _ = canal.nearest(world, np.inf)
    x, y = canal.local(world, at)
    depth = radius(canal.contour[at], np.zeros(len(at)), np.ones(len(at)))
    behind = (np.abs(x) < 9) & (y < depth + 5) & (y > 0)
    ahead = (np.abs(x) < 14) & (y > depth + 8)
    keep = canal.within[at] & (behind | ahead)
    out[tuple(index[keep].T)] = True
    return out
