"""Soft tissue outside the canal, painted slice by slice around it.

Every function takes the `Scene` of `surroundings` and paints in place. Levels are ranks (T1 = 8,
T12 = 19, L5 = 24, S1 = 25); lengths are mm, grid mm along the grid's own axes. Sizes are plausible
adult values (assumed) drawn anew for every subject.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy.ndimage import gaussian_filter1d

from spinect.phantom.canal import own_axes, tube_box
from spinect.phantom.rasterise import index_box, lattice
from spinect.phantom.scene import Scene
from spinect.phantom.shapes import Float, Limb, point
from spinect.phantom.tissues import Tissue

_RANKS: Final = (-6, 0, 2, 3.5, 6.5, 8.5, 11, 15, 19, 22, 25, 28, 31)
_WIDTH: Final = (50, 78, 70, 60, 75, 150, 172, 165, 152, 148, 165, 178, 170)
_FRONT: Final = (60, 105, 85, 62, 68, 85, 130, 158, 160, 150, 140, 135, 120)
_BACK: Final = (60, 82, 60, 48, 54, 56, 54, 53, 55, 60, 62, 78, 85)  # without fat
_DORSAL: Final = (0.0, 0.05, 0.4, 0.5, 0.6, 0.6, 0.45, 0.45, 0.6, 0.9, 1.15, 1.1, 0.9)


def _by_rank(scene: Scene, values: Sequence[float]) -> Float:
    return np.interp(scene.cols.rank, _RANKS, values)


def _rises(rank: Float, first: float, last: float, soft: float = 0.4) -> Float:
    """A bump that is 1 between two ranks and falls to 0 over `soft` outside."""
    rise = np.clip((rank - first) / soft + 1, 0, 1)
    return np.asarray(np.minimum(rise, np.clip((last - rank) / soft + 1, 0, 1)))


def outline(scene: Scene) -> None:
    """Skin, subcutaneous fat and a body of muscle."""
    cols, rng = scene.cols, scene.rng
    smooth = 45.0 / scene.grid.spacing[2]
    x = gaussian_filter1d(cols.x, smooth, mode="nearest")
    y = gaussian_filter1d(cols.y, smooth * 0.4, mode="nearest")
    size = float(rng.uniform(0.9, 1.15))
    fat = float(np.clip(rng.lognormal(np.log(17), 0.55), 5, 55))
    dorsal = np.maximum(fat * _by_rank(scene, _DORSAL), 1.5)
    ventral = np.maximum(dorsal * float(rng.uniform(0.5, 1.6)), 2.0)
    width, front = _by_rank(scene, _WIDTH) * size, _by_rank(scene, _FRONT) * size
    back = _by_rank(scene, _BACK)
    belly = float(rng.uniform(-15, 45)) * _rises(cols.rank, 19, 26, 3)
    front = front + belly
    for tissue, shell in ((Tissue.SKIN, 2.2), (Tissue.FAT, 0.0), (Tissue.MUSCLE, None)):
        lower = back + (dorsal + shell if shell is not None else 0)
        upper = front + (ventral + shell if shell is not None else 0)
        wide = width + (ventral + shell if shell is not None else 0)
        _slab(scene, x, y, (lower, upper, wide), tissue)


def _slab(scene: Scene, x: Float, y: Float, reach: tuple[Float, Float, Float], tissue: int) -> None:
    """Body section: a superellipse, flatter at the back."""
    back, front, wide = reach
    sx, sy = scene.grid.spacing[:2]
    nx, ny, _ = scene.grid.shape
    dx = np.abs(np.arange(nx)[:, None] * sx - x) / wide
    middle = y + (front - back) / 2
    dy = np.arange(ny)[:, None] * sy - middle
    dy = np.abs(dy) / ((front + back) / 2)
    qx, qy = (dx**2.6).astype(np.float32), (dy**2.6).astype(np.float32)
    scene.tissue[qx[:, None] + qy[None] < 1] = tissue


def cavity_front(scene: Scene) -> Float:
    """y of the front of the vertebral column per slice."""
    return scene.cols.body_y + scene.cols.body_depth


def abdomen(scene: Scene) -> None:
    """The cavity with bowel, kidneys, liver, bladder and rectum."""
    cols, rng = scene.cols, scene.rng
    on = cols.rank > 18.6
    if not on.any():
        return
    front = gaussian_filter1d(cavity_front(scene), 8, mode="nearest")
    wall = float(rng.uniform(14, 26))
    deep = _by_rank(scene, _FRONT) - (front - cols.y)
    middle = front + deep * 0.42
    wide = _by_rank(scene, _WIDTH) - wall
    taper = np.interp(cols.rank, (18.6, 20, 26, 29), (0.75, 1, 1, 0.5))
    scene.tube(cols.x * 0.5 + cols.x.mean() * 0.5, middle, wide * taper, (deep * 0.62) * taper,
               Tissue.FAT, on=on, wobble=0.06)  # fmt: skip
    _bowel(scene, middle, deep)
    _organ(scene, 20.2, (62, 22), (17, 24, 52), Tissue.KIDNEY, side=1)
    _organ(scene, 20.0, (-60, 22), (17, 24, 54), Tissue.KIDNEY, side=-1)
    _organ(scene, 18.4, (85, 75), (75, 78, 85), Tissue.LIVER, side=1)
    if rng.random() < 0.9:
        size = float(rng.uniform(20, 42))
        _organ(scene, 28.2, (0, 78), (size * 1.2, size, size), Tissue.BLADDER, side=1)
    if rng.random() < 0.9:  # rectum in front of the sacrum
        on = _rises(cols.rank, 26, 31, 0.3) > 0.5
        y = cavity_front(scene) + 16
        scene.tube(cols.x, y, 15, 12, Tissue.BOWEL, on=on)
        content = int(rng.choice([Tissue.GAS, Tissue.BOWEL, Tissue.BOWEL_BRIGHT]))
        scene.tube(cols.x, y, 10, 8, content, on=on)


def _organ(
    scene: Scene, rank: float, at: tuple[float, float], radii: tuple[float, float, float],
    tissue: int, side: int,
) -> None:  # fmt: skip
    """An ellipsoid beside the spine; kidneys get a fatty sinus."""
    rng = scene.rng
    high, scale = rank + 0.5 * rng.standard_normal(), float(rng.uniform(0.85, 1.15))
    centre = _place(scene, high, at)
    if centre is None:
        return
    rx, ry, rz = (r * scale for r in radii)
    lean = np.array([side * 0.25, -0.1, -1.0]) if tissue == Tissue.KIDNEY else np.array([0, 0, 1])
    axis = lean / np.linalg.norm(lean) * max(rz - min(rx, ry), 1.0)
    body = Limb(0, 0, point(centre - axis), point(centre + axis), (1, 0, 0), (rx, ry), (rx, ry))
    blob(scene, body, tissue)
    if tissue == Tissue.KIDNEY:
        inner = Limb(0, 0, point(centre - axis * 0.6 - [side * 7, 0, 0]),
                     point(centre + axis * 0.6 - [side * 7, 0, 0]), (1, 0, 0),
                     (rx * 0.5, ry * 0.45), (rx * 0.5, ry * 0.45))  # fmt: skip
        blob(scene, inner, Tissue.FAT)


def _place(scene: Scene, rank: float, at: tuple[float, float]) -> Float | None:
    """Grid mm of a point `at` (x, y) from the canal's centre at a level; None far outside."""
    cols = scene.cols
    z = np.arange(len(cols.rank)) * scene.grid.spacing[2]
    order = np.argsort(cols.rank)
    where = np.interp(rank, cols.rank[order], z[order])
    if rank < cols.rank.min() - 3 or rank > cols.rank.max() + 3:
        return None
    # beyond the image's edges: 35 mm a level
    where += 35 * max(cols.rank.min() - rank, 0) - 35 * max(rank - cols.rank.max(), 0)
    k = int(np.argmin(np.abs(z - where)))
    return np.array([cols.x[k] + at[0], cols.y[k] + at[1], where])


def blob(scene: Scene, limb: Limb, tissue: int, over: Sequence[int] | None = None) -> None:
    """Paint a limb given in grid mm; `over`: tissues it may replace."""
    grid = scene.grid
    own = np.asarray(np.linalg.inv(own_axes(grid)), np.float64)
    box = index_box(limb.bounds(), own, grid, 1.0)
    if box is None:
        return
    distance = limb.distance(lattice(np.diag([*grid.spacing, 1.0]), box))
    size = np.float32(0.05 * limb.radius)
    inside = distance < size * scene.wobble[box]
    if over is not None:
        inside &= np.isin(scene.tissue[box], list(over))
    scene.tissue[box][inside] = tissue


def _bowel(scene: Scene, middle: Float, deep: Float) -> None:
    """Loops of bowel with wall, and gas, fluid or soft content."""
    rng = scene.rng
    spacing = scene.grid.spacing[2]
    for _ in range(int(rng.integers(16, 34))):
        rank, aside, ahead = rng.uniform(20.3, 28.5), rng.uniform(-95, 95), rng.uniform(-0.35, 0.45)
        reach = rng.standard_normal(3) * [22, 14, 22]
        r, wall = float(rng.uniform(8, 19)), float(rng.uniform(1.8, 3.5))
        side = (float(rng.uniform(-1, 1)), 1.0, float(rng.uniform(-1, 1)))
        content = rng.choice(
            [Tissue.GAS, Tissue.BOWEL_BRIGHT, Tissue.BOWEL, Tissue.FAT], p=[0.3, 0.35, 0.25, 0.1]
        )
        start = _place(scene, rank, (aside, 0.0))
        if start is None:
            continue
        k = int(np.clip(start[2] / spacing, 0, len(middle) - 1))
        start[1] = middle[k] + ahead * deep[k] + 8
        first, last = point(start), point(start + reach)
        loop = Limb(0, 0, first, last, side, (r, r * 0.9), (r * 0.9, r))
        thin = (r - wall, r * 0.9 - wall)
        lumen = Limb(0, 0, first, last, side, thin, thin[::-1])
        blob(scene, loop, Tissue.BOWEL, [Tissue.FAT, Tissue.BOWEL, Tissue.BOWEL_BRIGHT, Tissue.GAS])
        blob(scene, lumen, int(content), [Tissue.BOWEL])


def chest(scene: Scene) -> None:
    """Lungs, mediastinum, heart and the dome of the liver."""
    cols = scene.cols
    on = (cols.rank > 8.3) & (cols.rank < 19.3)
    if not on.any():
        return
    front = cavity_front(scene)
    size = np.interp(cols.rank, (8.3, 10, 13, 18, 19.3), (0.35, 0.75, 1, 1, 0.8))
    for side in (-1, 1):
        scene.tube(cols.x + side * 68 * size, cols.y + 38, 58 * size, 88 * size, Tissue.LUNG, on=on,
                   wobble=0.05)  # fmt: skip
    wide = np.interp(cols.rank, (8, 11, 13, 17, 19), (18, 20, 22, 26, 26))
    scene.tube(cols.x - 4, front + 8 + wide, wide, wide + 10, Tissue.FAT, on=on, wobble=0.12)
    centre = _place(scene, 14.6, (-12, 92))
    if centre is not None:
        base, tip = centre + np.array([12, 0, 16]), centre - np.array([14, -10, 18])
        heart = Limb(0, 0, point(base), point(tip), (1, 0, 0), (42, 36), (40, 32))
        blob(scene, heart, Tissue.HEART, [Tissue.FAT, Tissue.LUNG])
    under = cols.rank > 17.6  # the dome of the diaphragm with liver and spleen below
    scene.tube(cols.x + 72, front + 40, np.interp(cols.rank, (16, 19), (40, 75)), 70, Tissue.LIVER,
               on=under & on, over=[Tissue.LUNG])  # fmt: skip
    scene.tube(cols.x - 82, front + 5, 35, 35, Tissue.LIVER, on=under & on, over=[Tissue.LUNG])


def neck(scene: Scene) -> None:
    """Airway, great vessels and the fat around them, the brain above."""
    cols = scene.cols
    front = cavity_front(scene)
    wind = (cols.rank > 2.5) & (cols.rank < 11.8)
    scene.tube(cols.x, front + 12, 24, 4.5, Tissue.FAT, on=(cols.rank > 2.0) & (cols.rank < 8.5))
    scene.tube(cols.x, front + np.interp(cols.rank, (2.5, 6, 9, 12), (11, 18, 20, 16)), 9, 9,
               Tissue.BOWEL, on=wind)  # fmt: skip
    scene.tube(cols.x, front + np.interp(cols.rank, (2.5, 6, 9, 12), (11, 18, 20, 16)), 7, 7,
               Tissue.GAS, on=wind)  # fmt: skip
    scene.tube(cols.x, front + 22, 17, 14, Tissue.GAS, on=(cols.rank > 0.5) & (cols.rank < 2.6))
    for side in (-1, 1):
        x = cols.x + side * 32
        beside = (cols.rank > 1.5) & (cols.rank < 8.6)
        scene.tube(x, front + 8, 14, 16, Tissue.FAT, on=beside)
        scene.tube(x, front + 6, 5.5, 5.5, Tissue.VEIN, on=beside)
        scene.tube(x - side * 9, front + 10, 3.6, 3.6, Tissue.ARTERY, on=beside)
    scene.tube(cols.x, cols.y + 20, 68, 84, Tissue.BRAIN, on=cols.rank < -0.6, over=[Tissue.MUSCLE])


def muscles(scene: Scene) -> None:
    """Back muscles with septa and fatty streaks, psoas, quadratus."""
    cols, rng = scene.cols, scene.rng
    trophic = float(np.clip(1 + 0.12 * rng.standard_normal(), 0.72, 1.15))
    on = cols.rank > 2
    layer = np.interp(cols.rank, (2, 5, 8, 14, 19, 22, 25, 27), (30, 34, 40, 36, 38, 42, 34, 16))
    z = scene.z
    bellies = ((0.40, -31, 0.46, 25), (1.12, -34, 0.52, 23), (1.72, -27, 0.26, 16))
    for side in (-1, 1):  # a pad of fat in which the muscles lie, then the bellies
        scene.tube(cols.x + side * layer * 0.75, cols.y - 31, layer, 27, Tissue.FAT, on=on,
                   over=[Tissue.MUSCLE], wobble=0.05)  # fmt: skip
        for at, y, rx, ry in bellies:
            sway = 1.5 * np.sin(z / rng.uniform(9, 30) + rng.uniform(0, 6))
            thick = trophic * float(rng.uniform(0.95, 1.08))
            x = cols.x + side * layer * at + sway
            scene.tube(x, cols.y + y, layer * rx * thick, ry * thick, Tissue.MUSCLE, on=on,
                       over=[Tissue.FAT], wobble=0.08)  # fmt: skip
    _psoas(scene, trophic)
    _streaks(scene)


def _psoas(scene: Scene, trophic: float) -> None:
    cols = scene.cols
    grow = np.interp(cols.rank, (19.3, 21, 24, 27), (0.35, 0.8, 1.15, 1.1)) * trophic
    on = (cols.rank > 19.4) & (cols.rank < 28)
    off = np.interp(cols.rank, (19, 22, 25, 28), (24, 37, 48, 62))
    y = cols.body_y + np.interp(cols.rank, (19, 22, 25, 28), (-8, -4, 6, 28))
    for side in (-1, 1):
        scene.tube(cols.x + side * off, y, 21 * grow, 25 * grow, Tissue.FAT, on=on, wobble=0.12)
        scene.tube(cols.x + side * off, y, 19 * grow, 23 * grow, Tissue.MUSCLE, on=on, wobble=0.12)
        flank = on & (cols.rank < 24.3)
        scene.tube(cols.x + side * 66, cols.y + 4, 22, 11, Tissue.MUSCLE, on=flank, wobble=0.1)


def _streaks(scene: Scene) -> None:
    """Fat between the fibres behind the spine: 0-60 %, more towards the feet and the midline."""
    cols, rng = scene.cols, scene.rng
    amount = float(rng.beta(1.2, 2.8) * 0.75)
    on = np.ones(len(cols.rank), bool)
    box = tube_box(scene.grid, cols.x, cols.y - 30, np.full(len(on), 75.0), np.full(len(on), 34.0),
                   on, 0)  # fmt: skip
    if box[0].stop <= box[0].start or box[1].stop <= box[1].start:
        return
    noise = scene.waves(box, 12, (3.5, 14.0), stretch=6.0)
    sx = scene.grid.spacing[0]
    x = np.abs(np.arange(box[0].start, box[0].stop)[:, None] * sx - cols.x[box[2]])
    weight = np.interp(cols.rank[box[2]], (4, 12, 20, 25), (0.5, 0.4, 0.8, 1.5))
    limit = amount * weight * np.clip(1.5 - x / 45, 0.35, 1.5) * 1.3
    # streaks gather in places: the wobble of the outlines serves as their density
    density = np.clip(1 + 0.8 * scene.wobble[box], 0, None)
    here = scene.tissue[box]
    streak = np.abs(noise) < limit[:, None].astype(np.float32) * density
    here[streak & (here == Tissue.MUSCLE)] = Tissue.MUSCLE_FAT


def vessels(scene: Scene) -> None:
    """Aorta and cava down to L4, iliac vessels below, the oesophagus in the chest."""
    cols, rng = scene.cols, scene.rng
    front = cavity_front(scene)
    r = float(rng.uniform(8, 12))
    split = float(rng.uniform(23.0, 24.0))
    z = scene.z
    bend = 3 * np.sin(z / rng.uniform(25, 60) + rng.uniform(0, 6))
    high = (cols.rank > 11) & (cols.rank <= split)
    left = np.interp(cols.rank, (11, 14, 19, 24), (-26, -20, -9, -6))
    deep = np.interp(cols.rank, (11, 14, 19, 24), (-10, -4, 6, 8))
    scene.tube(cols.body_x + left + bend, front + deep + r * 0.5, r + 2, r + 2, Tissue.FAT,
               on=high, over=[Tissue.LUNG, Tissue.MUSCLE])  # fmt: skip
    scene.tube(cols.body_x + left + bend, front + deep + r * 0.5, r, r, Tissue.ARTERY, on=high)
    cava = (cols.rank > 17) & (cols.rank <= split + 0.4)
    flat = float(rng.uniform(0.5, 1.0))
    scene.tube(cols.body_x + 17 - bend, front + 5 + 8 * flat, 12, 11 * flat, Tissue.VEIN, on=cava)
    away = np.clip(cols.rank - split, 0, 4)
    low = (cols.rank > split) & (cols.rank < 28)
    for side in (-1, 1):
        x = cols.body_x + side * (6 + away * 16)
        scene.tube(x, front + 10 + away * 5, 5.5, 5.5, Tissue.ARTERY, on=low)
        scene.tube(x + side * 2, front + 4 + away * 3, 7, 6, Tissue.VEIN, on=low)
    gullet = (cols.rank > 6) & (cols.rank < 18)
    scene.tube(cols.body_x - 6, front + 7, 8, 5, Tissue.BOWEL, on=gullet)
