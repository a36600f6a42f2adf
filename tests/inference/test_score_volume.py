"""The samplers of processes through the walk over a volume, with a network that knows the law."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spinect.bundle import Bundle
from spinect.card import Card, Preprocessing
from spinect.data.intensity import mr_channels
from spinect.evaluation.measures import at
from spinect.evaluation.protocols.uncertainty import Sampled, monte_carlo
from spinect.geometry import Volume
from spinect.geometry.resample import to_iso
from spinect.inference import translate
from spinect.methods.registry import build
from spinect.methods.translate import translate as translate_tiles

MEAN, STD = 0.1, 0.2  # in units of 1000 HU
FIELDS = {
    "ndim": 2,
    "predicts": "eps",
    "regress_share": 0.0,
    "clamp": False,
    "network": {"channels": (8,), "blocks": (1,), "decoder_blocks": (), "stem": 1, "head": 8},
}
SAMPLERS = {
    "em": {"schedule": "vp", "sampler": "em", "steps": 60},
    "pc": {"schedule": "vp", "sampler": "pc", "snr": 0.05, "steps": 60},
    "ode": {"schedule": "subvp", "sampler": "ode", "rtol": 1e-4, "atol": 1e-4},
}


class Oracle(nn.Module):
    """The noise in Gaussian data about MEAN + 0.2 of the MR, at a level ln(sigma) / 4."""

    divisor = 1

    def forward(self, x, level):
        sigma = (4 * level).exp().reshape(-1, 1, 1, 1)
        noisy = x[:, :1] * (1 + sigma**2).sqrt()
        return sigma / (STD**2 + sigma**2) * (noisy - MEAN - 0.2 * x[:, 1:2])


def bundle(name, tile=(1, 40, 40)):
    method = build("diffusion", FIELDS | {"in_channels": 3} | SAMPLERS[name]).eval()
    method.network = Oracle()
    settings = Preprocessing(tile=tile, flip_average=False, hu_low=-1000, hu_high=1000)
    card = Card(name="oracle", method="diffusion", modes=("sample", "mc"), preprocessing=settings)
    return Bundle(card, method, Path())


@pytest.fixture(scope="module")
def case():
    """An MR, and a CT drawn from the law that the network knows."""
    rng = np.random.default_rng(0)
    mr = Volume(rng.uniform(20, 500, (8, 40, 40)).astype(np.float32), np.eye(4), "mr")
    data = torch.from_numpy(to_iso(mr).data)[None, None]
    seen = mr_channels(data, torch.ones_like(data))[0, 0].numpy()
    truth = 1000 * (MEAN + 0.2 * seen + STD * rng.standard_normal(seen.shape))
    return mr, Volume(truth.astype(np.float32), np.eye(4), "ct")


def spread_of(name):
    """Standard deviation of the draws in so few steps, over that of the law: large samples."""
    torch.manual_seed(1)
    draws = translate_tiles(bundle(name).method, torch.zeros(4, 3, 64, 64), mode="sample")
    return draws.std().item() / STD


@pytest.mark.parametrize("name", SAMPLERS)
def test_draws_of_the_true_law_are_calibrated(name, case):
    """Averaging gains what theory says, the spread is the error, the interval covers its share.

    A draw in few steps has q times the standard deviation of the law: then the mean of K has the
    squared error s**2 (1 + q**2 / K).
    """
    mr, truth = case
    options = {"mode": "mc", "samples": 10, "interval": 0.8, "draws": True}
    out = translate(mr, bundle(name), device="cpu", precision="fp32", **options)
    sampled = Sampled(out.ct, out.std, 10, out.interval.lower, out.interval.upper,
                      out.interval.coverage, out.draws)  # fmt: skip
    rows = monte_carlo(sampled, truth, {"all": np.ones(truth.data.shape, bool)})
    q = spread_of(name)
    assert q == pytest.approx(1, abs=0.15)
    assert at(rows, "all", "spread") == pytest.approx(1000 * STD * q, rel=0.03)
    skill = q * math.sqrt(1.1 / (1 + q**2 / 10))
    assert at(rows, "all", "spread_skill") == pytest.approx(skill, abs=0.03)
    assert at(rows, "all", "coverage") == pytest.approx(9 / 11, abs=0.02 + abs(q - 1) / 2)
    for count in (2, 10):
        gain = 10 * math.log10((1 + q**2) / (1 + q**2 / count))
        assert at(rows, "all", "gain", f"K={count}") == pytest.approx(gain, abs=0.15)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_draw_does_not_know_its_tiles(name, case):
    """Langevin's norms and the error of RK45 are those of the volume, not of a tile.

    Both tiles cover the volume without padding, which would count in the norms.
    """
    mr, _ = case
    options = {"mode": "sample", "seed": 7, "device": "cpu", "precision": "fp32"}
    small, large = (
        translate(mr, bundle(name, tile), **options).ct.data for tile in ((1, 16, 16), (1, 40, 40))
    )
    np.testing.assert_allclose(small, large, atol=1.5)  # of 200; rounding moves RK45's steps
    assert np.std(small) > 150
