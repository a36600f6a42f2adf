"""The neutral spine: where every vertebra stands, from curvature, heights and discs."""

import numpy as np

from spinect.phantom.shapes import Float
from spinect.phantom.subject import RANK, Build

# Share of lumbar lordosis taken by the disc below each vertebra, head (T12) to feet (L5).
_DISC_SHARE = {19: 0.02, 28: 0.02, 20: 0.10, 21: 0.15, 22: 0.20, 23: 0.26, 24: 0.29, 25: 0.29}
# Centre-to-centre distances, heights and turns of S1-S5 and the coccyx, mm and degrees.
SACRAL_IDS = (26, 29, 30, 31, 32, 27)
SACRAL_HEIGHTS = (30.0, 25.0, 21.5, 19.0, 16.0, 22.0)
SACRAL_TURNS = (6.0, 14.0, 20.0, 18.0, 14.0)


def rotation(axis: int, degrees: float) -> Float:
    """4x4 rotation about x (0), y (1) or z (2), right-handed."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.eye(4)
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def translation(x: float, y: float, z: float) -> Float:
    """4x4 translation, mm."""
    matrix = np.eye(4)
    matrix[:3, 3] = x, y, z
    return matrix


def neutral(build: Build, low: int = 26, high: int = 19) -> dict[int, Float]:
    """Vertebra id -> 4x4, neutral world from the vertebra's body frame.

    The chain starts at S1 (its body centre, tilted by the sacral slope) and is afterwards turned so
    that the line from `low` to `high` (ids) stands upright; L3 is the world's origin.
    """
    frames = {26: rotation(0, -build.slope)}
    _sacral(frames, build)
    below, below_height, below_tilt = frames[26], SACRAL_HEIGHTS[0] * build.size, 0.0
    for shape in reversed(build.shapes):
        v = shape.vertebra
        bend = _disc_bend(build, v) + np.rad2deg(below_tilt + shape.tilt)
        side, twist = _scoliosis(build, RANK[v])
        slip = build.slip[1] if build.slip and build.slip[0] == v else 0.0
        half = rotation(0, bend / 2) @ rotation(1, side / 2)
        frames[v] = (
            below
            @ translation(0, 0, below_height / 2)
            @ half
            @ translation(0, slip, shape.disc)
            @ half
            @ rotation(2, twist)
            @ translation(0, 0, shape.height / 2)
        )
        below, below_height, below_tilt = frames[v], shape.height, shape.tilt
    return _upright(frames, low, high, build.lean)


def _disc_bend(build: Build, vertebra: int) -> float:
    """Degrees by which `vertebra` leans back over its lower neighbour through the disc alone."""
    rank = RANK[vertebra]
    if rank >= 19:
        wedges = sum(2 * np.rad2deg(s.tilt) for s in build.shapes if RANK[s.vertebra] >= 20)
        return float(_DISC_SHARE[vertebra] * (build.lordosis - wedges))
    if rank >= 8:
        wedges = sum(2 * np.rad2deg(s.tilt) for s in build.shapes if 8 <= RANK[s.vertebra] < 20)
        return float((-build.kyphosis - wedges) / 11)
    return build.cervical / 6


def _scoliosis(build: Build, rank: float) -> tuple[float, float]:
    """Side bend and axial turn from the level below to this one, degrees."""
    cobb, apex, reach = build.scoliosis
    phase = (rank - apex) / reach
    if abs(phase) > 2:
        return 0.0, 0.0
    # a bend towards one side around the apex, countered above and below it
    profile = (
        np.cos(np.pi * phase / 2) if abs(phase) <= 1 else -0.5 * np.sin(np.pi * (abs(phase) - 1))
    )
    side = cobb / reach * 0.8 * profile
    return float(side), float(0.35 * cobb / reach * np.sin(np.pi * phase / 2))


def _sacral(frames: dict[int, Float], build: Build) -> None:
    for k, bend in enumerate(SACRAL_TURNS):
        upper, lower = SACRAL_IDS[k], SACRAL_IDS[k + 1]
        frames[lower] = (
            frames[upper]
            @ translation(0, 0, -SACRAL_HEIGHTS[k] / 2 * build.size)
            @ rotation(0, bend)
            @ translation(0, 0, -SACRAL_HEIGHTS[k + 1] / 2 * build.size)
        )


def _upright(
    frames: dict[int, Float], low: int, high: int, lean: tuple[float, float]
) -> dict[int, Float]:
    """Turn the chain so that the line between two vertebrae stands vertical but for `lean`."""
    chord = frames[high][:3, 3] - frames[low][:3, 3]
    forward = np.rad2deg(np.arctan2(chord[1], chord[2])) + lean[0]
    aside = np.rad2deg(np.arctan2(chord[0], chord[2])) + lean[1]
    upright = rotation(0, forward) @ rotation(1, -aside)
    turned = {v: upright @ m for v, m in frames.items()}
    origin = turned[22][:3, 3].copy()
    return {v: translation(*-origin) @ m for v, m in turned.items()}
