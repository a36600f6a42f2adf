"""Samplers against Gaussian data, for which every affine sampler has exact moments.

Data N(MEAN, STD**2): the ideal denoiser is affine in x, so a sampler driven with chosen noises
gives its gain, its offset and its response to the noise of each step, and from them the exact
mean and variance of what it draws. The recursions are written in DDPM's variables, which the
samplers never see.
"""

import math
from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

from spinect.diffusion.sample import SAMPLERS, sample_ancestral, sample_dpmpp_2m, sample_heun
from spinect.diffusion.schedule import ddpm_linear, karras

MEAN, STD = 0.3, 0.25


def ideal(x, sigma):
    """E[x0 | x] for x = x0 + sigma * noise and x0 ~ N(MEAN, STD**2)."""
    return (STD**2 * x + sigma**2 * MEAN) / (STD**2 + sigma**2)


def moments(sample, sigmas, start_variance, **options):
    """Exact mean and variance of a sampler that is affine in its start and in its noises.

    One run of many voxels: the first starts at 0 without noise (the offset), the second at 1 (the
    gain), and each of the others hears unit noise in one step only (its response). Start mean 0.
    """
    x = torch.zeros(2 + len(sigmas), dtype=torch.float64)
    x[1], draws = 1, iter(range(2, 2 + len(sigmas)))

    def randn(like):
        noise = torch.zeros_like(like)
        noise[next(draws)] = 1
        return noise

    out = sample(ideal, x, sigmas, randn=randn, **options)
    gain, *responses = (out[1:] - out[0]).tolist()
    return out[0].item(), gain**2 * start_variance + sum(r**2 for r in responses)


def linear_abar(total=1000):
    beta = torch.linspace(1e-4, 0.02, total, dtype=torch.float64)
    return (1 - beta).cumprod(0)


def visited(steps, total=1000):
    abar = linear_abar(total)
    times = torch.linspace(total - 1, 0, steps, dtype=torch.float64).round().long()
    return [*abar[times].tolist(), 1.0]


def ddim_recursion(abars, eta):
    """Mean and variance of DDIM from N(0, 1), arXiv 2010.02502, eq. 12, in DDPM's variables."""
    mean, variance = 0.0, 1.0
    for now, then in pairwise(abars):
        k = math.sqrt(now) * STD**2 / (now * STD**2 + 1 - now)
        fresh = eta * math.sqrt((1 - then) / (1 - now) * (1 - now / then))
        left = math.sqrt(1 - then - fresh**2)
        constant = MEAN - k * math.sqrt(now) * MEAN
        gain = math.sqrt(then) * k + left * (1 - math.sqrt(now) * k) / math.sqrt(1 - now)
        mean = gain * mean + constant * (
            math.sqrt(then) - left * math.sqrt(now) / math.sqrt(1 - now)
        )
        variance = gain**2 * variance + fresh**2
    return mean, variance


def ancestral_recursion(abars):
    """Mean and variance of DDPM's posterior steps ("small" variance) from N(0, 1)."""
    mean, variance = 0.0, 1.0
    for now, then in pairwise(abars):
        a = now / then
        k = math.sqrt(now) * STD**2 / (now * STD**2 + 1 - now)
        c1 = math.sqrt(then) * (1 - a) / (1 - now)
        c2 = math.sqrt(a) * (1 - then) / (1 - now)
        gain = c1 * k + c2
        mean = gain * mean + c1 * (MEAN - k * math.sqrt(now) * MEAN)
        variance = gain**2 * variance + (1 - a) * (1 - then) / (1 - now)
    return mean, variance


@pytest.mark.parametrize(
    ("steps", "eta", "golden"),
    [
        (10, 0.0, "0.019004"),
        (25, 0.0, "0.040578"),
        (50, 0.0, "0.050683"),
        (100, 0.0, "0.056305"),
        (250, 0.0, "0.059903"),
        (1000, 0.0, "0.061768"),
        (10, 1.0, "0.015509"),
        (25, 1.0, "0.032250"),
        (50, 1.0, "0.042041"),
        (100, 1.0, "0.049772"),
        (250, 1.0, "0.056325"),
    ],
)
def test_ancestral_has_the_moments_of_ddim_and_ddpm(steps, eta, golden):
    """DDPM's N(0, 1) start is 1 + sigma**2 in units of the clean image."""
    sigmas = ddpm_linear(steps)
    mean, variance = moments(sample_ancestral, sigmas, 1 + sigmas[0].item() ** 2, eta=eta)
    expected = ddim_recursion(visited(steps), eta)
    assert (mean, variance) == pytest.approx(expected, abs=1e-9)
    assert f"{variance:.6f}" == golden
    if eta == 1:
        assert ancestral_recursion(visited(steps)) == pytest.approx(expected, abs=1e-12)


def test_a_thousand_ddpm_steps_have_the_known_moments():
    """Every step of the linear process; the mean is the limit, the spread 3 % too small."""
    sigmas = ddpm_linear(1000)
    mean, variance = moments(sample_ancestral, sigmas, 1 + sigmas[0].item() ** 2, eta=1.0)
    assert f"{mean:.10f}" == "0.2999992433"
    assert f"{variance:.10f}" == "0.0606531792"


@pytest.mark.parametrize(
    ("sample", "golden"),
    [
        (sample_ancestral, ["0.040917", "0.050610", "0.056286", "0.059358", "0.060957"]),
        (sample_heun, ["0.077725", "0.065812", "0.063350", "0.062781", "0.062643"]),
        (sample_dpmpp_2m, ["0.066003", "0.063899", "0.062944", "0.062686", "0.062620"]),
    ],
)
def test_deterministic_samplers_on_a_log_grid(sample, golden):
    """Variance after n steps, evenly spaced in ln(sigma) from 50 to 0.01, start N(0, 50**2)."""
    found = []
    for steps in (10, 20, 40, 80, 160):
        ramp = torch.linspace(math.log(50), math.log(0.01), steps + 1, dtype=torch.float64)
        found.append(f"{moments(sample, ramp.exp(), 50.0**2)[1]:.6f}")
    assert found == golden


@pytest.mark.parametrize(("sample", "order"), [(sample_ancestral, 1), (sample_heun, 2)])
def test_sampler_converges_at_its_order(sample, order):
    """For Gaussian data the exact end of every trajectory is a closed formula."""
    start = torch.linspace(-90, 90, 8, dtype=torch.float64)

    def error(steps):
        sigmas = karras(steps)
        exact = MEAN + (start - MEAN) * STD / (STD**2 + sigmas[0] ** 2).sqrt()
        return (sample(ideal, start, sigmas) - exact).abs().max()

    assert math.log2(error(64) / error(128)) == pytest.approx(order, abs=0.3)


def test_dpmpp_2m_converges_at_second_order():
    """Multistep methods reach their order late; between 320 and 640 steps it is near 2."""
    start = torch.linspace(-90, 90, 8, dtype=torch.float64)

    def error(steps):
        ramp = torch.linspace(math.log(80), math.log(0.01), steps + 1, dtype=torch.float64).exp()
        spread = ((STD**2 + ramp[-1] ** 2) / (STD**2 + ramp[0] ** 2)).sqrt()
        return (sample_dpmpp_2m(ideal, start, ramp) - MEAN - (start - MEAN) * spread).abs().max()

    assert math.log2(error(320) / error(640)) == pytest.approx(2, abs=0.2)


def crooked(x, sigma):
    """A denoiser of no data at all, far from linear."""
    return torch.tanh(x / (1 + sigma)) * 0.8 + 0.1 * torch.sin(3 * x / (1 + sigma))


def test_ddim_is_euler_and_first_order_dpmpp():
    """Three code paths of one step, on a denoiser that is not linear."""
    x = torch.randn(64, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 80
    sigmas = karras(12)
    euler = multistep = x
    for now, then in pairwise(sigmas):
        euler = euler + (then - now) * (euler - crooked(euler, now)) / now
        step = -(then / now).log()
        multistep = then / now * multistep - torch.expm1(-step) * crooked(multistep, now)
    ddim = sample_ancestral(crooked, x, sigmas)
    torch.testing.assert_close(ddim, euler, rtol=0, atol=1e-12)
    torch.testing.assert_close(ddim, multistep, rtol=0, atol=1e-12)


def test_ode_runs_back_to_the_noise_it_came_from():
    """Heun from noise to data and, on the mirrored levels, to the same noise."""
    sigmas = torch.linspace(math.log(20), math.log(0.01), 400, dtype=torch.float64).exp()
    x = 20 * torch.randn(32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    back = sample_heun(crooked, sample_heun(crooked, x, sigmas), sigmas.flip(0))
    torch.testing.assert_close(back, x, rtol=1e-3, atol=0)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_data_without_spread_come_back_exactly(eta):
    """In any number of steps and whatever the noise."""
    x = 100 * torch.randn(16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    out = sample_ancestral(lambda x, _: torch.full_like(x, MEAN), x, karras(3), eta=eta)
    assert (out == MEAN).all()


def test_samplers_call_the_denoiser_as_often_as_they_say():
    """One call per step; Heun two, but one for the step to 0. Noise is asked for in between."""
    calls = {}
    for name, sample in SAMPLERS.items():
        count = 0

        def counted(x, sigma):
            nonlocal count
            count += 1
            assert sigma.shape == ()
            return ideal(x, sigma)

        sample(counted, torch.zeros(1, 1, 4, dtype=torch.float64), karras(10))
        calls[name] = count
    assert calls == {"ancestral": 10, "ddpm": 10, "heun": 19, "dpmpp_2m": 10, "graf2023": 10}


# --- foreign oracles -----------------------------------------------------------------------


def drive(scheduler, abars, x, noises=None):
    """A diffusers scheduler with the ideal-like `crooked` denoiser, in DDPM's variables."""
    for index, t in enumerate(scheduler.timesteps):
        abar = abars[int(t)]
        sigma = ((1 - abar) / abar).sqrt()
        x0 = crooked(x / abar.sqrt(), sigma)
        extra = {} if noises is None else {"variance_noise": noises[index], "eta": 1.0}
        x = scheduler.step(x0, t, x, **extra).prev_sample
    return x


def scaled_start(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 1, 8, 8, dtype=torch.float64, generator=generator)


def test_ddim_equals_diffusers():
    """All thousand times, final abar 1."""
    scheduler = DDIMScheduler(
        beta_start=1e-4,
        beta_end=0.02,
        prediction_type="sample",
        clip_sample=False,
        timestep_spacing="linspace",
    )
    scheduler.set_timesteps(1000)
    abars = scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
    start = scaled_start(4)
    theirs = drive(scheduler, abars, start)
    sigmas = torch.cat([((1 - abars) / abars).sqrt().flip(0), torch.zeros(1)])
    ours = sample_ancestral(crooked, start / abars[-1].sqrt(), sigmas)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("steps", [10, 50])
def test_ddpm_equals_diffusers_with_the_same_noise(steps):
    """eta = 1 is DDPMScheduler's "fixed_small", on a sub-sequence of times too."""
    scheduler = DDIMScheduler(
        beta_start=1e-4, beta_end=0.02, prediction_type="sample", clip_sample=False
    )
    scheduler.set_timesteps(steps)
    abars = scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
    generator = torch.Generator().manual_seed(5)
    noises = [torch.randn(2, 1, 8, 8, dtype=torch.float64, generator=generator) for _ in range(60)]
    start = scaled_start(6)
    theirs = drive(scheduler, abars, start, noises)
    visited = abars[scheduler.timesteps]
    sigmas = torch.cat([((1 - visited) / visited).sqrt(), torch.zeros(1)])
    source = iter(noises)
    ours = sample_ancestral(
        crooked, start / visited[0].sqrt(), sigmas, eta=1.0, randn=lambda _: next(source)
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_one_ddpm_posterior_step_equals_diffusers():
    """DDPMScheduler's mean and variance of x_{t-1}, for its last thousandth of the way."""
    scheduler = DDPMScheduler(
        beta_start=1e-4, beta_end=0.02, prediction_type="sample", clip_sample=False
    )
    abars = scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.alphas = scheduler.alphas.double()
    scheduler.one = scheduler.one.double()
    x, t = scaled_start(7), 400
    sigmas = ((1 - abars) / abars).sqrt()
    x0 = crooked(x / abars[t].sqrt(), sigmas[t])
    torch.manual_seed(8)
    theirs = scheduler.step(x0, t, x).prev_sample
    torch.manual_seed(8)
    ours = sample_ancestral(crooked, x / abars[t].sqrt(), sigmas[[t, t - 1]], eta=1.0)
    torch.testing.assert_close(ours * abars[t - 1].sqrt(), theirs, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_dpmpp_2m_equals_diffusers():
    """DPMSolverMultistepScheduler of order 2 in midpoint form, last step of first order."""
    scheduler = DPMSolverMultistepScheduler(
        beta_start=1e-4,
        beta_end=0.02,
        prediction_type="sample",
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(20)
    sigmas = scheduler.sigmas = scheduler.sigmas.double()
    start = scaled_start(9)
    x = start
    for index, t in enumerate(scheduler.timesteps):
        alpha = (1 + sigmas[index] ** 2).rsqrt()
        x0 = crooked(x / alpha, sigmas[index])
        x = scheduler.step(x0, t, x).prev_sample.double()
    ours = sample_dpmpp_2m(crooked, start * (1 + sigmas[0] ** 2).sqrt(), sigmas)
    torch.testing.assert_close(ours, x, rtol=0, atol=1e-6)
