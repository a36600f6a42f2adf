"""Conditional diffusion: the CT given the MR, as its mean or as draws from its distribution."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar, Final

import torch
from torch import Tensor, nn

from spinect.diffusion import schedule
from spinect.diffusion.denoiser import SCALINGS, Denoiser, DiscreteLevel, log_level
from spinect.diffusion.sample import SAMPLERS
from spinect.diffusion.variance import variational_bits
from spinect.errors import BundleError, ConfigError
from spinect.methods.diffusion_config import DiffusionConfig
from spinect.methods.diffusion_process import draw_process, trained_process
from spinect.methods.networks import SAUNetConfig
from spinect.methods.pairs import refuse_unpaired
from spinect.methods.registry import register
from spinect.nets.sa_unet import SAUNet
from spinect.nets.unet import UNet
from spinect.protocols import Batch, Denoise, Mode, Randn, without_image

__all__ = ["Diffusion", "DiffusionConfig"]
_BITS_WEIGHT: Final = 1e-3  # of the variational bound, beside the loss of the noise


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
        self.process = trained_process(config)
        self.ndim: int = config.ndim
        self.in_channels: int = config.in_channels
        self.modes: tuple[Mode, ...] = (
            ("regress", "sample", "mc") if config.regress_share > 0 else ("sample", "mc")
        )
        self.network = _network(config)
        # A residual network is told ln(sigma), one made for DDPM its time.
        timed = isinstance(config.network, SAUNetConfig)
        self.level = DiscreteLevel(self._levels()) if timed else log_level
        self.divisor = self.network.divisor
        # Two dimensions gain nothing, and the residual network little: docs/decisions/0008.
        self.prepared_channels = 0
        if isinstance(self.network, SAUNet) and self.ndim == 3:
            self.prepared_channels = self.network.stem.out_channels * (1 + self._guided)
        self.terms: dict[str, Tensor] = {}

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """Yield ("network", loss): the error of F, which is that of x0 over c_out.

        Raises:
            ConfigError: The batch has no CT, or is not paired.

        Source: arXiv 2206.00364, eq. 8, with the weight that makes the target's variance 1; l1 and
        the weight of a learned variance as in Graf et al. 2023, arXiv 2308.09345.
        """
        refuse_unpaired(batch)
        if batch.target is None:
            raise ConfigError("a training batch holds no CT; diffusion learns from paired CTs only")
        x, sigma = self._noisy(batch.target)
        x0, rest = self._denoiser(batch.condition, clamp=False).with_rest(x, sigma)
        x0 = x0.float()
        out = SCALINGS[self.config.predicts](_wide(sigma, x), self.config.data_std).out
        error = x0 - batch.target
        error = (error / out).abs() if self.config.loss == "l1" else error.square() * out**-2
        loss = _mean(error, batch.inside)
        self.terms = {"denoise": loss.detach()}
        if self.config.learned_variance:
            bits = variational_bits(x0, batch.target, rest, *self._beside(sigma, x))
            bound = _mean(bits, batch.inside)
            self.terms["variance"] = bound.detach()
            loss = loss + _BITS_WEIGHT * bound
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
        plain = self._denoiser(condition, clamp=self.config.clamp)
        return plain(x, self._first().to(x))

    def denoise(
        self, x: Tensor, sigma: Tensor, condition: Tensor, prepared: Tensor | None = None
    ) -> Tensor:
        """Clean CT (B, 1, *S) from x = ct + sigma * noise; sigma () or (B,)."""
        shares: list[Tensor | None] = [None, None]
        if prepared is not None:
            shares = [*prepared.chunk(2, dim=1)] if self._guided else [prepared, None]
        without = None
        if self._guided:
            without = partial(self._call, self._without(condition), share=shares[1])
        guided = self._denoiser(
            condition, clamp=self.config.clamp, without=without, share=shares[0]
        )
        return guided(x, sigma)

    def prepare(self, condition: Tensor) -> Tensor:
        """What a condition adds in the first convolution, and after it what its absence adds where
        that guides: (B, prepared_channels, *S) float32.
        """
        assert isinstance(self.network, SAUNet)
        seen = [condition, self._without(condition)] if self._guided else [condition]
        return torch.cat([self.network.share(each) for each in seen], dim=1)

    def sample(self, denoise: Denoise, like: Tensor, steps: int | None, randn: Randn) -> Tensor:
        """One draw of the shape of `like`, through any denoiser.

        Args:
            denoise: That of a tile, or one that blends the tiles of a volume.
            like: (B, 1, *S); only its shape, dtype and device count.
            steps: Steps of the sampler; None for the config's.
            randn: Called once for the start, then once per step that adds noise.
        """
        config = self.config
        if config.sampler not in SAMPLERS:
            return draw_process(config, denoise, like, steps, randn)
        sigmas = self.sigmas(steps)
        x = sigmas[0] * randn(like)
        sampler = SAMPLERS[config.sampler]
        return sampler(denoise, x, sigmas, randn=randn, **config.sampler_options)

    def sigmas(self, steps: int | None = None) -> Tensor:
        """(steps + 1,) noise levels of the sampler, float64, falling to 0.

        Those of a process in continuous time belong to evenly spaced times.
        """
        config, steps = self.config, steps or self.config.steps
        if self.process is not None:
            levels = self.process.sigma(self.process.times(steps))
            return torch.cat([levels, levels.new_zeros(1)])
        if config.schedule == "karras":
            return schedule.karras(steps, config.sigma_min, config.sigma_max, config.rho)
        spread = schedule.leading if config.sampler == "graf2023" else schedule.spaced
        return spread(self._levels(), steps)

    def _levels(self) -> Tensor:
        """(timesteps,) rising DDPM levels, float64."""
        make = {"ddpm_cosine": schedule.cosine_levels, "ddpm_linear": schedule.linear_levels}
        return make[self.config.schedule](self.config.timesteps)

    def _first(self) -> Tensor:
        """The highest noise level, (), whatever the sampler visits."""
        config = self.config
        if self.process is not None:
            return self.process.sigma(self.process.times(1)[0])
        if config.schedule == "karras":
            return schedule.karras(1, config.sigma_min, config.sigma_max, config.rho)[0]
        return self._levels()[-1]

    def _noisy(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Clean CTs with noise, of their shape, and its levels (B,); without, where that counts."""
        count = len(target)
        sigma = self._draw_levels(count, target.device)
        noise = torch.randn_like(target)
        x = target + _wide(sigma, noise) * noise
        share = self.config.regress_share
        if share > 0:
            plain = torch.rand(count, device=sigma.device) < share
            sigma = torch.where(plain, self._first().to(sigma), sigma)
            x = torch.where(_wide(plain, x), torch.zeros_like(x), x)
        return x, sigma

    def _draw_levels(self, count: int, device: torch.device) -> Tensor:
        """(count,) float32 noise levels of a training batch; of a process, even in time."""
        if self.process is not None:
            eps, uniform = self.process.eps, torch.rand(count, device=device)
            return self.process.sigma(eps + (1 - eps) * uniform.double()).float()
        if self.config.schedule == "karras":
            normal = torch.randn(count, device=device)
            return (self.config.p_mean + self.config.p_std * normal).exp()
        levels = self._levels().to(device, torch.float32)
        return levels[torch.randint(len(levels), (count,), device=device)]

    def _beside(self, sigma: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """DDPM levels (B,) and those of the times before, wide; before the first there is none."""
        levels = self._levels()
        times = DiscreteLevel(levels)(sigma).round().long()
        before = torch.cat([levels.new_zeros(1), levels]).to(sigma)[times]
        return _wide(sigma, like), _wide(before, like)

    @property
    def _guided(self) -> bool:
        """Whether an estimate takes a second call, without the condition."""
        return self.config.guidance != 1 and self.config.dropped != "none"

    def _without(self, condition: Tensor) -> Tensor:
        assert self.config.dropped != "none"
        return without_image(condition, self.config.dropped)

    def _denoiser(
        self,
        condition: Tensor,
        *,
        clamp: bool,
        without: Callable[[Tensor, Tensor], Tensor] | None = None,
        share: Tensor | None = None,
    ) -> Denoiser:
        return Denoiser(
            partial(self._call, condition, share=share),
            self.config.predicts,
            self.config.data_std,
            level=self.level,
            clamp=(-1.0, 1.0) if clamp else None,
            without=without,
            guidance=1.0 if without is None else self.config.guidance,
        )

    def _call(
        self, condition: Tensor, x: Tensor, level: Tensor, share: Tensor | None = None
    ) -> Tensor:
        if share is None:
            out = self.network(torch.cat([x, condition.to(x.dtype)], dim=1), level)
        else:
            out = self.network(x, level, share)
        fine: Tensor = out[0] if isinstance(out, tuple) else out
        return fine.float()


def _network(config: DiffusionConfig) -> UNet | SAUNet:
    """The network of a config; a learned variance is its second channel."""
    size = (config.ndim, 1 + config.in_channels, 1 + config.learned_variance)
    if isinstance(config.network, SAUNetConfig):
        return config.network.build(*size, time=True, tanh=False)
    return config.network.build(*size, embedding=config.embedding, precise=True)


def _mean(each: Tensor, inside: Tensor) -> Tensor:
    """Over the voxels that count, ()."""
    return (each * inside).sum() / inside.sum().clamp(min=1e-6)


def _wide(each: Tensor, like: Tensor) -> Tensor:
    """(B,) as (B, 1, ...) of the rank of `like`."""
    return each.reshape(-1, *[1] * (like.ndim - 1))
