"""Tissue maps of real vertebra shapes: a label map or surfaces, varied and set in phantom tissue.

Every vertebra gets an affine of its own (up to 12 %), a smooth warp of SD 1-2 mm and a new place
in the chain, so that one real spine becomes many that differ in shape and posture.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from spinect.anatomy import ORDER
from spinect.data.parts import Frame, find_frames, radius, split
from spinect.data.spaces import canal_of, fill_canal, fill_discs
from spinect.data.synthesise import bone_distance, refuse_withheld, smooth_field, unlabelled
from spinect.errors import LabelError
from spinect.geometry import Grid, Volume
from spinect.geometry.resample import to_iso
from spinect.phantom.canal import CANAL, DISC, Level
from spinect.phantom.maps import Subject, TissueMap
from spinect.phantom.surroundings import surround

SCALE_SUBJECT, SCALE_OWN = 0.09, 0.03  # largest relative change per axis; together 12 %
TURN_SD_DEG, SPACING_SD_MM = 3.0, 0.8  # articulation between neighbours
WARP_SD_MM, WARP_REACH_MM = (1.0, 2.0), 14.0
SOFT_SIGMA = 0.7  # voxels: takes the staircase off a 1 mm mask, keeps plates of one voxel
PAD = 6  # voxels around a vertebra
MARGIN_MM = {"side": 70.0, "front": 95.0, "back": 45.0}  # of soft tissue around the bones

Float = NDArray[np.float64]


def tissue_map_from_shapes(labels: Volume, seed: int, name: str) -> TissueMap:
    """One variation of a real spine in phantom soft tissue.

    Args:
        labels: Vertebra ids, any grid; 1 mm or finer is best.
        seed: Of everything random; the same seed gives the same map.
        name: Of the source, checked against `synthesise.WITHHELD`.
    Returns:
        1 mm isotropic, axes R, A, S. `known` is 0 beyond the outermost labelled vertebrae.
    Raises:
        ConfigError: A withheld source. LabelError: no vertebra with a whole foramen.
    """
    refuse_withheld(name)
    rng = np.random.default_rng([seed, 7])
    source = to_iso(labels)
    if rng.random() < 0.5:
        source = source.with_data(np.ascontiguousarray(source.data[::-1]))
    pieces = _pieces(source, name)
    poses = _poses(pieces, rng)
    grid = _target_grid(pieces, poses)
    vertebrae = _rasterised(pieces, poses, grid, rng)
    frames = find_frames(vertebrae, grid)
    parts = split(vertebrae, grid, frames)
    distance = bone_distance(vertebrae > 0)
    canal = canal_of(frames)
    _, spaces = fill_canal(canal, vertebrae == 0, grid, rng)
    parts[spaces > 0] = CANAL
    parts[(fill_discs(vertebrae, parts, grid, frames) > 0) & (spaces == 0)] = DISC
    tissue = surround(grid, vertebrae, parts, distance, [_level(f) for f in frames.values()], rng)
    age = float(rng.uniform(20, 88))
    return TissueMap(
        grid=grid,
        tissue=tissue,
        vertebrae=vertebrae,
        subregions=parts,
        bone_distance=distance,
        subject=Subject(
            seed=seed,
            age=age,
            sex="F" if rng.random() < 0.5 else "M",
            marrow_fat=float(np.interp(age, [25, 85], [0.25, 0.60]) + 0.05 * rng.normal()),
            trabecular_hu=float(np.clip(250 - 2.2 * (age - 25) + 40 * rng.normal(), 30, 350)),
            centres={v: tuple(f.centre.tolist()) for v, f in frames.items()},
            source=f"shape:{name}",
        ),
        known=(~unlabelled(vertebrae, canal, grid, frames)).astype(np.uint8),
    )


def _level(frame: Frame) -> Level:
    """The frame in the words of `phantom.canal`."""
    half = radius(frame.contour, np.array([1.0, 0, -1, 0]), np.array([0, 1.0, 0, -1]))
    return Level(
        vertebra=frame.vertebra,
        centre=frame.centre,
        axes=frame.axes.T,
        half_width=frame.width / 2,
        half_depth=frame.depth / 2,
        height=frame.height,
        canal=frame.origin,
        canal_half=(float(half[0] + half[2]) / 2, float(half[1] + half[3]) / 2),
    )


@dataclass(frozen=True, eq=False)
class _Piece:
    """One vertebra cut out of its source.

    Attributes:
        soft: Smoothed occupancy on `grid`.
        frame: Where its body lies.
        cut: Whether the source ends inside the vertebra.
    """

    soft: NDArray[np.float32]
    grid: Grid
    frame: Frame
    cut: bool


def _pieces(source: Volume, name: str) -> dict[int, _Piece]:
    frames = find_frames(source.data.astype(np.uint8), source.grid)
    if not any(f.whole for f in frames.values()):
        raise LabelError(
            f"{name}: none of {len(frames)} labelled vertebrae shows a closed foramen; "
            "at least one whole vertebra is needed to find the canal"
        )
    boxes = ndimage.find_objects(source.data.astype(np.uint8))
    out = {}
    for v, frame in frames.items():
        box = boxes[v - 1]
        mask = np.pad(source.data[box] == v, PAD).astype(np.float32)
        out[v] = _Piece(
            soft=ndimage.gaussian_filter(mask, SOFT_SIGMA),
            grid=source.grid.crop([s.start - PAD for s in box], mask.shape),
            frame=frame,
            cut=box[2].start == 0 or box[2].stop == source.data.shape[2],
        )
    return out


def _poses(pieces: Mapping[int, _Piece], rng: np.random.Generator) -> dict[int, Float]:
    """Vertebra id -> (4, 4) new world from old world: scaled, turned, moved along the chain."""
    scale = 1 + rng.uniform(-SCALE_SUBJECT, SCALE_SUBJECT, 3)
    order = [v for v in reversed(ORDER) if v in pieces]
    matrices = {v: pieces[v].frame.matrix for v in order}
    placed = {order[0]: matrices[order[0]]}
    for lower, upper in pairwise(order):
        step = np.linalg.inv(matrices[lower]) @ matrices[upper]
        step[:3, 3] *= scale
        step[2, 3] += SPACING_SD_MM * rng.normal()
        turn = np.eye(4)
        angles = rng.normal(0, TURN_SD_DEG, 3) * (1.0, 0.5, 0.5)  # flexion is the freest
        turn[:3, :3] = Rotation.from_euler("xyz", np.clip(angles, -6, 6), degrees=True).as_matrix()
        placed[upper] = placed[lower] @ _about_disc(step, turn)
    out = {}
    for v in order:
        stretch = np.eye(4)
        stretch[:3, :3] *= scale * (1 + rng.uniform(-SCALE_OWN, SCALE_OWN, 3))
        out[v] = placed[v] @ stretch @ np.linalg.inv(matrices[v])
    return out


def _about_disc(step: Float, turn: Float) -> Float:
    """`step` with `turn` applied about the point half way to the upper body."""
    middle = np.eye(4)
    middle[:3, 3] = step[:3, 3] / 2
    return np.asarray(middle @ turn @ np.linalg.inv(middle) @ step)


def _target_grid(pieces: Mapping[int, _Piece], poses: Mapping[int, Float]) -> Grid:
    """1 mm grid around all vertebrae; it ends where the source cut a vertebra."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    floor, roof = -np.inf, np.inf
    centre = np.mean([_moved(p.frame.centre[None], poses[v]) for v, p in pieces.items()], (0, 1))
    for v, piece in pieces.items():
        corners = _moved(piece.grid.corners(), poses[v])
        low, high = np.minimum(low, corners.min(0)), np.maximum(high, corners.max(0))
        if piece.cut:
            up = _moved(piece.frame.centre[None], poses[v])[0, 2] > centre[2]
            ends = np.sort(corners[:, 2])
            inset = PAD + 2
            if up:
                roof = min(roof, ends[4:].min() - inset)
            else:
                floor = max(floor, ends[:4].max() + inset)
    low -= (MARGIN_MM["side"], MARGIN_MM["back"], 8)
    high += (MARGIN_MM["side"], MARGIN_MM["front"], 8)
    low[2], high[2] = max(low[2], floor), min(high[2], roof)
    affine = np.eye(4)
    affine[:3, 3] = np.floor(low)
    size = np.ceil(high - low).astype(int)
    return Grid((int(size[0]), int(size[1]), int(size[2])), affine)


def _moved(points: Float, matrix: Float) -> Float:
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])


def _rasterised(
    pieces: Mapping[int, _Piece], poses: Mapping[int, Float], grid: Grid, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Vertebra ids on `grid`; where two would touch, a joint gap stays between them."""
    best = np.zeros(grid.shape, np.float32)
    second = np.zeros(grid.shape, np.float32)
    out = np.zeros(grid.shape, np.uint8)
    for v, piece in pieces.items():
        corners = grid.index(_moved(piece.grid.corners(), poses[v]))
        low = np.maximum(np.floor(corners.min(0)) - 4, 0).astype(int)
        high = np.minimum(np.ceil(corners.max(0)) + 5, grid.shape).astype(int)
        if (high <= low).any():
            continue
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        share = _warped(piece, np.asarray(np.linalg.inv(poses[v])), grid.crop(low, high - low), rng)
        first, other, ids = best[box], second[box], out[box]
        wins = share > first
        np.maximum(other, np.where(wins, first, share), out=other)
        first[wins] = share[wins]
        ids[wins] = v
    out[(best < 0.5) | (second > 0.3)] = 0
    return _cleaned(out)


def _warped(
    piece: _Piece, old_from_new: Float, grid: Grid, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Occupancy of a vertebra on `grid` after a smooth random displacement."""
    spread = rng.uniform(*WARP_SD_MM) / np.sqrt(3)  # SD of the length, not of each component
    index_from_new = np.linalg.inv(piece.grid.affine) @ old_from_new @ grid.affine
    i, j, k = np.ogrid[tuple(slice(n) for n in grid.shape)]
    at = [
        (m[0] * i + m[3]).astype(np.float32)
        + (m[1] * j + m[2] * k).astype(np.float32)
        + smooth_field(grid.shape, WARP_REACH_MM, spread, rng)
        for m in index_from_new[:3]
    ]
    return np.asarray(ndimage.map_coordinates(piece.soft, at, order=1), np.float32)


def _cleaned(vertebrae: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each vertebra without crumbs that the joint gaps cut off."""
    out = np.zeros_like(vertebrae)
    for v, box in enumerate(ndimage.find_objects(vertebrae), 1):
        if box is None:
            continue
        labels, _ = ndimage.label(vertebrae[box] == v)
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        out[box][(sizes >= 0.02 * sizes.sum())[labels]] = v
    return out
