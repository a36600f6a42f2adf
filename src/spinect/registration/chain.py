"""The spine as a chain of rigid pieces: the most probable motion of each from noisy landmarks.

Model: a landmark x of piece v lies at M_v x + noise, SD sigma per axis. From one piece to the next
the motion changes by a rotation of SD s per axis about the middle between their centres, and by a
shift of SD s * LENGTH_MM there (Gaussian both): a random walk along the spine. How the whole
spine lies is free. With ratio = s / sigma the most probable motions do not depend on sigma.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.spatial.transform import Rotation

from spinect.geometry.landmarks import Key
from spinect.registration.points import BODY_CENTRE
from spinect.registration.result import piece_of, rank
from spinect.registration.twist import cross

Float = NDArray[np.float64]
LENGTH_MM: Final = 20.0  # shift between neighbours over their rotation in rad (assumed)
STEPS: Final = 30
CONVERGED: Final = 1e-9  # rad and mm


@dataclass(frozen=True, eq=False)
class Chain:
    """The landmarks of two scans, piece by piece; the moving ones roughly aligned already.

    Attributes:
        pieces: Ids head to feet.
        owner: (N,) index of the piece of each landmark.
        fixed, moving: (N, 3) mm; moving in the fixed world.
        centres: (P, 3) the point about which each piece's motion is written.
        joints: (P - 1, 3) where neighbours turn against each other.
        gaps: (P - 1,) levels from one piece to the next; missing vertebrae count.
    """

    pieces: tuple[int, ...]
    owner: NDArray[np.intp]
    fixed: Float
    moving: Float
    centres: Float
    joints: Float
    gaps: Float

    @classmethod
    def of(cls, keys: Sequence[Key], fixed: Float, moving: Float) -> "Chain":
        """The chain of some landmarks; a piece's centre is its body's, else its points' mean."""
        pieces = tuple(sorted({piece_of(v) for v, _ in keys}, key=rank))
        place = {v: i for i, v in enumerate(pieces)}
        owner = np.array([place[piece_of(v)] for v, _ in keys], np.intp)
        body = np.array([part == BODY_CENTRE for _, part in keys])
        centres = []
        for i in range(len(pieces)):
            own = owner == i
            best = own & body if (own & body).any() else own
            # the sacrum's highest body is the one that the spine stands on
            centres.append(fixed[best][0] if body[best].any() else fixed[best].mean(0))
        middles = np.array(centres)
        gaps = np.diff([_place(v, pieces) for v in pieces]).astype(float)
        joints = (middles[1:] + middles[:-1]) / 2
        return cls(pieces, owner, fixed, moving, middles, joints, np.maximum(gaps, 1.0))

    def stiff(self) -> "Chain":
        """The same landmarks on one single piece."""
        middle = self.fixed.mean(0, keepdims=True)
        nothing = np.zeros((0, 3))
        owner = np.zeros_like(self.owner)
        return Chain(
            self.pieces[:1], owner, self.fixed, self.moving, middle, nothing, nothing[:, 0]
        )


def _place(vertebra: int, pieces: tuple[int, ...]) -> int:
    """Levels from the top; T13 and L6 count only where they are present."""
    absent = [v for v in (28, 25) if v not in pieces and rank(v) < rank(vertebra)]
    return rank(vertebra) - len(absent)


@dataclass(frozen=True, eq=False)
class State:
    """A motion per piece, and what the landmarks say about it.

    Attributes:
        turns, shifts: (P, 3, 3) and (P, 3): x -> turn (x - centre) + centre + shift.
        errors: (N, 3) moving minus moved fixed landmarks, mm.
        hat: (N, 3, N, 3) linear answer of the moved landmarks to the measured ones.
    """

    turns: Float
    shifts: Float
    errors: Float
    hat: Float

    def motion(self, chain: Chain, piece: int) -> Float:
        """(4, 4) motion of a piece in the fixed world."""
        matrix = np.eye(4)
        centre = chain.centres[piece]
        matrix[:3, :3] = self.turns[piece]
        matrix[:3, 3] = centre + self.shifts[piece] - self.turns[piece] @ centre
        return matrix


def solve(chain: Chain, ratio: float, enough: float = CONVERGED) -> State:
    """The most probable motions by Gauss-Newton.

    Args:
        ratio: SD of the rotation between neighbours over that of a landmark, rad / mm; above 0.
            For a spine without motion solve `chain.stiff()`, where it plays no part.
        enough: Largest step, rad and mm, at which it ends.
    """
    count = len(chain.pieces)
    turns, shifts = np.tile(np.eye(3), (count, 1, 1)), np.zeros((count, 3))
    for _ in range(STEPS):
        errors, slope = _landmarks(chain, turns, shifts)
        prior, bends = _prior(chain, turns, shifts, ratio)
        factor = linalg.cho_factor(slope.T @ slope + prior.T @ prior)
        pull = slope.T @ errors.ravel() - prior.T @ bends
        step = linalg.cho_solve(factor, pull).reshape(count, 6)
        turns = Rotation.from_rotvec(step[:, :3]).as_matrix() @ turns
        shifts = shifts + step[:, 3:]
        if np.abs(step).max() < enough:
            break
    errors, slope = _landmarks(chain, turns, shifts)
    n = len(errors)
    hat = slope @ linalg.cho_solve(factor, slope.T)
    return State(turns, shifts, errors, hat.reshape(n, 3, n, 3))


def linearised(chain: Chain, state: State) -> tuple[Float, Float, Float, Float]:
    """The landmarks and the bends about a state, linear in the (P, 6) steps of its motions.

    Returns:
        Errors (3N,) with slope (3N, 6P), mm, and bends (6(P-1),) with slope, in rad, in units of
        `LENGTH_MM` and of the root of the gap: a step takes slope @ step from the errors and adds
        it to the bends.
    """
    errors, slope = _landmarks(chain, state.turns, state.shifts)
    prior, bends = _prior(chain, state.turns, state.shifts, 1.0)
    return errors.ravel(), slope, bends, prior


def tie_scale(chain: Chain) -> float:
    """Log density scale of the bends of `linearised` with ratio 1: the sum of their log weights."""
    return float(-6 * 0.5 * np.log(chain.gaps).sum() - 3 * len(chain.gaps) * np.log(LENGTH_MM))


def _landmarks(chain: Chain, turns: Float, shifts: Float) -> tuple[Float, Float]:
    """Errors (N, 3), and (3N, 6P) how the moved landmarks answer to (rotation, shift)."""
    n, count = len(chain.owner), len(chain.pieces)
    slope = np.zeros((n, 3, count, 6))
    arms = np.einsum("nij,nj->ni", turns[chain.owner], chain.fixed - chain.centres[chain.owner])
    moved = arms + chain.centres[chain.owner] + shifts[chain.owner]
    for i, (piece, arm) in enumerate(zip(chain.owner, arms, strict=True)):
        slope[i, :, piece, :3] = -cross(arm)
        slope[i, :, piece, 3:] = np.eye(3)
    return chain.moving - moved, slope.reshape(3 * n, 6 * count)


def _prior(chain: Chain, turns: Float, shifts: Float, ratio: float) -> tuple[Float, Float]:
    """Slope (6(P-1), 6P) and value of the bends between neighbours, in units of the noise."""
    count = len(chain.pieces)
    slope, value = np.zeros((count - 1, 6, count, 6)), np.zeros((count - 1, 6))
    for j, joint in enumerate(chain.joints):
        value[j, :3] = Rotation.from_matrix(turns[j + 1] @ turns[j].T).as_rotvec()
        for piece, sign in ((j, -1.0), (j + 1, 1.0)):
            arm = turns[piece] @ (joint - chain.centres[piece])
            value[j, 3:] += sign * (arm + chain.centres[piece] + shifts[piece])
            slope[j, :3, piece, :3] = sign * np.eye(3)
            slope[j, 3:, piece, :3] = -sign * cross(arm)
            slope[j, 3:, piece, 3:] = sign * np.eye(3)
    weight = np.repeat([1.0, 1 / LENGTH_MM], 3) / (ratio * np.sqrt(chain.gaps)[:, None])
    slope *= weight[:, :, None, None]
    return slope.reshape(6 * (count - 1), 6 * count), (value * weight).ravel()
