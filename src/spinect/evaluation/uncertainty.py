"""Whether the spread of repeated samples tells the error: calibration, ordering, gain.

The theory behind every figure: K samples are draws from p(CT | MR) and the truth is one draw more.
Then, with s^2 the variance at a voxel, the mean of K samples has the expected squared error
s^2 (1 + 1/K), one sample 2 s^2, and the truth is as likely to have one rank among the K + 1 values
as any other. All figures are taken over a mask, because one voxel has one error only.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinect.errors import ConfigError, GeometryError, ImageError
from spinect.evaluation.ordering import left, rank_correlation
from spinect.evaluation.surface import Mask

Array = NDArray[Any]
Float64 = NDArray[np.float64]


def interval_ranks(samples: int, coverage: float) -> tuple[int, int]:
    """Ranks i, j = K + 1 - i of the narrowest symmetric interval of at least this coverage.

    The nominal coverage is (j - i) / (K + 1): 0.8 of 10 samples gives ranks 1 and 10, 9/11.

    Raises:
        ConfigError: The coverage is not within 0-1, or more than even (K - 1) / (K + 1).
    """
    if not 0 < coverage < 1:
        raise ConfigError(f"the coverage of an interval lies between 0 and 1, not {coverage:g}")
    low = math.floor((samples + 1) * (1 - coverage) / 2 + 1e-9)
    if low < 1:
        need = math.ceil((1 + coverage) / (1 - coverage) - 1e-9)
        raise ConfigError(
            f"{samples} samples reach a coverage of {(samples - 1) / (samples + 1):.3g} at most, "
            f"not {coverage:g}: draw at least {need} or ask for less"
        )
    return low, samples + 1 - low


def nominal_coverage(samples: int, ranks: tuple[int, int]) -> float:
    """(j - i) / (K + 1): one more draw lies between the i-th and the j-th of K, 1 <= i < j <= K."""
    low, high = ranks
    if not 1 <= low < high <= samples:
        raise ConfigError(f"ranks {low} and {high} are not 1 <= i < j <= {samples}")
    return (high - low) / (samples + 1)


def coverage(lower: Array, upper: Array, truth: Array, mask: Mask | None = None) -> float:
    """Share of voxels with lower <= truth <= upper.

    Where the truth may equal a sample exactly (air at -1000 HU) it exceeds the nominal coverage.

    Raises:
        ImageError: The mask is empty.
    """
    low, high, t = _rows(mask, lower, upper, truth)
    return float(((low <= t) & (t <= high)).mean())


def spread(std: Array, mask: Mask | None = None) -> float:
    """Root of the mean variance over the mask, in the unit of `std`.

    Raises:
        ImageError: The mask is empty.
    """
    (s,) = _rows(mask, std)
    return math.sqrt(float(np.square(s).mean()))


def spread_skill(
    mean: Array, std: Array, truth: Array, samples: int, mask: Mask | None = None
) -> float:
    """Spread over error: sqrt((K + 1) / K * mean(std^2) / mean((mean - truth)^2)).

    1 for draws from the true distribution, below 1 where the samples agree more than they should.

    Args:
        mean, std: Over K samples; the divisor of the variance is K - 1.
        samples: K.
    Returns:
        NaN where the mean has no error.
    Raises:
        ImageError: The mask is empty.
    """
    m, s, t = _rows(mask, mean, std, truth)
    return _ratio(float(np.square(s).mean()), float(np.square(m - t).mean()), samples)


def expected_gain(samples: int) -> float:
    """10 log10(2 / (1 + 1/K)), dB: what PSNR gains from averaging K draws; 2.60 dB for K = 10."""
    return 10 * math.log10(2 / (1 + 1 / samples))


@dataclass(frozen=True)
class Averaging:
    """What means of k draws are worth.

    Attributes:
        samples: k.
        gain: 10 log10(MSE of single draws / MSE of means of k), dB; NaN where the means have no
            error.
        spread_skill: As `spread_skill`, of k draws; NaN for k = 1 as well.
    """

    samples: int
    gain: float
    spread_skill: float


def averaging(
    draws: Array, truth: Array, samples: int | None = None, mask: Mask | None = None
) -> Averaging:
    """Gain and calibration of means of k of the K draws.

    The means are those of the first k draws, the next k, and so on, floor(K / k) of them; their
    errors and variances are averaged before any ratio, and so are the errors of all K draws. Small
    k therefore use the same draws as large ones, and one draw is in memory at a time.

    Args:
        draws: (K, *spatial), HU.
        samples: k, 1 to K; None is K.
    Raises:
        ConfigError: k is not within 1-K.
        ImageError: The mask is empty.
    """
    k = len(draws) if samples is None else samples
    if not 1 <= k <= len(draws):
        raise ConfigError(f"a mean of {k} samples cannot be made of {len(draws)} draws")
    (t,) = _rows(mask, truth)
    single, error, variance = [], [], []
    total, squares = np.zeros_like(t), np.zeros_like(t)
    for number, draw in enumerate(draws, start=1):
        off = _rows(mask, draw)[0] - t
        single.append(float(np.square(off).mean()))
        total += off
        squares += off**2
        if number % k == 0:
            error.append(float(np.square(total / k).mean()))
            variance.append(float((squares - total**2 / k).mean()) / max(k - 1, 1))
            total[:], squares[:] = 0, 0
    mse = float(np.mean(error))
    gain = 10 * math.log10(float(np.mean(single)) / mse) if mse > 0 else math.nan
    ratio = _ratio(float(np.mean(variance)), mse, k) if k > 1 else math.nan
    return Averaging(k, gain, ratio)


@dataclass(frozen=True)
class Sparsification:
    """What is left of the error when the most uncertain voxels are taken away.

    Attributes:
        removed: (points,) share of voxels taken away, 0 to below 1.
        error: Mean absolute error of the rest over that of all, in the order of the spread.
        oracle: The same in the order of the error itself: no order falls faster.
        ause: Mean of error - oracle over every number of voxels taken away; 0 for a spread that
            orders voxels as their errors do.
    """

    removed: Float64
    error: Float64
    oracle: Float64
    ause: float


def sparsification(
    mean: Array, std: Array, truth: Array, mask: Mask | None = None, points: int = 100
) -> Sparsification:
    """Sparsification curve and the area between it and the oracle's (AUSE).

    With voxels in falling order of spread and errors e_1 ... e_n, the curve after r voxels is
    mean(e_{r+1} ... e_n) / mean(e_1 ... e_n), r = 0 ... n - 1. Voxels of equal spread each count
    with the mean error of all that are equal, which is the expectation over their orders.

    Args:
        points: Of the curve that is returned; AUSE uses every r.
    Returns:
        NaN everywhere but in `removed` where no voxel has an error.
    Raises:
        ImageError: The mask is empty.
    """
    m, s, t = _rows(mask, mean, std, truth)
    errors = np.abs(m - t)
    at = np.arange(points) * len(errors) // points
    removed = at / len(errors)
    if not errors.any():
        lost = np.full(points, math.nan)
        return Sparsification(removed, lost, lost, math.nan)
    curve, oracle = left(errors, s), left(errors, errors)
    ause = float((curve - oracle).mean())
    return Sparsification(removed, curve[at], oracle[at], ause)


def error_spread_correlation(
    mean: Array, std: Array, truth: Array, mask: Mask | None = None
) -> float:
    """Spearman's rank correlation of |mean - truth| with the spread; equal values share a rank.

    Returns:
        NaN where either is constant.
    Raises:
        ImageError: The mask is empty.
    """
    m, s, t = _rows(mask, mean, std, truth)
    return rank_correlation(np.abs(m - t), s)


def _ratio(variance: float, mse: float, samples: int) -> float:
    """Root of (K + 1) / K variance / MSE; NaN where there is no error."""
    ratio = (samples + 1) / samples * max(variance, 0.0) / mse if mse > 0 else math.nan
    return math.sqrt(ratio)


def _rows(mask: Mask | None, *arrays: Array) -> list[Float64]:
    """The voxels that count of each array, float64."""
    shapes = {a.shape for a in arrays} | ({mask.shape} if mask is not None else set())
    if len(shapes) > 1:
        raise GeometryError(f"images and mask differ in shape: {sorted(shapes)}")
    rows = [np.asarray(a if mask is None else a[mask], np.float64).ravel() for a in arrays]
    if not rows[0].size:
        raise ImageError("the mask of the uncertainty is empty: there is nothing to compare")
    return rows
