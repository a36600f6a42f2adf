"""Intervals against scipy and closed formulas, the degenerate cases, and coverage in brief."""

import math

import numpy as np
import pytest
from scipy import stats

from spinect.errors import InputError
from spinect.evaluation.stats.intervals import bca, cluster_bootstrap, t_interval


def sample(n, seed=0):
    return np.random.default_rng(seed).exponential(size=n)


def ends(interval):
    return interval.low, interval.high


@pytest.mark.parametrize("n", [2, 5, 40])
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_t_interval_is_scipys(n, level):
    x = sample(n)
    wanted = stats.ttest_1samp(x, 0).confidence_interval(level)
    assert ends(t_interval(x, level)) == pytest.approx(tuple(wanted), rel=1e-9)


def test_bca_by_its_formula():
    """Efron's bias z0 and acceleration a, written out on the same resamples."""
    x, b = sample(15), 1999
    draws = np.random.default_rng(3).integers(0, 15, (b, 15))
    means = x[draws].mean(1)
    less, equal = (means < x.mean()).mean(), (means == x.mean()).mean()
    z0 = stats.norm.ppf(less + equal / 2)
    jack = (x.sum() - x) / 14
    d = jack.mean() - jack
    a = (d**3).sum() / (6 * (d**2).sum() ** 1.5)
    z = z0 + stats.norm.ppf([0.025, 0.975])
    wanted = np.quantile(means, stats.norm.cdf(z0 + z / (1 - a * z)))
    assert ends(bca(x, seed=3, resamples=b)) == pytest.approx(tuple(wanted), abs=1e-6)


def test_same_seed_same_interval():
    x = sample(12)
    assert bca(x, seed=4) == bca(x, seed=4)
    assert bca(x, seed=4) != bca(x, seed=5)


def test_bca_follows_the_unit():
    """A power of two scales without rounding."""
    x = sample(12)
    low, high = ends(bca(x))
    assert ends(bca(128 * x)) == (128 * low, 128 * high)


def test_another_statistic():
    x = np.arange(21.0)
    found = bca(x, statistic=np.median)
    assert found.low < 10 < found.high


def test_a_median_that_no_patient_moves_has_no_interval():
    found = bca([0.0, 1.0, 1.0, 1.0, 1.0], statistic=np.median)
    assert math.isnan(found.low)
    assert "left out" in found.note


@pytest.mark.parametrize(("make", "least"), [(t_interval, 2), (bca, 3)])
def test_too_few_patients(make, least):
    found = make(sample(least - 1))
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert f"n = {least - 1}" in found.note
    assert "no interval" in str(found)
    assert not make(sample(least)).note


def one_each(x):
    return cluster_bootstrap({f"p{k}": [v] for k, v in enumerate(x)})


@pytest.mark.parametrize("make", [t_interval, bca, one_each])
def test_equal_values_have_no_width_and_say_so(make):
    found = make([0.7] * 4)
    assert ends(found) == (0.7, 0.7)
    assert "no width" in found.note


def test_clusters_of_one_are_the_percentile_bootstrap():
    x = sample(30)
    found = cluster_bootstrap({f"p{k:02}": [v] for k, v in enumerate(x)}, resamples=40_000)
    wanted = stats.bootstrap((x,), np.mean, method="percentile", n_resamples=40_000, rng=1)
    assert ends(found) == pytest.approx(tuple(wanted.confidence_interval), abs=0.02)


def test_values_of_one_patient_go_together():
    """Ten copies of each value add nothing: the interval stays as wide as without them."""
    x = sample(20)
    one = cluster_bootstrap({f"p{k:02}": [v] for k, v in enumerate(x)})
    ten = cluster_bootstrap({f"p{k:02}": [v] * 10 for k, v in enumerate(x)})
    assert ends(ten) == pytest.approx(ends(one))
    apart = bca(np.repeat(x, 10))
    assert apart.high - apart.low < 0.5 * (ten.high - ten.low)


def test_the_order_of_patients_does_not_matter():
    groups = {"b": [1.0, 2.0], "a": [5.0], "c": [0.0, 0.0, 4.0]}
    assert cluster_bootstrap(groups) == cluster_bootstrap(dict(reversed(groups.items())))


def test_two_clusters_give_none():
    found = cluster_bootstrap({"a": [1.0, 2.0], "b": [3.0]})
    assert math.isnan(found.low)
    assert "n = 2" in found.note


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: t_interval([1.0, math.nan, 2.0]), "1 that are not"),
        (lambda: bca([[1.0, 2.0, 3.0]]), "shape"),
        (lambda: t_interval([]), "shape"),
        (lambda: t_interval([1.0, 2.0], 95), "95"),
        (lambda: cluster_bootstrap({"a": [1.0], "b": []}), "for b"),
        (lambda: cluster_bootstrap({}), "shape"),
    ],
)
def test_unusable_values_are_refused(call, word):
    with pytest.raises(InputError, match=word):
        call()
