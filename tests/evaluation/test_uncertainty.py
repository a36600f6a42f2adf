"""Calibration of samples: the oracle, closed forms on a few voxels, scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from spinect.errors import ConfigError, GeometryError, ImageError
from spinect.evaluation.measures import MEASURES, at
from spinect.evaluation.protocols.uncertainty import Sampled, monte_carlo
from spinect.evaluation.regions import TISSUES, tissue_masks
from spinect.evaluation.uncertainty import (
    averaging,
    coverage,
    error_spread_correlation,
    expected_gain,
    interval_ranks,
    nominal_coverage,
    sparsification,
    spread,
    spread_skill,
)
from spinect.geometry import Volume

VOXELS = 40_000


def oracle(samples, sharpness=1.0, shift=0.0, seed=0):
    """Truth and samples of one Gaussian per voxel, its variance known and its mean far from 0.

    `sharpness` multiplies the spread of the samples, `shift` their distance to the truth.
    """
    rng = np.random.default_rng(seed)
    centre, scale = rng.uniform(-900, 900, VOXELS), rng.uniform(20, 200, VOXELS)
    truth = centre + scale * rng.standard_normal(VOXELS)
    noise = rng.standard_normal((samples, VOXELS))
    return truth, centre + shift + sharpness * scale * noise, scale


def moments(draws):
    return draws.mean(0), draws.std(0, ddof=1)


def error_of_ratio(top, bottom):
    """Standard error of log(mean(top) / mean(bottom)), voxels independent (delta method)."""
    relative = top / top.mean() - bottom / bottom.mean()
    return relative.std() / math.sqrt(relative.size)


@pytest.mark.parametrize(
    ("samples", "gain"), [(1, 0), (2, 1.25), (5, 2.22), (10, 2.60), (20, 2.80), (10**9, 3.01)]
)
def test_expected_gain(samples, gain):
    assert expected_gain(samples) == pytest.approx(gain, abs=0.005)


@pytest.mark.parametrize("samples", [2, 5, 10])
def test_true_draws_gain_what_theory_says_and_are_calibrated(samples):
    """Within three standard errors, for K and for subsets of ten draws."""
    truth, draws, _ = oracle(10)
    found = averaging(draws, truth, samples)
    groups = draws[: 10 // samples * samples].reshape(-1, samples, VOXELS)
    missed = ((groups.mean(1) - truth) ** 2).mean(0)
    single = ((draws - truth) ** 2).mean(0)
    tolerance = 3 * 10 / math.log(10) * error_of_ratio(single, missed)
    assert tolerance < 0.12
    assert found.gain == pytest.approx(expected_gain(samples), abs=tolerance)
    variance = groups.var(1, ddof=1).mean(0)
    tolerance = 3 * 0.5 * error_of_ratio(variance, missed)
    assert tolerance < 0.03
    assert found.spread_skill == pytest.approx(1, abs=tolerance)
    if samples == 10:
        mean, std = moments(draws)
        assert spread_skill(mean, std, truth, 10) == pytest.approx(found.spread_skill, rel=1e-9)
        assert spread(std) == pytest.approx(math.sqrt(variance.mean()), rel=1e-12)


def test_samples_that_agree_too_much_gain_too_little():
    """Half the spread: MSE of one is s^2 (1 + 1/4), of the mean of ten s^2 (1 + 1/40)."""
    truth, draws, _ = oracle(10, sharpness=0.5)
    found = averaging(draws, truth)
    assert found.gain == pytest.approx(10 * math.log10(1.25 / 1.025), abs=0.03)
    assert found.spread_skill == pytest.approx(math.sqrt(0.25 * 1.1 / 1.025), abs=0.01)
    wide = averaging(oracle(10, sharpness=2)[1], truth)
    assert wide.gain > expected_gain(10) + 1
    assert wide.spread_skill > 1.5
    biased = averaging(oracle(10, shift=300)[1], truth)
    assert biased.gain < 1
    assert biased.spread_skill < 0.5


@pytest.mark.parametrize("ranks", [(1, 10), (2, 9), (3, 8), (1, 4), (5, 6)])
def test_coverage_of_true_draws_is_nominal(ranks):
    truth, draws, _ = oracle(10, seed=3)
    ordered = np.sort(draws, axis=0)
    share = coverage(ordered[ranks[0] - 1], ordered[ranks[1] - 1], truth)
    nominal = nominal_coverage(10, ranks)
    assert nominal == pytest.approx((ranks[1] - ranks[0]) / 11)
    assert share == pytest.approx(nominal, abs=3 * math.sqrt(nominal * (1 - nominal) / VOXELS))


def test_coverage_counts_both_ends():
    low, high, truth = np.array([0, 0, 0, 5]), np.array([1, 1, 1, 5]), np.array([0, 1, 2, 5])
    assert coverage(low, high, truth) == 0.75
    assert coverage(low, high, truth, np.array([False, True, True, False])) == 0.5


def test_interval_ranks_are_the_narrowest_that_suffice():
    assert interval_ranks(10, 0.8) == (1, 10)
    assert interval_ranks(10, 0.6) == (2, 9)  # 7/11; ranks 3 and 8 have 5/11
    assert interval_ranks(9, 0.8) == (1, 9)  # exactly 8/10
    assert interval_ranks(99, 0.9) == (5, 95)
    for samples in (2, 5, 19, 40):
        for wanted in np.linspace(0.02, 0.98, 49):
            if wanted > (samples - 1) / (samples + 1) + 1e-12:
                with pytest.raises(ConfigError, match="at most"):
                    interval_ranks(samples, wanted)
                continue
            low, high = interval_ranks(samples, wanted)
            assert nominal_coverage(samples, (low, high)) >= wanted - 1e-12
            if low + 1 < high - 1:
                assert nominal_coverage(samples, (low + 1, high - 1)) < wanted
    with pytest.raises(ConfigError, match="draw at least 39"):
        interval_ranks(10, 0.95)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        interval_ranks(10, 1.0)
    for ranks in ((0, 3), (3, 3), (2, 11)):
        with pytest.raises(ConfigError, match="ranks"):
            nominal_coverage(10, ranks)


def test_bimodal_void():
    """Air or bone, half each: the mean is wrong for both, twice the MSE for one draw, std 850."""
    rng = np.random.default_rng(5)
    truth, draws = (rng.choice([-1000.0, 700.0], size) for size in (VOXELS, (50, VOXELS)))
    mean, std = moments(draws)
    assert ((mean + 150) ** 2).mean() ** 0.5 == pytest.approx(850 / 50**0.5, rel=0.02)
    assert spread(std) == pytest.approx(850, rel=0.01)
    found = averaging(draws, truth)
    assert found.gain == pytest.approx(expected_gain(50), abs=0.05)
    assert found.spread_skill == pytest.approx(1, abs=0.01)


def test_classes_of_the_truth_are_not_calibrated_even_for_true_draws():
    """Bone with p = 0.2: spread over error is sqrt(p / (1 - p)) in bone, its inverse in air."""
    rng = np.random.default_rng(6)
    truth, *draws = np.where(rng.random((101, VOXELS)) < 0.2, 700.0, -1000.0)
    mean, std = moments(np.array(draws))
    masks = tissue_masks(truth)
    found = {name: spread_skill(mean, std, truth, 100, masks[name]) for name in ("air", "bone")}
    assert found["bone"] == pytest.approx(0.5, abs=0.01)
    assert found["air"] == pytest.approx(2, abs=0.05)
    assert spread_skill(mean, std, truth, 100) == pytest.approx(1, abs=0.02)


def test_sparsification_by_hand():
    """Errors 4, 3, 2, 1 in an order that swaps the first two."""
    truth, mean = np.zeros(4), np.array([4.0, -3, 2, -1])
    found = sparsification(mean, np.array([3.0, 4, 2, 1]), truth, points=4)
    np.testing.assert_allclose(found.removed, [0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(found.oracle, np.array([2.5, 2, 1.5, 1]) / 2.5)
    np.testing.assert_allclose(found.error, np.array([2.5, 7 / 3, 1.5, 1]) / 2.5)
    assert found.ause == pytest.approx((1 / 3) / 2.5 / 4)


def test_sparsification_of_perfect_flat_and_opposite_order():
    rng = np.random.default_rng(2)
    errors = rng.exponential(50, 500)
    truth = np.zeros(500)
    perfect = sparsification(errors, np.sqrt(errors), truth)
    assert perfect.ause == 0
    assert len(perfect.error) == 100
    flat = sparsification(errors, np.ones(500), truth)  # no order at all
    np.testing.assert_allclose(flat.error, 1)
    assert flat.ause == pytest.approx(1 - sum(flat.oracle) / 100, abs=0.01)
    opposite = sparsification(errors, -errors, truth)
    assert opposite.ause > flat.ause > 0


def test_correlation_equals_scipy():
    rng = np.random.default_rng(4)
    truth, draws, _ = oracle(10, seed=4)
    mean, std = moments(draws)
    for s in (std, np.round(std, -1), rng.integers(0, 4, VOXELS)):
        foreign = stats.spearmanr(np.abs(mean - truth), s).statistic
        assert error_spread_correlation(mean, s, truth) == pytest.approx(foreign, abs=1e-12)
    assert math.isnan(error_spread_correlation(mean, np.ones(VOXELS), truth))


def test_what_is_undefined_is_not_a_number():
    truth = np.array([1.0, 2, 3])
    flat = np.ones(3)
    assert math.isnan(spread_skill(truth, flat, truth, 5))
    assert math.isnan(sparsification(truth, flat, truth).ause)
    exact = averaging(np.stack([truth, truth]), truth)
    assert math.isnan(exact.gain)
    assert math.isnan(exact.spread_skill)
    alone = averaging(np.stack([truth + 1, truth - 2]), truth, 1)
    assert alone.gain == 0
    assert math.isnan(alone.spread_skill)


def test_refusals():
    image, draws = np.zeros((3, 3)), np.zeros((4, 3, 3))
    with pytest.raises(ImageError, match="empty"):
        spread(image, np.zeros((3, 3), bool))
    with pytest.raises(GeometryError, match="shape"):
        spread_skill(image, image, np.zeros((3, 4)), 5)
    for count in (0, 5):
        with pytest.raises(ConfigError, match="4 draws"):
            averaging(draws, image, count)


def test_tissues_share_out_the_mask():
    hu = np.array([[-1000, -300, -299, -100], [40, 200, 201, 1500]], np.float32)
    masks = tissue_masks(hu)
    assert tuple(masks) == TISSUES
    assert sum(m.astype(int) for m in masks.values()).tolist() == [[1] * 4] * 2
    assert hu[masks["air"]].tolist() == [-1000, -300]
    assert hu[masks["bone"]].tolist() == [201, 1500]
    assert not tissue_masks(hu, hu > 0)["air"].any()


def _volumes(shape=(20, 20, 20), samples=12):
    rng = np.random.default_rng(8)
    affine = np.eye(4)
    centre = rng.choice([-990.0, 50, 800], shape)
    truth = (centre + 60 * rng.standard_normal(shape)).astype(np.float32)
    draws = np.rint(centre + 60 * rng.standard_normal((samples, *shape))).astype(np.int16)
    mean, std = (a.astype(np.float32) for a in moments(draws.astype(float)))
    ends = np.sort(draws, axis=0)[[0, -1]].astype(np.float32)
    make = lambda data, kind: Volume(data, affine, kind)  # noqa: E731
    sampled = Sampled(
        make(mean, "ct"),
        make(std, "mr"),
        samples,
        make(ends[0], "ct"),
        make(ends[1], "ct"),
        11 / 13,
        draws,
    )
    return sampled, make(truth, "ct")


def test_rows_of_a_calibrated_run():
    """Every tissue has every row; counts up to K, the last one K itself."""
    sampled, truth = _volumes()
    masks = tissue_masks(sampled.mean.data) | {"none": np.zeros(truth.data.shape, bool)}
    rows = monte_carlo(sampled, truth, masks)
    for value in rows:
        measure = MEASURES[value.metric]
        assert math.isnan(value.value) or measure.low <= value.value <= measure.high
        assert math.isnan(value.value) == bool(value.note)
    for name in TISSUES:
        assert at(rows, name, "spread") == pytest.approx(60, rel=0.02)
        assert at(rows, name, "spread_skill") == pytest.approx(1, abs=0.07)
        assert at(rows, name, "coverage_error") == pytest.approx(0, abs=0.03)
        assert abs(at(rows, name, "error_spread_rho")) < 0.1  # one variance everywhere
        items = [v.item for v in rows if v.region == name and v.metric == "gain"]
        assert items == ["K=2", "K=5", "K=10", "K=12"]
        for item in items:
            wanted = at(rows, name, "gain_expected", item)
            assert at(rows, name, "gain", item) == pytest.approx(wanted, abs=0.25)
    whole = at(rows, "bone", "spread_skill", "K=12")
    assert whole == pytest.approx(at(rows, "bone", "spread_skill"), rel=1e-5)
    empty = [v for v in rows if v.region == "none" and v.metric != "gain_expected"]
    assert len(empty) == 6 + 2 * 4
    assert all(math.isnan(v.value) and v.note == "the region is empty" for v in empty)


def test_rows_without_interval_and_draws_and_of_a_perfect_mean():
    sampled, truth = _volumes()
    short = Sampled(truth, sampled.std, 12)
    rows = monte_carlo(short, truth, {"all": np.ones(truth.data.shape, bool)})
    assert [v.metric for v in rows] == ["spread", "spread_skill", "ause", "error_spread_rho"]
    assert [bool(v.note) for v in rows] == [False, True, True, True]
    with pytest.raises(ConfigError, match="belong together"):
        Sampled(truth, sampled.std, 12, lower=truth)
    with pytest.raises(GeometryError, match="12 times"):
        Sampled(truth, sampled.std, 12, draws=sampled.draws[:5])
    with pytest.raises(ConfigError, match="at least 2"):
        Sampled(truth, sampled.std, 1)
    with pytest.raises(GeometryError, match="belongs to it"):
        Sampled(truth, Volume(sampled.std.data[1:], np.eye(4), "mr"), 12)
