"""SynDiff's four steps: the published table, draws, and the same chain as ancestral sampling."""

import pytest
import torch

from spinect.diffusion.chain import Chain
from spinect.diffusion.sample import sample_ancestral
from spinect.diffusion.schedule import spaced, vp_levels
from spinect.errors import ConfigError

# Read from the published code: per step k from x_{k+1} to x_k of DDPM's scaling,
# beta_{k+1}, sqrt(abar_{k+1}), sqrt(1 - abar_{k+1}), and x_k ~ N(c1 x0 + c2 x_{k+1}, sd**2).
PUBLISHED = [
    (0.47825530, 0.722319, 0.691560, 1.0, 0.0, 0.0),
    (0.84920600, 0.280492, 0.959856, 0.66577836, 0.20157628, 0.663942),
    (0.95641771, 0.058557, 0.998284, 0.26919089, 0.19300081, 0.940320),
    (0.98740390, 0.006572, 0.999978, 0.05782154, 0.11185234, 0.991998),
]
CHAIN = Chain(vp_levels(4))


def table():
    """The published columns from the noise levels alone, in float64."""
    abar = torch.cat([torch.ones(1, dtype=torch.float64), 1 / (1 + CHAIN.levels**2)])
    beta = 1 - abar[1:] / abar[:-1]
    c1 = abar[:-1].sqrt() * beta / (1 - abar[1:])
    c2 = (1 - beta).sqrt() * (1 - abar[:-1]) / (1 - abar[1:])
    sd = (beta * (1 - abar[:-1]) / (1 - abar[1:])).sqrt()
    return torch.stack([beta, abar[1:].sqrt(), (1 - abar[1:]).sqrt(), c1, c2, sd], dim=1)


def test_the_published_table():
    found = table()
    torch.testing.assert_close(
        found, torch.tensor(PUBLISHED, dtype=torch.float64), rtol=0, atol=1e-6
    )
    _, scale, _, c1, c2, sd = found.unbind(1)
    before = torch.cat([scale.new_ones(1), scale[:-1]])
    torch.testing.assert_close(c1 + c2 * scale, before)
    torch.testing.assert_close(sd**2 + c2**2 * (1 - scale**2), 1 - before**2)


def test_the_posterior_is_the_table(monkeypatch):
    """Linear in x0, x_{k+1} and the noise: each coefficient of each step, in DDPM's scaling."""
    monkeypatch.setattr(torch, "randn_like", torch.ones_like)
    scale = torch.tensor([1.0, *(row[1] for row in table().tolist())], dtype=torch.float64)
    for k, (*_, c1, c2, sd) in enumerate(table().tolist()):
        step = torch.tensor([k])

        def drawn(x0, noisier, step=step, k=k):
            x0, noisier = (torch.full((1, 1, 1, 1), v, dtype=torch.float64) for v in (x0, noisier))
            x = CHAIN.posterior(x0, noisier / scale[k + 1], step)
            return CHAIN.scaled(x, step).item()

        noise = drawn(0.0, 0.0)
        assert noise == pytest.approx(sd, abs=1e-12)
        assert drawn(1.0, 0.0) - noise == pytest.approx(c1, abs=1e-12)
        assert drawn(0.0, 1.0) - noise == pytest.approx(c2, abs=1e-12)


def test_step_zero_returns_the_image():
    """Exactly, whatever the noise."""
    x0 = torch.randn(3, 1, 4, 4)
    noisier = 100 * torch.randn(3, 1, 4, 4)
    assert torch.equal(CHAIN.posterior(x0, noisier, torch.zeros(3, dtype=torch.int64)), x0)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_draws_have_the_table_s_moments(k):
    """x0 = 0.7: marginals of the pair, and x_k regressed on x_{k+1}: slope, intercept, rest."""
    torch.manual_seed(k)
    x0 = torch.full((1, 1, 1000, 1000), 0.7, dtype=torch.float64)
    step = torch.tensor([k])
    near, far = CHAIN.pair(x0, step)
    near, far = (CHAIN.scaled(x, s).flatten() for x, s in ((near, step), (far, step + 1)))
    rows = table()
    for x, (_, scale, spread, *_) in ((near, rows[k - 1]), (far, rows[k])):
        assert x.mean().item() == pytest.approx(0.7 * scale.item(), abs=4e-3)
        assert x.std().item() == pytest.approx(spread.item(), abs=4e-3)
    slope = ((near - near.mean()) * (far - far.mean())).mean() / far.var(correction=0)
    rest = near - slope * far
    c1, c2, sd = rows[k, 3:].tolist()
    assert slope.item() == pytest.approx(c2, abs=4e-3)
    assert rest.mean().item() == pytest.approx(0.7 * c1, abs=4e-3)
    assert rest.var().item() == pytest.approx(sd**2, abs=4e-3)


def test_each_image_may_be_on_another_step():
    torch.manual_seed(0)
    x0 = torch.zeros(4, 1, 200, 200)
    near, far = CHAIN.pair(x0, torch.arange(4))
    expected = torch.tensor([0.0, *CHAIN.levels[:3].tolist()])
    torch.testing.assert_close(near.flatten(1).std(dim=1), expected, rtol=0.02, atol=0)
    assert near[0].abs().max() == 0
    torch.testing.assert_close(far.flatten(1).std(dim=1), CHAIN.levels.float(), rtol=0.02, atol=0)


def test_the_chain_is_ancestral_sampling():
    """The same noise through the table, in DDPM's scaling, and through the sampler with eta 1.

    The denoiser is one that uses its input, so that an error in any x_k shows in all that follow.
    """
    torch.manual_seed(0)
    start = torch.randn(2, 1, 5, 5, dtype=torch.float64)
    fresh = torch.randn(3, *start.shape, dtype=torch.float64)

    def made(x, k):  # of x in DDPM's scaling
        return torch.tanh(0.8 * x + 0.1 * k)

    x = start
    for k in (3, 2, 1, 0):
        _, _, _, c1, c2, sd = table()[k]
        x = c1 * made(x, k) + c2 * x + (sd * fresh[3 - k] if k else 0)

    waiting = iter(fresh)
    sigmas = spaced(CHAIN.levels, 4)

    def denoise(noisy, sigma):
        return made(noisy * (1 + sigma**2).rsqrt(), int(CHAIN.step_of(sigma)))

    found = sample_ancestral(
        denoise, (1 + sigmas[0] ** 2).sqrt() * start, sigmas, eta=1.0, randn=lambda _: next(waiting)
    )
    torch.testing.assert_close(found, x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_levels_tell_their_step(kind):
    """One, several, in either precision; others are refused with what there is."""
    levels = CHAIN.levels.to(kind)
    assert CHAIN.step_of(levels[2]).item() == 2
    assert CHAIN.step_of(levels.flip(0)).tolist() == [3, 2, 1, 0]
    with pytest.raises(
        ConfigError, match=r"5 is not on this chain.*0\.9574, 3\.422, 17\.05, 152\.2"
    ):
        CHAIN.step_of(torch.tensor(5.0, dtype=kind))
