"""What a registration found, and how far it can be trusted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from spinect.anatomy import ORDER, SACRUM, VERTEBRA_IDS
from spinect.geometry.landmarks import Key, Landmarks

Float = NDArray[np.float64]
Verdict = Literal["accept", "review", "reject"]
Points = Literal["1", "2", "all"]
Model = Literal["rigid", "polyrigid"]
S1: Final = VERTEBRA_IDS["S1"]


def piece_of(vertebra: int) -> int:
    """The rigid piece that a vertebra id belongs to: the sacrum and coccyx move as one, S1."""
    return S1 if vertebra in SACRUM else vertebra


def rank(vertebra: int) -> int:
    """Place from head to feet; ids that no scheme knows come last."""
    return ORDER.index(vertebra) if vertebra in ORDER else len(ORDER) + vertebra


@dataclass(frozen=True, eq=False)
class RigidFit:
    """One rigid motion of a whole set of landmarks.

    Attributes:
        moving_from_fixed: (4, 4) mm, RAS+, rotation and translation.
        residual_mm: Distance that remains per common key, rejected ones included.
        rejected: Keys that the fit left out as outliers.
        loo_mm: Mean distance at a vertebra's landmarks when they are left out of the fit; a
            vertebra without which the others leave the motion open has none.
        noise_mm: SD per axis of what remains, both scans together.
        spread_mm: Second singular value of the used fixed points over the root of their number.
        axial_error_deg: Expected SD of the rotation about the points' long axis.
    """

    moving_from_fixed: Float
    residual_mm: Mapping[Key, float]
    rejected: tuple[Key, ...]
    loo_mm: Mapping[int, float]
    noise_mm: float
    spread_mm: float
    axial_error_deg: float


@dataclass(frozen=True, eq=False)
class PolyrigidFit:
    """One rigid motion per vertebra, tied along the spine.

    Attributes:
        moving_from_fixed: (4, 4) the rigid motion of the whole set.
        vertebrae: Id -> (4, 4) moving_from_fixed of that vertebra; all ids of the sacrum share one.
        residual_mm, rejected, loo_mm: As in `RigidFit`, under the motions per vertebra.
        noise_mm: Estimated SD per axis of a landmark difference.
        motion_deg: Estimated SD of the rotation between neighbours per axis; 0 is the rigid fit.
        borrowed: Pieces whose own points leave a rotation open, which neighbours decide.
        rigid: The fit that it starts from.
    """

    moving_from_fixed: Float
    vertebrae: Mapping[int, Float]
    residual_mm: Mapping[Key, float]
    rejected: tuple[Key, ...]
    loo_mm: Mapping[int, float]
    noise_mm: float
    motion_deg: float
    borrowed: tuple[int, ...]
    rigid: RigidFit


@dataclass(frozen=True, eq=False)
class Registration:
    """Where the points of an MR lie in a CT.

    Attributes:
        ct_from_mr: (4, 4) mm, RAS+ world to RAS+ world, the motion of the whole body.
        vertebrae: Id -> (4, 4) ct_from_mr of that vertebra; empty for a rigid registration.
        anchors: The landmarks that were used, MR world.
        residual_mm: Distance that remains per common key, rejected ones included.
        rejected: Keys that the fit left out as outliers.
        loo_mm: Mean distance at a vertebra's landmarks when they are left out of the fit.
        natural_mm: Mean difference of the distances between consecutive landmarks of the two
            scans, which no rigid fit can remove; without the rejected ones.
        natural_all_mm: The same with the rejected ones.
        spread_mm: How far the points lie about their long axis.
        axial_error_deg: Expected SD of the rotation about that axis.
        verdict, reason: Whether the result can be used, and why not.
        notes: What else a reader must know, one sentence each.
    """

    ct_from_mr: Float
    vertebrae: Mapping[int, Float]
    anchors: Landmarks
    residual_mm: Mapping[Key, float]
    rejected: tuple[Key, ...]
    loo_mm: Mapping[int, float]
    natural_mm: float
    natural_all_mm: float
    spread_mm: float
    axial_error_deg: float
    verdict: Verdict
    reason: str
    notes: tuple[str, ...]

    def nearest(self, vertebra: int) -> int | None:
        """The vertebra whose motion a vertebra takes: itself or the nearest one that has one."""
        if not self.vertebrae:
            return None
        own = rank(piece_of(vertebra))
        return min(self.vertebrae, key=lambda v: (abs(rank(piece_of(v)) - own), rank(v)))

    def of(self, vertebra: int) -> Float:
        """(4, 4) ct_from_mr of a vertebra; of the nearest one where it had no landmarks."""
        nearest = self.nearest(vertebra)
        return self.ct_from_mr if nearest is None else self.vertebrae[nearest]
