"""The mixed model against statsmodels, the paired t-test, and the cases it cannot settle."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLM

from spinect.errors import InputError
from spinect.evaluation.stats.mixed import mixed_effect

LEVELS = np.array(["L1", "L2", "L3", "L4"])


def unbalanced(seed, between=1.0):
    """12 patients with 2 to 8 vertebrae each; differences, whose, and which."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(2, 9, 12)
    who = np.repeat([f"p{k:02}" for k in range(12)], counts)
    level = np.concatenate([LEVELS[np.arange(k) % 4] for k in counts])
    change = rng.normal(0.3, 1, counts.sum()) + np.repeat(rng.normal(0, between, 12), counts)
    return change, who, level


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("with_level", [False, True])
def test_fit_is_statsmodels(seed, with_level):
    """Effect and both variances by REML; then the covariance of the effects by least squares."""
    change, who, level = unbalanced(seed)
    design = [np.ones(change.size)]
    if with_level:
        design += [(level == one) - 1.0 * (level == "L4") for one in LEVELS[:3]]
    x = np.stack(design, axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its optimisers talk while they try
        wanted = MixedLM(change, x, groups=who).fit(method=["bfgs", "powell"], gtol=1e-10)
    assert wanted.converged
    factor = level if with_level else None
    found = mixed_effect(change + 5, np.full(change.size, 5.0), who, factor=factor)
    assert found.difference == pytest.approx(wanted.fe_params[0], abs=1e-6)
    assert found.sd_patient == pytest.approx(math.sqrt(wanted.cov_re[0, 0]), abs=1e-6)
    assert found.sd_residual == pytest.approx(math.sqrt(wanted.scale), abs=1e-6)

    same = (who[:, None] == who[None]) * found.sd_patient**2
    full = same + np.eye(change.size) * found.sd_residual**2
    error = math.sqrt(np.linalg.inv(x.T @ np.linalg.solve(full, x))[0, 0])
    t = found.difference / error
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), 11), abs=1e-9)
    assert found.high - found.low == pytest.approx(2 * error * stats.t.isf(0.025, 11))
    assert (found.n, found.n_values, found.converged) == (12, change.size, True)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("seed", range(3))
def test_balanced_it_is_the_t_test_on_patient_means(seed, scale):
    rng = np.random.default_rng(seed)
    change = scale * (rng.normal(0.3, 1, (10, 6)) + rng.normal(size=(10, 1)))
    who = np.repeat([f"p{k}" for k in range(10)], 6)
    found = mixed_effect(change.ravel(), np.zeros(60), who)
    wanted = stats.ttest_1samp(change.mean(1), 0)
    assert found.difference == pytest.approx(change.mean())
    assert found.p == pytest.approx(wanted.pvalue, abs=1e-6)
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval()), rel=1e-6)


def test_no_spread_between_patients_is_said():
    """Patients alike by construction: the variance is at its bound, and errors are those of OLS."""
    change = np.tile([-1.0, 0.0, 2.0], 8)
    found = mixed_effect(change, np.zeros(24), np.repeat([f"p{k}" for k in range(8)], 3))
    assert found.sd_patient == 0
    assert "bound 0" in found.note
    error = change.std(ddof=1) / math.sqrt(24)
    assert found.high - found.low == pytest.approx(2 * error * stats.t.isf(0.025, 7))


@pytest.mark.parametrize(
    ("change", "word"),
    [(np.repeat([1.0, 2.0, 4.0, 8.0], 3), "within"), (np.full(12, 0.1), "equal")],
)
def test_what_cannot_be_fitted_is_said(change, word):
    found = mixed_effect(change, np.zeros(12), np.repeat(list("abcd"), 3))
    assert not found.converged
    assert math.isnan(found.p)
    assert math.isnan(found.difference)
    assert word in found.note


def test_a_confounded_level_is_averaged_over_its_categories():
    """L1 differs by 3 and is measured more often: the effect is the mean of both levels, 1.5."""
    rng = np.random.default_rng(0)
    level = np.tile(["L1", "L1", "L1", "L2"], 20)
    change = np.where(level == "L1", 3.0, 0.0) + rng.normal(0, 0.01, 80)
    change += np.repeat(rng.normal(0, 0.01, 20), 4)
    who = np.repeat([f"p{k:02}" for k in range(20)], 4)
    assert mixed_effect(change, 0 * change, who, factor=level).difference == pytest.approx(
        1.5, abs=0.02
    )


@pytest.mark.parametrize(
    ("first", "who", "factor", "word"),
    [
        ([1.0, 2.0, 3.0], ["a", "b", "c"], None, "3 patients with 3 values"),
        ([1.0, 2.0, 3.0], ["a", "a", "b"], None, "2 patients"),
        ([1.0, 2.0], ["a"], None, "shapes"),
        ([1.0, math.nan, 3.0, 4.0], list("aabc"), None, "finite"),
        ([1.0, 2.0, 3.0, 4.0], list("aabc"), ["x"], "factor"),
        ([1.0, 2.0, 3.0, 4.0], list("aabc"), list("wxyz"), "apart"),
    ],
)
def test_unusable_values_are_refused(first, who, factor, word):
    with pytest.raises(InputError, match=word):
        mixed_effect(first, np.zeros(len(first)), who, factor=factor)
