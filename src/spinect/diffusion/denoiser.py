"""Networks of any convention as one thing: a denoiser D(x, sigma) that estimates the clean image.

D(x; sigma) = c_skip x + c_out F(c_in x; level(sigma)), with F the network (Karras et al.,
arXiv 2206.00364, eq. 7). Clamping and guidance act on the estimate, here and nowhere else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

Predicts = Literal["x0", "eps", "v", "edm"]
Network = Callable[[Tensor, Tensor], Tensor]  # (c_in x, level (B,)) -> F, further channels
Level = Callable[[Tensor], Tensor]  # sigma (B,) -> what the network is told, (B,)


@dataclass(frozen=True)
class Scaling:
    """Factors of one noise level, each of the shape of sigma."""

    skip: Tensor
    out: Tensor
    into: Tensor


def scale_x0(sigma: Tensor, data: float) -> Scaling:  # noqa: ARG001
    """F is the clean image; x reaches it as DDPM's x_t, of variance 1 for data of variance 1."""
    return Scaling(torch.zeros_like(sigma), torch.ones_like(sigma), _shrink(sigma))


def scale_eps(sigma: Tensor, data: float) -> Scaling:  # noqa: ARG001
    """F is the noise: x0 = x - sigma eps; arXiv 2006.11239, eq. 11."""
    return Scaling(torch.ones_like(sigma), -sigma, _shrink(sigma))


def scale_v(sigma: Tensor, data: float) -> Scaling:  # noqa: ARG001
    """F is v = sqrt(abar) eps - sqrt(1 - abar) x0; arXiv 2202.00512, app. D."""
    shrink = _shrink(sigma)
    return Scaling(shrink**2, -sigma * shrink, shrink)


def scale_edm(sigma: Tensor, data: float) -> Scaling:
    """F has unit variance in and out for data of standard deviation `data`; 2206.00364, table 1."""
    total = sigma**2 + data**2
    return Scaling(data**2 / total, sigma * data * total.rsqrt(), total.rsqrt())


SCALINGS: Final[dict[Predicts, Callable[[Tensor, float], Scaling]]] = {
    "x0": scale_x0,
    "eps": scale_eps,
    "v": scale_v,
    "edm": scale_edm,
}


def log_level(sigma: Tensor) -> Tensor:
    """ln(sigma) / 4; arXiv 2206.00364, table 1."""
    return sigma.log() / 4


@dataclass(frozen=True)
class DiscreteLevel:
    """The time of a DDPM network for any sigma, by interpolation in ln(sigma).

    Args:
        levels: (T,) rising noise levels; time t of the network belongs to levels[t].
    """

    levels: Tensor

    def __call__(self, sigma: Tensor) -> Tensor:
        """(B,) noise levels to (B,) times in [0, T - 1], fractional between the levels."""
        known = self.levels.log().to(sigma)
        wanted = sigma.log().clamp(known[0], known[-1])
        above = torch.searchsorted(known, wanted).clamp(1, len(known) - 1)
        low, high = known[above - 1], known[above]
        return above - 1 + (wanted - low) / (high - low)


@dataclass(frozen=True)
class Denoiser:
    """Estimates the clean image with a network of any convention.

    Args:
        network: F, called with the scaled image and what `level` makes of sigma.
        predicts: What F is.
        data: Standard deviation of clean images; only "edm" uses it.
        level: What the network is told about sigma.
        clamp: Range of clean images; None leaves the estimate as it is.
        without: The same network without its condition, for guidance.
        guidance: w in without + w (with - without), on the clean images; 1 is no guidance.

    Guidance: Ho and Salimans, arXiv 2207.12598, eq. 6 (their w is w - 1 here), on x0.
    """

    network: Network
    predicts: Predicts = "x0"
    data: float = 0.5
    level: Level = log_level
    clamp: tuple[float, float] | None = None
    without: Network | None = None
    guidance: float = 1.0

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x (B, C, *S) and sigma () or (B,) to the clean image, (B, C, *S)."""
        return self.with_rest(x, sigma)[0]

    def with_rest(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The clean image, and what the network puts out beyond the image's channels."""
        each = sigma.to(x).expand(x.shape[0])
        wide = each.reshape(-1, *[1] * (x.ndim - 1))
        scaling = SCALINGS[self.predicts](wide, self.data)
        kept, level = scaling.skip * x, self.level(each)
        f, rest = _split(self.network(scaling.into * x, level), x)
        x0 = kept + scaling.out * f
        if self.without is not None and self.guidance != 1:
            f, _ = _split(self.without(scaling.into * x, level), x)
            x0 = torch.lerp(kept + scaling.out * f, x0, self.guidance)
        return x0 if self.clamp is None else x0.clamp(*self.clamp), rest


def _split(out: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """F, which has the channels and the type of the image, and the other channels."""
    channels = image.shape[1]
    return out[:, :channels].to(image.dtype), out[:, channels:]


def _shrink(sigma: Tensor) -> Tensor:
    """sqrt(abar) of a noise level."""
    return (1 + sigma**2).rsqrt()
