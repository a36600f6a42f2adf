"""One rigid motion per vertebra, as far from the common one as the landmarks can show."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from spinect.anatomy import SACRUM
from spinect.geometry.landmarks import Key, Landmarks
from spinect.geometry.transform import apply, invert
from spinect.registration.chain import Chain, State, solve
from spinect.registration.points import LEAST_SPREAD_MM, spread
from spinect.registration.result import S1, PolyrigidFit, piece_of
from spinect.registration.rigid import check_share, fit_rigid

Float = NDArray[np.float64]

# SD of the rotation between neighbours over that of a landmark, rad / mm: 0.1 to 800 degrees
# at 2.8 mm. The largest matter for points without noise only.
RATIOS: Final = tuple(6e-4 * 2.0**k for k in range(14))
MARGIN: Final = 4.0  # log score by which motion must beat the rigid fit
FLOOR_MM: Final = 0.01  # no landmark is known better; keeps the score finite without noise
OUTLIER_P: Final = 1e-4  # chance of an outlier among all landmarks if all are good
MEDIAN: Final = float(stats.chi2.median(3))


@dataclass(frozen=True, eq=False)
class _Choice:
    """A state of the chain with its ratio, log score and noise SD."""

    chain: Chain
    ratio: float
    state: State
    score: float
    noise: float


def fit_polyrigid(
    moving: Landmarks, fixed: Landmarks, *, robust_share: float = 0.2
) -> PolyrigidFit:
    """The most probable rigid motion of every vertebra.

    Args:
        moving, fixed: Named points, mm, RAS+ worlds of the two images; common names count.
        robust_share: At most this share of the landmarks is left out; 0 keeps all.
    Returns:
        The fit. How much neighbours move against each other is chosen by how well each vertebra's
        landmarks are predicted from the others'; where the rigid fit predicts as well, every
        vertebra moves rigidly.
    Raises:
        LandmarkError, ConfigError: As `fit_rigid`.
    """
    check_share(robust_share)
    rigid = fit_rigid(moving, fixed, robust_share=robust_share)
    keys, budget = list(fixed.common(moving)), int(robust_share * len(fixed.common(moving)))
    kept = list(keys)
    best = _choose(_chain(moving, fixed, kept, rigid.moving_from_fixed))
    while budget > 0:
        worst = _outlier(best)
        rest = [k for i, k in enumerate(kept) if i != worst]
        if worst is None or len(rest) < 4 or spread(fixed.array(rest)) < LEAST_SPREAD_MM:
            break
        kept, budget = rest, budget - 1
        best = _choose(_chain(moving, fixed, kept, rigid.moving_from_fixed))
    return _result(moving, fixed, kept, best, rigid.moving_from_fixed)


def _chain(moving: Landmarks, fixed: Landmarks, keys: list[Key], start: Float) -> Chain:
    return Chain.of(keys, fixed.array(keys), apply(invert(start), moving.array(keys)))


def _choose(chain: Chain) -> _Choice:
    """The ratio whose predictions of left-out vertebrae are most probable."""
    stiff = chain.stiff()
    rigid = _judge(chain, stiff, 0.0)
    if len(chain.pieces) < 3:  # two pieces predict nothing about each other's bend
        return rigid
    best = max((_judge(chain, chain, r) for r in RATIOS), key=lambda c: c.score)
    return best if best.score > rigid.score + MARGIN else rigid


def _judge(chain: Chain, solved: Chain, ratio: float) -> _Choice:
    """Solve, and score the prediction of each piece's landmarks from those of the others.

    With the hat matrix H of the linear problem, leaving out the block of a piece gives the errors
    (I - H)^-1 e with covariance sigma^2 (I - H)^-1; sigma maximises the score in closed form.
    """
    state = solve(solved, ratio)
    square, depth, n = 0.0, 0.0, 3 * len(chain.owner)
    for piece in range(len(chain.pieces)):
        left, errors = _left_out(state, np.flatnonzero(chain.owner == piece))
        square += float(errors @ np.linalg.solve(left, errors))
        depth -= float(np.linalg.slogdet(left)[1])
    variance = square / n + FLOOR_MM**2
    return _Choice(solved, ratio, state, -0.5 * (n * np.log(variance) + depth), variance**0.5)


def _left_out(state: State, own: NDArray[np.intp]) -> tuple[Float, Float]:
    """I - H and errors of some landmarks, flattened."""
    size = 3 * len(own)
    hat = state.hat[own][:, :, own].reshape(size, size)
    # a point that nothing else predicts has an eigenvalue 0: keep it finite
    return np.eye(size) * (1 + 1e-9) - hat, state.errors[own].ravel()


def _outlier(choice: _Choice) -> int | None:
    """The landmark that the others contradict most, if noise does not explain it."""
    count = len(choice.state.errors)
    strange = np.empty(count)
    for i in range(count):
        left, errors = _left_out(choice.state, np.array([i]))
        strange[i] = errors @ np.linalg.solve(left, errors)
    # the median is not moved by the outlier itself
    variance = float(np.median(strange)) / MEDIAN + FLOOR_MM**2
    limit = float(stats.chi2.isf(OUTLIER_P / count, 3))
    worst = int(strange.argmax())
    return worst if strange[worst] > limit * variance else None


def _result(
    moving: Landmarks,
    fixed: Landmarks,
    kept: list[Key],
    best: _Choice,
    start: Float,
) -> PolyrigidFit:
    used = [Landmarks({k: marks[k] for k in kept}) for marks in (moving, fixed)]
    rigid = fit_rigid(*used, robust_share=0.0)
    full = Chain.of(kept, fixed.array(kept), moving.array(kept))
    motions = {}
    for place, piece in enumerate(full.pieces):
        own = 0 if best.ratio == 0 else place
        motion = start @ best.state.motion(best.chain, own)
        motions[piece] = rigid.moving_from_fixed if best.ratio == 0 else motion
    residual = {
        k: float(np.linalg.norm(moving[k] - apply(motions.get(piece_of(k[0]), start), fixed[k])))
        for k in fixed.common(moving)
    }
    vertebrae = {v: motions[piece_of(v)] for v in fixed.vertebrae if piece_of(v) in motions}
    if S1 in motions:
        vertebrae |= {v: motions[S1] for v in SACRUM}
    loo, borrowed = {}, []
    for place, piece in enumerate(full.pieces):
        marks = np.flatnonzero(full.owner == place)
        left, errors = _left_out(best.state, marks)
        away = np.linalg.solve(left, errors).reshape(-1, 3)
        loo[piece] = float(np.linalg.norm(away, axis=1).mean())
        if len(marks) < 3 or spread(full.fixed[marks]) < LEAST_SPREAD_MM:
            borrowed.append(piece)
    return PolyrigidFit(
        moving_from_fixed=rigid.moving_from_fixed,
        vertebrae=vertebrae,
        residual_mm=residual,
        rejected=tuple(k for k in fixed.common(moving) if k not in kept),
        loo_mm=loo,
        noise_mm=best.noise,
        motion_deg=float(np.rad2deg(best.ratio * best.noise)),
        borrowed=tuple(borrowed),
        rigid=rigid,
    )
