"""SynDiff: a diffusion of a few large steps, learnt against critics from unpaired images."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, NoReturn, Self

import torch
from pydantic import BaseModel, NonNegativeFloat, PositiveInt, model_validator
from torch import Tensor, nn

from spinect.diffusion.chain import Chain
from spinect.diffusion.sample import sample_ancestral
from spinect.diffusion.schedule import spaced, vp_levels
from spinect.errors import BundleError, ConfigError
from spinect.methods.gan import (
    frozen,
    init_normal,
    inside_target,
    known,
    refuse_training,
    score_loss,
)
from spinect.methods.losses import l1_loss
from spinect.methods.networks import CriticConfig, NCSNConfig, NoiseCriticConfig, ResnetConfig
from spinect.methods.registry import register
from spinect.protocols import Batch, Denoise, Mode, Randn

# Modality 1 and modality 2 of the paper, each with the one it is translated into.
OTHER: Final = {"ct": "mr", "mr": "ct"}
_BEYOND: Final = 1e-3  # of [-1, 1], for rounding
Terms = dict[str, tuple[float, Tensor]]  # (weight, loss) by name


class TranslatorConfig(ResnetConfig, frozen=True, extra="forbid"):
    """The non-diffusive generator, one for each direction."""

    kind: Literal["resnet"] = "resnet"
    blocks: PositiveInt = 6
    filtered: bool = False


class SynDiffConfig(BaseModel, frozen=True, extra="forbid"):
    """What a user may write under "method" when its name is "syndiff"."""

    ndim: Literal[2] = 2
    # Of the condition. Only channel 0, the MR, is translated: in training the MR beside a CT is
    # made of that CT, and nobody can make the other channels.
    in_channels: PositiveInt = 1
    # Values of channel 0 that mean -1 and 1. As it stands for the channels "max"; for "robust3",
    # which end at 1.5: [0, 1.5].
    mr_range: tuple[float, float] = (-1.0, 1.0)
    steps: PositiveInt = 4  # of the chain; the networks know no others
    generator: NCSNConfig = NCSNConfig()
    translator: TranslatorConfig = TranslatorConfig()
    noise_critic: NoiseCriticConfig = NoiseCriticConfig()
    patch_critic: CriticConfig = CriticConfig()
    l1: NonNegativeFloat = 0.5  # weight of |denoised - image|
    cycle: NonNegativeFloat = 0.5  # weight of |there and back - image|
    r1: NonNegativeFloat = 1.0  # gamma of the gradient penalty; its weight is gamma / 2
    r1_every: PositiveInt = 10  # updates from one penalty to the next
    inference_only: bool = False  # build what makes the CT and nothing else, as bundles do

    @model_validator(mode="after")
    def _rises(self) -> Self:
        low, high = self.mr_range
        if low >= high:
            raise ValueError(f"mr_range must rise, not go from {low} to {high}")
        return self


@dataclass(frozen=True)
class Side:
    """What one modality brings to a batch; the images of the other one are of other patients."""

    image: Tensor  # (B, 1, *S) in [-1, 1], air outside
    inside: Tensor  # (B, 1, *S), 1 where the image is known


@register("syndiff", SynDiffConfig)
class SynDiff(nn.Module):
    """Two diffusive generators, two translators between the modalities, and a critic for each.

    A diffusive generator denoises an image of its modality given the same image in the other
    one. In training that other image is a translator's, so that no pairs are needed; in use it is
    the MR. Both directions are trained, as published; the result comes from `generators.ct` alone.

    Draws in training come from torch's global generator. After each loss, `terms` holds its parts
    by name, detached, before weighting.
    """

    heads: tuple[str, ...] = ("ct",)
    modes: tuple[Mode, ...] = ("sample", "mc")
    offers: ClassVar[tuple[Mode, ...]] = ("sample", "mc")
    dims: ClassVar[tuple[int, ...]] = (2,)
    summary: ClassVar[str] = "adversarial diffusion in four steps, learnt from unpaired MR and CT"
    citation: ClassVar[str] = (
        "Ozbey et al., SynDiff, IEEE TMI 2023, arXiv 2207.08208; steps after Xiao et al., "
        "ICLR 2022, arXiv 2112.07804; for spine MR to CT Graf et al., 2023, arXiv 2308.09345"
    )
    updates: Tensor

    def __init__(self, config: SynDiffConfig) -> None:
        super().__init__()
        self.config = config
        self.ndim: int = config.ndim
        self.in_channels: int = config.in_channels
        self.chain = Chain(vp_levels(config.steps))
        # Of the two output channels of a diffusive generator the published code uses the first.
        result = config.generator.build(self.ndim, 2, 2)
        made: dict[str, nn.Module] = {"ct": result}
        self.divisor: int = max(result.divisor, 2**config.translator.halvings)
        self.parts: tuple[str, ...] = ("generators",)
        if not config.inference_only:
            self.parts = ("noise_critics", "patch_critics", "generators")
            made["mr"] = config.generator.build(self.ndim, 2, 2)
            for name in OTHER:
                made[f"to_{name}"] = _drawn(config.translator.build(self.ndim, 1, 1))
            self.noise_critics = nn.ModuleDict(
                {name: config.noise_critic.build(self.ndim, 2) for name in OTHER}
            )
            self.patch_critics = nn.ModuleDict(
                {name: _drawn(config.patch_critic.build(self.ndim, 1)) for name in OTHER}
            )
            # Finished updates, in the state dict: a resumed run takes up the beat of the penalty.
            self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.generators = nn.ModuleDict(made)
        self.terms: dict[str, Tensor] = {}
        self._style: Tensor | None = None  # of the present step of a draw, (1 or B, style)

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """Yield the losses of the critics of noise, of the critics of patches, of the generators.

        Images of the two modalities are never compared; a batch may be paired or not.

        Raises:
            ConfigError: The batch has no CT, its MR is not where `mr_range` says, its patches are
                too small for the critics, or the method was built for inference only.

        Source: arXiv 2207.08208; terms, order and weights are those of its published code.
        """
        refuse_training(self.config.inference_only)
        sides = self._sides(batch)
        # Read first and written last: micro-batches, which run side by side, count as one update.
        done = int(self.updates)
        due = self.config.r1 > 0 and done % self.config.r1_every == 0
        yield "noise_critics", self._total(self._noise_critic(n, s, due) for n, s in sides.items())
        yield "patch_critics", self._total(self._patch_critic(n, sides) for n in sides)
        yield "generators", self._total(self._generator(n, s) for n, s in sides.items())
        self.updates.fill_(done + 1)

    def predict(self, condition: Tensor) -> NoReturn:  # noqa: ARG002
        """Refused with a BundleError: this network answers noise only."""
        raise BundleError('this method has no "regress"; its modes are "sample" and "mc"')

    def denoise(self, x: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        """Clean CT (B, 1, *S) from x = ct + sigma * noise; sigma () or (B,), one of the chain's.

        The style is that of the present step of `sample`; where none runs, the middle one, 0.

        Raises:
            ConfigError: sigma is not on the chain.
        """
        step = self.chain.step_of(sigma).to(x.device).expand(len(x))
        style = x.new_zeros(1, self.config.generator.style) if self._style is None else self._style
        mr = self._mr(condition.to(x.dtype))
        return self._denoised("ct", x, mr, step, style.to(x).expand(len(x), -1))

    def sample(self, denoise: Denoise, like: Tensor, steps: int | None, randn: Randn) -> Tensor:
        """One draw of the shape of `like`, through any denoiser.

        The published chain, x_k drawn from q(x_k | x_{k+1}, x0), is ancestral sampling with
        eta = 1 on its own noise levels. The style of a step must be the same for all tiles of a
        volume, and follow from the seed: it is the head of a field from `randn`, and `denoise`
        finds it here.

        Args:
            denoise: That of a tile, or one that blends the tiles of a volume.
            like: (B, 1, *S); only its shape, dtype and device count.
            steps: None, or the config's number.
            randn: Called for the start; at each step for the style, and for the noise added back.
        Raises:
            ConfigError: Another number of steps than the networks learnt.
        """
        if steps not in (None, self.config.steps):
            raise ConfigError(
                f"{steps} steps: this network learnt the {self.config.steps} steps of its chain "
                f"and no others; leave steps out, or say {self.config.steps}"
            )
        sigmas = spaced(self.chain.levels, self.config.steps)

        def styled(x: Tensor, sigma: Tensor) -> Tensor:
            self._style = _head(like, self.config.generator.style, randn)
            return denoise(x, sigma)

        start = (1 + sigmas[0] ** 2).sqrt() * randn(like)  # published: unit noise as DDPM scales it
        try:
            return sample_ancestral(styled, start, sigmas, eta=1.0, randn=randn)
        finally:
            self._style = None

    def _sides(self, batch: Batch) -> dict[str, Side]:
        if batch.target is None:
            raise ConfigError("a training batch holds no CT; syndiff learns from MR and CT images")
        mr = self._mr(batch.condition)
        low, high = mr.aminmax()
        if max(-low, high) > 1 + _BEYOND:
            raise ConfigError(
                f"channel 0 of the condition spans {float(batch.condition[:, :1].min()):g} to "
                f"{float(batch.condition[:, :1].max()):g}, beyond mr_range {self.config.mr_range}: "
                "set method.mr_range to [-1, 1] for the channels max, to [0, 1.5] for robust3"
            )
        images = {"ct": (batch.target, inside_target(batch)), "mr": (mr, batch.inside)}
        return {name: Side(known(image, where), where) for name, (image, where) in images.items()}

    def _mr(self, condition: Tensor) -> Tensor:
        """Channel 0 of the condition on [-1, 1]."""
        low, high = self.config.mr_range
        return (condition[:, :1] - low) * (2 / (high - low)) - 1

    def _total(self, groups: Iterator[Terms]) -> Tensor:
        terms = {name: term for group in groups for name, term in group.items()}
        self.terms = {name: term.detach() for name, (_, term) in terms.items()}
        return torch.stack([weight * term for weight, term in terms.values()]).sum()

    def _noise_critic(self, name: str, side: Side, due: bool) -> Terms:
        """Neighbours on the chain against made ones; the penalty, where it is due."""
        step = self.chain.draw_steps(len(side.image), side.image.device)
        near, noisier = self.chain.pair(side.image, step)
        real = self.chain.scaled(near, step)
        with torch.no_grad():
            _, fake = self._step(name, side, self._translated(name, side), noisier, step)
        terms = {
            f"noise_real_{name}": (1.0, score_loss(
                self._noise_scores(name, real, noisier, step), True, "vanilla")),
            f"noise_fake_{name}": (1.0, score_loss(
                self._noise_scores(name, fake, noisier, step), False, "vanilla")),
        }  # fmt: skip
        if due:
            penalty = self._penalty(name, real, noisier, step)
            terms[f"r1_{name}"] = (self.config.r1 / 2, penalty)
        return terms

    def _patch_critic(self, name: str, sides: dict[str, Side]) -> Terms:
        """Images of a modality against those that are translated into it."""
        critic, other = self.patch_critics[name], OTHER[name]
        with torch.no_grad():
            fake = self._translated(other, sides[other])
        return {
            f"patch_real_{name}": (1.0, score_loss(critic(sides[name].image), True, "vanilla")),
            f"patch_fake_{name}": (1.0, score_loss(critic(fake), False, "vanilla")),
        }

    def _generator(self, name: str, side: Side) -> Terms:
        """One image out and back again: both critics, the denoised image, the cycle."""
        other = OTHER[name]
        step = self.chain.draw_steps(len(side.image), side.image.device)
        _, noisier = self.chain.pair(side.image, step)
        source = self._translated(name, side)
        x0, fake = self._step(name, side, source, noisier, step)
        with frozen(self.noise_critics[name], self.patch_critics[other]):
            by_noise = self._noise_scores(name, fake, noisier, step)
            by_patch = self.patch_critics[other](source)
        back = self.generators[f"to_{name}"](source).float()
        return {
            f"fool_noise_{name}": (1.0, score_loss(by_noise, True, "vanilla")),
            f"fool_patch_{other}": (1.0, score_loss(by_patch, True, "vanilla")),
            f"l1_{name}": (self.config.l1, l1_loss(x0, side.image, side.inside)),
            f"cycle_{name}": (self.config.cycle, l1_loss(back, side.image, side.inside)),
        }

    def _translated(self, name: str, side: Side) -> Tensor:
        """The images of modality `name` as the other one, air outside."""
        made = self.generators[f"to_{OTHER[name]}"](side.image).float()
        return known(made, side.inside)

    def _step(
        self, name: str, side: Side, source: Tensor, noisier: Tensor, step: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The image that a generator makes of x_{k+1}; the x_k that follows, as DDPM scales it."""
        style = torch.randn(len(step), self.config.generator.style, device=step.device)
        x0 = known(self._denoised(name, noisier, source, step, style), side.inside)
        return x0, self.chain.scaled(self.chain.posterior(x0, noisier, step), step)

    def _denoised(
        self, name: str, noisier: Tensor, source: Tensor, step: Tensor, style: Tensor
    ) -> Tensor:
        seen = torch.cat([self.chain.scaled(noisier, step + 1), source], dim=1)
        made: Tensor = self.generators[name](seen, step, style)
        return made[:, :1].float()

    def _noise_scores(self, name: str, near: Tensor, noisier: Tensor, step: Tensor) -> Tensor:
        """Scores (B, 1) of x_k, as DDPM scales it, beside x_{k+1}."""
        pair = torch.cat([near, self.chain.scaled(noisier, step + 1)], dim=1)
        scores: Tensor = self.noise_critics[name](pair, step)
        return scores

    def _penalty(self, name: str, real: Tensor, noisier: Tensor, step: Tensor) -> Tensor:
        """Mean over the batch of |gradient of the score by x_k|**2; arguments as `_noise_scores`.

        In float32: squares of small gradients are too much for bf16.
        Source: Mescheder et al., arXiv 1801.04406, its R1 without gamma / 2.
        """
        with torch.autocast(real.device.type, enabled=False):
            near = real.detach().requires_grad_()
            scores = self._noise_scores(name, near, noisier, step)
            (slope,) = torch.autograd.grad(scores.sum(), near, create_graph=True)
        return slope.square().flatten(1).sum(dim=1).mean()


def _drawn(network: nn.Module) -> nn.Module:
    """The network with weights ~ N(0, 0.02)."""
    init_normal(network)
    return network


def _head(like: Tensor, count: int, randn: Randn) -> Tensor:
    """The first `count` numbers of each image of a field from `randn`, of several if need be."""
    found = randn(like).flatten(1)
    while found.shape[1] < count:
        found = torch.cat([found, randn(like).flatten(1)], dim=1)
    return found[:, :count]
