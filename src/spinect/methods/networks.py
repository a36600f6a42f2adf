"""The networks that a user may name under "method": their shape, in the same words everywhere."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, NonNegativeInt, PositiveInt, Tag

from spinect.nets.blocks import Norm
from spinect.nets.resnet import ResnetGenerator
from spinect.nets.sa_unet import SAUNet, Skips
from spinect.nets.unet import UNet, channels_last


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


def _kind(raw: Any) -> str:
    """Configs older than the choice say no kind."""
    return raw.get("kind", "residual") if isinstance(raw, dict) else raw.kind  # type: ignore[no-any-return]


# What denoises.
DenoiserNetwork = Annotated[
    Annotated[NetworkConfig, Tag("residual")] | Annotated[SAUNetConfig, Tag("sa_unet")],
    Discriminator(_kind),
]
