"""Conditional diffusion: the CT given the MR, as its mean or as draws from its distribution."""

from collections.abc import Iterator
from functools import partial
from typing import ClassVar, Literal, Self

import torch
from pydantic import (
    BaseModel,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from torch import Tensor, nn

from spinect.diffusion import schedule
from spinect.diffusion.denoiser import SCALINGS, Denoiser, Predicts
from spinect.diffusion.sample import SAMPLERS, SamplerName
from spinect.errors import BundleError, ConfigError
from spinect.methods.networks import NetworkConfig
from spinect.methods.pairs import refuse_unpaired
from spinect.methods.registry import register
from spinect.protocols import Batch, Denoise, Mode, Randn


class DiffusionConfig(BaseModel, frozen=True, extra="forbid"):
    """What a user may write under "method" when its name is "diffusion".

    Noise levels sigma and `data_std` are in units of the CT in [-1, 1].
    """

    ndim: Literal[2, 3] = 3
    in_channels: PositiveInt = 3  # channels of the condition
    predicts: Predicts = "edm"  # what the network puts out
    network: NetworkConfig = NetworkConfig()
    embedding: PositiveInt = Field(128, multiple_of=2)  # length of the noise-level vector
    schedule: Literal["karras", "ddpm_cosine", "ddpm_linear"] = "karras"
    sigma_min: PositiveFloat = 0.002  # karras: last level before 0
    sigma_max: PositiveFloat = 80.0  # karras: first level
    rho: PositiveFloat = 7.0  # karras: crowding of the levels at the low end
    timesteps: PositiveInt = 1000  # ddpm: levels in training
    data_std: PositiveFloat = 0.5  # edm: standard deviation of clean CTs
    p_mean: float = -0.4  # karras: mean of ln(sigma) in training
    p_std: PositiveFloat = 1.0  # karras: standard deviation of ln(sigma) in training
    regress_share: float = Field(0.5, ge=0, le=1)  # of training: first level, noise left out
    sampler: SamplerName = "dpmpp_2m"
    steps: PositiveInt = 20  # network calls per draw; heun takes two per step but the last
    eta: NonNegativeFloat = Field(0.0, le=1)  # ancestral: 0 = DDIM, 1 = DDPM
    clamp: bool = True  # the estimate of the clean CT to [-1, 1]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.predicts == "eps" and self.regress_share > 0:
            raise ValueError('with predicts = "eps" there is no noise-free call: regress_share = 0')
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min {self.sigma_min} is not below sigma_max {self.sigma_max}")
        if self.eta > 0 and self.sampler != "ancestral":
            raise ValueError(f'eta = {self.eta} needs sampler = "ancestral", not "{self.sampler}"')
        return self


@register("diffusion", DiffusionConfig)
class Diffusion(nn.Module):
    """A denoiser that sees the MR beside the noisy CT.

    Its draws in training come from torch's global generator, which the trainer seeds.
    """

    parts: tuple[str, ...] = ("network",)
    heads: tuple[str, ...] = ("ct",)
    offers: ClassVar[tuple[Mode, ...]] = ("regress", "sample", "mc")
    dims: ClassVar[tuple[int, ...]] = (2, 3)
    summary: ClassVar[str] = "conditional diffusion: the CT's mean, draws from it, or their spread"
    citation: ClassVar[str] = (
        "Karras et al., EDM, NeurIPS 2022, arXiv 2206.00364; for MR to CT Lyu and Wang, 2022, "
        "arXiv 2209.12104, and Graf et al., 2023, arXiv 2308.09345"
    )

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.config = config
        self.ndim: int = config.ndim
        self.in_channels: int = config.in_channels
        self.modes: tuple[Mode, ...] = (
            ("regress", "sample", "mc") if config.regress_share > 0 else ("sample", "mc")
        )
        self.network = config.network.build(
            config.ndim, 1 + config.in_channels, 1, embedding=config.embedding, precise=True
        )
        self.divisor = self.network.divisor
        self.terms: dict[str, Tensor] = {}

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """Yield ("network", loss): squared error of F, which is that of x0 over c_out squared.

        Raises:
            ConfigError: The batch has no CT, or is not paired.

        Source: arXiv 2206.00364, eq. 8, with the weight that makes the target's variance 1.
        """
        refuse_unpaired(batch)
        if batch.target is None:
            raise ConfigError("a training batch holds no CT; diffusion learns from paired CTs only")
        count = batch.target.shape[0]
        sigma = self._draw_levels(count, batch.target.device)
        noise = torch.randn_like(batch.target)
        x = batch.target + _wide(sigma, noise) * noise
        share = self.config.regress_share
        if share > 0:
            plain = torch.rand(count, device=sigma.device) < share
            sigma = torch.where(plain, self._first().to(sigma), sigma)
            x = torch.where(_wide(plain, x), torch.zeros_like(x), x)
        x0 = self._denoiser(batch.condition, clamp=False)(x, sigma)
        weight = SCALINGS[self.config.predicts](_wide(sigma, x), self.config.data_std).out ** -2
        error = (x0.float() - batch.target).square() * weight * batch.inside
        loss = error.sum() / batch.inside.sum().clamp(min=1e-6)
        self.terms = {"denoise": loss.detach()}
        yield "network", loss

    def predict(self, condition: Tensor) -> Tensor:
        """The CT's mean: one call at the first noise level, noise left out, (B, 1, *S) float32.

        Raises:
            BundleError: The network was not trained for it.
        """
        if "regress" not in self.modes:
            raise BundleError(
                'this diffusion network was trained with regress_share = 0 and has no "regress"; '
                'its modes are "sample" and "mc"'
            )
        x = condition.new_zeros(condition.shape[0], 1, *condition.shape[2:], dtype=torch.float32)
        return self.denoise(x, self._first().to(x), condition)

    def denoise(self, x: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        """Clean CT (B, 1, *S) from x = ct + sigma * noise; sigma () or (B,)."""
        return self._denoiser(condition, clamp=self.config.clamp)(x, sigma)

    def sample(self, denoise: Denoise, like: Tensor, steps: int | None, randn: Randn) -> Tensor:
        """One draw of the shape of `like`, through any denoiser.

        Args:
            denoise: That of a tile, or one that blends the tiles of a volume.
            like: (B, 1, *S); only its shape, dtype and device count.
            steps: Steps of the sampler; None for the config's.
            randn: Called once for the start, then once per step that adds noise.
        """
        sigmas = self.sigmas(steps)
        x = sigmas[0] * randn(like)
        run = SAMPLERS[self.config.sampler]
        return run(denoise, x, sigmas, eta=self.config.eta, randn=randn)

    def sigmas(self, steps: int | None = None) -> Tensor:
        """(steps + 1,) noise levels of the sampler, float64, falling to 0."""
        config, steps = self.config, steps or self.config.steps
        if config.schedule == "karras":
            return schedule.karras(steps, config.sigma_min, config.sigma_max, config.rho)
        return schedule.spaced(self._levels(), steps)

    def _levels(self) -> Tensor:
        """(timesteps,) rising DDPM levels."""
        make = {"ddpm_cosine": schedule.cosine_levels, "ddpm_linear": schedule.linear_levels}
        return make[self.config.schedule](self.config.timesteps)

    def _first(self) -> Tensor:
        """The highest noise level, ()."""
        return self.sigmas(1)[0]

    def _draw_levels(self, count: int, device: torch.device) -> Tensor:
        """(count,) float32 noise levels of a training batch."""
        if self.config.schedule == "karras":
            normal = torch.randn(count, device=device)
            return (self.config.p_mean + self.config.p_std * normal).exp()
        levels = self._levels().to(device, torch.float32)
        return levels[torch.randint(len(levels), (count,), device=device)]

    def _denoiser(self, condition: Tensor, *, clamp: bool) -> Denoiser:
        return Denoiser(
            partial(self._call, condition),
            self.config.predicts,
            self.config.data_std,
            clamp=(-1.0, 1.0) if clamp else None,
        )

    def _call(self, condition: Tensor, x: Tensor, level: Tensor) -> Tensor:
        fine: Tensor = self.network(torch.cat([x, condition.to(x.dtype)], dim=1), level)[0]
        return fine.float()


def _wide(each: Tensor, like: Tensor) -> Tensor:
    """(B,) as (B, 1, ...) of the rank of `like`."""
    return each.reshape(-1, *[1] * (like.ndim - 1))
