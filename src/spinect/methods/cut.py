"""Contrastive unpaired translation: MR and CT of different patients teach it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import torch
from pydantic import BaseModel, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from spinect.errors import ConfigError
from spinect.methods.gan import (
    GanLoss,
    check_sizes,
    critic_loss,
    frozen,
    init_normal,
    init_xavier,
    inside_target,
    known,
    refuse_training,
    score_loss,
)
from spinect.methods.networks import CriticConfig, Generator, GeneratorNetwork, ResnetConfig
from spinect.methods.one_call import OneCall
from spinect.methods.patch_nce import TEMPERATURE, draw_positions, patch_nce
from spinect.methods.registry import register
from spinect.nets.patch_features import PatchFeatures, tap_widths, tapped
from spinect.protocols import Batch

_MIRROR: Final = 2  # dimension that is mirrored: front to back in 2D, left to right in 3D


class CutConfig(BaseModel, frozen=True, extra="forbid"):
    """What a user may write under "method" when its name is "cut"; as it stands the original.

    FastCUT is nce_weight 10, identity false, mirror 0.5.
    """

    ndim: Literal[2, 3] = 2
    in_channels: PositiveInt = 1  # of the MR; a CT is repeated to as many where it is the input
    generator: GeneratorNetwork = ResnetConfig(kind="resnet")
    critic: CriticConfig = CriticConfig(filtered=True)
    # Where the generator's features are compared: 0 its input, n > 0 its stage n, counted from 0.
    taps: tuple[NonNegativeInt, ...] = (0, 4, 8, 12, 16)
    features: PositiveInt = 256  # length of the vectors that are compared
    patches: PositiveInt = 256  # places per tap and image
    temperature: PositiveFloat = TEMPERATURE  # that cosines are divided by
    gan_loss: GanLoss = "lsgan"
    gan_weight: NonNegativeFloat = 1.0
    nce_weight: NonNegativeFloat = 1.0
    identity: bool = True  # half of the contrast: a CT that goes in should come out
    mirror: float = Field(0.0, ge=0, le=1)  # share of the updates that translate a mirrored image
    first: Literal["critic", "generator"] = "critic"  # which of them steps first
    init: Literal["xavier", "normal"] = "xavier"  # with gain 0.02 and no bias; N(0, 0.02)
    inference_only: bool = False  # build what makes the CT and nothing else, as bundles do


class ContrastiveGenerator(nn.Module):
    """The generator, and the heads that only its training needs."""

    heads: PatchFeatures

    def __init__(self, network: Generator) -> None:
        super().__init__()
        self.network = network


@dataclass(frozen=True)
class _Translated:
    """One batch through the generator: N images, the MRs first, then CTs where identity is on."""

    sources: Tensor  # (N, in_channels, *S), as they are in the batch
    inside: Tensor  # (N, 1, *S), the same
    made: Tensor  # (N, 1, *S), mirrored where `mirrored`; air where nothing is known
    real: Tensor  # (B, 1, *S) CTs
    mirrored: bool


@register("cut", CutConfig)
class Cut(OneCall):
    """A generator against a critic of CTs; each patch of its CT must know its own patch of MR.

    Network and heads are one part with one optimiser, as in Graf et al. 2023; the original has two
    of equal settings, which under Adam is the same. MR and CT are never compared voxel by voxel.
    Positions are random in training, from torch's global generator.
    """

    parts: tuple[str, ...] = ("generator", "critic")
    heads: tuple[str, ...] = ("ct",)
    dims: ClassVar[tuple[int, ...]] = (2, 3)
    summary: ClassVar[str] = "unpaired GAN that keeps the content by contrast of patches"
    citation: ClassVar[str] = (
        "Park et al., CUT, ECCV 2020, arXiv 2007.15651; for MR to CT Graf et al., 2023, "
        "arXiv 2308.09345"
    )

    def __init__(self, config: CutConfig) -> None:
        super().__init__()
        self.config = config
        self.ndim: int = config.ndim
        self.in_channels: int = config.in_channels
        network = config.generator.build_generator(config.ndim, config.in_channels)
        self.divisor = network.divisor
        self.generator = ContrastiveGenerator(network)
        if not config.inference_only:
            widths = tap_widths(network, config.ndim, config.in_channels, config.taps)
            self.generator.heads = PatchFeatures(widths, config.features)
            self.critic = config.critic.build(config.ndim, 1)
        if config.init == "xavier":
            init_xavier(self)
        else:
            init_normal(self, zero_bias=False)
        self.terms: dict[str, Tensor] = {}

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """Yield ("critic", loss) and ("generator", loss), the config's `first` first.

        Both see the same translations, made before either steps. After the generator's, `terms`
        holds "gan", "nce" and, where it is on, "identity", before weighting.

        Raises:
            ConfigError: The batch has no CT, or its size does not fit.

        Source: arXiv 2007.15651, eq. 5.
        """
        done = self._translated(batch)
        critic_first = self.config.first == "critic"
        for part in self.parts[::-1] if critic_first else self.parts:
            self.terms = {}
            loss = self._critic_loss(done) if part == "critic" else self._generator_loss(done)
            yield part, loss

    def predict(self, condition: Tensor) -> Tensor:
        """(B, in_channels, *S) to (B, 1, *S), float32, by the generator's network alone.

        Raises:
            ConfigError: Sizes that are no multiples of `divisor`.
        """
        check_sizes(condition, self.divisor)
        ct: Tensor = self.generator.network(condition)
        return ct.float()

    def _translated(self, batch: Batch) -> _Translated:
        refuse_training(self.config.inference_only)
        if batch.target is None:
            raise ConfigError(
                "a training batch holds no CT; cut learns from MR and CT, of any patients: "
                "give the data source a target"
            )
        check_sizes(batch.condition, self.divisor, self.critic.smallest)
        sources, inside = batch.condition, batch.inside
        real = known(batch.target, inside_target(batch))
        if self.config.identity:
            sources = torch.cat([sources, self._as_input(real).to(sources)])
            inside = torch.cat([inside, inside_target(batch)])
        mirrored = self.config.mirror > 0 and float(torch.rand(())) < self.config.mirror
        posed, where = (x.flip(_MIRROR) if mirrored else x for x in (sources, inside))
        made = known(self.generator.network(posed).float(), where)
        return _Translated(sources, inside, made, real, mirrored)

    def _critic_loss(self, done: _Translated) -> Tensor:
        fake = done.made[: len(done.real)].detach()
        return critic_loss(self.critic(done.real), self.critic(fake), self.config.gan_loss)

    def _generator_loss(self, done: _Translated) -> Tensor:
        config, count = self.config, len(done.real)
        with frozen(self.critic):
            gan = score_loss(self.critic(done.made[:count]), True, config.gan_loss)
        each = self._contrast(done)
        terms = {"gan": gan, "nce": each[:count].mean()}
        if config.identity:
            terms["identity"] = each[count:].mean()
        self.terms = {name: term.detach() for name, term in terms.items()}
        return config.gan_weight * gan + config.nce_weight * each.mean()

    def _contrast(self, done: _Translated) -> Tensor:
        """(N,) mean over the taps of each image's contrast with its source.

        Places lie inside the field of view of the image, uniformly; the published code takes any,
        so that half of them say "air is air".
        """
        network, heads, taps = self.generator.network, self.generator.heads, self.config.taps
        with torch.no_grad():
            held = tapped(network, done.sources, taps)
            drawn = draw_positions(done.inside, [f.shape[2:] for f in held], self.config.patches)
            places = [at for at, _ in drawn]
            keys = heads(held, places)
        seen = tapped(network, self._as_input(done.made), taps)
        if done.mirrored:
            seen = [features.flip(_MIRROR) for features in seen]
        queries = heads(seen, places)
        each = [
            patch_nce(query, key, valid, self.config.temperature)
            for query, key, (_, valid) in zip(queries, keys, drawn, strict=True)
        ]
        return torch.stack(each).mean(dim=0)

    def _as_input(self, ct: Tensor) -> Tensor:
        """A CT (N, 1, *S) as the generator's input, (N, in_channels, *S)."""
        return ct.expand(-1, self.in_channels, *[-1] * self.ndim)
