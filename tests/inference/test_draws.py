"""Draws on disk: order statistics and the medoid against sorting everything at once."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spinect.bundle import Bundle
from spinect.card import Card, Preprocessing
from spinect.errors import BundleError, ConfigError, ResourceError
from spinect.evaluation.uncertainty import coverage
from spinect.geometry import Volume
from spinect.inference import draws as spooled
from spinect.inference import plan, translate, walk
from spinect.inference.prepare import bundle_grid

pytestmark = pytest.mark.filterwarnings("ignore:1 boundary planes")


class Noisy(nn.Module):
    """The sampler's answer is half the input plus a tenth of the noise it was given."""

    ndim, divisor, in_channels = 3, 1, 3
    modes = ("sample", "mc")
    heads = ("ct",)

    def __init__(self, scale=0.1):
        super().__init__()
        self.scale = scale

    def denoise(self, x, sigma, condition):
        return condition[:, :1] / 2 + self.scale * x / sigma

    def sample(self, denoise, like, steps, randn):
        assert steps is None
        sigma = torch.tensor(4.0)
        return denoise(sigma * randn(like), sigma)


def _bundle(method, tile=(40, 40, 48), modes=("sample", "mc"), high=1000):
    settings = Preprocessing(tile=tile, flip_average=False, hu_low=-1000, hu_high=high)
    card = Card(name="fake", method="fake", modes=modes, preprocessing=settings)
    return Bundle(card, method.eval(), Path())


@pytest.fixture(scope="module")
def mr():
    """A random image of 2 mm slices with one constant plane, which is outside."""
    data = np.random.default_rng(0).random((9, 30, 31), dtype=np.float32) * 500 + 20
    data[0] = 0
    return Volume(data, np.diag([2.0, 1, 1, 1]), "mr")


def _told(mr, **options):
    bundle = options.pop("bundle", None) or _bundle(Noisy())
    options = {"mode": "mc", "samples": 10, "device": "cpu", "precision": "fp32"} | options
    return translate(mr, bundle, **options)


@pytest.fixture(scope="module")
def told(mr):
    return _told(mr, interval=0.6, medoid=True, draws=True)


def test_draws_are_the_rounded_samples(mr, told):
    """The first is what mode "sample" gives; mean and spread are those of the draws."""
    assert told.draws.dtype == np.int16
    assert isinstance(told.draws, np.memmap)
    once = _told(mr, mode="sample")
    np.testing.assert_array_equal(told.draws[0], np.rint(once.ct.data))
    np.testing.assert_allclose(told.ct.data, told.draws.mean(0), atol=0.51)
    np.testing.assert_allclose(told.std.data, told.draws.std(0, ddof=1), atol=0.75)


def test_interval_is_two_sorted_draws(told):
    interval, ordered = told.interval, np.sort(told.draws, axis=0)
    assert interval.ranks == (2, 9)
    assert interval.coverage == pytest.approx(7 / 11)
    np.testing.assert_array_equal(interval.lower.data, ordered[1])
    np.testing.assert_array_equal(interval.upper.data, ordered[8])
    assert interval.lower.kind == interval.upper.kind == "ct"


def test_medoid_by_brute_force(told):
    kept = told.draws[:, told.inside].astype(float)
    apart = [[np.abs(a - b).mean() for a in kept] for b in kept]
    mean = np.sum(apart, axis=1) / 9
    assert told.medoid.draw == mean.argmin()
    assert told.medoid.distance == pytest.approx(mean.min(), rel=1e-12)
    np.testing.assert_array_equal(told.medoid.ct.data, told.draws[told.medoid.draw])


def test_medoid_of_modes_is_of_the_larger_one():
    """Three draws near 700 HU and two of air: one of the three, not their mean."""
    apart = spooled.distances(
        np.array([[-1000] * 3, [690] * 3, [700] * 3, [712] * 3, [-990] * 3], np.int16),
        np.array([True, False, True]),
    )
    np.testing.assert_array_equal(apart, apart.T)
    assert apart[0].tolist() == [0, 1690, 1700, 1712, 10]
    assert spooled.central(apart) == (1, (1690 + 10 + 22 + 1680) / 4)
    far = spooled.distances(np.array([[-32768], [32767]], np.int16), np.array([True]))
    assert far[0, 1] == 65535  # beyond int16
    assert spooled.central(far)[0] == 0  # the first of equals


def test_interval_of_true_draws_has_its_nominal_coverage():
    """A continuous distribution of 300 HU: whole numbers hardly tie."""
    values = np.random.default_rng(0).normal(0, 300, (11, 40, 30, 20)).astype(np.float32)
    kept = spooled.spool(10, values.shape[1:])
    for one, value in zip(kept, values[1:], strict=True):
        spooled.store(one, value)
    lower, upper = (np.empty(values.shape[1:], np.float32) for _ in range(2))
    interval = spooled.interval_of(kept, 0.8, lower, upper, np.eye(4))
    share = coverage(interval.lower.data, interval.upper.data, values[0])
    assert interval.coverage == pytest.approx(9 / 11)
    assert share == pytest.approx(9 / 11, abs=3 * np.sqrt(9 / 11 * 2 / 11 / values[0].size))


def test_neither_memory_nor_slabs_change_the_result(mr, told, monkeypatch):
    monkeypatch.setattr(spooled, "SLAB_BYTES", 12 * 10 * 997)  # of voxels, not of planes
    monkeypatch.setattr(walk, "plan_memory", lambda *_: walk.Plan(1, True, 0))
    again = _told(mr, interval=0.6, medoid=True)
    assert isinstance(again.interval.lower.data, np.memmap)
    for one, other in (
        (told.interval.lower, again.interval.lower),
        (told.interval.upper, again.interval.upper),
        (told.medoid.ct, again.medoid.ct),
        (told.ct, again.ct),
        (told.std, again.std),
    ):
        np.testing.assert_array_equal(one.data, other.data)
    assert (told.medoid.draw, told.medoid.distance) == (again.medoid.draw, again.medoid.distance)
    assert again.draws is None


def test_nothing_is_told_that_was_not_asked_for(mr):
    plain = _told(mr, samples=2)
    assert (plain.interval, plain.medoid, plain.draws) == (None, None, None)


def test_draws_count_in_the_check_of_the_disk(mr, monkeypatch):
    """2 bytes per draw and voxel, whatever fits into memory."""
    bundle = _bundle(Noisy(), (64, 64, 64))
    voxels = math.prod(bundle_grid(mr.grid, bundle.card).shape)
    few = type("Usage", (), {"free": 2 * 10 * voxels - 1})
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _: few)
    _told(mr, bundle=bundle, samples=2)  # nothing lies on the disk
    with pytest.raises(ResourceError, match="temporary files"):
        _told(mr, bundle=bundle, medoid=True)
    few.free += 1
    assert _told(mr, bundle=bundle, medoid=True).medoid is not None


def test_refusals(mr):
    for options in ({"interval": 0.5}, {"medoid": True}, {"draws": True}):
        with pytest.raises(ConfigError, match="belong to mode mc"):
            _told(mr, mode="sample", **options)
    with pytest.raises(ConfigError, match="draw at least 39"):
        _told(mr, interval=0.95)
    with pytest.raises(BundleError, match="first two samples are identical"):
        _told(mr, bundle=_bundle(Noisy(scale=0.0)), interval=0.5)
    with pytest.raises(BundleError, match="does not offer mode mc"):
        _told(mr, bundle=_bundle(Noisy(), modes=("sample",)), medoid=True)
    with pytest.raises(ConfigError, match="16-bit"):
        _told(mr, bundle=_bundle(Noisy(), high=40000), medoid=True)
