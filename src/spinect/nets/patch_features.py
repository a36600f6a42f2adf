"""Features that a generator holds at some of its stages, and heads that make vectors of them."""

import copy
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from spinect.errors import ConfigError
from spinect.nets.staged import Staged

_EPS = 1e-7  # added to the length of a vector, outside the root


def tapped(network: Staged, x: Tensor, taps: Sequence[int]) -> list[Tensor]:
    """What a network holds at its taps; it runs no further than the last of them.

    Args:
        x: (B, C, *S).
        taps: Rising numbers; 0 is x itself, n > 0 the network's stage n, counted from 0.
    """
    found = [x] if taps[0] == 0 else []
    if taps[-1] == 0:
        return found
    for index, stage in enumerate(network.stages(x)):
        if index > 0 and index in taps:
            found.append(stage)
        if index == taps[-1]:
            break
    return found


def tap_widths(
    network: Staged, ndim: int, in_channels: int, taps: Sequence[int]
) -> tuple[int, ...]:
    """Features at each tap, from a run without numbers.

    Raises:
        ConfigError: Taps that do not rise, or a tap beyond the network's last stage.
    """
    rising = all(a < b for a, b in pairwise(taps))
    if not taps or taps[0] < 0 or not rising:
        raise ConfigError(f"taps {list(taps)} are no rising numbers from 0: sort them")
    ghost = copy.deepcopy(network).to("meta")
    x = torch.empty(1, in_channels, *[4 * network.divisor] * ndim, device="meta")
    last = sum(1 for _ in ghost.stages(x)) - 1
    if taps[-1] > last:
        raise ConfigError(
            f"tap {taps[-1]} lies beyond the network's last stage, {last}: take taps up to {last}"
        )
    return tuple(features.shape[1] for features in tapped(ghost, x, taps))


class PatchFeatures(nn.Module):
    """One head per tap: linear, ReLU, linear, then unit length.

    Source: Park et al., arXiv 2007.15651, section 3.

    Args:
        widths: Features at each tap.
        size: Length of the vectors.
    """

    def __init__(self, widths: Sequence[int], size: int = 256) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(width, size), nn.ReLU(), nn.Linear(size, size))
            for width in widths
        )

    def forward(self, features: Sequence[Tensor], positions: Sequence[Tensor]) -> list[Tensor]:
        """Vectors at some positions of each tap.

        Args:
            features: Per tap (B, C, *S), *S the tap's own.
            positions: Per tap (B, P) int64, places in the tap's flattened *S.
        Returns:
            Per tap (B, P, size), float32 also under autocast; a vector of length 0 stays so.
        """
        with torch.autocast(features[0].device.type, enabled=False):
            return [
                _unit(head(_pick(held.float(), at)))
                for head, held, at in zip(self.heads, features, positions, strict=True)
            ]


def _pick(features: Tensor, positions: Tensor) -> Tensor:
    """(B, C, *S) at places (B, P) of the flattened *S: (B, P, C)."""
    where = positions[:, None].expand(-1, features.shape[1], -1)
    return features.flatten(2).gather(2, where).transpose(1, 2)


def _unit(x: Tensor) -> Tensor:
    """x / (|x| + 1e-7) along the last axis: heads that start small keep their order."""
    y: Tensor = x / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) + _EPS)
    return y
