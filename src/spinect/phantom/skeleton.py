"""All bones of a subject: labelled vertebrae and sacrum, unlabelled ribs, pelvis, C1 and skull."""

from itertools import pairwise
from typing import Final

import numpy as np

from spinect.phantom import vertebra
from spinect.phantom.pelvis import Pelvis, pelvic_bones
from spinect.phantom.shapes import Body, Bone, Float, Limb, Part, Waves, rows
from spinect.phantom.spine import SACRAL_HEIGHTS, SACRAL_IDS, rotation, translation
from spinect.phantom.subject import RANK, Build
from spinect.phantom.vertebra import VertebraShape

_SEGMENTS: Final = 5
#                     S1    S2    S3    S4    S5
_HALF_WIDTH: Final = (25.0, 19.0, 15.0, 12.5, 10.5)
_HALF_DEPTH: Final = (16.0, 11.0, 8.5, 7.0, 6.0)
_CANAL: Final = ((15.0, 8.5), (12.5, 6.5), (10.0, 4.5), (7.5, 3.2), (5.0, 2.2))
_MASS: Final = (50.0, 43.0, 33.0, 26.0, 20.0)  # how far the lateral mass reaches
COCCYX_HALF_DEPTH: Final = 4.0
_SACRAL_CANAL: Final = dict(zip(SACRAL_IDS, _CANAL, strict=False))


def skeleton(
    build: Build, frames: dict[int, Float], seed: int, pelvis: Pelvis | None = None
) -> tuple[Bone, ...]:
    """Every bone in the neutral world; with a pelvis its bones instead of the plain hips."""
    rng = np.random.default_rng([seed, 2])
    bones = [*_vertebrae(build, frames, rng), _sacrum(build, frames, rng)]
    for shape in build.shapes:
        rank = RANK[shape.vertebra]
        if 8 <= rank <= build.ribs:
            bones += [_rib(shape, side, rank, build.size, frames, rng) for side in (-1, 1)]
    hips = [_hip(build, frames, side, rng) for side in (-1, 1)]
    bones += hips if pelvis is None else pelvic_bones(pelvis, seed)
    bones += [_atlas(build, frames, rng), _skull(build, frames)]
    return tuple(bones)


def sacral_canal(build: Build, vertebra_id: int) -> tuple[float, float, float]:
    """(y of the centre, half width, half depth) of the sacral canal in the segment's frame."""
    k = SACRAL_IDS.index(vertebra_id)
    w, d = _CANAL[k]
    return -(_HALF_DEPTH[k] + d - 0.5) * build.size, w * build.size, d * build.size


def sacral_body(build: Build, vertebra_id: int) -> tuple[float, float, float]:
    """(half width, half depth, height) of a sacral body."""
    k = SACRAL_IDS.index(vertebra_id)
    size = build.size
    return _HALF_WIDTH[k] * size, _HALF_DEPTH[k] * size, SACRAL_HEIGHTS[k] * size


def _surface(rng: np.random.Generator, sd: float = 0.3) -> Waves:
    return Waves.draw(rng, 6, (9.0, 32.0), sd)


def _vertebrae(build: Build, frames: dict[int, Float], rng: np.random.Generator) -> list[Bone]:
    """One bone per vertebra; neighbours that have grown together are one bone with a bridge."""
    bones: list[Bone] = []
    upper = {below: above for above, below in build.fused}
    shapes = {s.vertebra: s for s in build.shapes}
    for shape in build.shapes:
        v = shape.vertebra
        if any(v == above for above, _ in build.fused):
            continue
        parts, holes = vertebra.build(shape)
        if v in upper:
            other = shapes[upper[v]]
            relative = np.linalg.inv(frames[v]) @ frames[other.vertebra]
            more, cuts = vertebra.build(other)
            bridge = Body(v, 50, rows(relative @ translation(0, 0, -other.height / 2)),
                          shape.half_width * 0.9, shape.half_depth * 0.9,
                          2 * other.disc + 6, waist=0.05, dish=(0, 0))  # fmt: skip
            parts = (*parts, *vertebra.moved(more, relative), bridge)
            holes = (*holes, *(hole.moved(relative) for hole in cuts))
        bones.append(Bone(str(v), v, rows(frames[v]), parts, holes, _surface(rng)))
    return bones


def _sacrum(build: Build, frames: dict[int, Float], rng: np.random.Generator) -> Bone:
    parts: list[Part] = []
    holes: list[Limb] = []
    base = np.linalg.inv(frames[26])
    size, spread = build.size, float(np.clip(1 + 0.05 * rng.standard_normal(), 0.9, 1.1))
    for k in range(_SEGMENTS):
        relative = base @ frames[SACRAL_IDS[k]]
        own, cut = _segment(k, size, spread)
        parts += [p.moved(relative) for p in own]
        holes += [h.moved(relative) for h in cut]
    tail = base @ frames[27]
    length = SACRAL_HEIGHTS[5] * size / 2
    for a, b, r in ((1.0, 0.1, 7.5), (0.1, -0.9, 5.0)):
        limb = Limb(27, 50, (0, 0, a * length), (0, (1 - a) * 4, b * length), (1, 0, 0),
                    (r, 4.0), (r * 0.75, 3.0))  # fmt: skip
        parts.append(limb.moved(tail))
    return Bone("sacrum", 26, rows(frames[26]), tuple(parts), tuple(holes), _surface(rng))


def _segment(k: int, size: float, spread: float) -> tuple[list[Part], list[Limb]]:
    v = SACRAL_IDS[k]
    a, b, h = _HALF_WIDTH[k] * size, _HALF_DEPTH[k] * size, SACRAL_HEIGHTS[k] * size
    cw, cd = (c * size for c in _CANAL[k])
    y = -(b + cd - 0.5)
    reach = _MASS[k] * size * spread
    parts: list[Part] = [
        Body(v, 50, rows(np.eye(4)), a, b, h + (0.0 if k == 0 else 3.0), waist=0.06,
             dish=(1.0 if k == 0 else -1.0, -1.0), kidney=0.5, blend=3),
    ]  # fmt: skip
    holes = [Limb(v, 0, (0, y, -h / 2 - 3), (0, y, h / 2 + (14 if k == 0 else 3)), (1, 0, 0),
                  (cw, cd), (cw, cd))]  # fmt: skip
    thick = (13.0, 12.5, 11.0, 9.5, 8.0)[k] * size
    rise = h * (0.40 if k == 0 else 0.52)
    for e in (-1, 1):
        parts += [
            Limb(v, 41, (e * a * 0.7, y * 0.35, h * 0.06), (e * (reach - thick * 0.55),
                 y * 0.62, -h * 0.02), (0, 0, 1), (rise, thick), (rise * 1.02, thick * 0.9),
                 blend=5),
            Limb(v, 41, (e * (cw + 3), y - 1, 0), (0, y - cd - 2.2, -h * 0.1), (0, 0, 1),
                 (h * 0.5, 3.2), (h * 0.52, 2.6), blend=3),
        ]  # fmt: skip
        if k < _SEGMENTS - 1:  # ventral and dorsal foramina in one channel
            x, r = e * (a * 0.66 + 4.5), (5.2, 4.8, 4.2, 3.4)[k] * size
            holes.append(Limb(v, 0, (x, y - 25, -h / 2), (x, b + 15, -h / 2), (0, 0, 1),
                              (r * 0.7, r * 0.7), (r * 1.15, r * 1.2)))  # fmt: skip
    if k == 0:
        holes.append(Limb(v, 0, (-a * 0.5, 0, -h / 2 - 0.5), (a * 0.5, 0, -h / 2 - 0.5),
                          (0, 0, 1), (1.6, b * 0.75), (1.6, b * 0.75)))  # fmt: skip
        for e in (-1, 1):
            x = cw + 6.5 * size
            tip = (e * (x + 0.5), y - 2.5, h / 2 + 9 * size)
            parts.append(
                Limb(v, 41, (e * x, y - 1.0, 2), tip, (e, -0.5, 0), (6.5, 6.0), (4.5, 4.5))
            )
    if k < 4:
        crest = (9.0, 7.5, 6.0, 4.0)[k] * size
        parts.append(Limb(v, 41, (0, y - cd - 2, 0), (0, y - cd - 2 - crest, -h * 0.2), (0, 0, 1),
                          (h * 0.36, 3.0), (h * 0.3, 2.2), blend=4))  # fmt: skip
    return parts, holes


def _rib(
    s: VertebraShape, side: int, rank: float, size: float, frames: dict[int, Float],
    rng: np.random.Generator,
) -> Bone:  # fmt: skip
    """A chain of flat rods from the costovertebral joint round the chest."""
    t = (min(rank, 19.0) - 8) / 11  # 0 at T1, 1 at T12
    chest = float(np.interp(rank, (8, 9, 11, 15, 19), (62, 88, 115, 130, 128))) * size
    droop = float(np.interp(rank, (8, 12, 19), (14, 26, 34)))
    high = s.height * (0.5 if 8.5 < rank < 17 else 0.22)
    tp = s.span / 2
    y_tp = s.canal_y - 0.35 * s.canal[1] - 1.5 - 0.5 * (tp - s.canal[0] - 5)
    neck = (tp + 1.5, y_tp + 9.5, s.height * 0.2 + 1)
    bend = min(chest - 20, tp + 24)
    path = [
        (s.half_width * 0.97 + 1.5, -s.half_depth * 0.75, high),
        neck,
        (bend, y_tp - 2, -0.25 * droop),
        (chest * 0.93, y_tp + 22, -0.7 * droop),
        (chest, y_tp + 58, -1.3 * droop),
        (chest * 0.93, y_tp + 105, -1.9 * droop),
        (chest * 0.70, y_tp + 140, -2.2 * droop),
    ]
    if rank >= 18:  # floating ribs end early
        path = path[: 5 if rank == 18 else 4]
    radii = [(4.5, 4.5), (4.6, 3.6), (6.0, 4.0)] + [(6.2 - t, 3.4)] * 4
    parts = tuple(
        Limb(0, 0, (side * p[0], p[1], p[2]), (side * q[0], q[1], q[2]), (0, 0, 1),
             radii[i], radii[i + 1], blend=3)
        for i, (p, q) in enumerate(pairwise(path))
    )  # fmt: skip
    return Bone(f"rib {s.vertebra} {side}", s.vertebra, rows(frames[s.vertebra]), parts, (),
                _surface(rng, 0.25))  # fmt: skip


def _hip(build: Build, frames: dict[int, Float], side: int, rng: np.random.Generator) -> Bone:
    """Iliac wing with crest, the joint with the sacrum, the socket and the head of the femur."""
    k = build.size * float(np.clip(1 + 0.03 * rng.standard_normal(), 0.94, 1.06))
    # upright pelvis: undo most of the sacral slope
    frame = frames[26] @ rotation(0, build.slope)

    def at(x: float, y: float, z: float) -> tuple[float, float, float]:
        return side * x * k, y * k, z * k

    def limb(a: tuple[float, ...], b: tuple[float, ...], first: tuple[float, float],
             last: tuple[float, float], *, blend: float = 5.0) -> Limb:  # fmt: skip
        return Limb(0, 0, at(*a), at(*b), (0, 0, 1), first, last, blend=blend)

    parts = (
        limb((42, -52, -4), (60, -22, -14), (17, 6.5), (24, 7.5)),
        limb((57, -26, 8), (84, 14, 14), (30, 5.5), (30, 4.0)),
        limb((84, 14, 14), (112, 52, 2), (30, 4.0), (16, 6.0)),
        limb((50, -44, 22), (82, -2, 46), (7, 7), (6, 6.5)),
        limb((82, -2, 46), (116, 54, 12), (6, 6.5), (8, 8)),
        limb((66, -16, -22), (84, 14, -62), (16, 10), (22, 14)),
        limb((92, 22, -72), (96, 22, -72), (25, 25), (23, 23), blend=3),
    )
    return Bone(f"hip {side}", 26, rows(frame), parts, (), _surface(rng, 0.5))


def _atlas(build: Build, frames: dict[int, Float], rng: np.random.Generator) -> Bone:
    """C1: a ring with lateral masses, without a label."""
    axis = build.shapes[0]
    s, top = build.size, axis.height / 2 + 7 * build.size
    b = axis.half_depth
    parts: list[Part] = [
        Limb(0, 0, (-9 * s, b + 0.5, top + 2), (9 * s, b + 0.5, top + 2), (0, 0, 1),
             (5, 3.0), (5, 3.0)),
    ]  # fmt: skip
    for e in (-1, 1):
        parts += [
            Limb(0, 0, (e * 17 * s, -2, top + 0.5), (e * 19 * s, -3, top + 7), (1, 0, 0),
                 (5.5, 8.0),
                 (6.0, 9.5)),
            Limb(0, 0, (e * 9 * s, b + 0.5, top + 2), (e * 17 * s, 2, top + 1), (0, 0, 1), (5, 3),
                 (6, 4)),
            Limb(0, 0, (e * 21 * s, -5, top + 1), (e * 37 * s, -7, top), (0, 0, 1), (4, 4.5),
                 (4, 4)),
            Limb(0, 0, (e * 19 * s, -9, top + 2), (e * 13 * s, -27 * s, top + 2), (0, 0, 1),
                 (4, 3.5), (4, 3)),
            Limb(0, 0, (e * 13 * s, -27 * s, top + 2), (0, -33 * s, top + 2), (0, 0, 1), (4.5, 3),
                 (5, 3.5)),
        ]  # fmt: skip
    return Bone("C1", 2, rows(frames[2]), tuple(parts), (), _surface(rng, 0.25))


def _skull(build: Build, frames: dict[int, Float]) -> Bone:
    """Base, condyles and vault, upright above C2."""
    axis, s = build.shapes[0], build.size
    top = axis.height / 2 + 19 * s
    frame = frames[2].copy()
    tilt = np.rad2deg(np.arctan2(frame[1, 2], frame[2, 2]))
    frame = frame @ rotation(0, tilt * 0.7)
    centre = (0.0, 18.0 * s, top + 62 * s)

    def shell(grow: float) -> Limb:
        lift = (centre[0], centre[1], centre[2] + 6)
        return Limb(0, 0, centre, lift, (1, 0, 0), (70 * s + grow, 86 * s + grow),
                    (68 * s + grow, 84 * s + grow))  # fmt: skip

    parts: list[Part] = [
        shell(0),
        Limb(0, 0, (0, 14, top + 2), (0, 34, top + 24), (1, 0, 0), (11, 5), (14, 8)),  # clivus
        Limb(0, 0, (0, 45, top + 28), (0, 85, top + 22), (1, 0, 0), (35, 12), (32, 14)),  # face
    ]
    for e in (-1, 1):
        parts += [
            Limb(0, 0, (e * 17 * s, -2, top), (e * 20 * s, -2, top + 8), (1, 0, 0), (6, 10),
                 (9, 12)),
            Limb(0, 0, (e * 50 * s, 0, top), (e * 52 * s, 0, top + 22), (1, 0, 0), (9, 13),
                 (14, 18)),
        ]  # fmt: skip
    inner = shell(-6.5)
    foramen = Limb(0, 0, (0, -14, top - 14), (0, -12, top + 30), (1, 0, 0), (15, 17), (15, 17))
    return Bone("skull", 2, rows(frame), tuple(parts), (inner, foramen))
