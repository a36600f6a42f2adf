"""Whether two sets of landmarks fit better with the levels of one renamed.

Two scans of one spine are compared under every naming by the same chain of rigid pieces that
`chain` fits: what counts is the shape of each vertebra and the distances and angles between
neighbours, as far as noise and bending leave them. The evidence of a naming is the probability of
one scan's points given the other's: the motions are integrated out in closed form, the noise and
the bending on a grid. Two namings are compared on the points that both of them match, so neither
gains by matching fewer.

What cannot be seen: a spine whose neighbours are alike looks the same one level higher. Few
levels with one or two points each, noisy and bent, rarely tell; `docs/registration.md` has the
measured rates. Nothing found is no proof that the names are right.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.special import logsumexp

from spinect.geometry.landmarks import Key, Landmarks
from spinect.geometry.transform import apply, invert
from spinect.registration.chain import Chain, linearised, solve, tie_scale
from spinect.registration.points import LEAST_SPREAD_MM, kabsch, renamed, spread

Float = NDArray[np.float64]

LARGEST: Final = 2  # levels up and down that are tried
LEAST_POINTS: Final = 4  # 12 numbers, of which the motion of the whole takes six
NOISE_MM: Final = np.geomspace(0.3, 12.0, 28)  # SD per axis of a landmark difference (assumed)
RATIOS: Final = 3e-4 * 2.0 ** np.arange(9)  # bending over noise, rad / mm, as in `chain`
MOST_BEND_DEG: Final = 8.0  # SD per level; lying persons bend less (assumed)
START_RATIO: Final = 0.01  # bending at which the chain is made linear
NEAR: Final = 1e-3  # rad and mm; the linear step from there is exact to its square


def level_odds(moving: Landmarks, fixed: Landmarks) -> dict[int, float]:
    """How many times more probable the points are when the moving names move by some levels.

    Returns:
        Levels towards the feet (negative: head) -> odds against the names as they are; without
        the namings that leave too few points to compare.

    When the names are right, odds above n / p for any of n namings happen with a probability of at
    most p (Markov's inequality), as far as the chain describes noise and bending.
    """
    tried = {}
    for steps in (s for s in range(-LARGEST, LARGEST + 1) if s):
        odds = _log_odds(moving, fixed, renamed((*moving.vertebrae, *fixed.vertebrae), steps))
        if odds is not None:
            tried[steps] = float(np.exp(np.clip(odds, -700, 700)))
    return tried


def _log_odds(moving: Landmarks, fixed: Landmarks, names: Mapping[int, int]) -> float | None:
    """Log odds of new names of the moving vertebrae; None where too few points match both ways.

    The mean of two comparisons, on those points of either scan that both namings match. Markov's
    bound holds for the mean too (Cauchy-Schwarz).
    """
    old = {new: former for former, new in names.items()}
    found = []
    for one, other, partner in ((moving, fixed, names), (fixed, moving, old)):
        pairs = [(k, (partner.get(k[0], -1), k[1])) for k in one]
        pairs = [(k, new) for k, new in pairs if k in other and new in other]
        asis, renamed_keys = [k for k, _ in pairs], [new for _, new in pairs]
        points = one.array(asis)
        sets = other.array(asis), other.array(renamed_keys)
        if len(pairs) < LEAST_POINTS or min(map(spread, (points, *sets))) < LEAST_SPREAD_MM:
            continue
        # pieces are called by the names of the fixed scan
        called = asis, renamed_keys if one is moving else asis
        found.append(_evidence(points, sets[1], called[1]) - _evidence(points, sets[0], called[0]))
    return float(np.mean(found)) if found else None


def _evidence(points: Float, base: Float, keys: list[Key]) -> float:
    """Log probability density of points (N, 3), given those of the other scan, up to a constant.

    The motion of the whole is integrated over all motions, bends over their normal distribution.
    Noise and ratio are averaged over the grid, both evenly on a logarithmic scale.
    """
    start = kabsch(points, base)
    chain = Chain.of(keys, base, apply(invert(start), points))
    errors, slope, bends, prior = linearised(chain, solve(chain, START_RATIO, NEAR))
    gram, tie = slope.T @ slope, prior.T @ prior
    free = errors.size - 6
    grid = np.full((len(RATIOS), len(NOISE_MM)), -np.inf)
    for row, ratio in zip(grid, RATIOS, strict=True):
        factor = linalg.cho_factor(gram + tie / ratio**2, lower=True)
        pull = slope.T @ errors - prior.T @ bends / ratio**2
        square = errors @ errors + bends @ bends / ratio**2 - pull @ linalg.cho_solve(factor, pull)
        depth = np.log(np.diag(factor[0])).sum() + len(bends) * np.log(ratio)
        known = np.rad2deg(ratio * NOISE_MM) <= MOST_BEND_DEG
        row[known] = (-free * np.log(NOISE_MM) - square / (2 * NOISE_MM**2) - depth)[known]
    return float(logsumexp(grid)) + tie_scale(chain)
