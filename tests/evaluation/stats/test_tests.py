"""Paired tests and effect sizes against scipy, and exact answers."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from spinect.errors import InputError
from spinect.evaluation.stats.tests import (
    EXACT_UP_TO,
    cohen_dz,
    differences,
    hodges_lehmann,
    rank_biserial,
    t_test,
    wilcoxon,
)

SIDES = ("two-sided", "less", "greater")


def pair(n, seed, shift=0.3):
    rng = np.random.default_rng(seed)
    return rng.normal(shift, 1, n), rng.normal(size=n)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("n", [2, 3, 10, 40])
def test_t_is_scipys(n, side):
    a, b = pair(n, n)
    found, wanted = t_test(a, b, side), stats.ttest_rel(a, b, alternative=side)
    assert (found.statistic, found.p) == pytest.approx((wanted.statistic, wanted.pvalue), rel=1e-9)
    assert found.n == n
    assert not found.note


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("n", [1, 2, 5, 6, 12, 40, EXACT_UP_TO])
def test_wilcoxon_without_ties_is_scipys_exact_one(n, side):
    a, b = pair(n, n)
    wanted = stats.wilcoxon(a, b, alternative=side, method="exact")
    found = wilcoxon(a, b, side)
    assert found.p == pytest.approx(wanted.pvalue, abs=1e-12)
    if side == "two-sided":
        assert found.statistic == pytest.approx(wanted.statistic)


def by_listing(change, side):
    """p from all 2^n signs, ranks with zeros in and mean ranks: the definition, written out."""
    ranks = stats.rankdata(np.abs(change))
    seen = ranks[change > 0].sum()
    free = ranks[change != 0]
    sums = np.array([np.dot(free, s) for s in itertools.product((0, 1), repeat=free.size)])
    greater, less = np.mean(sums >= seen - 1e-9), np.mean(sums <= seen + 1e-9)
    return {"greater": greater, "less": less, "two-sided": min(1, 2 * min(greater, less))}[side]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("seed", range(6))
def test_wilcoxon_with_ties_and_zeros_is_exact_by_listing(seed, side):
    change = np.random.default_rng(seed).integers(-3, 5, 10).astype(float)
    assert wilcoxon(change, 0 * change, side).p == pytest.approx(
        by_listing(change, side), abs=1e-12
    )


def test_wilcoxon_with_zeros_agrees_with_scipys_permutations():
    change = np.array([0.0, 0.0, 1.0, 2.0, -1.0, 3.0, 4.0, 2.0, 5.0])
    every = stats.PermutationMethod(n_resamples=np.inf)
    wanted = stats.wilcoxon(change, zero_method="pratt", method=every)
    assert wilcoxon(change, 0 * change).p == pytest.approx(wanted.pvalue, abs=1e-12)


@pytest.mark.parametrize("side", SIDES)
def test_wilcoxon_of_many_patients_is_scipys_approximation(side):
    change = np.random.default_rng(0).integers(-4, 6, EXACT_UP_TO + 1).astype(float)
    wanted = stats.wilcoxon(change, zero_method="pratt", alternative=side, method="approx")
    assert wilcoxon(change, 0 * change, side).p == pytest.approx(wanted.pvalue, rel=1e-9)


def test_approximation_meets_the_exact_p_at_the_border():
    a, b = pair(EXACT_UP_TO, 5)
    near = stats.wilcoxon(a, b, method="approx").pvalue
    assert wilcoxon(a, b).p == pytest.approx(near, abs=5e-3)  # no continuity correction


@pytest.mark.parametrize("test", [t_test, wilcoxon])
def test_equal_methods_have_p_one(test):
    a = np.random.default_rng(1).normal(size=7)
    found = test(a, a)
    assert (found.p, found.n) == (1.0, 7)
    assert "zero" in found.note
    assert cohen_dz(a, a) == rank_biserial(a, a) == hodges_lehmann(a, a) == 0


def test_a_constant_shift_leaves_nothing_for_t():
    """0.3 - 0.2 and 0.2 - 0.1 differ by rounding; that is no spread."""
    a = np.arange(1, 11) / 10
    found = t_test(a + 0.1, a)
    assert math.isnan(found.p)
    assert "spread" in found.note
    assert math.isnan(cohen_dz(a + 0.1, a))
    assert wilcoxon(a + 0.1, a).p == pytest.approx(2 * 0.5**10)
    assert rank_biserial(a + 0.1, a) == 1


def test_one_patient():
    found = t_test([1.0], [0.5])
    assert math.isnan(found.p)
    assert found.note
    assert wilcoxon([1.0], [0.5]).p == 1


@pytest.mark.parametrize(("n", "said"), [(5, True), (6, False)])
def test_too_few_patients_for_wilcoxon_are_named(n, said):
    found = wilcoxon(np.arange(1.0, n + 1), np.zeros(n))
    assert found.p == pytest.approx(2.0 ** (1 - n))
    assert ("cannot fall below" in found.note) == said
    assert not said or "n = 5" in found.note


def test_zeros_count_as_patients_who_show_nothing():
    found = wilcoxon([0, 0, 0, 0, 1, 2, 3], np.zeros(7))
    assert found.n == 7
    assert "4 without any difference" in found.note


def test_hedges_correction_is_the_exact_one():
    """J(10) by the gamma function; 1 - 3 / (4 df - 1) is its well-known approximation."""
    a, b = pair(11, 3)
    d = a - b
    raw = d.mean() / d.std(ddof=1)
    assert cohen_dz(a, b, corrected=False) == pytest.approx(raw)
    j = math.gamma(5) / (math.sqrt(5) * math.gamma(4.5))
    assert cohen_dz(a, b) == pytest.approx(j * raw, rel=1e-12)
    assert j == pytest.approx(1 - 3 / (4 * 10 - 1), abs=1e-3)


def test_rank_biserial_by_hand():
    """Ranks 1, 2, 3, 4 with the second negative: (8 - 2) / 10."""
    assert rank_biserial([1, -2, 3, 4], np.zeros(4)) == pytest.approx(0.6)


def test_hodges_lehmann_by_hand():
    """Walsh averages of 0, 1, 5: 0, 0.5, 2.5, 1, 3, 5."""
    assert hodges_lehmann([0, 1, 5], np.zeros(3)) == pytest.approx(1.75)


@pytest.mark.parametrize(
    ("a", "b", "word"),
    [
        ([1.0, 2.0], [1.0], "shapes"),
        ([], [], "shapes"),
        ([[1.0]], [[1.0]], "shapes"),
        ([1.0, math.nan], [1.0, 2.0], "1 of 2"),
        ([math.inf, math.nan], [1.0, 2.0], "2 of 2"),
    ],
)
def test_unusable_values_are_refused(a, b, word):
    with pytest.raises(InputError, match=word):
        differences(a, b)
