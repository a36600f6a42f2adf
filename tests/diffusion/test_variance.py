"""The learned variance's loss against torch's and scipy's distributions, in DDPM's variables."""

import math

import pytest
import torch
from scipy.stats import norm
from torch.distributions import Normal, kl_divergence

from spinect.diffusion.schedule import cosine_levels, linear_levels
from spinect.diffusion.variance import variational_bits


def case(seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw():
        return torch.rand(1, 1, 5, 7, dtype=torch.float64, generator=generator) * 2 - 1

    true, v = draw(), draw()
    return true, (true + 0.2 * draw()).clamp(-1.2, 1.2), v, draw()


def bits_at(levels, t, guess, true, v):
    before = levels[t - 1] if t else torch.zeros_like(levels[0])
    return variational_bits(guess, true, v, levels[t], before)


@pytest.mark.parametrize("make", [cosine_levels, linear_levels])
@pytest.mark.parametrize("t", [1, 2, 40, 500, 998, 999])
def test_later_times_pay_the_divergence_of_the_two_steps(make, t):
    """Normal distributions with the means and variances of Ho et al., arXiv 2006.11239, eq. 7."""
    levels = make()
    true, guess, v, x = case()
    abar, past = (1 / (1 + levels[i] ** 2) for i in (t, t - 1))
    beta = 1 - abar / past
    small = beta * (1 - past) / (1 - abar)
    clean, noisy = past.sqrt() * beta / (1 - abar), (1 - beta).sqrt() * (1 - past) / (1 - abar)
    share = (v + 1) / 2
    proposed = (share * beta.log() + (1 - share) * small.log()).exp()
    want = kl_divergence(
        Normal(clean * true + noisy * x, small.sqrt()),
        Normal(clean * guess + noisy * x, proposed.sqrt()),
    )
    found = bits_at(levels, t, guess, true, v)
    torch.testing.assert_close(found, want / math.log(2), rtol=1e-6, atol=1e-9)


def test_the_first_time_pays_for_the_bin_of_eight_bits():
    """The probability of 255 bins by scipy; the outermost ones reach to infinity."""
    levels = cosine_levels()
    true = (torch.arange(256, dtype=torch.float64) / 127.5 - 1).reshape(1, 1, 256)
    guess = true + 0.004 * torch.sin(torch.arange(256.0, dtype=torch.float64))
    v = torch.linspace(0.7, 1, 256, dtype=torch.float64).reshape(1, 1, 256)
    beta = (1 - 1 / (1 + levels[0] ** 2)).item()
    share = (v + 1) / 2
    std = (share * math.log(beta) + (1 - share) * math.log(1e-20)).exp().sqrt().numpy()
    high = norm.cdf((true + 1 / 255).numpy(), guess.numpy(), std)
    low = norm.cdf((true - 1 / 255).numpy(), guess.numpy(), std)
    high[..., -1], low[..., 0] = 1, 0
    want = -torch.from_numpy(high - low).clamp(min=1e-12).log2()
    found = bits_at(levels, 0, guess, true, v)
    torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-7)
    assert found.max() > 1


def test_a_true_proposal_costs_nothing_and_sureness_of_the_wrong_costs_much():
    """Zero at the true image with the posterior's variance, which is v = -1; never negative."""
    levels = cosine_levels()
    true, guess, v, _ = case()
    for t in (1, 300, 999):
        assert bits_at(levels, t, true, true, -torch.ones_like(v)).abs().max() < 1e-12
        assert (bits_at(levels, t, guess, true, v) >= 0).all()
    sure, unsure = (bits_at(levels, 300, true + 0.5, true, s * torch.ones_like(v)) for s in (-1, 1))
    assert (sure > unsure).all()


def test_gradients_reach_mean_and_variance_and_stay_finite_in_single_precision():
    """The mean is not detached; every time, and a v far out of [-1, 1]."""
    levels = cosine_levels().float()
    true, guess, v, _ = (part.float() for part in case())
    for t in (0, 1, 500, 999):
        for stretch in (1, 20):
            mean, spread = guess.clone().requires_grad_(), (v * stretch).requires_grad_()
            bits_at(levels, t, mean, true, spread).sum().backward()
            assert mean.grad.isfinite().all()
            assert spread.grad.isfinite().all()
            if t:
                assert mean.grad.abs().max() > 0
                assert spread.grad.abs().max() > 0
