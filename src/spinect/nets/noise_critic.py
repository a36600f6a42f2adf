"""The critic of denoising steps: two neighbours of a diffusion chain, real or made up?"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spinect.errors import ConfigError
from spinect.nets.blocks import conv, sinusoids
from spinect.nets.fir import FirDown
from spinect.nets.ncsn import spread_uniform

_SLOPE = 0.2
_MOST = 8  # times `width`
_TOLD = 256  # length of the step's vector
_LARGEST_GROUP = 4
_ROOT_HALF = 0.5**0.5


class NoiseCritic(nn.Module):
    """One score per image, from the noisy image and the noisier one before it.

    It sums over what is left of the image, so its scores grow with the size of the image. No
    norms; in a batch it sees how much the images differ, so a score depends on its company.

    Source: the large discriminator of Xiao et al., arXiv 2112.07804, as Ozbey et al.,
    arXiv 2207.08208, use it.

    Args:
        ndim: 2 or 3 spatial axes.
        in_channels: Of both images together.
        width: Half the features of the first layer; each halving doubles them, up to eight times.
        halvings: Blocks that halve the size.
    """

    def __init__(self, ndim: int, in_channels: int, *, width: int = 64, halvings: int = 6) -> None:
        super().__init__()
        self.smallest = 2**halvings
        features = [width * min(2 ** (i + 1), _MOST) for i in range(halvings + 1)]
        last = features[-1]
        self.time = nn.Sequential(
            nn.Linear(_TOLD, _TOLD), nn.LeakyReLU(_SLOPE),
            nn.Linear(_TOLD, _TOLD), nn.LeakyReLU(_SLOPE),
        )  # fmt: skip
        self.first = conv(ndim, in_channels, features[0], 1)
        self.blocks = nn.ModuleList(_Block(ndim, a, b) for a, b in pairwise(features))
        self.last = conv(ndim, last + 1, last, 3)
        self.score = nn.Linear(last, 1)
        for part in (self.time, self.first, self.last, self.score):
            spread_uniform(part, by_outputs=True)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        """(B, in_channels, *S) and the step of the chain (B,) to scores, (B, 1).

        Raises:
            ConfigError: An image is too small for the halvings.
        """
        if min(x.shape[2:]) < self.smallest:
            size = " x ".join(map(str, x.shape[2:]))
            raise ConfigError(
                f"the critic of noise halves a patch until {self.smallest} voxels are one, but "
                f"the patch has {size}: take larger patches or fewer halvings of the critic"
            )
        told = self.time(sinusoids(step, _TOLD).to(x))
        h = self.first(x)
        for block in self.blocks:
            h = block(h, told)
        h = F.leaky_relu(self.last(_with_spread(h)), _SLOPE)
        scores: Tensor = self.score(h.flatten(2).sum(dim=2))
        return scores


class _Block(nn.Module):
    """Two convolutions beside a shortcut, the size halved between them."""

    def __init__(self, ndim: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = conv(ndim, inputs, outputs, 3)
        self.step = nn.Linear(_TOLD, outputs)
        self.halve = FirDown(ndim)
        self.last = conv(ndim, outputs, outputs, 3)
        self.shortcut = conv(ndim, inputs, outputs, 1, bias=False)
        for part in (self.first, self.step, self.shortcut):
            spread_uniform(part, by_outputs=True)
        spread_uniform(self.last, by_outputs=True, nothing=True)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """(B, inputs, *S) and (B, 256) to (B, outputs, *S / 2)."""
        step = self.step(told)
        h = self.first(F.leaky_relu(x, _SLOPE)) + step.reshape(*step.shape, *[1] * (x.ndim - 2))
        h = self.last(self.halve(F.leaky_relu(h, _SLOPE)))
        y: Tensor = (self.shortcut(self.halve(x)) + h) * _ROOT_HALF
        return y


def _with_spread(x: Tensor) -> Tensor:
    """One more channel: how much the images of a group differ, one number for each group.

    Groups are as large as divides the batch, at most 4: a batch of 6 makes groups of 3, one of 5
    groups of 1, where the channel is constant. (The published code stops there with an error.)

    Shapes: (B, C, *S) to (B, C + 1, *S).
    Source: Karras et al., arXiv 1710.10196, sec. 3.
    """
    count = len(x)
    group = next(n for n in range(_LARGEST_GROUP, 0, -1) if count % n == 0)
    exact = torch.promote_types(x.dtype, torch.float32)
    apart = x.to(exact).reshape(group, count // group, -1)
    spread = (apart.var(dim=0, correction=0) + 1e-8).sqrt().mean(dim=1)
    each = spread.repeat(group).reshape(count, *[1] * (x.ndim - 1))
    return torch.cat([x, each.to(x.dtype).expand(count, 1, *x.shape[2:])], dim=1)
