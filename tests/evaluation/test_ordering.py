"""Risk-coverage curves and rank correlation: by hand, by brute force, and against scipy."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from spinect.errors import ImageError
from spinect.evaluation.ordering import left, rank_correlation, risk_coverage


def test_a_curve_by_hand():
    """Trusted in the order 0.1, 0.4, 0.1, 0.6."""
    made = risk_coverage([0.4, 0.1, 0.6, 0.1], [2, 1, 9, 3])
    assert made.coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert made.risk == pytest.approx([0.1, 0.25, 0.2, 0.3])
    assert made.oracle == pytest.approx([0.1, 0.1, 0.2, 0.3])
    assert made.aurc == pytest.approx(0.2125)
    assert made.excess == pytest.approx(0.2125 - 0.175)
    assert made.blind == pytest.approx(0.3)


def test_the_risk_itself_is_the_best_order():
    rng = np.random.default_rng(0)
    risk = rng.random(7)
    best = risk_coverage(risk, 3 * risk + 1)
    assert best.excess == pytest.approx(0, abs=1e-15)
    for _ in range(50):
        other = risk_coverage(risk, rng.random(7))
        assert other.aurc >= best.aurc
        assert (other.risk >= best.risk - 1e-12).all()


def test_equal_doubts_are_the_mean_over_their_orders():
    risk, doubt = np.array([0.9, 0.2, 0.4, 0.3]), np.array([1, 1, 0, 1])
    orders = [
        np.cumsum(risk[list(order)]) / np.arange(1, 5)
        for order in itertools.permutations(range(4))
        if order[0] == 2
    ]
    assert risk_coverage(risk, doubt).risk == pytest.approx(np.mean(orders, axis=0))


def test_a_doubt_that_knows_nothing_has_the_mean_risk():
    made = risk_coverage([0.1, 0.5, 0.9], [7, 7, 7])
    assert made.risk == pytest.approx([0.5, 0.5, 0.5])
    assert made.aurc == made.blind == pytest.approx(0.5)


def test_what_is_left_is_the_curve_backwards():
    rng = np.random.default_rng(1)
    risk, doubt = rng.random(20), rng.integers(0, 5, 20).astype(float)
    made = risk_coverage(risk, doubt)
    np.testing.assert_allclose(left(risk, doubt), made.risk[::-1] / made.blind)


def test_rank_correlation_is_that_of_scipy():
    rng = np.random.default_rng(2)
    one = rng.integers(0, 6, 40).astype(float)  # with ties
    other = one + rng.normal(0, 2, 40).round()
    assert rank_correlation(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)
    assert rank_correlation(one, -one) == pytest.approx(-1)
    assert math.isnan(rank_correlation(one, np.ones(40)))


def test_refusals():
    with pytest.raises(ImageError, match="2 values cannot be set against 3"):
        risk_coverage([0.1, 0.2], [1, 2, 3])
    with pytest.raises(ImageError, match="0 values"):
        rank_correlation([], [])
    with pytest.raises(ImageError, match="1 of 2 values are not finite"):
        risk_coverage([0.1, 0.2], [1, math.nan])
