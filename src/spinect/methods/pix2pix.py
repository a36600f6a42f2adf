"""Pix2pix: a generator against a critic that sees the MR and its CT together."""

from collections.abc import Iterator
from functools import partial
from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, NonNegativeInt
from torch import Tensor

from spinect.methods.gan import (
    GanLoss,
    ImagePool,
    critic_loss,
    frozen,
    init_normal,
    known,
    score_loss,
)
from spinect.methods.losses import l1_loss
from spinect.methods.networks import CriticConfig, GeneratorNetwork, SkipUNetConfig
from spinect.methods.paired_gan import PairedGan, PairedGanConfig
from spinect.methods.registry import register
from spinect.methods.ssim import RADIUS, ssim_loss
from spinect.protocols import Batch


class Pix2PixConfig(PairedGanConfig, frozen=True, extra="forbid"):
    """What a user may write under "method" when its name is "pix2pix".

    Without a change it is the original recipe but for its loss, its norm and its dropout.
    """

    generator: GeneratorNetwork = SkipUNetConfig()
    critic: CriticConfig = CriticConfig()
    gan_loss: GanLoss = "lsgan"
    l1: NonNegativeFloat = 100.0  # weight of the mean absolute error, half HU ranges
    ssim: NonNegativeFloat = 0.0  # weight of 1 - SSIM
    first: Literal["critic", "generator"] = "critic"  # which one steps first
    pool: NonNegativeInt = 0  # older fakes that the critic is shown; 0 = none
    zero_bias: bool = True  # biases start at 0, otherwise as torch draws them


@register("pix2pix", Pix2PixConfig)
class Pix2Pix(PairedGan):
    """Paired GAN: L1 and SSIM keep the anatomy, the critic of (CT, MR) keeps the texture.

    After each loss, `terms` holds its parts by name, detached, before weighting.
    """

    config: Pix2PixConfig
    summary: ClassVar[str] = "paired GAN: a critic that sees MR and CT, beside L1 and SSIM"
    citation: ClassVar[str] = (
        "Isola et al., CVPR 2017, arXiv 1611.07004; with SSIM Graf et al., 2023, arXiv 2308.09345"
    )

    def __init__(self, config: Pix2PixConfig) -> None:
        super().__init__(config)
        if not config.inference_only:
            self.pool = ImagePool(config.pool) if config.pool else None
        init_normal(self, zero_bias=config.zero_bias)

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """Yield the losses of critic and generator, in the order of `first`.

        Both are of one fake, made before either steps. Outside `batch.inside` the critic sees
        air in both CTs; L1 and SSIM count nothing there.

        Raises:
            ConfigError: The batch has no CT or another patient's, or its size does not fit.
        """
        target = self.checked_target(batch, RADIUS + 1 if self.config.ssim else 1)
        fake = self.predict(batch.condition)
        mr = batch.condition[:, : self.config.critic_sees]
        shown = torch.cat([known(fake, batch.inside), mr], dim=1)
        truth = torch.cat([known(target, batch.inside), mr], dim=1)
        made = {
            "critic": partial(self._critic_loss, truth, shown),
            "generator": partial(self._generator_loss, shown, fake, target, batch.inside),
        }
        order = ("critic", "generator")
        for part in order if self.config.first == "critic" else reversed(order):
            yield part, made[part]()

    def _critic_loss(self, truth: Tensor, shown: Tensor) -> Tensor:
        """Of the critic on (CT, MR); the generator hears nothing of it."""
        shown = shown.detach() if self.pool is None else self.pool(shown)
        real, fake = self.critic(truth), self.critic(shown)
        self.terms = {
            "real_score": real.detach().float().mean(),
            "fake_score": fake.detach().float().mean(),
        }
        return critic_loss(real, fake, self.config.gan_loss)

    def _generator_loss(
        self, shown: Tensor, fake: Tensor, target: Tensor, inside: Tensor
    ) -> Tensor:
        """gan + l1 * L1 + ssim * (1 - SSIM); the critic gathers no gradient."""
        config = self.config
        with frozen(self.critic):
            scores = self.critic(shown)
        with torch.autocast(shown.device.type, enabled=False):  # sums need float32
            terms = {
                "gan": (1.0, score_loss(scores, True, config.gan_loss)),
                "l1": (config.l1, l1_loss(fake, target, inside)),
            }
            if config.ssim:
                terms["ssim"] = config.ssim, ssim_loss(fake, target, inside)
            total = torch.stack([weight * term for weight, term in terms.values()]).sum()
        self.terms = {name: term.detach() for name, (_, term) in terms.items()}
        return total
