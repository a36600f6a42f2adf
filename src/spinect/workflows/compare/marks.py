"""The landmarks of the training pairs: as people set them, or with a planted misalignment."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spinect.geometry import Grid
from spinect.geometry.landmarks import Key, Landmarks
from spinect.geometry.transform import apply, rigid
from spinect.geometry.volume import Kind
from spinect.io import read, read_poi, write_poi
from spinect.workflows.register import Pair

Float = NDArray[np.float64]
_MOTION: Final = 2  # stream of random numbers; 0 and 1 are the errors on MR and CT


@dataclass(frozen=True)
class Errors:
    """How the landmarks of the training pairs are off.

    Attributes:
        sigma_mm: SD of the error of each landmark along each axis, on both scans.
        seed: Of the errors, which are the same at every level and misalignment.
        shift_mm: Length of a shift of all MR landmarks in a random direction.
        turn_deg: Their turn about the head-feet axis through their middle, either way.
    """

    sigma_mm: float
    seed: int
    shift_mm: float = 0.0
    turn_deg: float = 0.0

    @property
    def motion(self) -> dict[str, float]:
        """What is asked for of the misalignment, by field; empty where nothing is."""
        asked = {"shift_mm": self.shift_mm, "turn_deg": self.turn_deg}
        return {key: value for key, value in asked.items() if value}


def misalignment(errors: Errors, number: int, middle: ArrayLike) -> Float:
    """The rigid motion of a subject's MR landmarks, in the MR's world.

    x -> R (x - m) + m + t with |t| = shift_mm in a direction drawn evenly from the sphere, and R a
    turn by -+ turn_deg about the head-feet axis (z of RAS+). Direction and sign are drawn once per
    subject from (experiment's seed, subject), so that they are the same at every dose.

    Args:
        number: Of the subject. middle: m, (3,) mm.
    Returns:
        (4, 4) mm. A registration by landmarks, M: CT -> MR, becomes this motion after M.
    """
    rng = np.random.default_rng([errors.seed, number, _MOTION])
    direction = rng.standard_normal(3)
    sign = rng.choice([-1, 1])
    shift = errors.shift_mm * direction / np.linalg.norm(direction)
    return rigid([0, 0, sign * np.deg2rad(errors.turn_deg)], shift, middle)


def marked(pair: Pair, errors: Errors, view: Path) -> Pair:
    """The pair with landmarks in `view` that are off as asked for.

    Landmarks that leave their image by it are left out, for no person sets one there.
    """
    if errors.sigma_mm == 0 and not errors.motion:
        return pair
    number = int(pair.participant.removeprefix("sub-"))
    made: dict[str, Any] = {}
    scans: tuple[tuple[Kind, Path | None, Path | None], ...] = (
        ("mr", pair.mr, pair.mr_landmarks),
        ("ct", pair.ct, pair.ct_landmarks),
    )
    for stream, (kind, image, source) in enumerate(scans):
        if image is None or source is None:
            continue
        rng = np.random.default_rng([errors.seed, number, stream])
        points = read_poi(source).points
        moved = {k: points[k] + errors.sigma_mm * rng.standard_normal(3) for k in sorted(points)}
        grid = read(image, kind).grid
        seen = _seen(grid, moved)
        if kind == "mr" and errors.motion:
            motion = misalignment(errors, number, np.mean(list(seen.values()), axis=0))
            seen = _seen(grid, {key: apply(motion, point) for key, point in seen.items()})
        made[f"{kind}_landmarks"] = view / "landmarks" / source.name
        write_poi(Landmarks(seen), made[f"{kind}_landmarks"])
    return replace(pair, **made)


def _seen(grid: Grid, points: Mapping[Key, Float]) -> dict[Key, Float]:
    """Those within a voxel of a grid."""
    return {key: point for key, point in points.items() if _within(grid, point)}


def _within(grid: Grid, point: ArrayLike) -> bool:
    at = grid.index(point)
    return bool(np.all((at >= -0.5) & (at <= np.array(grid.shape) - 0.5)))
