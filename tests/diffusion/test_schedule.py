"""Noise levels against their published formulas."""

import math

import pytest
import torch
from diffusers import DDPMScheduler

from spinect.diffusion.schedule import (
    cosine_levels,
    ddpm_cosine,
    ddpm_linear,
    karras,
    linear_levels,
    spaced,
)
from spinect.errors import ConfigError


def test_karras_of_edm():
    """arXiv 2206.00364, eq. 5, with its own numbers: 80, 0.002, rho 7."""
    sigmas = karras(18)
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    expected = [(high + i / 17 * (low - high)) ** 7 for i in range(18)]
    assert sigmas.tolist() == pytest.approx([*expected, 0.0], rel=1e-12)


@pytest.mark.parametrize(
    ("levels", "name"), [(linear_levels(), "linear"), (cosine_levels(), "squaredcos_cap_v2")]
)
def test_ddpm_levels_equal_diffusers(levels, name):
    """diffusers computes in float32, and its alphas_cumprod loses digits near zero."""
    theirs = DDPMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule=name).alphas_cumprod
    torch.testing.assert_close((1 / (1 + levels**2)).float(), theirs, rtol=2e-4, atol=1e-6)


def test_linear_levels_end_short_of_pure_noise():
    """abar_T = 4.036e-5, so a standard normal start is slightly off."""
    assert 1 / (1 + linear_levels()[-1].item() ** 2) == pytest.approx(4.036e-5, rel=1e-4)


@pytest.mark.parametrize("make", [karras, ddpm_linear, ddpm_cosine])
@pytest.mark.parametrize("steps", [1, 2, 7, 20, 1000])
def test_levels_fall_to_zero(make, steps):
    """Every schedule, any number of steps: strictly falling, the last one 0, float64."""
    sigmas = make(steps)
    assert sigmas.shape == (steps + 1,)
    assert sigmas.dtype == torch.float64
    assert sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()
    assert math.isfinite(sigmas[0])
    assert sigmas[0] == make(1)[0]


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_steps_are_refused(steps):
    """More steps than there are levels would visit one twice."""
    with pytest.raises(ConfigError, match=str(steps)):
        spaced(linear_levels(), steps)
