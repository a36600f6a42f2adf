"""CT, and masks beside it, in one call."""

from typing import ClassVar

from pydantic import PositiveInt

from spinect.methods.registry import register
from spinect.methods.supervised import Head, Supervised, SupervisedConfig


class RegressionConfig(SupervisedConfig, frozen=True, extra="forbid"):
    """What a user may write under "method" when its name is "regression"."""

    in_channels: PositiveInt = 3  # robust scaling, local scaling, inside the field of view
    heads: tuple[Head, ...] = ("ct", "classes", "centre", "offset")


@register("regression", RegressionConfig)
class Regression(Supervised):
    """L1 or L2 regression of the CT with mask heads, which share the network with it."""

    summary: ClassVar[str] = "CT and masks in one call of a residual U-Net"
    citation: ClassVar[str] = (
        "Ronneberger et al., U-Net, MICCAI 2015, arXiv 1505.04597; residual encoder after "
        "Isensee et al., nnU-Net Revisited, MICCAI 2024, arXiv 2404.09556"
    )
