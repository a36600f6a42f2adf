"""Samplers: from noise to an image, with any denoiser on any falling noise levels.

Shapes: x (B, C, *S), drawn as sigmas[0] * noise; sigmas (N + 1,), falling, usually to 0; the
denoiser is called with sigma of shape (). Every sampler takes a source of noise, so that all of
them are called alike; the deterministic ones draw none from it.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Final, Literal

import torch
from torch import Tensor

from spinect.protocols import Denoise, Randn

SamplerName = Literal["ancestral", "ddpm", "heun", "dpmpp_2m", "graf2023"]


@torch.no_grad()
def sample_ancestral(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    eta: float = 0.0,
    randn: Randn = torch.randn_like,
) -> Tensor:
    """Ancestral Euler steps; on DDPM noise levels eta = 0 is DDIM and eta = 1 is DDPM.

    Source: DDIM, arXiv 2010.02502, eq. 12 and 16, with sigma**2 = (1 - abar) / abar.
    """
    for now, then in pairwise(sigmas):
        fresh = eta * then * (1 - (then / now) ** 2).sqrt()  # std of the noise added back
        x0 = denoise(x, now)
        x = x0 + (x - x0) * ((then**2 - fresh**2).clamp(min=0).sqrt() / now)
        if fresh > 0:
            x = x + fresh * randn(x)
    return x


@torch.no_grad()
def sample_ddpm(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    variance: Literal["small", "large"] = "small",
    randn: Randn = torch.randn_like,
) -> Tensor:
    """DDPM on its own noise levels, or on some of them; no noise in the step to 0.

    The variance of a step from abar to abar' is "large", beta = 1 - abar / abar', or "small",
    beta (1 - abar') / (1 - abar), that of the posterior given the clean image: then this is
    `sample_ancestral` with eta = 1.

    Source: DDPM, arXiv 2006.11239, eq. 7 and sec. 3.2, with x_t = sqrt(abar) x.
    """
    if variance == "small":
        return sample_ancestral(denoise, x, sigmas, eta=1.0, randn=randn)
    for now, then in pairwise(sigmas):
        x0 = denoise(x, now)
        x = x0 + (x - x0) * (then / now) ** 2
        if then > 0:
            beta = (now**2 - then**2) / (1 + now**2)
            x = x + (beta * (1 + then**2)).sqrt() * randn(x)
    return x


@torch.no_grad()
def sample_graf2023(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    eta: float = 1.0,
    randn: Randn = torch.randn_like,
) -> Tensor:
    """DDIM of the public code of Graf et al. 2023 in image mode: the implied noise is negated.

    With x_t = sqrt(abar) x the code takes (sqrt(abar) x0 - x_t) / sqrt(1 - abar) for the noise,
    which is minus the noise. Every step has the right noise level, but its deterministic half
    leads away from where x came from, so the draws gather about the mean of what they are drawn
    from: docs/decisions/0006. `sample_ancestral` has the right sign.

    x_t starts with variance 1 whatever the first level, and the levels are `schedule.leading`,
    as published. The answer is the last estimate of the clean image.

    Source: pl_models/diffusion/diffusion.py of their code, arXiv 2308.09345.
    """
    x = x * (1 + sigmas[0] ** -2).sqrt()
    for now, then in pairwise(sigmas):
        fresh = eta * then * (1 - (then / now) ** 2).sqrt()  # std of the noise added back
        x0 = denoise(x, now)
        x = x0 - (x - x0) * ((then**2 - fresh**2).clamp(min=0).sqrt() / now)
        if fresh > 0:
            x = x + fresh * randn(x)
    return x


@torch.no_grad()
def sample_heun(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    eta: float = 0.0,  # noqa: ARG001
    randn: Randn = torch.randn_like,  # noqa: ARG001
) -> Tensor:
    """Heun's second-order steps on dx/dsigma = (x - D) / sigma; two calls each, one for the last.

    Source: Karras et al., arXiv 2206.00364, algorithm 1.
    """
    for now, then in pairwise(sigmas):
        slope = (x - denoise(x, now)) / now
        ahead = x + (then - now) * slope
        if then > 0:
            slope = (slope + (ahead - denoise(ahead, then)) / then) / 2
            ahead = x + (then - now) * slope
        x = ahead
    return x


@torch.no_grad()
def sample_dpmpp_2m(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    eta: float = 0.0,  # noqa: ARG001
    randn: Randn = torch.randn_like,  # noqa: ARG001
) -> Tensor:
    """DPM-Solver++(2M): second order, one call per step; the first step, and one to 0, are first.

    Source: Lu et al., arXiv 2211.01095, algorithm 2, with alpha = 1 and lambda = -ln(sigma).
    """
    before: Tensor | None = None  # the clean image of the step before
    length = sigmas.new_ones(())  # that step in lambda
    for now, then in pairwise(sigmas):
        x0 = denoise(x, now)
        step = (now / then).log()  # infinite for the step to 0
        mixed = x0
        if before is not None and then > 0:
            ratio = length / step
            mixed = x0 + (x0 - before) / (2 * ratio)
        x = (then / now) * x - torch.expm1(-step) * mixed
        before, length = x0, step
    return x


SAMPLERS: Final[dict[SamplerName, Callable[..., Tensor]]] = {
    "ancestral": sample_ancestral,
    "ddpm": sample_ddpm,
    "heun": sample_heun,
    "dpmpp_2m": sample_dpmpp_2m,
    "graf2023": sample_graf2023,
}
