"""A seeded, articulated spine: from a seed to masks and tissues on any grid.

>>> from spinect.phantom.anatomy import field_of_view_grid, make_subject, rasterise
>>> subject = make_subject(7, "lumbar")
>>> field_of_view_grid(subject, spacing=4.0).axes
'RAS'
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from spinect.anatomy import SACRUM
from spinect.errors import ConfigError
from spinect.geometry import Grid
from spinect.phantom import canal
from spinect.phantom import rasterise as voxels
from spinect.phantom.canal import Level
from spinect.phantom.maps import Subject, TissueMap
from spinect.phantom.pelvic import pelvic_body
from spinect.phantom.pelvis import AGES, Pelvis, draw_pelvis, level
from spinect.phantom.shapes import Bone, Float, apply
from spinect.phantom.skeleton import COCCYX_HALF_DEPTH, sacral_body, sacral_canal, skeleton
from spinect.phantom.spine import SACRAL_IDS, neutral, rotation, translation
from spinect.phantom.subject import RANK, Build, draw
from spinect.phantom.surgery import operate
from spinect.phantom.surroundings import Body, surround

Region = Literal["lumbar", "thoracic", "cervical", "whole", "pelvis"]
Motion = Literal["none", "rigid", "articulated"]
PELVIS: Final = "pelvis"
# Ranges of the first and last rank in the field of view (T12 = 19, S1 = 25).
REGIONS: Final[dict[str, tuple[tuple[float, float], tuple[float, float]]]] = {
    "lumbar": ((16.2, 17.8), (26.5, 29.8)),
    "thoracic": ((8.0, 9.0), (18.0, 19.5)),
    "cervical": ((0.0, 0.5), (9.0, 10.5)),
    "whole": ((0.0, 0.5), (30.0, 30.6)),
    "pelvis": ((23.7, 24.1), (25.0, 25.0)),  # its height is fixed, see `pelvis`
}
# The vertebrae whose connecting line stands upright in the scanner.
UPRIGHT: Final[dict[str, tuple[int, int]]] = {
    "lumbar": (26, 19),
    "thoracic": (19, 8),
    "cervical": (12, 2),
    "whole": (26, 5),
    "pelvis": (26, 19),
}
Poses = Mapping[int, Float]
GLOBAL: Final = 0  # key of the whole body's motion in a set of poses


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One subject as continuous shapes.

    Attributes:
        seed, region: What it was made from.
        build: Dimensions, curvature and disease.
        frames: Vertebra id -> 4x4, neutral world from the body's frame (mm, RAS+).
        bones: Every bone in the neutral world.
        subject: The person, with body centres in the neutral pose.
        window: (2, 3) corners of the field of view in the neutral world, mm.
        pelvis: Hips, femora and outline of the region "pelvis"; None elsewhere.
    """

    seed: int
    region: Region
    build: Build
    frames: dict[int, Float]
    bones: tuple[Bone, ...]
    subject: Subject
    window: Float
    pelvis: Pelvis | None = None


def make_subject(seed: int, region: Region = "lumbar", shift: float = 0.0) -> Anatomy:
    """Draw a subject.

    Args:
        seed: Below 1,000,000 for training, to 1,999,999 for testing, above for validation.
        region: What the field of view shows; the person has the whole spine in any case.
        shift: Moves the field of view towards the head, mm.
    Raises:
        ConfigError: Unknown region or negative seed.
    """
    if region not in REGIONS or seed < 0:
        raise ConfigError(
            f"no phantom with seed {seed} and region {region!r}: "
            f"the seed is not negative and the region one of {', '.join(REGIONS)}"
        )
    if region == PELVIS:
        return _make_pelvis(seed, shift)
    build = draw(seed)
    frames = neutral(build, *UPRIGHT[region])
    rng = np.random.default_rng([seed, 3])
    fat = float(
        np.clip(0.25 + 0.35 * (build.age - 18) / 70 + 0.05 * rng.standard_normal(), 0.1, 0.75)
    )
    trabecular = 250 - 2.2 * (build.age - 25) + 40 * rng.standard_normal()
    subject = Subject(
        seed=seed,
        age=round(build.age, 1),
        sex=build.sex,
        marrow_fat=fat,
        trabecular_hu=float(np.clip(trabecular, 40, 380)),
        centres=_centres(frames),
    )
    window = _window(frames, build, region, shift, rng)
    return Anatomy(seed, region, build, frames, skeleton(build, frames, seed), subject, window)


def _make_pelvis(seed: int, shift: float) -> Anatomy:
    """A man of 50-85 years whose field of view is the pelvis."""
    build = draw(seed, "M", AGES)
    frames = level(neutral(build, *UPRIGHT[PELVIS]), build, seed)
    pelvis = draw_pelvis(build, frames[26], seed)
    rng = np.random.default_rng([seed, 3])
    trabecular = 290 - 2.2 * (build.age - 50) + 30 * rng.standard_normal()
    subject = Subject(
        seed=seed,
        age=round(build.age, 1),
        sex=build.sex,
        marrow_fat=float(np.clip(0.4 + 0.05 * rng.standard_normal(), 0.3, 0.55)),
        trabecular_hu=float(np.clip(trabecular, 160, 290)),
        centres=_centres(frames),
        part=PELVIS,
    )
    ranks = np.array(sorted((RANK[v], f[2, 3]) for v, f in frames.items()))
    first = float(rng.uniform(*REGIONS[PELVIS][0]))
    top = float(np.interp(first, ranks[:, 0], ranks[:, 1])) + shift
    bones = skeleton(build, frames, seed, pelvis)
    return Anatomy(seed, PELVIS, build, frames, bones, subject, pelvis.window(top), pelvis)


def _centres(frames: Mapping[int, Float]) -> dict[int, tuple[float, float, float]]:
    return {v: (float(f[0, 3]), float(f[1, 3]), float(f[2, 3])) for v, f in sorted(frames.items())}


def _window(
    frames: dict[int, Float], build: Build, region: Region, shift: float, rng: np.random.Generator
) -> Float:
    """Corners of the field of view: about the region's levels, back skin and air included."""
    first, last = (float(rng.uniform(*span)) for span in REGIONS[region])
    ranks = np.array([RANK[v] for v in frames])
    points = np.array([f[:3, 3] for f in frames.values()])
    order = np.argsort(ranks)
    top, low = np.interp([first, last], ranks[order], points[order, 2])
    top += 17 * build.size * max(0.0, 2.0 - first) * (first < 2)  # C1 and the skull base
    top, low = (v + shift + rng.uniform(-6, 6) for v in (top, low))
    inside = points[(points[:, 2] > low) & (points[:, 2] < top)]
    centre = (inside.min(0) + inside.max(0)) / 2
    spread = inside.max(0) - inside.min(0)
    half = max(90.0, spread[0] / 2 + 65)
    neck = region == "cervical"
    back = inside[:, 1].min() - float(rng.uniform(88, 108) if neck else rng.uniform(95, 125))
    front = max(back + (200 if neck else 240), inside[:, 1].max() + 60)
    return np.array([[centre[0] - half, back, low], [centre[0] + half, front, top]])


def field_of_view_grid(anatomy: Anatomy, spacing: float = 1.0) -> Grid:
    """The grid, axes R, A, S, that covers the subject's field of view.

    Args:
        spacing: mm, isotropic.
    """
    low, high = anatomy.window
    count = np.maximum(np.ceil((high - low) / spacing), 1).astype(int)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = low + spacing / 2
    return Grid((int(count[0]), int(count[1]), int(count[2])), affine)


def pose(
    anatomy: Anatomy,
    motion: Motion = "none",
    seed: int = 0,
    *,
    degrees: float = 2.0,
    millimetres: float = 1.0,
) -> dict[int, Float]:
    """How the subject lies in one scan.

    Args:
        motion: "none"; "rigid": the whole body moved; "articulated": also every joint bent.
        seed: Of the motion; combined with the subject's own.
        degrees: SD of each rotation per level, articulated only (2; 4 is a hard case).
        millimetres: SD of each shift per level, articulated only.
    Returns:
        Vertebra id -> 4x4, posed world from neutral world; key `GLOBAL` holds the body's motion.
        The sacrum moves as one piece, and so do vertebrae that have grown together.
    Raises:
        ConfigError: Articulated motion of a pelvis: none of its joints bends.
    """
    if motion == "articulated" and anatomy.region == PELVIS:
        raise ConfigError(
            "motion articulated bends the joints of a spine, and a pelvis phantom is one piece: "
            "choose none or rigid"
        )
    rng = np.random.default_rng([anatomy.seed, 4, seed])
    whole = np.eye(4)
    if motion != "none":
        angles = np.clip(3 * rng.standard_normal(3), -6, 6)
        shift = np.clip(8 * rng.standard_normal(3), -18, 18)
        turn = rotation(0, angles[0]) @ rotation(1, angles[1]) @ rotation(2, angles[2])
        middle = anatomy.window.mean(0)
        whole = translation(*middle) @ translation(*shift) @ turn @ translation(*-middle)
    above_of = {below: above for above, below in anatomy.build.fused}
    fused = set(above_of.values())
    chain = {v: np.eye(4) for v in SACRAL_IDS}
    current = np.eye(4)
    for shape in reversed(anatomy.build.shapes):
        v = shape.vertebra
        if motion == "articulated" and v not in fused:
            joint = _disc_centre(anatomy, v)
            angles = np.clip(degrees * rng.standard_normal(3), -2.5 * degrees, 2.5 * degrees)
            slide = np.clip(millimetres * rng.standard_normal(3), -2.5, 2.5)
            turn = rotation(0, angles[0]) @ rotation(1, angles[1] / 2) @ rotation(2, angles[2] / 2)
            local = translation(*joint) @ translation(*slide) @ turn @ translation(*-joint)
            current = current @ local
        chain[v] = current
    # the vertebra in the middle of the field of view keeps its place in the body
    heights = {v: abs(anatomy.frames[v][2, 3] - anatomy.window[:, 2].mean()) for v in chain}
    still = whole @ np.linalg.inv(chain[min(heights, key=lambda v: heights[v])])
    return {GLOBAL: whole} | {v: still @ motion_of for v, motion_of in chain.items()}


def _disc_centre(anatomy: Anatomy, vertebra: int) -> Float:
    """Middle of the disc below a vertebra, neutral world, mm."""
    shape = next(s for s in anatomy.build.shapes if s.vertebra == vertebra)
    return apply(anatomy.frames[vertebra], [0.0, 0.0, -(shape.height + shape.disc) / 2])


def levels(anatomy: Anatomy, poses: Poses | None = None) -> list[Level]:
    """Every vertebra and sacral segment head to feet, in the posed world."""
    poses = poses or pose(anatomy)
    out = []
    for shape in anatomy.build.shapes:
        frame = poses[shape.vertebra] @ anatomy.frames[shape.vertebra]
        out.append(
            Level(shape.vertebra, frame[:3, 3], frame[:3, :3], shape.half_width, shape.half_depth,
                  shape.height, apply(frame, [0, shape.canal_y, 0]), shape.canal)
        )  # fmt: skip
    for v in SACRAL_IDS[:-1]:
        frame = poses[v] @ anatomy.frames[v]
        y, w, d = sacral_canal(anatomy.build, v)
        a, b, h = sacral_body(anatomy.build, v)
        out.append(Level(v, frame[:3, 3], frame[:3, :3], a, b, h, apply(frame, [0, y, 0]), (w, d)))
    return out


def landmarks(anatomy: Anatomy, poses: Poses | None = None) -> dict[tuple[int, int], Float]:
    """Points inside every subregion of every presacral vertebra, and the sacral body centres.

    Returns:
        (vertebra id, subregion id) -> (3,) mm, posed world.
    """
    poses = poses or pose(anatomy)
    found: dict[tuple[int, int], Float] = {}
    for number, bone in enumerate(anatomy.bones):
        world = poses[bone.moves_with] @ np.array(bone.frame)
        inner = np.concatenate([p.inner() for p in bone.parts])
        own, owner, lead = voxels.probe(bone, inner)
        places = apply(world, inner)
        room = _room(anatomy, poses, number, places)
        depth = np.minimum.reduce([-own, room - own, lead])
        for key in {(p.vertebra, p.label) for p in bone.parts if p.vertebra and p.label}:
            mine = np.array([(bone.parts[k].vertebra, bone.parts[k].label) == key for k in owner])
            if mine.any() and (key[0] not in SACRUM or key[1] == 50):
                best = int(np.argmax(np.where(mine, np.minimum(depth, 3.0), -np.inf)))
                if depth[best] > 0.5:
                    found[key] = places[best]
    return found


def _room(anatomy: Anatomy, poses: Poses, number: int, places: Float) -> Float:
    """Distance of points to the nearest other bone, less the joint gap, mm."""
    near = [np.full(len(places), 20.0)]
    for other, bone in enumerate(anatomy.bones):
        if other != number:
            local = apply(np.linalg.inv(poses[bone.moves_with] @ np.array(bone.frame)), places)
            low, high = bone.bounds()
            if (((local > low - 3) & (local < high + 3)).all(1)).any():
                near.append(np.asarray(voxels.probe(bone, local)[0], np.float64))
    return np.asarray(np.min(near, axis=0) - anatomy.build.joint_gap)


def rasterise(anatomy: Anatomy, grid: Grid, poses: Poses | None = None) -> TissueMap:
    """Tissue, masks and bone distance at the voxel centres of a grid.

    Args:
        grid: Any spacing; its axes are brought to R, A, S order first.
        poses: From `pose`; the neutral pose by default.
    """
    poses = poses or pose(anatomy)
    grid = grid.canonical()
    spine = levels(anatomy, poses)
    bones = voxels.Bones.empty(grid.shape)
    for bone in anatomy.bones:
        voxels.add(bone, poses[bone.moves_with] @ np.array(bone.frame), grid, bones)
    voxels.separate(bones, anatomy.build.joint_gap)
    cols = canal.columns(grid, spine)
    box, sac = canal.sac_distance(grid, cols, room=0.5)
    bones.distance[box] = np.maximum(bones.distance[box], -sac)  # nothing grows into the canal
    voxels.drop_crumbs(bones)
    solid = bones.distance < 0
    vertebrae = np.where(solid, bones.vertebra, 0).astype(np.uint8)
    subregions = np.where(solid, bones.label, 0).astype(np.uint8)
    canal.add_canal(grid, subregions, solid, cols)
    canal.add_discs(grid, subregions, solid, spine)
    distance = voxels.bone_distance(bones.distance, grid)
    rng = np.random.default_rng([anatomy.seed, 5])
    posed = {v: poses[v] @ f for v, f in anatomy.frames.items()}
    body = None if anatomy.pelvis is None else _pelvic_body(anatomy, poses, posed, distance)
    tissue = surround(grid, vertebrae, subregions, distance, spine, rng, body)
    operate(tissue, grid, anatomy.build, posed)
    subject = replace(anatomy.subject, centres=_centres(posed))
    return TissueMap(grid, tissue, vertebrae, subregions, distance, subject)


def _pelvic_body(
    anatomy: Anatomy, poses: Poses, posed: dict[int, Float], distance: NDArray[np.int8]
) -> Body:
    """What lies round the bones of a pelvis; all of it moves with the sacrum."""
    assert anatomy.pelvis is not None
    world = poses[SACRAL_IDS[0]] @ np.array(anatomy.pelvis.frame)
    depth = {v: sacral_body(anatomy.build, v)[1] for v in SACRAL_IDS[:-1]}
    depth[SACRAL_IDS[-1]] = COCCYX_HALF_DEPTH * anatomy.build.size
    return pelvic_body(anatomy.pelvis, posed, world, depth, distance)
