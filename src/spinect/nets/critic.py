"""The critic of patches: a convolutional map of scores, real against fake."""

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from spinect.nets.blocks import batch_norm, conv, instance_norm
from spinect.nets.resample import BlurDown

CriticNorm = Literal["batch", "instance", "none"]
_SLOPE = 0.2
_MOST = 8  # times `width`


class PatchCritic(nn.Module):
    """PatchGAN: each score sees a patch, 70 pixels wide with the defaults.

    Source: Isola et al., arXiv 1611.07004, app. 6.1.2. Graf et al. 2023 leave the wide layer out
    and average the scores before the loss takes them.

    Args:
        ndim: 2 or 3 spatial axes.
        in_channels: Of everything that it sees.
        width: Features of the first layer; each layer doubles them, up to eight times.
        halvings: Layers that halve the size.
        wide: One more layer before the last, which keeps the size.
        norm: Of all layers but the first and the last; "batch" is none for gradient penalties,
            which are of single images.
        filtered: Low-pass filters halve the size, not strides; arXiv 2007.15651.
        averaged: One score for the whole image.
    """

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        *,
        width: int = 64,
        halvings: int = 3,
        wide: bool = True,
        norm: CriticNorm = "instance",
        filtered: bool = False,
        averaged: bool = False,
    ) -> None:
        super().__init__()
        self.averaged = averaged
        self.smallest = (2 + wide) << halvings  # size that leaves one score
        features = [in_channels, *(width * min(2**i, _MOST) for i in range(halvings + wide))]
        layers: list[nn.Module] = []
        for index, (a, b) in enumerate(pairwise(features)):
            first, halve = index == 0, index < halvings
            bare = first or norm != "batch"  # batch norm has a shift of its own
            layers.append(conv(ndim, a, b, 4, 2 if halve and not filtered else 1, bias=bare))
            if not first and norm != "none":
                layers.append(instance_norm(ndim, b) if norm == "instance" else batch_norm(ndim, b))
            layers.append(nn.LeakyReLU(_SLOPE))
            if halve and filtered:
                layers.append(BlurDown(ndim))
        layers.append(conv(ndim, features[-1], 1, 4))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, *S) to scores, (B, 1, *M), or (B, 1) where they are averaged."""
        scores: Tensor = self.layers(x)
        return scores.flatten(2).mean(dim=2) if self.averaged else scores
