"""What n patients can show: power, the smallest difference seen, and non-inferiority."""

import math
from dataclasses import dataclass
from typing import Literal

from numpy.typing import ArrayLike
from scipy import optimize, stats

from spinect.errors import InputError
from spinect.evaluation.stats.intervals import t_interval
from spinect.evaluation.stats.tests import differences, t_test


def power(effect: float, n: int, alpha: float = 0.05) -> float:
    """Chance that a two-sided paired t-test on n patients sees an effect, in [alpha, 1].

    Exact: t is noncentral t with n - 1 degrees of freedom and noncentrality effect sqrt(n).

    Args:
        effect: True mean difference over the standard deviation of the differences.
    Raises:
        InputError: n < 2, or alpha outside (0, 1).
    """
    _check(n, alpha)
    critical, shift = float(stats.t.isf(alpha / 2, n - 1)), abs(effect) * math.sqrt(n)
    if shift == 0:
        return alpha
    upper = float(stats.nct.sf(critical, n - 1, shift))
    return min(1.0, upper + float(stats.nct.cdf(-critical, n - 1, shift)))


def minimum_detectable(n: int, sd: float, *, alpha: float = 0.05, wanted: float = 0.8) -> float:
    """Smallest true mean difference that n patients show with the wanted power.

    Args:
        n: Patients.
        sd: Standard deviation of the paired differences, in the metric's unit.
        alpha: Of the two-sided paired t-test.
        wanted: Power, above alpha.
    Returns:
        Difference in the unit of `sd`.
    Raises:
        InputError: n < 2, a negative sd, or alpha < wanted < 1 does not hold.
    """
    _check(n, alpha)
    if not sd >= 0 or not math.isfinite(sd):
        raise InputError(f"the standard deviation of the differences is {sd}: it must be >= 0")
    if not alpha < wanted < 1:
        raise InputError(
            f"power must lie between alpha = {alpha} and 1, got {wanted}: 0.8 is usual"
        )
    above = 1.0
    while power(above, n, alpha) < wanted:
        above *= 2
    effect = optimize.brentq(lambda e: power(e, n, alpha) - wanted, 0.0, above, xtol=1e-12)
    return float(effect) * sd


def _check(n: int, alpha: float) -> None:
    if n < 2:
        raise InputError(f"a paired t-test needs 2 patients, got n = {n}")
    if not 0 < alpha < 1:
        raise InputError(f"alpha lies between 0 and 1, got {alpha}: 0.05 is usual")


@dataclass(frozen=True)
class NonInferiority:
    """Is the first method worse than the second by less than the margin?

    Attributes:
        n: Patients.
        mean_difference: First minus second, in the metric's unit.
        bound: The one-sided confidence bound on the side where the first is worse.
        margin: > 0, in the metric's unit; fixed before the data were seen.
        p: One-sided, of "worse by the margin or more".
        alpha: Of the one-sided test.
        shown: p < alpha, which is the same as a bound inside the margin.
        note: Why p is NaN.
    """

    n: int
    mean_difference: float
    bound: float
    margin: float
    p: float
    alpha: float
    shown: bool
    note: str = ""

    def __str__(self) -> str:
        verdict = "non-inferior" if self.shown else "non-inferiority not shown"
        text = (
            f"{verdict}: mean difference {self.mean_difference:+.4g}, one-sided "
            f"{1 - self.alpha:.1%} bound {self.bound:+.4g}, margin {self.margin:g}, "
            f"p = {self.p:.3g}, n = {self.n} patients"
        )
        return f"{text} ({self.note})" if self.note else text


def non_inferiority(
    first: ArrayLike,
    second: ArrayLike,
    *,
    margin: float,
    better: Literal["higher", "lower"],
    alpha: float = 0.025,
) -> NonInferiority:
    """One-sided paired t-test of "the first is worse by `margin` or more".

    alpha = 0.025 is the usual one: the bound is then an end of the two-sided 95 % interval.

    Args:
        first, second: (patients,), one value each.
        margin: > 0, in the unit of the values.
        better: Whether higher or lower values are better.
    Raises:
        InputError: A margin that is not positive, alpha outside (0, 0.5), or values as in
            `differences`.

    Source: Walker and Nowacki, J. General Internal Medicine 26:192 (2011).
    """
    if not margin > 0:
        raise InputError(f"a margin of non-inferiority is positive, got {margin}")
    if not 0 < alpha < 0.5:
        raise InputError(f"a one-sided alpha lies between 0 and 0.5, got {alpha}: 0.025 is usual")
    change = differences(first, second)
    interval = t_interval(change, 1 - 2 * alpha)
    if better == "higher":
        found, bound = t_test(change + margin, 0 * change, "greater"), interval.low
    else:
        found, bound = t_test(change - margin, 0 * change, "less"), interval.high
    mean = float(change.mean())
    shown = bool(found.p < alpha)
    return NonInferiority(change.size, mean, bound, margin, found.p, alpha, shown, found.note)
