"""What the methods that answer in one call share: heads on one U-Net, and their losses."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import BaseModel, PositiveInt, field_validator, model_validator
from torch import Tensor

from spinect.errors import ConfigError
from spinect.methods.features import feature_loss
from spinect.methods.gan import known
from spinect.methods.losses import (
    LossWeights,
    centre_loss,
    class_losses,
    gradient_loss,
    l1_loss,
    l2_loss,
    offset_loss,
)
from spinect.methods.networks import NetworkConfig
from spinect.methods.one_call import OneCall
from spinect.methods.pairs import refuse_unpaired
from spinect.protocols import HEADS, Batch, Features

Head = Literal["ct", "classes", "centre", "offset"]
COARSE: tuple[Head, ...] = ("centre", "offset")  # smooth, so predicted on the body's cells


class SupervisedConfig(BaseModel, frozen=True, extra="forbid"):
    """What a user may write under "method" for a method that answers in one call."""

    ndim: Literal[2, 3] = 3
    in_channels: PositiveInt = 1  # channels of the input image
    heads: tuple[Head, ...] = ("classes", "centre", "offset")
    network: NetworkConfig = NetworkConfig()
    weights: LossWeights = LossWeights()

    @field_validator("heads")
    @classmethod
    def _in_order(cls, heads: tuple[Head, ...]) -> tuple[Head, ...]:
        if not heads or len(set(heads)) < len(heads):
            raise ValueError(f"heads must be some of {', '.join(HEADS)}, each at most once")
        return tuple(sorted(heads, key=list(HEADS).index))

    @model_validator(mode="after")
    def _compares_a_ct(self) -> Self:
        if self.weights.features > 0 and "ct" not in self.heads:
            raise ValueError("weights.features compares CTs: it needs the head ct, or must be 0")
        return self


class Supervised(OneCall):
    """One U-Net with heads, trained on what each batch knows.

    After each loss, `terms` holds its parts by name, detached, before weighting.
    """

    parts: tuple[str, ...] = ("network",)
    dims: ClassVar[tuple[int, ...]] = (2, 3)

    def __init__(self, config: SupervisedConfig) -> None:
        super().__init__()
        self.config = config
        self.ndim: int = config.ndim
        self.in_channels: int = config.in_channels
        self.heads: tuple[str, ...] = config.heads
        self.fine = tuple(h for h in config.heads if h not in COARSE)
        self.coarse = tuple(h for h in config.heads if h in COARSE)
        fine, coarse = (sum(HEADS[h] for h in some) for some in (self.fine, self.coarse))
        self.network = config.network.build(
            config.ndim, config.in_channels, fine, coarse, precise="ct" in config.heads
        )
        self.divisor = self.network.divisor
        self.levels = len(config.network.channels)
        self.wants_features = config.weights.features > 0
        self.features: Features | None = None  # of a frozen network, handed in by training
        self.terms: dict[str, Tensor] = {}

    def stages(self, condition: Tensor) -> Iterator[Tensor]:
        """Features (B, C, *S / stride) of each level of the encoder, finest first."""
        return self.network.stages(condition)

    def _outputs(self, condition: Tensor) -> dict[str, Tensor]:
        """Output by head; those in COARSE on cells, the others on voxels."""
        fine, coarse = self.network(condition)
        parts = dict(zip(self.fine, fine.split([HEADS[h] for h in self.fine], dim=1), strict=True))
        if coarse is not None:
            cells = coarse.split([HEADS[h] for h in self.coarse], dim=1)
            parts |= dict(zip(self.coarse, cells, strict=True))
        return parts

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """Yield ("network", loss), the weighted sum over the heads that the batch can teach.

        Raises:
            ConfigError: The batch knows nothing that a head of this method predicts, or is not
                paired; features have a weight and nobody gave a network that has some.
        """
        refuse_unpaired(batch)
        weights = self.config.weights
        out = self._outputs(batch.condition)
        seen = self._seen(out, batch)
        with torch.autocast(batch.condition.device.type, enabled=False):  # sums need float32
            terms = _terms(out, batch, weights)
            if seen is not None:
                terms["features"] = weights.features, feature_loss(*seen, batch.inside)
        if not terms:
            raise ConfigError(
                f"a training batch holds none of {', '.join(self.heads)}; "
                "give the data source a target, or the method other heads"
            )
        self.terms = {name: term.detach() for name, (_, term) in terms.items()}
        yield "network", torch.stack([weight * term for weight, term in terms.values()]).sum()

    def _seen(
        self, out: dict[str, Tensor], batch: Batch
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]] | None:
        """Features of the synthetic and of the true CT, both air outside the field of view."""
        if not self.wants_features or batch.target is None:
            return None
        if self.features is None:
            raise ConfigError(
                f"weights.features is {self.config.weights.features:g}, but no frozen network was "
                "given: set features: {bundle: vertebrae} in the run's config"
            )
        made = self.features(known(out["ct"].float(), batch.inside))
        with torch.no_grad():
            true = self.features(known(batch.target, batch.inside))
        return made, true

    def predict(self, condition: Tensor) -> Tensor:
        """(B, in_channels, *S) to (B, sum of HEADS, *S), float32, heads in order."""
        out = self._outputs(condition)
        mode = {2: "bilinear", 3: "trilinear"}[self.ndim]
        size = condition.shape[2:]
        voxels = [
            F.interpolate(out[h].float(), size=size, mode=mode) if h in COARSE else out[h].float()
            for h in self.heads
        ]
        return torch.cat(voxels, dim=1)


def _terms(
    out: dict[str, Tensor], batch: Batch, weights: LossWeights
) -> dict[str, tuple[float, Tensor]]:
    """(weight, loss) by term, for the heads whose truth is in the batch."""
    terms: dict[str, tuple[float, Tensor]] = {}
    if "ct" in out and batch.target is not None:
        ct = out["ct"].float()
        weight = batch.inside
        if batch.near_bone is not None:
            weight = weight * (1 + (weights.near_bone - 1) * batch.near_bone)
        terms["l1"] = weights.l1, l1_loss(ct, batch.target, weight)
        if weights.l2 > 0:
            terms["l2"] = weights.l2, l2_loss(ct, batch.target, weight)
        terms["gradient"] = weights.gradient, gradient_loss(ct, batch.target, batch.inside)
    if "classes" in out and batch.classes is not None:
        entropy, dice = class_losses(out["classes"], batch.classes, batch.inside)
        terms["cross_entropy"] = weights.classes, entropy
        terms["dice"] = weights.classes, dice
    if "centre" in out and batch.centre is not None:
        loss = centre_loss(out["centre"], batch.centre, batch.inside, weights.peak)
        terms["centre"] = weights.centre, loss
    if "offset" in out and batch.offset is not None:
        terms["offset"] = weights.offset, offset_loss(out["offset"], batch.offset, batch.inside)
    return terms
