"""Noise levels: falling standard deviations sigma of the noise on a clean image, the last one 0.

DDPM scales the image down while it adds noise, x_t = sqrt(abar) x0 + sqrt(1 - abar) noise.
Divided by sqrt(abar) that is x0 + sigma * noise with sigma**2 = (1 - abar) / abar, so its noise
levels are a schedule like any other.
"""

import math

import torch
from torch import Tensor

from spinect.errors import ConfigError


def karras(
    steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> Tensor:
    """Noise levels that are evenly spaced in sigma**(1 / rho).

    Args:
        steps: Steps of the sampler.
        sigma_min: Last level before 0, in units of the image.
        sigma_max: First level, in units of the image.
        rho: How closely the levels crowd at the low end.
    Returns:
        (steps + 1,) float64.

    Source: Karras et al., arXiv 2206.00364, eq. 5.
    """
    _check(steps, 10**6)
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return _ending_in_zero((high + ramp * (low - high)) ** rho)


def linear_levels(total: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """(total,) rising levels of the linear DDPM process, float64; arXiv 2006.11239, sec. 4."""
    beta = torch.linspace(first, last, total, dtype=torch.float64)
    return _sigma((1 - beta).cumprod(0))


def cosine_levels(total: int = 1000, offset: float = 0.008, beta_max: float = 0.999) -> Tensor:
    """(total,) rising levels of the cosine DDPM process, float64; arXiv 2102.09672, eq. 17."""
    t = torch.linspace(0, 1, total + 1, dtype=torch.float64)
    abar = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
    beta = (1 - abar[1:] / abar[:-1]).clamp(max=beta_max)
    return _sigma((1 - beta).cumprod(0))


def vp_levels(total: int, first: float = 0.1, last: float = 20.0, start: float = 1e-3) -> Tensor:
    """(total,) rising levels of the variance-preserving process with few, large steps, float64.

    Evenly spaced in time from `start`, which counts as free of noise, to 1.
    Source: the process of Song et al., arXiv 2011.13456, cut into a few steps as Xiao et al.,
    arXiv 2112.07804, do it.
    """
    t = torch.linspace(start, 1, total + 1, dtype=torch.float64)
    log_abar = -(t**2) * (last - first) / 2 - t * first
    return _sigma((log_abar[1:] - log_abar[0]).exp())


def ddpm_linear(steps: int, total: int = 1000) -> Tensor:
    """(steps + 1,) levels of the linear DDPM process, evenly spaced in its time; 0 at the end."""
    return spaced(linear_levels(total), steps)


def ddpm_cosine(steps: int, total: int = 1000) -> Tensor:
    """(steps + 1,) levels of the cosine DDPM process, evenly spaced in its time; 0 at the end."""
    return spaced(cosine_levels(total), steps)


def spaced(levels: Tensor, steps: int) -> Tensor:
    """`steps` of the rising `levels`, from the last to the first, then 0.

    The last level is always visited: a sampler that starts below the level of its noise adds a
    bias (Lin et al., arXiv 2305.08891, sec. 3.3). One step visits it alone.
    """
    _check(steps, len(levels))
    times = torch.linspace(len(levels) - 1, 0, steps, dtype=torch.float64).round().long()
    return _ending_in_zero(levels[times])


def leading(levels: Tensor, steps: int) -> Tensor:
    """`steps` of the rising `levels`, at the times (steps - 1) k, ..., k, 0 of T; then 0.

    k = T // steps, so the highest levels are never visited, as in the public code of Graf et al.
    2023 (theirs takes one step more where `steps` does not divide T).
    """
    _check(steps, len(levels))
    times = torch.arange(steps - 1, -1, -1) * (len(levels) // steps)
    return _ending_in_zero(levels[times])


def _check(steps: int, most: int) -> None:
    if not 1 <= steps <= most:
        raise ConfigError(f"{steps} sampling steps; choose a number from 1 to {most}")


def _sigma(abar: Tensor) -> Tensor:
    return ((1 - abar) / abar).sqrt()


def _ending_in_zero(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])
