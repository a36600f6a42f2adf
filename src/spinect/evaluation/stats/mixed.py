"""Mixed model for slices and vertebrae within patients: one random intercept, fitted by REML."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from spinect.errors import InputError

Floats = NDArray[np.float64]
GRID: Final = np.linspace(-8, 8, 41)  # log10 of the variance ratio between / within patients


@dataclass(frozen=True)
class MixedEffect:
    """The effect of the method on values within patients.

    Attributes:
        difference: Fixed effect, first minus second, in the unit of the values.
        low, high: Interval at `level`.
        p: Two-sided; NaN where the fit did not converge.
        sd_patient, sd_residual: Spread of the difference between and within patients.
        n, n_values: Patients, and pairs of values.
        converged: False: every figure is NaN, and `note` says why.
    """

    difference: float
    low: float
    high: float
    level: float
    p: float
    sd_patient: float
    sd_residual: float
    n: int
    n_values: int
    converged: bool
    note: str = ""


def mixed_effect(
    first: ArrayLike,
    second: ArrayLike,
    patients: Sequence[str],
    *,
    factor: Sequence[str] | None = None,
    level: float = 0.95,
) -> MixedEffect:
    """Difference of two methods on the same slices or vertebrae, a random intercept per patient.

    d_ij = first_ij - second_ij = mu + factor_ij + u_i + e_ij with u_i ~ N(0, sd_patient^2), fitted
    by restricted maximum likelihood (REML), which with one random intercept is a search along one
    line, the ratio of the two variances. mu is the fixed effect of the method. Working on
    differences of the same vertebra takes each vertebra's own difficulty out, and u_i lets the
    effect differ between patients; a random intercept on the raw values would not, and calls too
    much significant where it does. p and interval use t with n - 1 degrees of freedom (n patients),
    not the normal distribution. With equally many values per patient and sd_patient > 0 they are
    those of the paired t-test on the patients' means.

    Args:
        first, second: (values,), the two methods on the same item of the same patient.
        patients: (values,), whose it is.
        factor: (values,), such as the level name; sum-coded, so mu is the unweighted mean over its
            categories.
        level: Coverage of the interval.
    Raises:
        InputError: Shapes differ, values are not finite, fewer than 3 patients, nothing repeated,
            or a factor that leaves mu open.

    Source: Laird and Ware, Biometrics 38:963 (1982); Pinheiro and Bates, Mixed-Effects Models
    (2000), section 2.4.2, for the degrees of freedom.
    """
    change, names, n = _checked(first, second, patients)
    fixed = _design(factor, change.size)
    if np.ptp(change) == 0:
        return _failed(change, n, level, "all differences are equal: no spread to judge by")
    likelihood = _Likelihood(change, fixed, names)
    ratio, note = _best_ratio(likelihood)
    if math.isnan(ratio):
        return _failed(change, n, level, f"not converged: {note}")
    effects, covariance, residual = likelihood.solve(ratio)
    difference, error = float(effects[0]), math.sqrt(float(covariance[0, 0]))
    half = float(stats.t.isf((1 - level) / 2, n - 1)) * error
    return MixedEffect(
        difference=difference,
        low=difference - half,
        high=difference + half,
        level=level,
        p=float(2 * stats.t.sf(abs(difference) / error, n - 1)),
        sd_patient=math.sqrt(ratio * residual),
        sd_residual=math.sqrt(residual),
        n=n,
        n_values=change.size,
        converged=True,
        note=note,
    )


class _Likelihood:
    """REML of y = X b + u_patient + e as a function of ratio = var(u) / var(e).

    With m_i values of patient i, (I + ratio J)^-1 = I - ratio / (1 + ratio m_i) J, so that sums
    over patients are all that is needed.
    """

    def __init__(self, y: Floats, x: Floats, names: NDArray[np.str_]) -> None:
        _, who = np.unique(names, return_inverse=True)
        self.y, self.x, self.who = y, x, who
        self.counts = np.bincount(who).astype(np.float64)
        self.y_sums = np.bincount(who, weights=y)
        self.x_sums = np.stack([np.bincount(who, weights=c) for c in x.T], axis=1)

    def solve(self, ratio: float) -> tuple[Floats, Floats, float]:
        """Fixed effects, their covariance, and the residual variance."""
        weights = ratio / (1 + ratio * self.counts)
        inner = self.x.T @ self.x - (self.x_sums.T * weights) @ self.x_sums
        effects = np.linalg.solve(
            inner, self.x.T @ self.y - (self.x_sums.T * weights) @ self.y_sums
        )
        left = self.y - self.x @ effects
        sums = np.bincount(self.who, weights=left)
        squares = float(left @ left - weights @ sums**2)
        variance = squares / (self.y.size - self.x.shape[1])
        covariance: Floats = variance * np.linalg.inv(inner)
        return np.asarray(effects, np.float64), covariance, variance

    def deviance(self, ratio: float) -> float:
        """-2 log restricted likelihood, up to a constant."""
        _, covariance, variance = self.solve(ratio)
        rest = self.y.size - self.x.shape[1]
        inner = -float(np.linalg.slogdet(covariance / variance)[1])
        between = float(np.log1p(ratio * self.counts).sum())
        return float(rest * math.log(variance) + between + inner)


def _best_ratio(likelihood: _Likelihood) -> tuple[float, str]:
    """The variance ratio of largest likelihood and a note; NaN when the search failed."""
    within = likelihood.y - (likelihood.y_sums / likelihood.counts)[likelihood.who]
    if np.abs(within).max() <= 1e-12 * np.abs(likelihood.y).max():
        return math.nan, "no spread within the patients: use the paired t-test on one value each"
    values = [likelihood.deviance(10.0**step) for step in GRID]
    best = int(np.argmin(values))
    if best == GRID.size - 1:
        return math.nan, f"the variance ratio runs above {10.0 ** GRID[-1]:g}"
    found = optimize.minimize_scalar(
        lambda step: likelihood.deviance(10.0 ** float(step)),
        bounds=(GRID[max(best - 1, 0)], GRID[best + 1]),
        method="bounded",
        options={"xatol": 1e-10},
    )
    if likelihood.deviance(0.0) <= min(float(found.fun), values[0]):
        return 0.0, "no spread between patients beyond that within: its variance is at its bound 0"
    if not found.success:
        return math.nan, str(found.message)
    return 10.0 ** float(found.x), ""


def _checked(
    first: ArrayLike, second: ArrayLike, patients: Sequence[str]
) -> tuple[Floats, NDArray[np.str_], int]:
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    names = np.asarray(patients, dtype=str)
    if not one.shape == two.shape == names.shape or one.ndim != 1:
        raise InputError(
            f"a mixed model needs pairs with their patient, got shapes {one.shape}, {two.shape} "
            f"and {names.shape}: pass three sequences of one length"
        )
    if not np.isfinite(one).all() or not np.isfinite(two).all():
        raise InputError("a mixed model needs finite values: leave the others out and say so")
    n = len(set(names.tolist()))
    if n < 3 or n == names.size:
        raise InputError(
            f"a mixed model needs at least 3 patients and several values of some, got {n} patients "
            f"with {names.size} values: use the paired t-test on one value per patient"
        )
    return one - two, names, n


def _design(factor: Sequence[str] | None, size: int) -> Floats:
    """Columns: ones, then sum-coded categories of the factor (the last one is -1 in each)."""
    columns = [np.ones(size)]
    if factor is not None:
        kinds = np.asarray(factor, dtype=str)
        if kinds.shape != (size,):
            raise InputError(
                f"the factor has shape {kinds.shape}, the values ({size},): one category for each"
            )
        *others, last = np.unique(kinds)
        columns += [(kinds == kind) - (kinds == last).astype(np.float64) for kind in others]
    design = np.stack(columns, axis=1)
    if np.linalg.matrix_rank(design) < design.shape[1] or design.shape[1] >= size:
        raise InputError(
            f"{size} values cannot tell {design.shape[1]} fixed effects apart: leave the factor out"
        )
    return design


def _failed(change: Floats, n: int, level: float, note: str) -> MixedEffect:
    nan = math.nan
    return MixedEffect(nan, nan, nan, level, nan, nan, nan, n, change.size, False, note)
