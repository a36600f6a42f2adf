"""Samplers of the stochastic equations against Gaussian data, and against recursions.

Data N(MEAN, STD**2). Every sampler here that is affine in its start and in its noises is driven
with chosen ones: zero noise gives its offset and its gain, unit noise in one step its response to
that step, and these give its exact mean and variance. The Langevin corrector is not affine; many
pixels stand in for its distribution.
"""

import math
from itertools import pairwise

import pytest
import torch
from diffusers import ScoreSdeVeScheduler

from spinect.diffusion.process import VE, VP, SubVP
from spinect.diffusion.sample import sample_ddpm
from spinect.diffusion.schedule import ddpm_linear, linear_levels
from spinect.diffusion.stochastic import Corrector, Predictor, sample_em, sample_pc

MEAN, STD = 0.3, 0.25
NONE = Corrector(steps=0)
PROCESSES = [VE(), VP(), SubVP()]


def ideal(x, sigma):
    """E[x0 | x] for x = x0 + sigma * noise and x0 ~ N(MEAN, STD**2)."""
    sigma = sigma.reshape(*sigma.shape, *[1] * (x.ndim - 1)) if sigma.ndim else sigma
    return (STD**2 * x + sigma**2 * MEAN) / (STD**2 + sigma**2)


def moments(draw, count, start_variance):
    """Exact mean and variance of a sampler that asks for noise `count` times; start mean 0."""
    x = torch.zeros(2 + count, 1, dtype=torch.float64)
    x[1], asked = 1, iter(range(2, 2 + count))

    def randn(like):
        noise = torch.zeros_like(like)
        noise[next(asked)] = 1
        return noise

    out = draw(x, randn)[:, 0]
    assert next(asked, None) is None  # as many as said
    gain, *responses = (out[1:] - out[0]).tolist()
    return out[0].item(), gain**2 * start_variance + sum(r**2 for r in responses)


def marginal(process, t):
    """alpha and the variance of x_t."""
    t = torch.tensor(t, dtype=torch.float64)
    alpha = process.alpha(t).item()
    return alpha, alpha**2 * STD**2 + process.std(t).item() ** 2


def langevin(mean, variance, alpha, v, size):
    """Mean and variance after a Langevin step of size a snr**2, in many dimensions."""
    e = 2 * size * v**2 / (variance + (mean - alpha * MEAN) ** 2)
    return (
        alpha * MEAN + (1 - e / v) * (mean - alpha * MEAN),
        (1 - e / v) ** 2 * variance + 2 * e,
    )


# --- ancestral DDPM ------------------------------------------------------------------------


def ddpm_recursion(variance_of, total=1000):
    abars = [*(1 / (1 + linear_levels(total).flip(0) ** 2)).tolist(), 1.0]
    mean, variance = 0.0, 1.0
    for now, then in pairwise(abars):
        a = now / then
        k = math.sqrt(now) * STD**2 / (now * STD**2 + 1 - now)
        c1 = math.sqrt(then) * (1 - a) / (1 - now)
        gain = c1 * k + math.sqrt(a) * (1 - then) / (1 - now)
        small = (1 - a) * (1 - then) / (1 - now)
        fresh = small if variance_of == "small" or then == 1 else 1 - a
        mean = gain * mean + c1 * (MEAN - k * math.sqrt(now) * MEAN)
        variance = gain**2 * variance + fresh
    return mean, variance


@pytest.mark.parametrize(("kind", "golden"), [("small", "0.0606531792"), ("large", "0.0629688781")])
def test_ddpm_has_the_moments_of_both_variances(kind, golden):
    """A thousand steps of the linear process."""
    sigmas = ddpm_linear(1000)
    found = moments(
        lambda x, randn: sample_ddpm(ideal, x, sigmas, variance=kind, randn=randn),
        999,
        1 + sigmas[0].item() ** 2,
    )
    expected = ddpm_recursion(kind)
    assert found == pytest.approx(expected, abs=1e-9)
    assert (f"{expected[0]:.10f}", f"{expected[1]:.10f}") == ("0.2999992433", golden)


def test_large_steps_keep_unit_noise_but_for_the_last():
    """Data N(0, 1): every step keeps variance 1; without its noise, the last ends at 1 - beta_1."""
    sigmas = ddpm_linear(1000)
    x = torch.zeros(1001, 1, dtype=torch.float64)
    x[0], asked = 1, iter(range(1, 1000))

    def randn(like):
        noise = torch.zeros_like(like)
        noise[next(asked)] = 1
        return noise

    out = sample_ddpm(lambda x, sigma: x / (1 + sigma**2), x, sigmas, variance="large", randn=randn)
    weights = torch.ones_like(out)
    weights[0] = 1 + sigmas[0] ** 2
    assert (weights * out**2).sum().item() == pytest.approx(0.9999, abs=1e-9)


# --- Euler-Maruyama ------------------------------------------------------------------------


def em_recursion(process, times, *, last="noise", size=0.0):
    """Mean and variance in every process; `size` is a snr**2 of a corrector."""
    mean, variance = 0.0, process.prior**2
    grid = times.tolist()
    for index, (now, then) in enumerate(pairwise(grid)):
        alpha, v = marginal(process, now)
        t = times[index]
        g2, drift, h = process.g2(t).item(), process.drift(t).item(), now - then
        if size:
            mean, variance = langevin(mean, variance, alpha, v, size)
        gain = 1 - drift * h - g2 * h / v
        fresh = 0 if last == "mean" and index == len(grid) - 2 else g2 * h
        mean = gain * mean + g2 * h * alpha * MEAN / v
        variance = gain**2 * variance + fresh
    if last == "tweedie":
        alpha, v = marginal(process, grid[-1])
        k = alpha * STD**2 / v
        mean, variance = MEAN + k * (mean - alpha * MEAN), k**2 * variance
    return mean, variance


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("last", ["mean", "noise", "tweedie"])
def test_euler_maruyama_equals_its_recursion(process, last):
    times = process.times(201)
    found = moments(
        lambda x, randn: sample_em(ideal, x, process, times, last=last, randn=randn),
        199 if last == "mean" else 200,
        process.prior**2,
    )
    assert found == pytest.approx(em_recursion(process, times, last=last), abs=1e-9)


def test_euler_maruyama_recursions_give_the_known_values():
    """VP in 125 to 2000 steps, and VE in 1000, all with the noise of the last step."""
    grids = [VP().times(n + 1) for n in (125, 250, 500, 1000, 2000)]
    found = [em_recursion(VP(), grid) for grid in grids]
    assert [f"{v:.6f}" for _, v in found] == [
        "0.063681",
        "0.063092",
        "0.062835",
        "0.062716",
        "0.062659",
    ]
    assert (f"{found[0][0]:.5f}", f"{found[-1][0]:.5f}") == ("0.30093", "0.30004")
    mean, variance = em_recursion(VE(), VE().times(1001))
    assert (f"{mean:.5f}", f"{variance:.6f}") == ("0.29999", "0.062602")


def test_euler_maruyama_is_of_first_order():
    """In the variance of VP, whose limit is the exact one of the reverse process from N(0, 1)."""
    errors = []
    limit = em_recursion(VP(), VP().times(64001))[1]
    for count in (500, 1000, 2000):
        grid = VP().times(count + 1)
        errors.append(abs(em_recursion(VP(), grid)[1] - limit))
    assert math.log2(errors[1] / errors[2]) == pytest.approx(1, abs=0.1)


def test_vp_euler_maruyama_rests_where_its_step_says():
    """Data N(0, 1), constant beta: the variance settles at 1 / (1 - beta h / 4)."""
    process = VP(b0=20.0, b1=20.0)
    times = torch.linspace(1, 0.2, 401, dtype=torch.float64)
    _, variance = moments(
        lambda x, randn: sample_em(
            lambda x, sigma: x / (1 + sigma**2), x, process, times, last="noise", randn=randn
        ),
        400,
        1.0,
    )
    assert variance == pytest.approx(1 / (1 - 20 * 0.002 / 4), abs=1e-6)


# --- predictors ----------------------------------------------------------------------------


def predictor_recursion(process, times, predictor, *, last="mean", size=0.0):
    """Mean and variance, written in each process's own symbols; `size` is snr**2."""
    mean, variance = 0.0, process.prior**2
    grid = [*times.tolist(), None]
    for now, then in pairwise(grid):
        alpha, v = marginal(process, now)
        var_now = v - alpha**2 * STD**2
        if then is None:
            before, var_then = 1.0, 0.0
        else:
            before, v_then = marginal(process, then)
            var_then = v_then - before**2 * STD**2
        kept = alpha / before
        d = var_now - kept**2 * var_then
        if size:
            mean, variance = langevin(mean, variance, alpha, v, size * kept**2)
        if predictor.rule == "reverse_diffusion":
            gain, add, fresh = 2 - kept - d / v, d / v, d
        else:
            gain, add = (1 - d / v) / kept, d / v / kept
            fresh = d * (1 if predictor.variance == "large" else var_then / var_now)
        if then is None and last == "mean":
            fresh = 0.0
        mean, variance = gain * mean + add * alpha * MEAN, gain**2 * variance + fresh
    return mean, variance


PREDICTORS = [Predictor(), Predictor("ancestral"), Predictor("ancestral", "large")]


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("predictor", PREDICTORS, ids=["rd", "small", "large"])
def test_predictors_equal_their_recursions(process, predictor):
    times = process.times(150)
    for last in ("mean", "noise"):
        found = moments(
            lambda x, randn, last=last: sample_pc(
                ideal,
                x,
                process,
                times,
                predictor=predictor,
                corrector=NONE,
                last=last,
                randn=randn,
            ),
            149 if last == "mean" else 150,
            process.prior**2,
        )
        expected = predictor_recursion(process, times, predictor, last=last)
        assert found == pytest.approx(expected, abs=1e-9)


def test_predictor_recursions_give_the_known_values():
    """VE on levels from 50 to 0.01, the last step to the clean image."""
    rd, ancestral = [], []
    process = VE(eps=0.0)
    for count in (125, 1000, 2000):
        times = process.times(count)
        mean, variance = predictor_recursion(process, times, Predictor())
        assert f"{mean:.5f}" == "0.29999"
        rd.append(f"{variance:.6f}")
        _, variance = predictor_recursion(process, times, Predictor("ancestral"))
        ancestral.append(f"{variance:.6f}")
    assert rd == ["0.066896", "0.062936", "0.062667"]
    assert ancestral == ["0.058310", "0.061872", "0.062135"]


def test_ancestral_predictor_on_vp_is_ddpm():
    """The same steps on the same noise levels, in x_t and in x_t / alpha."""
    process, times = VP(), VP().times(30)
    sigmas = torch.cat([process.sigma(times), torch.zeros(1)])
    for kind in ("small", "large"):
        start = torch.randn(4, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        ours = sample_pc(
            ideal,
            start,
            process,
            times,
            predictor=Predictor("ancestral", kind),
            corrector=NONE,
            randn=seeded(2),
        )
        scaled = start / process.alpha(times[0])
        theirs = sample_ddpm(ideal, scaled, sigmas, variance=kind, randn=seeded(2))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_tweedie_is_the_mean_of_the_last_ancestral_step():
    process, times = SubVP(), SubVP().times(20)
    start = torch.randn(4, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    mean, tweedie = (
        sample_pc(
            ideal,
            start,
            process,
            times,
            predictor=Predictor("ancestral"),
            last=last,
            randn=seeded(4),
        )
        for last in ("mean", "tweedie")
    )
    torch.testing.assert_close(mean, tweedie, rtol=0, atol=1e-12)


# --- Langevin ------------------------------------------------------------------------------

PIXELS = 65_536


def seeded(seed):
    generator = torch.Generator().manual_seed(seed)
    return lambda like: torch.randn(like.shape, dtype=like.dtype, generator=generator)


def close(out, expected):
    """Mean and variance of many pixels, within four standard errors."""
    mean, variance = expected
    assert out.mean().item() == pytest.approx(mean, abs=4 * math.sqrt(variance / PIXELS))
    assert out.var().item() == pytest.approx(variance, abs=4 * variance * math.sqrt(2 / PIXELS))


@pytest.mark.parametrize("snr", [0.16, 0.075])
@pytest.mark.parametrize("process", PROCESSES)
def test_predictor_and_corrector_have_the_spread_they_should(process, snr):
    times = process.times(300)
    start = process.prior * seeded(5)(torch.zeros(1, PIXELS, dtype=torch.float64))
    out = sample_pc(ideal, start, process, times, corrector=Corrector(snr), randn=seeded(6))
    close(out, predictor_recursion(process, times, Predictor(), size=snr**2))


def test_euler_maruyama_takes_a_corrector():
    """The start is not corrected when the predictor comes first."""
    times = VP().times(301)
    start = seeded(7)(torch.zeros(1, PIXELS, dtype=torch.float64))
    calls = []

    def counted(x, sigma):
        calls.append(sigma)
        return ideal(x, sigma)

    out = sample_em(
        counted, start, VP(), times, corrector=Corrector(0.16), last="noise", randn=seeded(8)
    )
    close(out, em_recursion(VP(), times, last="noise", size=0.16**2))
    assert len(calls) == 600
    calls.clear()
    late = Corrector(0.16, steps=2, start=False)
    sample_em(counted, start[:, :8], VP(), times, corrector=late, randn=seeded(8))
    assert len(calls) == 300 + 2 * 299


def test_corrector_recursions_give_the_known_values():
    """Those of VP with a = 1, of which the printed values are."""
    for snr, mean, golden in ((0.16, "0.30001", "0.064062"), (0.075, "0.30005", "0.062758")):
        found = em_recursion(VP(), VP().times(1001), size=snr**2)
        assert (f"{found[0]:.5f}", f"{found[1]:.6f}") == (mean, golden)
    process = VE(eps=0.0)
    for snr, golden, noisy in ((0.16, "0.063997", "0.064097"), (0.075, "0.062750", "0.062850")):
        options = {"size": snr**2}
        found = predictor_recursion(process, process.times(1000), Predictor(), **options)
        assert (f"{found[0]:.5f}", f"{found[1]:.6f}") == ("0.30000", golden)
        found = predictor_recursion(
            process, process.times(1000), Predictor(), last="noise", **options
        )
        assert f"{found[1]:.6f}" == noisy


@pytest.mark.parametrize("snr", [0.16, 0.075])
def test_langevin_settles_at_its_known_bias(snr):
    """v (1 + a snr**2): no number of steps removes it."""
    process, t = VP(), torch.tensor(0.3, dtype=torch.float64)
    alpha, v = marginal(process, 0.3)
    x = alpha * MEAN + math.sqrt(v) * seeded(9)(torch.zeros(1, PIXELS, dtype=torch.float64))
    correct = Corrector(snr, steps=800)
    kept = torch.tensor(0.9, dtype=torch.float64)
    out = correct(lambda x: process.score(ideal, x, t), x, kept, seeded(10))
    bias = 1 + 0.81 * snr**2
    assert (out - alpha * MEAN).square().mean().item() == pytest.approx(
        v * bias, abs=4 * v * math.sqrt(2 / PIXELS)
    )


@pytest.mark.parametrize("process", PROCESSES)
def test_a_sample_does_not_know_its_neighbours(process):
    """Permuted inputs and noises give the same images, permuted, to the last bit."""
    order = torch.tensor([2, 0, 3, 1])
    start = process.prior * seeded(11)(torch.zeros(4, 1, 6, 6))

    def permuted(draw):
        return lambda like: draw(like)[order]

    for sample in (
        lambda x, randn: sample_pc(ideal, x, process, process.times(12), randn=randn),
        lambda x, randn: sample_em(
            ideal, x, process, process.times(13), corrector=Corrector(), randn=randn
        ),
    ):
        plain, other = sample(start, seeded(12)), sample(start[order], permuted(seeded(12)))
        assert plain.dtype == torch.float32
        assert torch.equal(plain[order], other)


# --- a foreign oracle ----------------------------------------------------------------------


def test_ve_steps_equal_diffusers():
    """Its float32 levels, their predictor and their corrector; one image, as theirs mixes them.

    Their corrector ignores the score's own scale for more images: it takes the mean of the norms.
    """
    count, snr = 50, 0.16
    theirs = ScoreSdeVeScheduler(num_train_timesteps=count, snr=snr, sigma_min=0.01, sigma_max=50.0)
    theirs.set_timesteps(count)
    theirs.set_sigmas(count)
    process = VE(eps=0.0)
    start = 50.0 * seeded(13)(torch.zeros(1, 1, 8, 8))
    x, times = start, process.times(count)
    torch.manual_seed(14)
    for t in theirs.timesteps:
        now = times[(count - 1) - round(float(t) * (count - 1))]
        x = theirs.step_correct(process.score(ideal, x, now), x).prev_sample
        mean = theirs.step_pred(process.score(ideal, x, now), t, x)
        x = mean.prev_sample
    torch.manual_seed(14)
    ours = sample_pc(ideal, start, process, times, corrector=Corrector(snr))
    torch.testing.assert_close(ours, mean.prev_sample_mean, rtol=0, atol=2e-4)
