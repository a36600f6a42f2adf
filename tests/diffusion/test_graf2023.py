"""The published sampler and its wrong sign, for Gaussian data and the ideal denoiser, in float64.

Every sampler is affine then, so its spread is a closed sum: gain**2 times the variance of the
start plus the squares of its responses to the noise of each step.
"""

import pytest
import torch

from spinect.diffusion.sample import sample_ancestral, sample_graf2023
from spinect.diffusion.schedule import cosine_levels, leading
from spinect.errors import ConfigError

MEAN = 0.3
# sd of the data, eta -> sd of the draws over it with the right and the wrong sign, for 20, 25 and
# 1000 steps.
TABLE = {
    (0.3, 1.0): ["0.817 0.380", "0.843 0.366", "0.994 0.145"],
    (0.3, 0.0): ["0.896 0.000", "0.916 0.000", "0.998 0.000"],
    (0.1, 1.0): ["0.644 0.424", "0.687 0.417", "0.980 0.204"],
    (0.1, 0.0): ["0.731 0.045", "0.778 0.003", "0.992 0.000"],
    (0.03, 1.0): ["0.366 0.330", "0.411 0.358", "0.928 0.287"],
}


def moments(sample, steps, std, eta):
    """Mean and standard deviation of draws that start with unit noise in x_t, as published.

    In units of the clean image that is a variance of 1 + sigma**2 at the start; the published
    sampler sees to it itself.
    """
    sigmas = leading(cosine_levels(), steps)
    # Voxel 0 hears no noise, voxel 1 starts at 1, voxel i hears unit noise in step i - 2.
    x = torch.zeros(2 + steps, dtype=torch.float64)
    x[1], heard = 1, iter(range(2, 2 + steps))

    def randn(like):
        noise = torch.zeros_like(like)
        noise[next(heard)] = 1
        return noise

    def ideal(x, sigma):
        return (std**2 * x + sigma**2 * MEAN) / (std**2 + sigma**2)

    out = sample(ideal, x, sigmas, eta=eta, randn=randn)
    gain, *responses = (out[1:] - out[0]).tolist()
    start = sigmas[0].item() ** 2 + (sample is not sample_graf2023)
    variance = gain**2 * start + sum(r**2 for r in responses)
    return out[0].item(), variance**0.5


@pytest.mark.parametrize(("std", "eta"), TABLE)
def test_spread_with_either_sign(std, eta):
    found = []
    for steps in (20, 25, 1000):
        pair = (moments(s, steps, std, eta)[1] / std for s in (sample_ancestral, sample_graf2023))
        found.append(" ".join(f"{ratio:.3f}" for ratio in pair))
    assert found == TABLE[std, eta]


def published(denoise, x, abars, eta, noises):
    """The sampler in the variables of its code: x_t, abar, the coefficients c1 and c2."""
    for index, (now, then) in enumerate(zip(abars, [*abars[1:], abars[-1]], strict=True)):
        x0 = denoise(x / now.sqrt(), ((1 - now) / now).sqrt())
        noise = (now.sqrt() * x0 - x) / (1 - now).sqrt()
        c1 = eta * ((1 - then) / (1 - now) * (1 - now / then)).sqrt()
        x = then.sqrt() * x0 + (1 - then - c1**2).sqrt() * noise + c1 * noises[index]
    return x0


@pytest.mark.parametrize("steps", [1, 4, 20, 25])
def test_it_is_the_published_sampler_in_other_variables(steps):
    """On a denoiser of no data at all, with the same noises; one step more than leads to zero."""
    generator = torch.Generator().manual_seed(1)
    start, *noises = torch.randn(steps + 1, 64, dtype=torch.float64, generator=generator)
    levels = cosine_levels()
    abars = 1 / (1 + levels[torch.arange(steps - 1, -1, -1) * (1000 // steps)] ** 2)

    def crooked(x, sigma):
        return torch.tanh(x / (1 + sigma)) * 0.8 + 0.1 * torch.sin(3 * x / (1 + sigma))

    theirs = published(crooked, start, abars, 1.0, noises)
    sigmas = leading(levels, steps)
    source = iter(noises)
    ours = sample_graf2023(crooked, sigmas[0] * start, sigmas, randn=lambda _: next(source))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_leading_levels_end_at_the_first_time():
    """Times 950, 900, ..., 0 of 1000; as many steps as asked for, also where they do not fit."""
    levels = cosine_levels()
    assert torch.equal(leading(levels, 20)[:-1], levels[torch.arange(950, -1, -50)])
    assert leading(levels, 20)[-1] == 0
    assert torch.equal(leading(levels, 30)[:-1], levels[torch.arange(957, -1, -33)])
    assert leading(levels, 1).tolist() == [levels[0].item(), 0]
    with pytest.raises(ConfigError, match="1001 sampling steps"):
        leading(levels, 1001)


def test_levels_are_those_of_the_publication():
    """abar of the cosine process at the times that the specification measured."""
    abar = 1 / (1 + cosine_levels() ** 2)
    golden = {0: 0.99996, 40: 0.99434, 200: 0.8978, 500: 0.4923, 800: 0.0931, 950: 0.00582,
              960: 0.00369, 999: 2.4e-9}  # fmt: skip
    for time, value in golden.items():
        assert abar[time].item() == pytest.approx(value, rel=0.02 if time == 999 else 2e-3)
