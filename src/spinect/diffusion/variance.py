"""Learned variances of DDPM's steps: what a network that also says how sure it is must pay.

Only the training sees it: DDIM, and every sampler here, takes no notice of a learned variance.
"""

import math

import torch
from torch import Tensor

_FLOOR = math.log(1e-20)  # of log variances: the last step's true one is 0
_HALF_BIN = 1 / 255  # of 8-bit images in [-1, 1]
_OUTERMOST = 0.999  # where the last bins begin
_LEAST = 1e-12  # of the probability of a bin


def variational_bits(
    guess: Tensor, true: Tensor, v: Tensor, sigma: Tensor, before: Tensor
) -> Tensor:
    """The variational bound's term of one time, in bits, voxel by voxel.

    After the first time it is the Kullback-Leibler divergence of the step that the network
    proposes from the true one; at the first time the negative log likelihood of the true image,
    as one of 8 bits. Both means share x, so they differ by the clean images' difference alone.

    Shapes: guess, true, v (B, 1, *S); sigma, before broadcast to them -> (B, 1, *S).

    Args:
        guess: Estimate of the clean image. true: The clean image, in [-1, 1].
        v: ln(variance) = f ln(beta) + (1 - f) ln(posterior variance) with f = (v + 1) / 2.
        sigma: Noise level of the time. before: That of the time before; 0 at the first time.
    Source: Nichol and Dhariwal, arXiv 2102.09672, eq. 4-7 and 15; Graf et al. 2023 let the
        gradient pass into the mean, which the former hold, and so do we.
    """
    proposed, posterior = _log_variances(v, sigma, before)
    # Of the clean image in the posterior's mean: sqrt(abar before) beta / (1 - abar).
    weight = _beta(sigma, before) * (1 + before**2).rsqrt() * (1 + sigma**-2)
    away = (weight * (guess - true)).square()
    ratio = posterior - proposed
    divergence = (ratio.exp() - ratio - 1 + away * (-proposed).exp()) / 2
    surprise = _negative_log_likelihood(guess, true, (-proposed / 2).exp())
    return torch.where(before > 0, divergence, surprise) / math.log(2)


def _log_variances(v: Tensor, sigma: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Logs of the proposed and of the true variance of a step, x_t in DDPM's own scale."""
    beta = _beta(sigma, before)
    # 1 - abar before over 1 - abar, times beta
    posterior = (beta * (before / sigma) ** 2 * (1 + sigma**2) / (1 + before**2)).log()
    posterior = posterior.clamp(min=_FLOOR)
    share = (v + 1) / 2
    return (share * beta.log() + (1 - share) * posterior).clamp(min=_FLOOR), posterior


def _beta(sigma: Tensor, before: Tensor) -> Tensor:
    """1 - abar / abar before, of the time with level sigma."""
    return (sigma**2 - before**2) / (1 + sigma**2)


def _negative_log_likelihood(mean: Tensor, true: Tensor, precision: Tensor) -> Tensor:
    """In nats, of the bin that `true` lies in; the outermost bins reach to infinity."""
    off = true - mean
    near, far = _HALF_BIN - off.abs(), -_HALF_BIN - off.abs()  # tails: no 1 - small numbers
    chance = torch.special.ndtr(near * precision) - torch.special.ndtr(far * precision)
    chance = torch.where(
        true > _OUTERMOST, torch.special.ndtr((_HALF_BIN - off) * precision), chance
    )
    chance = torch.where(
        true < -_OUTERMOST, torch.special.ndtr((_HALF_BIN + off) * precision), chance
    )
    return -chance.clamp(min=_LEAST).log()
