"""Diffusion processes in continuous time: x_t = alpha(t) x0 + std(t) noise, t from 1 to `eps`.

They solve dx = drift(t) x dt + sqrt(g2(t)) dw. Divided by alpha, x_t is x0 + sigma * noise with
sigma = std / alpha, so that any denoiser of this package tells the score of any process.

Source: Song et al., arXiv 2011.13456.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from spinect.errors import ConfigError
from spinect.protocols import Denoise


class Process(ABC):
    """A process whose marginals are Gaussian about alpha(t) x0.

    Shapes: t () or (B,), float64; whatever is asked of t has its shape.
    """

    eps: float  # the last time: below it the score grows beyond what a network learns

    @property
    def prior(self) -> float:
        """Standard deviation of what x_1 is drawn from, mean 0."""
        return 1.0

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """What the clean image is multiplied by."""

    @abstractmethod
    def std(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise in x_t."""

    @abstractmethod
    def drift(self, t: Tensor) -> Tensor:
        """d ln(alpha) / dt."""

    @abstractmethod
    def g2(self, t: Tensor) -> Tensor:
        """Variance of the noise that is added per unit of time."""

    def sigma(self, t: Tensor) -> Tensor:
        """Noise level of x_t / alpha(t), as denoisers know it."""
        return self.std(t) / self.alpha(t)

    def times(self, count: int) -> Tensor:
        """(count,) times, evenly spaced from 1 down to `eps`, float64; one is 1 alone."""
        if count < 1:
            raise ConfigError(f"{count} times of a diffusion process; choose 1 or more")
        return torch.linspace(1, self.eps, count, dtype=torch.float64)

    def clean(self, denoise: Denoise, x: Tensor, t: Tensor) -> Tensor:
        """The clean image estimated from x_t, (B, C, *S): Tweedie's formula."""
        return denoise(x / wide(self.alpha(t), x), self.sigma(t)).to(x.dtype)

    def score(self, denoise: Denoise, x: Tensor, t: Tensor) -> Tensor:
        """Gradient of ln p_t at x_t, (B, C, *S)."""
        alpha, std = wide(self.alpha(t), x), wide(self.std(t), x)
        return (alpha * self.clean(denoise, x, t) - x) / std**2

    def slope(self, denoise: Denoise, x: Tensor, t: Tensor) -> Tensor:
        """dx/dt of the probability flow, whose marginals are those of the process."""
        drift, g2 = wide(self.drift(t), x), wide(self.g2(t), x)
        return drift * x - g2 / 2 * self.score(denoise, x, t)

    def between(self, t: Tensor, then: Tensor | None) -> tuple[Tensor, Tensor]:
        """(kept, added) of x_t = kept x_then + sqrt(added) noise for then < t.

        `then` = None is the clean image, which no time of the VE process belongs to.
        """
        if then is None:
            return self.alpha(t), self.std(t) ** 2
        kept = self.alpha(t) / self.alpha(then)
        return kept, self.std(t) ** 2 - (kept * self.std(then)) ** 2


@dataclass(frozen=True)
class VE(Process):
    """Variance exploding: noise grows geometrically, the image stays.

    std is sigma(t) as in the published code; the equation itself gives
    sqrt(sigma(t)**2 - sigma(0)**2).

    Args:
        sigma_min: Noise level at t = 0, in units of the image.
        sigma_max: Noise level at t = 1; about the largest distance between two images.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    eps: float = 1e-5

    @property
    def prior(self) -> float:
        """The noise level at t = 1."""
        return self.sigma_max

    def alpha(self, t: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(t)

    def std(self, t: Tensor) -> Tensor:
        """sigma_min (sigma_max / sigma_min)**t."""
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** t

    def drift(self, t: Tensor) -> Tensor:
        """0."""
        return torch.zeros_like(t)

    def g2(self, t: Tensor) -> Tensor:
        """d std**2 / dt."""
        return 2 * self.std(t) ** 2 * math.log(self.sigma_max / self.sigma_min)


@dataclass(frozen=True)
class VP(Process):
    """Variance preserving: DDPM in continuous time, beta(t) from b0 to b1."""

    b0: float = 0.1
    b1: float = 20.0
    eps: float = 1e-3

    def beta(self, t: Tensor) -> Tensor:
        """The rate of noise."""
        return self.b0 + t * (self.b1 - self.b0)

    def log_abar(self, t: Tensor) -> Tensor:
        """ln(alpha**2)."""
        return -(t**2) * (self.b1 - self.b0) / 2 - t * self.b0

    def alpha(self, t: Tensor) -> Tensor:
        """exp of minus half the integral of beta."""
        return (self.log_abar(t) / 2).exp()

    def std(self, t: Tensor) -> Tensor:
        """sqrt(1 - alpha**2)."""
        return (-torch.expm1(self.log_abar(t))).sqrt()

    def drift(self, t: Tensor) -> Tensor:
        """-beta / 2."""
        return -self.beta(t) / 2

    def g2(self, t: Tensor) -> Tensor:
        """The rate beta."""
        return self.beta(t)


@dataclass(frozen=True)
class SubVP(VP):
    """Sub-VP: the image fades as in VP, with less noise than that at every time."""

    def std(self, t: Tensor) -> Tensor:
        """1 - alpha**2."""
        return -torch.expm1(self.log_abar(t))

    def g2(self, t: Tensor) -> Tensor:
        """beta (1 - alpha**4)."""
        return -self.beta(t) * torch.expm1(2 * self.log_abar(t))


def wide(each: Tensor, like: Tensor) -> Tensor:
    """() or (B,) as a factor for (B, C, *S), of its dtype and device."""
    return each.to(like).reshape(*each.shape, *[1] * (like.ndim - 1)) if each.ndim else each
