"""How far two images differ in the eyes of a frozen network."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_EPS = 1e-6  # smallest length of a feature vector that counts as one


def feature_loss(made: Sequence[Tensor], true: Sequence[Tensor], inside: Tensor) -> Tensor:
    """Mean absolute difference of features whose vectors are brought to length 1.

    The vector of a cell holds its channels. A cell counts by the share of it that is inside; the
    mean is taken over cells and channels, then over the taps. Equal images give 0.

    Args:
        made, true: Per tap (B, C, *S / stride), of the synthetic and of the true CT.
        inside: (B, 1, *S), 1 where the loss counts.

    Source: the perception loss of nnsyn (github.com/aehrc/nnsyn, commit c3ba6fd), which adds up
    the taps and counts what is outside, too.
    """
    taps = [_difference(*pair, inside) for pair in zip(made, true, strict=True)]
    return torch.stack(taps).mean()


def _difference(made: Tensor, true: Tensor, inside: Tensor) -> Tensor:
    pool = F.adaptive_avg_pool3d if inside.ndim == 5 else F.adaptive_avg_pool2d
    weight = pool(inside.float(), made.shape[2:])  # type: ignore[arg-type]  # as many as axes
    first, second = (F.normalize(each.float(), dim=1, eps=_EPS) for each in (made, true))
    error = (first - second).abs().mean(dim=1, keepdim=True)
    return (error * weight).sum() / weight.sum().clamp(min=1e-6)
