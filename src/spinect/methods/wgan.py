"""WGAN-GP: a generator against a critic of limited slope, which sees the MR and its CT together."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from spinect.methods.gan import (
    frozen,
    gradient_penalty,
    image_scores,
    known,
    wasserstein_loss,
)
from spinect.methods.losses import l1_loss
from spinect.methods.networks import CriticConfig, GeneratorNetwork, NetworkConfig
from spinect.methods.paired_gan import PairedGan, PairedGanConfig
from spinect.methods.registry import register
from spinect.protocols import Batch


class WganCriticConfig(CriticConfig, frozen=True, extra="forbid"):
    """A critic that judges each image alone, since the penalty is of single images."""

    norm: Literal["instance", "none"] = "none"


class WganConfig(PairedGanConfig, frozen=True, extra="forbid"):
    """What a user may write under "method" when its name is "wgan"."""

    generator: GeneratorNetwork = NetworkConfig()  # that of regression
    critic: WganCriticConfig = WganCriticConfig()
    critic_steps: PositiveInt = 5  # updates of the critic before each one of the generator
    penalty: PositiveFloat = 10.0  # weight of the squared distance of the critic's slope from 1
    # Weight of the real images' squared scores. Without it nothing says where the scores lie, for
    # the losses know their differences only.
    drift: NonNegativeFloat = 1e-3
    l1: NonNegativeFloat = 100.0  # weight of the mean absolute error, half HU ranges


@register("wgan", WganConfig)
class Wgan(PairedGan):
    """Paired GAN: L1 keeps the anatomy, the slope of the critic of (CT, MR) shows the way.

    Networks start as torch draws them, so the generator starts as regression does. After each
    loss, `terms` holds its parts by name, detached, before weighting.
    """

    config: WganConfig
    summary: ClassVar[str] = "paired Wasserstein GAN with gradient penalty, beside L1"
    citation: ClassVar[str] = (
        "Gulrajani et al., WGAN-GP, NeurIPS 2017, arXiv 1704.00028; Arjovsky et al., ICML 2017, "
        "arXiv 1701.07875"
    )

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """Yield the critic's loss `critic_steps` times, then the generator's.

        All are of one batch and one fake, made before anything steps: training hands a method one
        batch per update. What is new for each step of the critic is the critic, and where on the
        lines between real and fake its slope is asked for. Outside `batch.inside` the critic sees
        air in both CTs; L1 counts nothing there.

        Raises:
            ConfigError: The batch has no CT or another patient's, or its size does not fit.
        """
        target = self.checked_target(batch)
        fake = self.predict(batch.condition)
        mr = batch.condition[:, : self.config.critic_sees]
        truth, shown = known(target, batch.inside), known(fake, batch.inside)
        for _ in range(self.config.critic_steps):
            yield "critic", self._critic_loss(truth, shown.detach(), mr)
        with frozen(self.critic):
            scores = self.critic(torch.cat([shown, mr], dim=1))
        with torch.autocast(fake.device.type, enabled=False):  # sums need float32
            terms = {
                "gan": (1.0, -image_scores(scores).mean()),
                "l1": (self.config.l1, l1_loss(fake, target, batch.inside)),
            }
            total = torch.stack([weight * term for weight, term in terms.values()]).sum()
        self.terms = {name: term.detach() for name, (_, term) in terms.items()}
        yield "generator", total

    def _critic_loss(self, truth: Tensor, shown: Tensor, mr: Tensor) -> Tensor:
        """wasserstein + penalty * P + drift * E C(real)**2; the generator hears nothing of it.

        Source: arXiv 1704.00028, eq. 3; the drift Karras et al., arXiv 1710.10196, app. A.1.
        """
        config = self.config
        real, fake = (self.critic(torch.cat([image, mr], dim=1)) for image in (truth, shown))
        terms = {
            "wasserstein": (1.0, wasserstein_loss(real, fake)),
            "penalty": (config.penalty, gradient_penalty(self.critic, truth, shown, mr)),
            "drift": (config.drift, image_scores(real).square().mean()),
        }
        self.terms = {name: term.detach() for name, (_, term) in terms.items()}
        return torch.stack([weight * term for weight, term in terms.values()]).sum()
