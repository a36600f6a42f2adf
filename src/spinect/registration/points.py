"""Two sets of landmarks before any fit: what they share, whether they fit each other at all."""

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spinect.anatomy import ORDER, SUBREGIONS, VERTEBRAE
from spinect.errors import LandmarkError
from spinect.geometry.landmarks import WHOLE, Key, Landmarks
from spinect.registration.result import Points, rank

Float = NDArray[np.float64]

BODY_CENTRE: Final = 50
SPINOUS: Final = 42
LEAST_SPREAD_MM: Final = 1.0  # below it the rotation about the long axis is free
SAFE_SPREAD_MM: Final = 6.0  # below it that rotation is decided by the noise of the landmarks
MIRROR_DEPTH_MM: Final = 3.0  # thinner sets look the same in a mirror
MIRROR_FACTOR: Final = 2.0  # how much better a mirrored fit must be


def name(key: Key) -> str:
    """A landmark in words, such as "L3 spinous process"."""
    part = "whole" if key[1] == WHOLE else SUBREGIONS.get(key[1], str(key[1]))
    return f"{level(key[0])} {part}"


def level(vertebra: int) -> str:
    """The name of a vertebra id, or the id itself."""
    return VERTEBRAE.get(vertebra, str(vertebra))


def levels(vertebrae: Iterable[int]) -> str:
    """Names of vertebrae, head to feet, separated by commas."""
    return ", ".join(level(v) for v in sorted(vertebrae, key=rank))


def choose(moving: Landmarks, fixed: Landmarks, points: Points) -> tuple[Landmarks, Landmarks]:
    """The landmarks of a registration level that both scans have.

    Args:
        points: "1" body centres, "2" body centres and spinous processes, "all".
    Raises:
        LandmarkError: They share none.
    """
    wanted = {"1": {BODY_CENTRE}, "2": {BODY_CENTRE, SPINOUS}}.get(points)
    keys = [k for k in fixed.common(moving) if wanted is None or k[1] in wanted]
    if not keys:
        mine, other = ({k[1] for k in marks} for marks in (moving, fixed))
        raise LandmarkError(
            f"the scans share no landmark for {points} point(s) per vertebra: subregions "
            f"{sorted(mine)} of {levels(moving.vertebrae) or 'nothing'} against {sorted(other)} "
            f"of {levels(fixed.vertebrae) or 'nothing'}. Name both by the same scheme, or ask "
            "for all points"
        )
    return tuple(Landmarks({k: marks[k] for k in keys}) for marks in (moving, fixed))  # type: ignore[return-value]


def without(marks: Landmarks, keys: Iterable[Key]) -> Landmarks:
    """All points but these."""
    out = set(keys)
    return Landmarks({k: p for k, p in marks.points.items() if k not in out})


def singular(points: Float) -> Float:
    """(3,) RMS extent of points along their principal axes, mm, largest first."""
    values = np.zeros(3)
    found = np.linalg.svd(points - points.mean(0), compute_uv=False) / np.sqrt(len(points))
    values[: len(found)] = found
    return values


def spread(points: Float) -> float:
    """Second singular value of the centred points over the root of their number, mm."""
    return float(singular(points)[1])


def check_spread(points: Float, what: str) -> float:
    """The spread of points that must determine a rigid motion.

    Raises:
        LandmarkError: Fewer than three points, or points on one line.
    """
    if len(points) < 3:
        raise LandmarkError(
            f"{len(points)} common landmark(s), a rigid motion needs three or more: "
            "mark more vertebrae, or a second point on each"
        )
    found = spread(points)
    if found < LEAST_SPREAD_MM:
        raise LandmarkError(
            f"the {len(points)} common landmarks of the {what} lie on one line (spread "
            f"{found:.2f} mm, {LEAST_SPREAD_MM:g} mm needed), so the rotation about it is free: "
            "mark a second point on each vertebra, such as the spinous process"
        )
    return found


def check_mirror(moving: Float, fixed: Float) -> None:
    """Refuse points that only a mirror brings together.

    Args:
        moving, fixed: (N, 3) corresponding points, mm.
    Raises:
        LandmarkError: A reflection fits far better than any rotation.
    """
    if min(singular(moving)[2], singular(fixed)[2]) < MIRROR_DEPTH_MM:
        return
    a, b = moving - moving.mean(0), fixed - fixed.mean(0)
    u, s, vt = np.linalg.svd(a.T @ b)
    if np.linalg.det(u @ vt) > 0:
        return
    total = (a**2).sum() + (b**2).sum()
    turned, mirrored = (
        float(np.sqrt(max(total - 2 * (s[0] + s[1] + sign * s[2]), 0) / len(a))) for sign in (-1, 1)
    )
    if turned > MIRROR_FACTOR * mirrored:
        raise LandmarkError(
            f"one set of landmarks is mirrored: a reflection leaves {mirrored:.1f} mm, the best "
            f"rotation {turned:.1f} mm. Left and right are exchanged in one image or in its "
            "labels: correct its header or the labels first"
        )


def natural_error(moving: Landmarks, fixed: Landmarks) -> float:
    """Mean absolute difference of distances between consecutive landmarks, mm; NaN without any.

    Consecutive are neighbours, head to feet, of one subregion among the common keys. No rigid
    motion changes it: it shows bending, wrong levels and sloppy points before any fit.
    """
    keys = fixed.common(moving)
    differences = []
    for part in sorted({subregion for _, subregion in keys}):
        row = [k for k in keys if k[1] == part]
        steps = [np.diff(marks.array(row), axis=0) for marks in (moving, fixed)]
        first, second = (np.linalg.norm(step, axis=1) for step in steps)
        differences.extend(np.abs(first - second))
    return float(np.mean(differences)) if differences else float("nan")


def renamed(vertebrae: Iterable[int], steps: int) -> dict[int, int]:
    """Every vertebra's name `steps` levels lower; the first and last may have none.

    Levels are counted along the vertebrae that are given, and by `ORDER` beyond them.
    """
    given = set(vertebrae)
    here = [v for v in ORDER if v in given or v not in (25, 28)]
    place = {v: i for i, v in enumerate(here)}
    moved = {v: place[v] + steps for v in given if v in place}
    return {v: here[index] for v, index in moved.items() if 0 <= index < len(here)}


def relabelled(marks: Landmarks, steps: int, among: Iterable[int] = ()) -> Landmarks:
    """The same points, every vertebra named `steps` levels lower; the first and last may go.

    Args:
        among: Vertebrae that the spine is known to have besides, such as L6 of the other scan.
    """
    names = renamed((*marks.vertebrae, *among), steps)
    return Landmarks({(names[v], part): p for (v, part), p in marks.points.items() if v in names})


def match_levels(
    moving: Landmarks, fixed: Landmarks, moving_from_fixed: Float, max_mm: float = 20.0
) -> tuple[Landmarks, dict[int, int]]:
    """Name the moving vertebrae after the nearest fixed bodies; the closer pair wins.

    Args:
        moving, fixed: Both with body centres (50, or 40 for the whole vertebra).
        moving_from_fixed: (4, 4) where the scans lie before registration.
        max_mm: Bodies farther apart stay unmatched and leave the result.
    Returns:
        The moving landmarks under their new names, and old id -> new id.
    Raises:
        LandmarkError: Nothing matches.

    Source: the matching of T1w series in Graf et al. 2023.
    """
    centres = [
        {v: m[v, part] for part in (WHOLE, BODY_CENTRE) for v in m.vertebrae if (v, part) in m}
        for m in (moving, fixed.moved(moving_from_fixed))
    ]
    pairs = sorted(
        (float(np.linalg.norm(a - b)), old, new)
        for old, a in centres[0].items()
        for new, b in centres[1].items()
    )
    names: dict[int, int] = {}
    for distance, old, new in pairs:
        if distance <= max_mm and old not in names and new not in names.values():
            names[old] = new
    if not names:
        nearest = f"{pairs[0][0]:.0f} mm apart" if pairs else "missing in one scan"
        raise LandmarkError(
            f"no body of one scan lies within {max_mm:g} mm of one of the other (the nearest are "
            f"{nearest}): align the scans first, or name the levels by hand"
        )
    kept = {(names[v], part): p for (v, part), p in moving.points.items() if v in names}
    return Landmarks(kept), names


def kabsch(moving: Float, fixed: Float) -> Float:
    """moving_from_fixed (4, 4) of corresponding points (N, 3): least squares, never a mirror.

    Source: Umeyama, IEEE TPAMI 13:376 (1991), eq. 40-43, with the scale fixed to 1.
    """
    middle, other = fixed.mean(0), moving.mean(0)
    u, _, vt = np.linalg.svd((moving - other).T @ (fixed - middle))
    turn = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = other - turn @ middle
    return matrix
