"""The networks that a user may name under "method": their shape, in the same words everywhere."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveInt,
    Tag,
    model_validator,
)

from spinect.nets.blocks import Norm
from spinect.nets.critic import CriticNorm, PatchCritic
from spinect.nets.double_conv_unet import DoubleConvUNet
from spinect.nets.ncsn import NCSN
from spinect.nets.noise_critic import NoiseCritic
from spinect.nets.resnet import ResnetGenerator
from spinect.nets.sa_unet import SAUNet, Skips
from spinect.nets.skip_unet import SkipNorm, SkipUNet
from spinect.nets.unet import UNet, UNetGenerator, channels_last


class NetworkConfig(BaseModel, frozen=True, extra="forbid"):
    """The residual U-Net's shape."""

    kind: Literal["residual"] = "residual"
    channels: tuple[PositiveInt, ...] = (64, 96, 128, 160)  # features per level, finest first
    blocks: tuple[NonNegativeInt, ...] = (1, 1, 2, 2)  # residual blocks per encoder level
    decoder_blocks: tuple[NonNegativeInt, ...] = (1, 1, 1)  # the same on the way up
    stem: PositiveInt = 2  # voxels per cell and axis; the body works on cells
    head: PositiveInt = 16  # features of the fine head, the raw input among them
    norm: Norm = "rms"  # "batch" wants batches of several scans, and frozen statistics at the end

    def build(self, ndim: int, in_channels: int, fine: int, coarse: int = 0, **rest: Any) -> UNet:
        """A freshly initialised U-Net, its weights channels last; `rest` as in `UNet`."""
        shape = self.model_dump(exclude={"kind"})
        net = UNet(ndim, in_channels, fine, coarse, **shape, **rest)
        channels_last(net, ndim)
        return net

    def build_generator(self, ndim: int, in_channels: int) -> UNetGenerator:
        """A freshly initialised network that makes a CT in one call: regression's, for a CT."""
        return UNetGenerator(self.build(ndim, in_channels, 1, precise=True))


class SAUNetConfig(BaseModel, frozen=True, extra="forbid"):
    """The U-Net of Graf et al. 2023; in three dimensions attention false, skips mean."""

    kind: Literal["sa_unet"]
    width: Annotated[int, Field(ge=8, multiple_of=8)] = 64  # features of the finest level
    multiples: tuple[PositiveInt, ...] = Field((1, 2, 4, 8), min_length=1)  # features, in widths
    attention: bool = True
    skips: Skips = "concat"

    def build(
        self, ndim: int, in_channels: int, out_channels: int, *, time: bool, tanh: bool
    ) -> SAUNet:
        """A freshly initialised network."""
        shape = self.model_dump(exclude={"kind"})
        return SAUNet(ndim, in_channels, out_channels, **shape, time=time, tanh=tanh)

    def build_generator(self, ndim: int, in_channels: int) -> SAUNet:
        """A freshly initialised network that makes a CT in one call."""
        return self.build(ndim, in_channels, 1, time=False, tanh=True)


class ResnetConfig(BaseModel, frozen=True, extra="forbid"):
    """The residual generator of CycleGAN and CUT."""

    kind: Literal["resnet"]
    width: PositiveInt = 64  # features of the finest level
    halvings: NonNegativeInt = 2
    blocks: PositiveInt = 9
    filtered: bool = True  # low-pass filters change the size

    def build(self, ndim: int, in_channels: int, out_channels: int) -> ResnetGenerator:
        """A freshly initialised network."""
        return ResnetGenerator(ndim, in_channels, out_channels, **self.model_dump(exclude={"kind"}))

    def build_generator(self, ndim: int, in_channels: int) -> ResnetGenerator:
        """A freshly initialised network that makes a CT in one call."""
        return self.build(ndim, in_channels, 1)


class SkipUNetConfig(BaseModel, frozen=True, extra="forbid"):
    """The U-Net of the original pix2pix."""

    kind: Literal["skip_unet"] = "skip_unet"
    width: PositiveInt = 64  # features of the first level
    depth: Annotated[int, Field(ge=2)] = 8  # levels; sizes must be multiples of 2**depth
    norm: SkipNorm = "instance"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # in training, coarse levels; paper: 0.5

    @model_validator(mode="after")
    def _has_levels_to_drop(self) -> Self:
        if self.dropout and self.depth < 6:
            raise ValueError(f"dropout lies on levels 5 and deeper: depth {self.depth} has none")
        return self

    def build_generator(self, ndim: int, in_channels: int) -> SkipUNet:
        """A freshly initialised network that makes a CT in one call."""
        return SkipUNet(ndim, in_channels, 1, **self.model_dump(exclude={"kind"}))


class DoubleConvUNetConfig(BaseModel, frozen=True, extra="forbid"):
    """The wide U-Net of Graf et al. 2023 for pix2pix."""

    kind: Literal["double_conv_unet"]
    width: Annotated[int, Field(ge=2, multiple_of=2)] = 64  # features of the finest level
    levels: PositiveInt = 6  # changes of size; sizes must be multiples of 4 * 2**levels
    dropout: Annotated[float, Field(ge=0, lt=1)] = (
        0.2  # in training, on the way up; 0.5 in the bridge
    )

    def build_generator(self, ndim: int, in_channels: int) -> DoubleConvUNet:
        """A freshly initialised network that makes a CT in one call."""
        return DoubleConvUNet(ndim, in_channels, 1, **self.model_dump(exclude={"kind"}))


class CriticConfig(BaseModel, frozen=True, extra="forbid"):
    """The critic of patches; 70 voxels wide as it stands."""

    width: PositiveInt = 64  # features of the first layer
    halvings: PositiveInt = 3  # layers that halve the size
    wide: bool = True  # one more layer, which keeps the size
    norm: CriticNorm = "instance"
    filtered: bool = False  # low-pass filters halve the size
    averaged: bool = False  # one score for the whole image

    def build(self, ndim: int, in_channels: int) -> PatchCritic:
        """A freshly initialised critic."""
        return PatchCritic(ndim, in_channels, **self.model_dump())


class NCSNConfig(BaseModel, frozen=True, extra="forbid"):
    """The diffusive generator of SynDiff, as published for images of 256 voxels."""

    width: PositiveInt = Field(default=64, ge=4, multiple_of=4)  # features of the finest level
    multiples: tuple[PositiveInt, ...] = Field(
        default=(1, 1, 2, 2, 4, 4), min_length=2
    )  # in widths
    blocks: PositiveInt = 2  # residual blocks per level on the way down
    # Level with attention, from 0: the published networks have it where an image is 16 voxels wide,
    # on level 4 of 256 voxels or 3 of 128.
    attention: NonNegativeInt = 4
    style: PositiveInt = 100  # length of the random vector
    mapped: PositiveInt = 256  # length of what its mapping makes of it
    mappings: NonNegativeInt = 3  # layers of that mapping after the first

    def build(self, ndim: int, in_channels: int, out_channels: int) -> NCSN:
        """A freshly initialised network."""
        return NCSN(ndim, in_channels, out_channels, **self.model_dump())


class NoiseCriticConfig(BaseModel, frozen=True, extra="forbid"):
    """The critic of denoising steps."""

    width: PositiveInt = 64  # half the features of the first layer
    halvings: PositiveInt = 6  # a patch must be at least 2**halvings wide

    def build(self, ndim: int, in_channels: int) -> NoiseCritic:
        """A freshly initialised critic."""
        return NoiseCritic(ndim, in_channels, **self.model_dump())


def _kind(raw: Any) -> str:
    """Configs older than the choice say no kind."""
    return raw.get("kind", "residual") if isinstance(raw, dict) else raw.kind  # type: ignore[no-any-return]


# What denoises.
DenoiserNetwork = Annotated[
    Annotated[NetworkConfig, Tag("residual")] | Annotated[SAUNetConfig, Tag("sa_unet")],
    Discriminator(_kind),
]

# What makes a CT in one call: `build_generator(ndim, in_channels)` gives a network with one output
# channel, `divisor` and `stages`. It lies in [-1, 1] but for "residual", whose output is linear.
GeneratorNetwork = Annotated[
    NetworkConfig | SAUNetConfig | ResnetConfig | SkipUNetConfig | DoubleConvUNetConfig,
    Field(discriminator="kind"),
]
Generator = UNetGenerator | SAUNet | ResnetGenerator | SkipUNet | DoubleConvUNet
