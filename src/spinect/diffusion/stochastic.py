"""Samplers of the reverse stochastic equation: Euler-Maruyama, and predictor with corrector.

Shapes: x (B, C, *S) is x_1 of the process, drawn as process.prior * noise; times () are falling,
float64. Every step of a sample depends on that sample alone, so a draw does not depend on its
batch. The order in which noise is asked for: at each time that of the corrections, then that of
the prediction.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import torch
from torch import Tensor

from spinect.diffusion.process import Process
from spinect.protocols import Denoise, Randn

# What the last step gives: its mean, its draw, or the denoiser's estimate ("tweedie")
Last = Literal["mean", "noise", "tweedie"]
Variance = Literal["small", "large"]  # of a step, given the clean image or no image at all
PredictorName = Literal["reverse_diffusion", "ancestral"]
Moments = tuple[Tensor, Tensor]  # of a step: its mean (B, C, *S) and its variance ()


@dataclass(frozen=True)
class Corrector:
    """Langevin steps at one time, which leave the distribution as it is but for their own size.

    Their stationary variance is v (1 + a snr**2) where the true one is v: 2.6 % too large at 0.16,
    however many steps the sampler takes.

    Attributes:
        snr: Length of a step's score over that of its noise, squared norms per sample.
        steps: Per time; 0 corrects nothing.
        start: Whether the first time is corrected. With it the corrector comes before the
            predictor, as in the published code; without, after it, as in the paper's algorithm.

    Source: Song et al., arXiv 2011.13456. For a the code takes 1 - beta_i of
    its grid of 1000 and the paper the product; here it is that of the step which is really taken.
    """

    snr: float = 0.16
    steps: int = 1
    start: bool = True

    def __call__(
        self, score: Callable[[Tensor], Tensor], x: Tensor, kept: Tensor, randn: Randn
    ) -> Tensor:
        """Correct x, (B, C, *S); `kept` of `Process.between`, (), whose square is a."""
        for _ in range(self.steps):
            slope, noise = score(x), randn(x)
            length = 2 * (kept * self.snr * _norm(noise) / _norm(slope)) ** 2
            x = x + length * slope + (2 * length).sqrt() * noise
        return x


_NONE: Final = Corrector(steps=0)


@torch.no_grad()
def sample_em(
    denoise: Denoise,
    x: Tensor,
    process: Process,
    times: Tensor,
    *,
    corrector: Corrector = _NONE,
    last: Last = "mean",
    randn: Randn = torch.randn_like,
) -> Tensor:
    """Euler-Maruyama steps h = t_i - t_{i+1} from times[0] to times[-1], (N + 1,) of them.

    "tweedie" calls the denoiser once more, at times[-1]; the others leave the noise of that time
    in x, which is scaled by alpha there.

    Source: Song et al., arXiv 2011.13456.
    """
    for index, (now, then) in enumerate(pairwise(times)):
        if index or corrector.start:
            kept, _ = process.between(now, then)
            x = corrector(_score(process, denoise, now), x, kept, randn)
        step, g2 = now - then, process.g2(now)
        x = x + (g2 * process.score(denoise, x, now) - process.drift(now) * x) * step
        if last != "mean" or index < len(times) - 2:
            x = x + (g2 * step).sqrt() * randn(x)
    return process.clean(denoise, x, times[-1]) if last == "tweedie" else x


@dataclass(frozen=True)
class Predictor:
    """One step of the reverse process between two noise levels of its own.

    Attributes:
        rule: "reverse_diffusion" adds the forward step's noise to the score's half of it;
            "ancestral" goes to the mean of what lies before x, which is DDPM's.
        variance: ancestral: "large" is the forward step's, as published for VP; "small" what is
            left of it when the clean image is known, as published for VE.

    Source: Song et al., arXiv 2011.13456.
    """

    rule: PredictorName = "reverse_diffusion"
    variance: Variance = "small"

    def __call__(self, process: Process, x: Tensor, score: Tensor, pair: "Pair") -> Moments:
        """Mean and variance of the step."""
        now, then = pair
        kept, added = process.between(now, then)
        if self.rule == "reverse_diffusion":
            return (2 - kept) * x + added * score, added
        left = torch.zeros_like(now) if then is None else process.std(then)
        share = torch.ones_like(now) if self.variance == "large" else (left / process.std(now)) ** 2
        return (x + added * score) / kept, added * share


Pair = tuple[Tensor, Tensor | None]  # times of a step; None: the clean image


@torch.no_grad()
def sample_pc(
    denoise: Denoise,
    x: Tensor,
    process: Process,
    times: Tensor,
    *,
    predictor: Predictor = Predictor(),
    corrector: Corrector = Corrector(),
    last: Last = "mean",
    randn: Randn = torch.randn_like,
) -> Tensor:
    """Correct at each of the (N,) times, and predict the next; the last step is to the clean image.

    N (1 + corrector.steps) calls of the denoiser, or fewer by the corrections left out at the
    start.

    Source: Song et al., arXiv 2011.13456.
    """
    followers: list[Tensor | None] = [*times[1:], None]
    for index, (now, then) in enumerate(zip(times, followers, strict=True)):
        if index or corrector.start:
            kept, _ = process.between(now, then)
            x = corrector(_score(process, denoise, now), x, kept, randn)
        if then is None and last == "tweedie":
            return process.clean(denoise, x, now)
        x, variance = predictor(process, x, process.score(denoise, x, now), (now, then))
        if then is not None or last == "noise":
            x = x + variance.sqrt() * randn(x)
    return x


def _score(process: Process, denoise: Denoise, t: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: process.score(denoise, x, t)


def _norm(x: Tensor) -> Tensor:
    """Euclidean norm of each sample, (B, 1, ...); never 0, which would make a step infinite."""
    norm: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    norm = norm.clamp(min=torch.finfo(x.dtype).tiny)
    return norm.reshape(-1, *[1] * (x.ndim - 1))
