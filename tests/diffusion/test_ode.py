"""The probability flow against exact trajectories, and the process's own identities."""

import math
from itertools import pairwise

import pytest
import torch

from spinect.diffusion.denoiser import SCALINGS
from spinect.diffusion.ode import DORMAND_PRINCE, FIXED, Tolerance, sample_ode, solve, steps
from spinect.diffusion.process import VE, VP, SubVP
from spinect.diffusion.sample import sample_ancestral, sample_dpmpp_2m, sample_heun
from spinect.diffusion.schedule import linear_levels
from spinect.errors import ConfigError

MEAN, STD = 0.3, 0.25
PROCESSES = [VE(), VP(), SubVP()]


def wide(sigma, x):
    return sigma.reshape(*sigma.shape, *[1] * (x.ndim - 1)) if sigma.ndim else sigma


def ideal(x, sigma):
    """E[x0 | x] for x = x0 + sigma * noise and x0 ~ N(MEAN, STD**2)."""
    sigma = wide(sigma, x)
    return (STD**2 * x + sigma**2 * MEAN) / (STD**2 + sigma**2)


def exact(process, x, start, end):
    """x at `end` on the trajectory through x at `start`, for the Gaussian data."""

    def of(t):
        alpha = process.alpha(t)
        return alpha, (alpha**2 * STD**2 + process.std(t) ** 2).sqrt()

    (a0, v0), (a1, v1) = of(start), of(end)
    return a1 * MEAN + v1 / v0 * (x - a0 * MEAN)


def starts(process, count=8, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return process.prior * torch.randn(count, 1, 4, dtype=torch.float64, generator=generator)


# --- processes -----------------------------------------------------------------------------


@pytest.mark.parametrize("process", PROCESSES)
def test_marginals_solve_the_equation(process):
    """d alpha / dt = drift alpha and d std**2 / dt = 2 drift std**2 + g2."""
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64, requires_grad=True)
    alpha = process.alpha(t)
    (slope,) = torch.autograd.grad(alpha.sum() + 0 * t.sum(), t)
    torch.testing.assert_close(slope, process.drift(t) * alpha)
    variance = process.std(t) ** 2
    (slope,) = torch.autograd.grad(variance.sum(), t)
    torch.testing.assert_close(slope, 2 * process.drift(t) * variance + process.g2(t))


@pytest.mark.parametrize("process", PROCESSES)
def test_the_score_is_that_of_gaussian_data(process):
    x = starts(process)
    for t in (torch.full((8,), 0.4, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)):
        alpha, std = process.alpha(t).mean(), process.std(t).mean()
        expected = -(x - alpha * MEAN) / (alpha**2 * STD**2 + std**2)
        torch.testing.assert_close(process.score(ideal, x, t), expected)


def test_vp_has_the_known_marginal_at_its_end():
    process = VP()
    (t,) = process.times(2)[1:]
    alpha = process.alpha(t).item()
    assert f"{alpha * MEAN:.7f}" == "0.2999835"
    assert f"{alpha**2 * STD**2 + process.std(t).item() ** 2:.7f}" == "0.0626031"
    grown = process.sigma(torch.ones(1, dtype=torch.float64)) ** 2
    assert grown.item() == pytest.approx(math.expm1(19.9 / 2 + 0.1))


@pytest.mark.parametrize("process", PROCESSES)
def test_steps_between_times_add_up(process):
    """Two forward steps are one, and from the clean image they are the marginal."""
    late, mid, early = torch.tensor([0.8, 0.5, 0.2], dtype=torch.float64)
    (k1, d1), (k2, d2) = process.between(late, mid), process.between(mid, early)
    kept, added = process.between(late, early)
    torch.testing.assert_close((k1 * k2, d1 + k1**2 * d2), (kept, added))
    kept, added = process.between(late, None)
    torch.testing.assert_close((kept, added.sqrt()), (process.alpha(late), process.std(late)))


# --- the flow ------------------------------------------------------------------------------


@pytest.mark.parametrize("process", PROCESSES)
def test_rk45_follows_the_exact_trajectory(process):
    x, times = starts(process), process.times(2)
    found = sample_ode(ideal, x, process, times)
    torch.testing.assert_close(found, exact(process, x, *times), rtol=0, atol=1e-4)
    clean = sample_ode(ideal, x, process, times, tweedie=True)
    torch.testing.assert_close(
        clean, process.clean(ideal, exact(process, x, *times), times[1]), rtol=0, atol=1e-4
    )


def test_the_exact_flow_has_the_known_moments():
    """From N(0, 1) and N(0, sigma_max**2), which are not quite the marginals at t = 1."""
    for process, mean, variance in (
        (VP(), "0.2994902", "0.0626056"),
        (VE(eps=0.0), "0.2984988", "0.0625984"),
    ):
        ends = sample_ode(
            ideal,
            torch.tensor([[0.0], [1.0]], dtype=torch.float64),
            process,
            process.times(2),
            tolerance=Tolerance(1e-10, 1e-10),
        )
        gain = (ends[1] - ends[0]).item() * process.prior
        assert (f"{ends[0].item():.7f}", f"{gain**2:.7f}") == (mean, variance)


@pytest.mark.parametrize(
    ("solver", "golden"),
    [
        ("euler", ["0.060513", "0.061542", "0.062069", "0.062336", "0.062471"]),
        ("heun", ["0.062732", "0.062638", "0.062614", "0.062608", "0.062606"]),
    ],
)
def test_fixed_steps_have_the_known_variances(solver, golden):
    """VP in 125 to 2000 even steps of t from N(0, 1)."""
    found = []
    for count in (125, 250, 500, 1000, 2000):
        two = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
        low, high = sample_ode(ideal, two, VP(), VP().times(count + 1), solver=solver)[:, 0]
        found.append(f"{((high - low) ** 2).item():.6f}")
    assert found == golden


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("rk4", 4)])
def test_fixed_steps_converge_at_their_order(solver, order):
    x = starts(VP())

    def error(count):
        times = VP().times(count + 1)
        found = sample_ode(ideal, x, VP(), times, solver=solver)
        return (found - exact(VP(), x, times[0], times[-1])).abs().max()

    assert math.log2(error(400) / error(800)) == pytest.approx(order, abs=0.15)


def test_dormand_prince_is_of_fifth_order():
    """In fixed steps; in adaptive ones the error follows the tolerance."""

    def error(count):
        times = torch.linspace(0, 4, count + 1, dtype=torch.float64)
        x = torch.ones(1, 1, dtype=torch.float64)
        end = steps(lambda x, t: x * torch.cos(t), x, times, DORMAND_PRINCE)
        return abs(end.item() - math.exp(math.sin(4)))

    assert math.log2(error(40) / error(80)) == pytest.approx(5, abs=0.3)
    ends = [
        solve(
            lambda x, t: x * torch.cos(t)[:, None],
            torch.ones(1, 1, dtype=torch.float64),
            (0.0, 20.0),
            Tolerance(tolerance, tolerance, max_calls=10**5),
        ).item()
        for tolerance in (1e-5, 1e-8, 1e-11)
    ]
    errors = [abs(end - math.exp(math.sin(20))) for end in ends]
    assert errors[0] < 1e-3
    assert errors[1] < 1e-6
    assert errors[2] < 1e-9


@pytest.mark.parametrize("process", PROCESSES)
def test_the_flow_leads_there_and_back(mixture, process):
    times = process.times(2)
    data = 0.1 * starts(VP(), seed=2)
    data += torch.where(torch.arange(8) % 2 == 0, -1.0, 0.7).reshape(8, 1, 1)
    noise = sample_ode(mixture, data, process, times.flip(0))
    back = sample_ode(mixture, noise, process, times)
    torch.testing.assert_close(back, data, rtol=0, atol=1e-3)


@pytest.mark.parametrize("process", PROCESSES)
def test_a_sample_does_not_know_its_neighbours(mixture, process):
    """Steps and errors are each sample's own: permuted starts, permuted ends, to the last bit."""
    x, order = starts(process).float(), torch.tensor([5, 0, 7, 2, 1, 6, 3, 4])
    x[0] *= 3  # not all alike
    plain = sample_ode(mixture, x, process, process.times(2))
    other = sample_ode(mixture, x[order], process, process.times(2))
    alone = sample_ode(mixture, x[:1], process, process.times(2))
    assert plain.dtype == torch.float32
    assert torch.equal(plain[order], other)
    assert torch.equal(plain[:1], alone)


def test_the_flow_calls_about_as_often_as_published():
    """80 calls on VP and 110 on VE for a Gaussian; a limit on them is kept and said."""
    counts = {}
    for process in (VE(), VP()):
        count = 0

        def counted(x, sigma):
            nonlocal count
            count += 1
            assert sigma.shape == (1,)
            return ideal(x, sigma)

        x = starts(process, 64).reshape(1, 1, -1)
        sample_ode(counted, x, process, process.times(2))
        counts[type(process)] = count
    assert 60 <= counts[VP] <= 110
    assert 80 <= counts[VE] <= 150
    with pytest.raises(ConfigError, match="more than 20 calls at rtol = 1e-05"):
        sample_ode(ideal, x, VP(), VP().times(2), tolerance=Tolerance(max_calls=20))
    with pytest.raises(ConfigError, match="never arrive"):
        sample_ode(lambda x, _: x / 0, x, VP(), VP().times(2), tolerance=Tolerance(max_calls=200))


# --- identities across the samplers --------------------------------------------------------


def test_euler_on_sigma_is_ddim_and_first_order_dpmpp(mixture):
    """On VE with time = sigma the flow is dx/dsigma = (x - D) / sigma: three code paths, 1e-12."""
    sigmas = VP().sigma(VP().times(15))
    x = starts(VP()) * sigmas[0]
    euler = steps(lambda x, s: (x - mixture(x, s)) / s, x, sigmas, FIXED["euler"])
    ddim = sample_ancestral(mixture, x, sigmas)
    one_at_a_time = x
    for pair in pairwise(sigmas):
        one_at_a_time = sample_dpmpp_2m(mixture, one_at_a_time, torch.stack(pair))
    torch.testing.assert_close(euler, ddim, rtol=0, atol=1e-12)
    torch.testing.assert_close(one_at_a_time, ddim, rtol=0, atol=1e-12)
    heun = steps(lambda x, s: (x - mixture(x, s)) / s, x, sigmas, FIXED["heun"])
    torch.testing.assert_close(heun, sample_heun(mixture, x, sigmas), rtol=0, atol=1e-12)


def test_unit_data_lose_spread_to_ddim_as_known():
    """Identity 2: the gain of DDIM is the product of cosines; 50 steps of the linear process."""
    levels = linear_levels()
    times = torch.linspace(999, 0, 50, dtype=torch.float64).round().long()
    sigmas = torch.cat([levels[times], levels.new_zeros(1)])
    two = torch.tensor([0.0, 1.0], dtype=torch.float64) * (1 + sigmas[0] ** 2).sqrt()
    low, high = sample_ancestral(lambda x, s: x / (1 + s**2), two, sigmas)
    assert (high - low).item() ** 2 == pytest.approx(0.92810594497, abs=1e-10)


@pytest.mark.parametrize("process", PROCESSES)
def test_the_flow_ends_where_the_consistency_function_says(process):
    """Identity 11: f(x, sigma) = m + s_min (x - m) / s, for x_t / alpha; at sigma_min it is x."""
    low, high = process.times(2).flip(0)
    spread = [(STD**2 + process.sigma(t) ** 2).sqrt() for t in (low, high)]
    x = process.alpha(high) * (MEAN + spread[1] * starts(VP()))
    found = sample_ode(ideal, x, process, process.times(2)) / process.alpha(low)
    expected = MEAN + spread[0] / spread[1] * (x / process.alpha(high) - MEAN)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


# --- floors of the loss --------------------------------------------------------------------


def floor(sigmas, predicts):
    """Least loss on data of STD about a known mean: the posterior variance over c_out**2."""
    left = STD**2 * sigmas**2 / (STD**2 + sigmas**2)
    return (left / SCALINGS[predicts](sigmas, STD).out ** 2).mean().item()


def test_floors_of_the_loss_are_the_known_ones():
    """An oracle reaches them and nothing goes below; of time, the integral over (1e-5, 1)."""
    levels = linear_levels()
    assert f"{floor(levels, 'eps'):.6f}" == "0.098639"
    assert f"{floor(levels, 'x0'):.6f}" == "0.056335"
    assert floor(levels, "edm") == pytest.approx(1)
    t = 1e-5 + (1 - 1e-5) * (torch.arange(500_000, dtype=torch.float64) + 0.5) / 500_000
    for process, golden in ((VP(), "0.098782"), (VE(), "0.378009"), (VE(0.01, 348), "0.307876")):
        assert f"{(1 - 1e-5) * floor(process.sigma(t), 'eps'):.6f}" == golden
