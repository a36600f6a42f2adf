"""Power against statsmodels and simulation; non-inferiority against scipy."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from spinect.errors import InputError
from spinect.evaluation.stats.power import minimum_detectable, non_inferiority, power


@pytest.mark.parametrize("n", [2, 5, 10, 40, 200])
@pytest.mark.parametrize("effect", [0.1, 0.5, -1.0])
def test_power_is_statsmodels(n, effect):
    wanted = TTestPower().power(effect, n, 0.05, alternative="two-sided")
    assert power(effect, n) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("n", [3, 10, 30])
def test_minimum_detectable_is_statsmodels(n):
    wanted = TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8)
    assert minimum_detectable(n, sd=12.0) == pytest.approx(12 * wanted, rel=1e-6)


def test_no_effect_is_seen_as_often_as_alpha():
    assert power(0.0, 7, 0.03) == 0.03
    assert minimum_detectable(10, sd=0.0) == 0


def test_power_is_what_simulation_finds():
    rng = np.random.default_rng(0)
    x = rng.normal(0.8, 1, (4000, 12))
    share = (stats.ttest_1samp(x, 0, axis=1).pvalue < 0.05).mean()
    wanted = power(0.8, 12)
    assert share == pytest.approx(wanted, abs=4 * math.sqrt(wanted * (1 - wanted) / 4000))


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: power(1.0, 1), "n = 1"),
        (lambda: power(1.0, 5, 5.0), "alpha"),
        (lambda: minimum_detectable(10, -1.0), "deviation"),
        (lambda: minimum_detectable(10, math.nan), "deviation"),
        (lambda: minimum_detectable(10, 1.0, wanted=80), "power"),
        (lambda: non_inferiority([1.0], [1.0], margin=0, better="lower"), "margin"),
        (lambda: non_inferiority([1.0], [1.0], margin=1, better="lower", alpha=0.5), "alpha"),
    ],
)
def test_wrong_use_is_refused(call, word):
    with pytest.raises(InputError, match=word):
        call()


@pytest.mark.parametrize("margin", [0.2, 1.0])
def test_non_inferiority_is_the_shifted_t_test(margin):
    rng = np.random.default_rng(2)
    a, b = rng.normal(0, 1, 15), rng.normal(0.1, 1, 15)
    wanted = stats.ttest_rel(a, b - margin, alternative="greater").pvalue
    found = non_inferiority(a, b, margin=margin, better="higher")
    assert found.p == pytest.approx(wanted, abs=1e-9)
    assert found.bound == pytest.approx(stats.ttest_rel(a, b).confidence_interval(0.95).low)
    assert found.shown == (found.p < 0.025) == (found.bound > -margin)
    mirror = non_inferiority(-a, -b, margin=margin, better="lower")
    assert (mirror.p, mirror.bound, mirror.shown) == pytest.approx(
        (found.p, -found.bound, found.shown)
    )


def test_non_inferiority_says_its_n_and_its_margin():
    text = str(non_inferiority([0.1, 0.2, 0.0, 0.1], np.zeros(4), margin=0.5, better="higher"))
    assert text.startswith("non-inferior: ")
    assert "n = 4 patients" in text
    assert "margin 0.5" in text


def test_without_spread_nothing_is_shown():
    found = non_inferiority([1.0, 1.0, 1.0], np.zeros(3), margin=0.5, better="higher")
    assert not found.shown
    assert math.isnan(found.p)
    assert "no spread" in str(found)
