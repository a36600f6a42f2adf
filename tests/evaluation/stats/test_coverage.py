"""A short run of benchmarks/coverage.py: seeded, so it passes or fails for good."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from spinect.evaluation.stats.intervals import t_interval

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("coverage_bench", BENCHMARKS / "coverage.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


@pytest.mark.parametrize("data", ["normal", "skewed"])
@pytest.mark.parametrize("kind", ["t", "BCa", "cluster bootstrap"])
def test_intervals_of_forty_patients_cover(bench, kind, data):
    """0.92-0.97, give or take what 300 simulations leave open."""
    covered = bench.coverage(kind, bench.DRAWS[data], 40, 300, 499) * 300
    low, high = bench.BAR
    assert bench.between(low, 300)[0] <= covered <= bench.between(high, 300)[1]


def test_the_check_sees_an_interval_that_is_too_narrow(bench):
    rng = np.random.default_rng(0)
    narrow = [t_interval(rng.normal(size=40), level=0.8) for _ in range(300)]
    assert sum(one.low <= 0 <= one.high for one in narrow) < bench.between(bench.BAR[0], 300)[0]


def test_vertebrae_as_if_independent_are_called_different_too_often(bench):
    """What the patient as the unit is for; the check of the error rate sees it."""
    rate = bench.false_positives("t over vertebrae", bench.DRAWS["normal"], 20, 300)
    assert rate > 0.2


@pytest.mark.parametrize("n", [10, 20])
@pytest.mark.parametrize("test", ["paired t", "Wilcoxon", "mixed model"])
def test_equal_methods_are_called_different_as_often_as_promised(bench, test, n):
    repeats = 300
    wanted = bench.exact_rate(n) if test == "Wilcoxon" else 0.05
    low, high = bench.between(wanted, repeats)
    found = bench.false_positives(test, bench.DRAWS["normal"], n, repeats) * repeats
    assert low <= found <= high


def test_exact_rate_of_wilcoxon_by_hand(bench):
    """n = 6: p = 2 / 64 for one signed sum at each end, and 4 / 64 is above 0.05."""
    assert bench.exact_rate(5) == 0
    assert bench.exact_rate(6) == pytest.approx(2 / 64)
