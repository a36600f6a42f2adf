"""What a network sees of a patch beyond its geometry: jitter and positions."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from spinect.data.intensity import LOCAL_MAX, ROBUST_MAX
from spinect.protocols import Intensity

# The largest value of each grey channel.
_MOST: dict[Intensity, tuple[float, ...]] = {"robust": (ROBUST_MAX, LOCAL_MAX), "max": (1.0,)}


def in_range(channels: Tensor, scale: Intensity) -> Tensor:
    """Grey channels (C, *S) clipped to what their scale allows: cubic splines overshoot edges."""
    most = channels.new_tensor(_MOST[scale]).reshape(-1, *[1] * (channels.ndim - 1))
    return channels.clamp(min=0).minimum(most)


def jitter(
    channels: Tensor,
    seen: Tensor,
    scale: Intensity,
    share: float,
    rng: np.random.Generator,
    shuffled: bool = False,
) -> Tensor:
    """Brightness and contrast of an MR, each changed by up to `share`; one draw for all channels.

    Brightness multiplies; contrast stretches about the mean of what is seen. Each is clamped to
    the range of the channel.

    Shapes: channels (C, *S) of `scale`; seen (1, *S), 1 where the image is -> (C, *S), 0 elsewhere.

    Args:
        shuffled: Either may come first, as in torchvision's ColorJitter; else brightness first.
    """
    factors = 1 + share * rng.uniform(-1, 1, 2)
    order = rng.permutation(2) if shuffled else np.arange(2)
    voxels = float(seen.sum().clamp(min=1))
    out = []
    for one, most in zip(channels, _MOST[scale], strict=True):
        image = one * seen[0]
        for step in order:
            offset = (1 - factors[1]) * float(image.sum()) / voxels if step == 1 else 0.0
            image = (image * float(factors[step]) + offset).clamp(0, most) * seen[0]
        out.append(image)
    return torch.stack(out)


def ramps(places: Tensor, shape: Sequence[int], patch: Sequence[int]) -> Tensor:
    """Where each voxel of a patch lies in the whole volume: 0 at its first voxel, 1 at its last.

    A volume smaller than the patch counts with its padding, as in Graf et al. 2023.

    Args:
        places: (3, *S) voxels of the volume, see `Warp.places`.
        shape: Voxels of the volume. patch: Voxels of a patch.
    Returns:
        (3, *S) float32 in [0, 1]; beyond the volume the value of its face.
    """
    out = []
    for at, n, size in zip(places, shape, patch, strict=True):
        whole = max(n, size)
        first = -((whole - n) // 2)
        out.append(((at - first) / max(whole - 1, 1)).clamp(0, 1).float())
    return torch.stack(out)
