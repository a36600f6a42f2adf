"""The rule of benchmarks/weights.py that chooses between bundles, on made-up scans."""

import numpy as np
import pytest

SCANS = [f"VB{source}_{number:02d}_mr" for source in (1, 2, 3) for number in range(3)]
SCANS += [f"spider_{number}_mr" for number in range(6)]
RNG = np.random.default_rng(1)
OLD = dict(zip(SCANS, 0.8 + 0.05 * RNG.standard_normal(len(SCANS)), strict=True))


@pytest.fixture(scope="module")
def rule(benchmark_script):
    return benchmark_script("weights")


def bundle(rule, scans, parameters=10, name="bundle"):
    return rule.Scored(name, parameters, 1.0, scans)


def test_sources_count_alike(rule):
    """VB 0.6, 0.7, 0.8 and SPIDER 0.9 with twice the scans: the plain mean of four."""
    scans = {name: {"1": 0.6, "2": 0.7, "3": 0.8}.get(name[2], 0.9) for name in SCANS}
    assert rule.score(scans) == pytest.approx(0.75)


def test_the_interval_of_a_constant_gain_is_a_point(rule):
    new = {name: value + 0.02 for name, value in OLD.items()}
    assert rule.gain_interval(new, OLD) == pytest.approx((0.02, 0.02))


def test_the_interval_has_the_width_of_the_closed_formula(rule):
    """Resampled within sources: variance = mean of the sources' s^2 (n - 1) / n / n, over 4 x 4."""
    noise = dict(zip(SCANS, 0.01 * RNG.standard_normal(len(SCANS)), strict=True))
    low, high = rule.gain_interval({n: OLD[n] + noise[n] for n in SCANS}, OLD)
    groups = rule.by_source(noise).values()
    sd = np.sqrt(sum(np.var(v) / len(v) for v in groups)) / len(groups)
    assert high - low == pytest.approx(2 * 1.96 * sd, rel=0.08)


@pytest.mark.parametrize(
    ("gain", "spread", "parameters", "wins"),
    [
        (0.02, 0.0, 10, True),
        (0.02, 0.0, 99, True),  # a clear gain wins at any size
        (-0.02, 0.0, 1, False),  # a clear loss loses at any size
        (0.0, 0.05, 10, False),  # undecided: what ships stays
        (0.0, 0.05, 9, True),  # undecided: the smaller one
    ],
)
def test_the_rule(rule, gain, spread, parameters, wins):
    signs = np.resize([1, -1, 0], len(SCANS))
    new = {n: OLD[n] + gain + spread * s for n, s in zip(SCANS, signs, strict=True)}
    choice = rule.choose(bundle(rule, new, parameters), bundle(rule, OLD))
    assert choice.wins is wins
    assert choice.gain == pytest.approx(gain, abs=1e-12)


def test_other_scans_cannot_be_compared(rule):
    with pytest.raises(SystemExit, match="not the same scans"):
        rule.gain_interval({"VB1_00_mr": 0.5}, OLD)


def test_the_table_has_a_row_for_each_and_says_that_it_was_selected_on(rule):
    better = bundle(rule, {n: v + 0.02 for n, v in OLD.items()}, name="longer")
    first = bundle(rule, OLD, name="mr2ct")
    text = rule.report([first, better], [None, rule.choose(better, first)], "longer")
    assert "Selected on these scans" in text
    assert "+0.020 to +0.020 | yes" in text
    assert text.endswith("Kept: longer.")
