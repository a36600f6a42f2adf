"""Everything around a labelled spine: canal content, ligaments, muscles, organs, fat and skin.

The same function surrounds the articulated phantom and a real vertebra label map: it needs only
labelled bone, its distance map and one `Level` per vertebra. Shapes follow the canal slice by slice
and are drawn from `rng`; they exist to be plausible negatives for a network, not to be measured.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spinect.geometry import Grid
from spinect.phantom import linings, organs
from spinect.phantom.canal import CANAL, CORD, DISC, Level, columns, sac_radii
from spinect.phantom.maps import DISTANCE_STEP_MM
from spinect.phantom.rasterise import index_box, lattice
from spinect.phantom.scene import Scene
from spinect.phantom.shapes import Waves
from spinect.phantom.tissues import Tissue

UInt8 = NDArray[np.uint8]
Stage = Callable[[Scene], None]


SPINE: Final[tuple[Stage, ...]] = (
    organs.outline,
    organs.abdomen,
    organs.chest,
    organs.neck,
    organs.muscles,
    organs.vessels,
)


@dataclass(frozen=True)
class Body:
    """Stages that paint a part of the body.

    Attributes:
        before, after: Before and after the linings of the canal. last: After the bones.
        end: Rank below which the canal has no lining.
    """

    before: tuple[Stage, ...]
    after: tuple[Stage, ...] = ()
    last: tuple[Stage, ...] = ()
    end: float = np.inf


def surround(
    grid: Grid,
    vertebrae: UInt8,
    subregions: UInt8,
    bone_distance: NDArray[np.int8],
    levels: Sequence[Level],
    rng: np.random.Generator,
    body: Body | None = None,
) -> UInt8:
    """Fill in every tissue around (and inside) labelled bone.

    Args:
        grid: Axes run R, A, S.
        vertebrae: Vertebra ids; bone with id 0 (`bone_distance` < 0) becomes unlabelled bone.
        subregions: Subregion ids with the canal (61) and the discs (100) already in
            (`canal.add_canal`, `canal.add_discs`); the cord (60) is added here, in place.
        bone_distance: Signed distance to any bone, steps of `DISTANCE_STEP_MM`.
        levels: One per labelled vertebra, head to feet.
        rng: Source of all choices.
        body: What to paint instead of the tissues round a spine.
    Returns:
        uint8 `Tissue` per voxel.
    """
    cols = columns(grid, levels)
    noise = Waves.draw(rng, 4, (28.0, 90.0), 1.0)
    wobble = noise.on_lattice(grid.affine, (0, 0, 0), grid.shape)
    scene = Scene(grid, cols, np.zeros(grid.shape, np.uint8), rng, wobble)
    body = body or Body(SPINE)
    stages: list[Stage] = [
        *body.before,
        lambda s: linings.foramina(s, levels, body.end),
        lambda s: linings.canal_walls(s, body.end),
        *body.after,
        lambda s: _canal(s, subregions),
        lambda s: _discs(s, subregions, bone_distance, levels),
        lambda s: _ligaments(s, vertebrae, subregions),
        lambda s: _bones(s, vertebrae, subregions, bone_distance, levels),
        *body.last,
    ]
    for stage, stream in zip(stages, rng.spawn(len(stages)), strict=True):
        scene.rng = stream  # one stream each: what one stage skips does not change the next
        stage(scene)
    return scene.tissue


def _canal(scene: Scene, subregions: UInt8) -> None:
    """CSF, cord down to the conus and the roots below it."""
    cols, rng, tissue = scene.cols, scene.rng, scene.tissue
    canal = (subregions == CANAL) | (subregions == CORD)
    tissue[canal] = Tissue.CSF
    conus = float(np.clip(20.3 + 0.6 * rng.standard_normal(), 19, 22.3))
    width = np.interp(cols.rank, (1, 5, 9, 16, 18.8, conus), (5.6, 6.6, 4.2, 4.0, 4.6, 1.0))
    depth = np.interp(cols.rank, (1, 5, 9, 16, 18.8, conus), (4.4, 4.2, 3.6, 3.5, 4.0, 1.0))
    scale = float(rng.uniform(0.88, 1.12))
    wide, deep = sac_radii(cols)
    lean = np.interp(cols.rank, (1, 8, 14, 20), (0.3, 0.5, 0.8, -0.6))
    cord_y = cols.y + lean * np.clip(deep - depth - 1.2, 0, 2)
    width, depth = np.minimum(width, wide - 1.5), np.minimum(depth, deep - 1.2)
    scene.tube(cols.x, cord_y, width * scale, depth * scale, Tissue.CORD,
               on=cols.rank < conus, over=[Tissue.CSF])  # fmt: skip
    subregions[canal & (tissue == Tissue.CORD)] = CORD
    _roots(scene, conus)


def _roots(scene: Scene, conus: float) -> None:
    """The cauda equina: loose strands that lie towards the back and leave one pair a level."""
    cols, rng = scene.cols, scene.rng
    z = scene.z
    wide, deep_half = sac_radii(cols)
    for number in range(int(rng.integers(14, 24))):
        last = 20.5 + 6.0 * rng.random()
        out = np.clip((cols.rank - last + 1.2) / 1.2, 0, 1)  # moves to the side before it leaves
        side = 1 if number % 2 else -1
        spread, deep = rng.uniform(0, 0.6), rng.uniform(-0.75, 0.05)
        drift = 0.06 * np.sin(z / rng.uniform(15, 40) + rng.uniform(0, 6.3))
        x = cols.x + side * (wide - 1.5) * (spread * (1 - out) + 0.8 * out + drift)
        y = cols.y + (deep_half - 1.3) * (deep * (1 - out) + 0.1 * out + drift)
        radius = float(rng.uniform(0.6, 1.0))
        on = (cols.rank > conus - 0.8) & (cols.rank < last)
        scene.tube(x, y, radius, radius, Tissue.ROOTS, on=on, over=[Tissue.CSF])


def _discs(
    scene: Scene, subregions: UInt8, bone_distance: NDArray[np.int8], levels: Sequence[Level]
) -> None:
    """Annulus, nucleus and the cartilage of the end plates."""
    tissue, rng = scene.tissue, scene.rng
    disc = subregions == DISC
    tissue[disc] = Tissue.ANNULUS
    for upper, lower in pairwise(levels):
        frame = np.eye(4)
        frame[:3, :3] = (upper.axes + lower.axes) / 2
        up = upper.centre - upper.axes[:, 2] * upper.height / 2
        low = lower.centre + lower.axes[:, 2] * lower.height / 2
        frame[:3, 3] = (up + low) / 2 - frame[:3, 1] * 0.08 * lower.half_depth
        share = rng.uniform(0.55, 0.78)
        a, b = lower.half_width * share, lower.half_depth * share
        h = max(float(np.linalg.norm(up - low)) * rng.uniform(0.35, 0.55), 1.5) + 1.0
        bounds = np.array([[-a, -b, -h], [a, b, h]])
        box = index_box(bounds, frame, scene.grid, 1.0)
        if box is None:
            continue
        x, y, z = lattice(np.linalg.inv(frame) @ scene.grid.affine, box)
        core = (x / a) ** 2 + (y / b) ** 2 + (z / h) ** 2 < 1
        tissue[box][core & disc[box]] = Tissue.NUCLEUS
    tissue[disc & (bone_distance < round(0.6 / DISTANCE_STEP_MM))] = Tissue.CARTILAGE


def _shifted(mask: NDArray[np.bool_], axis: int, step: int) -> NDArray[np.bool_]:
    """The mask moved by `step` voxels; nothing comes in from outside."""
    out = np.zeros_like(mask)
    n = mask.shape[axis]
    src, dst = [slice(None)] * 3, [slice(None)] * 3
    dst[axis], src[axis] = (slice(step, n), slice(0, n - step)) if step > 0 else (
        slice(0, n + step), slice(-step, n))  # fmt: skip
    out[tuple(dst)] = mask[tuple(src)]
    return out


def _ligaments(scene: Scene, vertebrae: UInt8, subregions: UInt8) -> None:
    """Longitudinal ligaments along bodies and discs, cartilage in the facet joints."""
    tissue, cols = scene.tissue, scene.cols
    front = (subregions == DISC) | ((subregions >= 49) & (subregions <= 50))
    where = np.flatnonzero(front.any((1, 2)))
    if not len(where):
        return
    y_any = np.flatnonzero(front.any((0, 2)))
    y_box = slice(max(int(y_any[0]) - 4, 0), min(int(y_any[-1]) + 5, front.shape[1]))
    box = (slice(int(where[0]), int(where[-1]) + 1), y_box, slice(None))
    solid, here = front[box], tissue[box]
    sx, sy = scene.grid.spacing[:2]
    x = np.abs(np.arange(box[0].start, box[0].stop)[:, None] * sx - cols.body_x)[:, None, :]
    y = (np.arange(y_box.start, y_box.stop)[:, None] * sy - cols.body_y)[None]
    steps = max(1, round(1.6 / sy))
    for sign, width, allowed in ((1, 0.55, None), (-1, 0.3, Tissue.EPIDURAL_FAT)):
        ring = np.zeros_like(solid)
        for step in range(1, steps + 1 if sign > 0 else 2):
            ring |= _shifted(solid, 1, sign * step)
        ring &= ~solid & (vertebrae[box] == 0) & (x < width * cols.body_width) & (y * sign > 0)
        if allowed is not None:
            ring &= here == allowed
        here[ring] = Tissue.LIGAMENT
    upper = (subregions == 45) | (subregions == 46)
    lower = (subregions == 47) | (subregions == 48)
    for axis in (0, 1):
        for step in (-1, 1):
            joint = _shifted(upper, axis, step) & _shifted(lower, axis, -step)
            tissue[joint & (vertebrae == 0)] = Tissue.CARTILAGE


def _bones(
    scene: Scene, vertebrae: UInt8, subregions: UInt8, bone_distance: NDArray[np.int8],
    levels: Sequence[Level],
) -> None:  # fmt: skip
    """Cortex, marrow and the basivertebral veins."""
    tissue = scene.tissue
    bone = bone_distance < 0
    labelled = bone & (vertebrae > 0)
    body = (subregions == 50) | (subregions == 49)
    thin, thick = round(-0.8 / DISTANCE_STEP_MM), round(-1.4 / DISTANCE_STEP_MM)
    tissue[labelled] = Tissue.CORTEX
    tissue[labelled & (bone_distance < np.where(body, thin, thick))] = Tissue.MARROW
    other = bone & (vertebrae == 0)
    tissue[other] = Tissue.OTHER_CORTEX
    tissue[other & (bone_distance < thick)] = Tissue.OTHER_MARROW
    for level in levels:
        b, h = level.half_depth, level.height
        long, broad, tall = scene.rng.uniform((0.5, 3, 0.05), (1.1, 7, 0.1))
        bounds = np.array([[-8.0, -b - 1, -4.0], [8.0, b * 0.3, 4.0]])
        box = index_box(bounds, level.frame, scene.grid, 0.0)
        if box is None:
            continue
        x, y, z = lattice(np.linalg.inv(level.frame) @ scene.grid.affine, box)
        reach = np.float32(b * long)
        t = np.clip((y + b) / reach, 0, 1)
        wide = (1 - 0.7 * t) * np.float32(broad)
        high = (1 - 0.6 * t) * np.float32(h * tall)
        vein = (np.abs(x) < wide) & (np.abs(z) < high) & (y + b < reach)
        here = tissue[box]
        inner = (here == Tissue.MARROW) | (here == Tissue.CORTEX)
        own = (vertebrae[box] == level.vertebra) & body[box]
        here[vein & inner & own] = Tissue.BASIVERTEBRAL
