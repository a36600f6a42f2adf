"""p values of several tests that are read together."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from spinect.errors import InputError

Floats = NDArray[np.float64]


def holm(p: ArrayLike) -> Floats:
    """Holm's step-down adjusted p values: the chance of any false positive in the family.

    Sorted, p_(k) becomes the largest of (m - j + 1) p_(j) over j <= k, at most 1. A NaN is a test
    that could not be made: it takes no part (m does not count it) and stays NaN.

    Args:
        p: (tests,), in [0, 1] or NaN.
    Raises:
        InputError: A p outside [0, 1].

    Source: Holm, Scandinavian Journal of Statistics 6:65 (1979).
    """
    values = _checked(p)
    made = np.flatnonzero(~np.isnan(values))
    order = made[np.argsort(values[made], kind="stable")]
    factors = np.arange(order.size, 0, -1)
    adjusted = values.copy()
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * values[order]), 1.0)
    return adjusted


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """Benjamini and Hochberg's adjusted p values: the share of false among the positives.

    NaN as in `holm`.

    Source: Benjamini and Hochberg, JRSS B 57:289 (1995), by scipy's `false_discovery_control`.
    """
    values = _checked(p)
    made = ~np.isnan(values)
    adjusted = values.copy()
    if made.any():
        adjusted[made] = stats.false_discovery_control(values[made], method="bh")
    return adjusted


def _checked(p: ArrayLike) -> Floats:
    values = np.atleast_1d(np.asarray(p, np.float64))
    outside = values[(values < 0) | (values > 1)]
    if outside.size:
        raise InputError(f"p values lie in [0, 1], got {outside[0]:g}: pass p, not statistics")
    return values
