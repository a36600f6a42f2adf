"""What paired GANs share: a generator of CTs, and a critic that sees each CT with its MR."""

from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, PositiveInt, model_validator
from torch import Tensor

from spinect.errors import ConfigError
from spinect.methods.gan import check_sizes, refuse_training
from spinect.methods.networks import Generator
from spinect.methods.one_call import OneCall
from spinect.methods.pairs import refuse_unpaired
from spinect.protocols import Batch


class PairedGanConfig(BaseModel, frozen=True, extra="forbid"):
    """What a user may write under "method" for any of them."""

    ndim: Literal[2, 3] = 2
    in_channels: PositiveInt = 1  # channels of the condition
    critic_sees: PositiveInt = 1  # first channels of the condition, beside the CT: the MR, no ramps
    inference_only: bool = False  # build what makes the CT and nothing else, as bundles do

    @model_validator(mode="after")
    def _sees_what_is_there(self) -> Self:
        if self.critic_sees > self.in_channels:
            raise ValueError(
                f"critic_sees {self.critic_sees} is more than in_channels {self.in_channels}"
            )
        return self


class PairedGan(OneCall):
    """A generator and, unless it is built for use alone, a critic.

    Args:
        config: With the fields `generator` and `critic` beside those of every paired GAN.
    """

    parts: tuple[str, ...] = ("generator", "critic")
    heads: tuple[str, ...] = ("ct",)
    dims: ClassVar[tuple[int, ...]] = (2, 3)

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.ndim: int = config.ndim
        self.in_channels: int = config.in_channels
        self.generator: Generator = config.generator.build_generator(
            config.ndim, config.in_channels
        )
        if not config.inference_only:
            self.critic = config.critic.build(config.ndim, 1 + config.critic_sees)
        self.divisor: int = self.generator.divisor
        self.terms: dict[str, Tensor] = {}

    def predict(self, condition: Tensor) -> Tensor:
        """(B, in_channels, *S) to (B, 1, *S), float32; as bounded as the generator is."""
        check_sizes(condition, self.divisor)
        ct: Tensor = self.generator(condition)
        return ct.float()

    def checked_target(self, batch: Batch, least: int = 1) -> Tensor:
        """The CT of a batch that can be learnt from, (B, 1, *S).

        Args:
            least: Voxels along each axis that the losses need beside those of the critic.
        Raises:
            ConfigError: The batch has no CT or another patient's, or its size does not fit.
        """
        refuse_training(self.config.inference_only)
        refuse_unpaired(batch)
        if batch.target is None:
            raise ConfigError("a training batch holds no CT; give the data source a target")
        check_sizes(batch.condition, self.divisor, max(least, self.critic.smallest))
        return batch.target
