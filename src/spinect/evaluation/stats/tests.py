"""Paired tests and effect sizes; one value per patient and method.

Every function takes two arrays of shape (patients,) in the same order of patients, and looks at
`first - second`.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from spinect.errors import InputError

Floats = NDArray[np.float64]
Alternative = Literal["two-sided", "less", "greater"]
EXACT_UP_TO: Final = 100  # patients; above it the Wilcoxon p is the normal approximation
DIGITS: Final = 12  # relative to the largest value; what is below is rounding noise


@dataclass(frozen=True)
class Outcome:
    """What a test found.

    Attributes:
        test: Name, as a table prints it.
        n: Patients.
        statistic: t, or the smaller of the two rank sums.
        p: NaN where the test is not defined; `note` says why.
    """

    test: str
    n: int
    statistic: float
    p: float
    note: str = ""


def differences(first: ArrayLike, second: ArrayLike) -> Floats:
    """`first - second`, with rounding noise taken off.

    0.3 - 0.2 and 0.2 - 0.1 differ in the 17th digit; ranks would call that a difference. Digits
    below 1e-12 of the largest absolute value are therefore rounded away, so that ties and zeros
    are what they look like.

    Raises:
        InputError: Different shapes, not one-dimensional, empty, or values that are not finite.
    """
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.shape != two.shape or one.ndim != 1 or not one.size:
        raise InputError(
            f"a paired test needs one value per patient from both methods, "
            f"got shapes {one.shape} and {two.shape}: average within patients and pair them first"
        )
    bad = int((~(np.isfinite(one) & np.isfinite(two))).sum())
    if bad:
        raise InputError(
            f"{bad} of {one.size} pairs hold a value that is not finite: "
            "leave these patients out and say so, or give them their worst value"
        )
    scale = float(max(np.abs(one).max(), np.abs(two).max()))
    if scale == 0:
        return np.zeros_like(one)
    return np.asarray(np.round((one - two) / scale, DIGITS) * scale)


def t_test(first: ArrayLike, second: ArrayLike, alternative: Alternative = "two-sided") -> Outcome:
    """Paired t-test (scipy's `ttest_rel`), the papers' test.

    Defined cases: all differences 0 gives t = 0 and p = 1; fewer than two patients, or equal
    differences other than 0, give NaN, since without spread there is nothing to judge by (the
    limit p = 0 would be a claim from two patients).
    """
    change = differences(first, second)
    name, n = "paired t-test", change.size
    if not change.any():
        return Outcome(name, n, 0.0, 1.0, "all differences are zero")
    if n < 2:
        return Outcome(name, n, math.nan, math.nan, "one patient: no spread to judge by")
    if np.ptp(change) == 0:
        note = "all differences are equal: no spread to judge by"
        return Outcome(name, n, math.nan, math.nan, note)
    found = stats.ttest_1samp(change, 0.0, alternative=alternative)
    return Outcome(name, n, float(found.statistic), float(found.pvalue))


def wilcoxon(
    first: ArrayLike, second: ArrayLike, alternative: Alternative = "two-sided"
) -> Outcome:
    """Wilcoxon signed-rank test; zeros by Pratt, ties by mean ranks.

    Zeros are ranked with the others and then dropped (Pratt 1959), so a method that changes
    nothing in most patients gains nothing from them. Up to `EXACT_UP_TO` patients p is exact given
    the ranks, ties and zeros included: the distribution of the sum of the positive ranks when
    every sign is a fair coin, by convolution. Above, scipy's normal approximation with its
    correction for ties and zeros.

    Source: Wilcoxon, Biometrics Bulletin 1:80 (1945); Pratt, JASA 54:655 (1959).
    """
    change = differences(first, second)
    name, n = "Wilcoxon signed-rank", change.size
    above, below = rank_sums(change)
    informative = int(np.count_nonzero(change))
    if not informative:
        return Outcome(name, n, 0.0, 1.0, "all differences are zero")
    if n <= EXACT_UP_TO:
        p = _exact_p(change, above, alternative)
    else:
        found = stats.wilcoxon(
            change, zero_method="pratt", alternative=alternative, method="approx"
        )
        p = float(found.pvalue)
    least = 2.0 ** (1 - informative) if alternative == "two-sided" else 2.0**-informative
    note = ""
    if least > 0.05:
        zeros = f" ({n - informative} without any difference)" if informative < n else ""
        note = f"with n = {n}{zeros} p cannot fall below {least:.3g}"
    return Outcome(name, n, min(above, below), p, note)


def rank_sums(change: Floats) -> tuple[float, float]:
    """Sums of the ranks of positive and of negative differences, Pratt's zeros, mean ranks."""
    ranks = stats.rankdata(np.abs(change))
    return float(ranks[change > 0].sum()), float(ranks[change < 0].sum())


def _exact_p(change: Floats, above: float, alternative: Alternative) -> float:
    """P of a sum of positive ranks as extreme as `above`; ranks are doubled to be integers."""
    ranks = stats.rankdata(np.abs(change))[change != 0]
    steps = np.rint(2 * ranks).astype(int)
    chance = np.ones(1)
    for step in steps:
        longer = np.zeros(chance.size + step)
        longer[: chance.size] += chance / 2
        longer[step:] += chance / 2
        chance = longer
    at = round(2 * above)
    greater, less = float(chance[at:].sum()), float(chance[: at + 1].sum())
    if alternative == "two-sided":
        return min(1.0, 2 * min(greater, less))
    return min(1.0, greater if alternative == "greater" else less)


def cohen_dz(first: ArrayLike, second: ArrayLike, *, corrected: bool = True) -> float:
    """Mean difference over the standard deviation of the differences, times Hedges' correction.

    J(df) = Gamma(df / 2) / (sqrt(df / 2) Gamma((df - 1) / 2)), df = n - 1, takes off the upward
    bias of few patients. 0 when all differences are 0; NaN when they are equal but not 0, or
    df < 2 with the correction.

    Source: Hedges, J. Educational Statistics 6:107 (1981), eq. 6e.
    """
    change = differences(first, second)
    if not change.any():
        return 0.0
    freedom = change.size - 1
    if freedom < (2 if corrected else 1) or np.ptp(change) == 0:
        return math.nan
    raw = float(change.mean() / change.std(ddof=1))
    if not corrected:
        return raw
    log_j = special.gammaln(freedom / 2) - special.gammaln((freedom - 1) / 2)
    return raw * math.exp(log_j) / math.sqrt(freedom / 2)


def rank_biserial(first: ArrayLike, second: ArrayLike) -> float:
    """(R+ - R-) / (R+ + R-) of the signed ranks, in [-1, 1]; 0 when all differences are 0.

    Source: Kerby, Comprehensive Psychology 3:11.IT.3.1 (2014), the simple difference formula.
    """
    above, below = rank_sums(differences(first, second))
    return (above - below) / (above + below) if above + below else 0.0


def hodges_lehmann(first: ArrayLike, second: ArrayLike) -> float:
    """Median of the Walsh averages (d_i + d_j) / 2, i <= j: the difference that fits Wilcoxon.

    Source: Hodges and Lehmann, Annals of Mathematical Statistics 34:598 (1963).
    """
    change = differences(first, second)
    i, j = np.triu_indices(change.size)
    return float(np.median((change[i] + change[j]) / 2))
