"""Comparisons over patients: who counts, what is printed, and families of tests."""

import math

import numpy as np
import pytest
from scipy import stats

from spinect.errors import InputError
from spinect.evaluation.stats.compare import adjust, compare, compare_all, paired, worst_p
from spinect.evaluation.stats.multiplicity import holm


def patients(n, seed=0, shift=0.0):
    x = np.random.default_rng(seed).normal(shift, 1, n)
    return {f"p{k:02}": float(v) for k, v in enumerate(x)}


def test_vertebrae_are_averaged_within_patients_first():
    """Three patients with 1, 2 and 3 vertebrae are three values, whatever their vertebrae."""
    first = {"a": [1.0], "b": [2.0, 4.0], "c": [5.0, 6.0, 7.0]}
    second = {"c": [4.0, 5.0, 6.0], "b": [2.0, 2.0], "a": [1.5]}
    found = compare(first, second, names=("x", "y"), test="t")
    wanted = stats.ttest_rel([1.0, 3.0, 6.0], [1.5, 2.0, 5.0])
    assert found.p == pytest.approx(wanted.pvalue)
    assert (found.n, found.n_values) == (3, 6)
    assert found.mean_difference == pytest.approx(0.5)
    assert (found.interval.low, found.interval.high) == pytest.approx(
        tuple(wanted.confidence_interval())
    )


def test_copies_of_a_patients_slices_do_not_make_p_smaller():
    a, b = patients(12, 1, 0.5), patients(12, 2)
    copied = compare({k: [v] * 50 for k, v in a.items()}, b, names=("x", "y"))
    plain = compare(a, b, names=("x", "y"))
    assert copied.p == plain.p
    assert (copied.n_values, plain.n_values) == (600, 12)


def test_patients_without_a_pair_are_named():
    a, b = patients(8), patients(8)
    del a["p03"], b["p05"]
    found = compare(a, b, names=("x", "y"))
    assert found.n == 6
    assert "p03, p05" in found.note


def test_the_order_of_the_mappings_does_not_matter():
    a, b = patients(9, 1), patients(9, 2)
    turned = dict(reversed(a.items()))
    assert compare(a, b, names=("x", "y")) == compare(turned, b, names=("x", "y"))


@pytest.mark.parametrize("test", ["t", "wilcoxon"])
def test_no_p_is_printed_without_its_n(test):
    text = str(compare(patients(10, 1, 1), patients(10, 2), names=("x", "y"), test=test))
    assert "n = 10 patients" in text
    assert "p = " in text or "p < " in text
    assert text.startswith("x - y: +")


def test_few_patients_are_said_in_the_text():
    text = str(compare(patients(5, 1, 9), patients(5, 2), names=("x", "y")))
    assert "cannot fall below 0.0625" in text
    assert "n = 5 patients" in text


def test_undefined_p_is_said_in_the_text():
    shifted = {k: 1.0 for k in "abcd"}
    text = str(compare(shifted, dict.fromkeys("abcd", 0.0), names=("x", "y"), test="t"))
    assert "p not defined" in text
    assert "no spread" in text


METHODS = {name: patients(14, k, 0.2 * k) for k, name in enumerate(("a", "b", "c", "d"))}


def test_families():
    """Against a reference 3 tests, all pairs 6; adjusted as one family each."""
    for reference, count in (("b", 3), (None, 6)):
        found = compare_all(METHODS, reference)
        assert len(found) == count
        np.testing.assert_allclose([c.p_adjusted for c in found], holm([c.p for c in found]))
        assert {c.tests for c in found} == {count}
        assert f"Holm over {count} tests" in str(found[0])
    assert {c.second for c in compare_all(METHODS, "b")} == {"b"}


def test_benjamini_hochberg_is_never_larger_than_holm():
    one, two = compare_all(METHODS), compare_all(METHODS, adjustment="Benjamini-Hochberg")
    assert all(b.p_adjusted <= h.p_adjusted for h, b in zip(one, two, strict=True))
    assert all(b.p == h.p for h, b in zip(one, two, strict=True))


def test_undefined_tests_are_not_counted():
    flat = {**METHODS, "e": {k: v + 1 for k, v in METHODS["a"].items()}}
    found = compare_all(flat, "a", test="t")
    assert [math.isnan(c.p_adjusted) for c in found] == [False, False, False, True]
    assert {c.tests for c in found} == {3}
    assert adjust([], "Holm") == []


def test_worst_p_is_the_largest_against_every_other():
    found = compare_all(METHODS, test="t")
    worst = worst_p(found, "c")
    assert worst.p == max(c.p for c in found if "c" in (c.first, c.second))
    flat = {**METHODS, "e": {k: v + 1 for k, v in METHODS["c"].items()}}
    assert math.isnan(worst_p(compare_all(flat, test="t"), "c").p)
    with pytest.raises(InputError, match="'z'"):
        worst_p(found, "z")


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: paired({"a": 1.0}, {"b": 1.0}), "a against b"),
        (lambda: paired({"a": []}, {"a": 1.0}), "for a"),
        (lambda: compare_all({"x": {"a": 1.0}}), "nothing to compare"),
        (lambda: compare_all(METHODS, "z"), "'z'"),
        (lambda: compare({"a": math.nan}, {"a": 1.0}, names=("x", "y")), "finite"),
    ],
)
def test_wrong_use_is_refused(call, word):
    with pytest.raises(InputError, match=word):
        call()
