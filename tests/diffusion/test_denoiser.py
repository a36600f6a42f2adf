"""Scalings, clamping, guidance and the time of discrete networks."""

import pytest
import torch

from spinect.diffusion.denoiser import SCALINGS, Denoiser, DiscreteLevel
from spinect.diffusion.sample import sample_ancestral, sample_heun
from spinect.diffusion.schedule import karras, linear_levels

DATA = 0.5
SIGMAS = torch.tensor([0.01, 0.3, 2.0, 60.0], dtype=torch.float64)


def pair(seed=0):
    """Clean images of standard deviation DATA, noise, and their sum at four levels."""
    generator = torch.Generator().manual_seed(seed)
    x0 = DATA * torch.randn(4, 1, 8, 8, dtype=torch.float64, generator=generator)
    noise = torch.randn(4, 1, 8, 8, dtype=torch.float64, generator=generator)
    sigma = SIGMAS.reshape(4, 1, 1, 1)
    return x0, noise, sigma, x0 + sigma * noise


@pytest.mark.parametrize("predicts", ["x0", "eps", "v", "edm"])
def test_the_true_network_gives_the_clean_image(predicts):
    """F as each paper defines it, seen through the denoiser, is x0; its input is what F expects."""
    x0, noise, sigma, x = pair()
    alpha = (1 + sigma**2).rsqrt()
    total = (sigma**2 + DATA**2).sqrt()
    truth = {
        "x0": x0,
        "eps": noise,
        "v": alpha * noise - sigma * alpha * x0,
        "edm": (x0 - DATA**2 / total**2 * x) * total / (sigma * DATA),
    }[predicts]
    inputs = {"edm": x / total}.get(predicts, alpha * x)

    def network(scaled, level):
        torch.testing.assert_close(scaled, inputs, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(level, SIGMAS.log() / 4)
        return truth

    found = Denoiser(network, predicts, DATA)(x, SIGMAS)
    torch.testing.assert_close(found, x0, rtol=0, atol=1e-12)


def test_edm_target_and_input_have_unit_variance():
    """arXiv 2206.00364, app. B.6: for data of standard deviation DATA at every noise level."""
    s = torch.logspace(-3, 2, 20, dtype=torch.float64)
    scaling = SCALINGS["edm"](s, DATA)
    into = scaling.into**2 * (DATA**2 + s**2)
    target = ((1 - scaling.skip) ** 2 * DATA**2 + scaling.skip**2 * s**2) / scaling.out**2
    weight = (s**2 + DATA**2) / (s * DATA) ** 2
    for found in (into, target, weight * scaling.out**2):
        torch.testing.assert_close(found, torch.ones_like(s), rtol=1e-12, atol=0)


@pytest.mark.parametrize("sample", [sample_ancestral, sample_heun])
def test_a_zero_edm_network_samples_the_gaussian_of_its_data(sample):
    """With mean 0 and standard deviation DATA the best F is 0: gain DATA / sigma_max."""
    zero = Denoiser(lambda x, _: torch.zeros_like(x), "edm", DATA)
    x = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    out = sample(zero, x, karras(2000))
    exact = DATA / (DATA**2 + 80.0**2) ** 0.5
    torch.testing.assert_close(out, torch.full_like(x, exact), rtol=5e-3, atol=0)


def test_clamp_and_guidance_act_on_the_clean_image():
    """w in the condition's favour extrapolates x0, and the clamp comes last."""
    _, _, _, x = pair()

    def seeing(scaled, _):
        return torch.full_like(scaled, 0.4)

    def blind(scaled, _):
        return torch.full_like(scaled, 0.1)

    def value(**options):
        return Denoiser(seeing, "x0", without=blind, **options)(x, SIGMAS).unique().tolist()

    assert value() == pytest.approx([0.4])
    assert value(guidance=3.0) == pytest.approx([1.0])
    assert value(guidance=0.0) == pytest.approx([0.1])
    assert value(guidance=5.0, clamp=(-1.0, 1.0)) == [1.0]


def test_guidance_of_one_does_not_call_the_other_network():
    """No guidance, no second call."""

    def never(scaled, level):
        raise AssertionError((scaled, level))

    Denoiser(lambda x, _: x, "x0", without=never)(torch.zeros(1, 1, 4), torch.tensor(1.0))


def test_discrete_level_finds_the_time_of_a_noise_level():
    """At the table's levels the time is the index; between two it lies between; it never leaves."""
    levels = linear_levels()
    level = DiscreteLevel(levels)
    times = torch.tensor([0, 1, 17, 500, 998, 999])
    torch.testing.assert_close(level(levels[times]), times.double(), rtol=0, atol=1e-8)
    middle = level((levels[17] * levels[18]).sqrt()[None])
    assert middle.item() == pytest.approx(17.5, abs=1e-9)
    outside = level(torch.tensor([1e-9, 1e9], dtype=torch.float64))
    assert outside.tolist() == pytest.approx([0, 999])


def test_one_level_serves_a_whole_batch():
    """Samplers pass sigma of shape (), training one level per sample."""
    _, _, _, x = pair()
    seen = []

    def network(scaled, level):
        seen.append(level)
        return scaled

    one = Denoiser(network, "v")(x, torch.tensor(0.3, dtype=torch.float64))
    each = Denoiser(network, "v")(x, torch.full((4,), 0.3, dtype=torch.float64))
    torch.testing.assert_close(one, each, rtol=0, atol=0)
    assert [level.shape for level in seen] == [(4,), (4,)]
