"""Whether one number per item orders items as another does: ranks, and what is left at risk.

Items are voxels with a spread and an error, or vertebrae with a confidence and a Dice.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinect.errors import ImageError

Array = NDArray[Any]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class RiskCoverage:
    """The mean risk of the items that are kept when the doubtful ones are turned away.

    Attributes:
        coverage: (n,) share of items that is kept, rising from 1/n to 1.
        risk: (n,) mean risk of those, the most trusted first.
        oracle: (n,) the same in the order of the risk itself: no order lies below it.
        aurc: Mean of `risk`: the area under the curve.
        excess: `aurc` minus that of the oracle; 0 for an order that is the risk's.
    """

    coverage: Float64
    risk: Float64
    oracle: Float64
    aurc: float
    excess: float

    @property
    def blind(self) -> float:
        """The area of an order that knows nothing: the mean risk of all."""
        return float(self.risk[-1])


def risk_coverage(risk: Array, doubt: Array) -> RiskCoverage:
    """Risk-coverage curve.

    Items of equal doubt each count with the mean risk of all that are equal, which is the
    expectation over their orders.

    Args:
        risk: (n,) what is lost with each item, such as 1 - Dice; at least 0.
        doubt: (n,) the larger, the sooner an item is turned away.
    Raises:
        ImageError: No items, or another number of risks than of doubts, or a value that is not
            finite.
    """
    one, other = _pair(risk, doubt)
    kept, best = (_kept(one, order) for order in (other, one))
    area = float(kept.mean())
    share = np.arange(1, len(one) + 1) / len(one)
    return RiskCoverage(share, kept, best, area, area - float(best.mean()))


def rank_correlation(one: Array, other: Array) -> float:
    """Spearman's rank correlation; equal values share a rank.

    Args:
        one, other: (n,) finite values.
    Returns:
        NaN where either is constant.
    Raises:
        ImageError: No values, different numbers of them, or a value that is not finite.
    """
    a, b = (r - r.mean() for r in map(_ranks, _pair(one, other)))
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > 0 else math.nan


def left(errors: Float64, order: Float64) -> Float64:
    """Mean error of the rest over that of all, after 0 ... n - 1 items of largest `order`.

    Args:
        errors: (n,) at least 0, not all 0.
        order: (n,); items of equal order each count with the mean error of all that are equal.
    """
    kept = _kept(errors, order)
    return np.asarray(kept[::-1] / kept[-1])


def _kept(risk: Float64, order: Float64) -> Float64:
    """Mean risk of the 1 ... n items of least `order`."""
    _, group, sizes = np.unique(order, return_inverse=True, return_counts=True)
    shared = np.bincount(group, weights=risk) / sizes
    rising = np.repeat(shared, sizes)
    return np.asarray(np.cumsum(rising) / np.arange(1, len(rising) + 1))


def _ranks(values: Float64) -> Float64:
    """Ranks from 1; equal values get the mean of theirs."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(sizes) - (sizes - 1) / 2)[group])


def _pair(one: Array, other: Array) -> tuple[Float64, Float64]:
    a, b = (np.asarray(x, np.float64).ravel() for x in (one, other))
    if a.size != b.size or not a.size:
        raise ImageError(f"{a.size} values cannot be set against {b.size}: each needs a partner")
    for values in (a, b):
        if not np.isfinite(values).all():
            bad = int(np.count_nonzero(~np.isfinite(values)))
            raise ImageError(f"{bad} of {a.size} values are not finite: leave those items out")
    return a, b
