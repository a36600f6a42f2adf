"""Vertebra subregions, body centres and offsets from a CT."""

from typing import ClassVar

from pydantic import PositiveInt

from spinect.methods.registry import register
from spinect.methods.supervised import Head, Supervised, SupervisedConfig


class SegmentationConfig(SupervisedConfig, frozen=True, extra="forbid"):
    """What a user may write under "method" when its name is "segmentation"."""

    in_channels: PositiveInt = 1  # CT in [-1, 1] of the bundle's HU range
    heads: tuple[Head, ...] = ("classes", "centre", "offset")


@register("segmentation", SegmentationConfig)
class Segmentation(Supervised):
    """Masks from a CT; instances follow from the centres and the vectors to them."""

    summary: ClassVar[str] = "mask classes, body centres and offsets to them from a CT"
    citation: ClassVar[str] = (
        "Ronneberger et al., U-Net, MICCAI 2015, arXiv 1505.04597; offsets to centres after "
        "Cheng et al., Panoptic-DeepLab, CVPR 2020, arXiv 1911.10194"
    )
