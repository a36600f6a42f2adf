"""Intervals of a mean over patients: t, BCa bootstrap, and a bootstrap of whole patients."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from spinect.errors import InputError

Floats = NDArray[np.float64]
RESAMPLES: Final = 9999


@dataclass(frozen=True)
class Interval:
    """A two-sided interval.

    Attributes:
        low, high: Ends, in the unit of the values; NaN where it is not defined.
        level: Intended coverage, such as 0.95.
        kind: "t", "BCa bootstrap" or "cluster bootstrap".
        n: Patients.
        note: Why it is NaN or has no width; "" for an ordinary one.
    """

    low: float
    high: float
    level: float
    kind: str
    n: int
    note: str = ""

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"no interval ({self.note})"
        return f"{self.level:.0%} {self.kind} [{self.low:.4g}, {self.high:.4g}]"


def t_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Mean -+ t quantile x standard error; values (patients,)."""
    x = _checked(values, level)
    settled = _settled(x, level, "t", least=2)
    if settled:
        return settled
    half = float(stats.t.isf((1 - level) / 2, x.size - 1)) * float(
        x.std(ddof=1) / math.sqrt(x.size)
    )
    return Interval(float(x.mean()) - half, float(x.mean()) + half, level, "t", x.size)


def bca(
    values: ArrayLike,
    level: float = 0.95,
    *,
    statistic: Callable[..., Any] = np.mean,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Bias-corrected and accelerated bootstrap over patients (scipy's `bootstrap`).

    For paired methods pass the differences: patients are drawn, and both their values with them.

    Args:
        values: (patients,). Fewer than 3 give NaN; equal ones an interval of no width; both say so.
        statistic: Callable with an `axis` argument.
        seed: Same seed, same interval.

    Source: Efron, JASA 82:171 (1987).
    """
    x = _checked(values, level)
    kind = "BCa bootstrap"
    settled = _settled(x, level, kind, least=3)
    if settled:
        return settled
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):  # 0 / 0: the note below
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (x,),
            statistic,
            n_resamples=resamples,
            confidence_level=level,
            method="BCa",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    if math.isnan(found.low) or math.isnan(found.high):
        note = f"the statistic does not change when one of the {x.size} patients is left out"
        return Interval(math.nan, math.nan, level, kind, x.size, note)
    return Interval(float(found.low), float(found.high), level, kind, x.size)


def cluster_bootstrap(
    groups: Mapping[str, Sequence[float]],
    level: float = 0.95,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Percentile bootstrap of the pooled mean: patients are drawn, with all their values.

    For figures that are means over all vertebrae or slices of all patients: these are not
    independent, patients are. The order of the patients in the mapping does not matter.

    Args:
        groups: Patient -> values of its slices or vertebrae; a patient without values has no place.

    Source: Davison and Hinkley, Bootstrap Methods and their Application (1997), section 3.8.
    """
    empty = [name for name, own in groups.items() if not len(own)]
    if empty:
        raise InputError(f"no value for {', '.join(empty)}: leave these patients out and say so")
    names = sorted(groups)
    kind = "cluster bootstrap"
    pooled = _checked(np.concatenate([np.empty(0), *(groups[name] for name in names)]), level)
    if len(names) < 3:
        return _undefined(level, kind, len(names), 3)
    if np.ptp(pooled) == 0:
        return _flat(pooled, level, kind, len(names))
    sums = np.array([np.sum(groups[name]) for name in names], np.float64)
    counts = np.array([len(groups[name]) for name in names], np.float64)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    means = (drawn @ sums) / (drawn @ counts)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level, kind, len(names))


def _checked(values: ArrayLike, level: float) -> Floats:
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or not x.size or not np.isfinite(x).all():
        raise InputError(
            f"an interval needs finite values of shape (n,), got shape {x.shape} with "
            f"{int((~np.isfinite(x)).sum())} that are not: leave these out and say so"
        )
    if not 0 < level < 1:
        raise InputError(f"an interval's level lies between 0 and 1, got {level}: 0.95 is usual")
    return x


def _settled(x: Floats, level: float, kind: str, least: int) -> Interval | None:
    """The interval of too few or of equal values."""
    if x.size < least:
        return _undefined(level, kind, x.size, least)
    return _flat(x, level, kind, x.size) if np.ptp(x) == 0 else None


def _undefined(level: float, kind: str, n: int, least: int) -> Interval:
    note = f"n = {n}: a {kind} interval needs {least} patients"
    return Interval(math.nan, math.nan, level, kind, n, note)


def _flat(x: Floats, level: float, kind: str, n: int) -> Interval:
    note = "all values are equal: the interval has no width and says nothing about precision"
    return Interval(float(x[0]), float(x[0]), level, kind, n, note)
