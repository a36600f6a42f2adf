"""Contrast of patches: each place of a translation should know its own place in the source."""

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURE: Final = 0.07


def patch_nce(query: Tensor, key: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding each query's own key among all keys of the same image.

    The key gets no gradient. Equal vectors everywhere give log P.

    Args:
        query: (B, P, D), of the translation, of length 1.
        key: (B, P, D), of the source at the same places.
        valid: (B, P) bool; the other rows count neither as query nor as key.
        temperature: That cosines are divided by.
    Returns:
        (B,) mean over an image's valid queries, float32; 0 where there are none.

    Source: van den Oord et al., arXiv 1807.03748, as Park et al., arXiv 2007.15651, eq. 3.
    """
    with torch.autocast(query.device.type, enabled=False):  # logits up to 1 / temperature
        logits = query.float() @ key.detach().float().transpose(1, 2) / temperature
    # A row keeps its own key even where that is no place, so that its numbers are finite.
    own = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
    logits = logits.masked_fill(~(valid[:, None, :] | own), -torch.inf)
    each = logits.logsumexp(dim=2) - logits.diagonal(dim1=1, dim2=2)
    return (each * valid).sum(dim=1) / valid.sum(dim=1).clamp(min=1)


def draw_positions(
    inside: Tensor, sizes: Sequence[torch.Size], count: int
) -> list[tuple[Tensor, Tensor]]:
    """Random places for every tap, uniform over what is inside, none twice.

    One random order of a tap's places serves all images of the batch; each image takes the first
    of them that lie inside. Where everything is inside these are the same places in all images.

    Args:
        inside: (B, 1, *S), above 0 where places may lie.
        sizes: Spatial size of each tap's features.
        count: Most places per image and tap.
    Returns:
        Per tap: (B, P) int64 places in the flattened size, P at most `count`; (B, P) bool, false
        where an image has too few places inside.

    Draws come from torch's global generator.
    """
    drawn = []
    for size in sizes:
        allowed = inside_at(inside, size).flatten(1)
        rank = torch.rand(allowed.shape[1], device=allowed.device).expand(len(allowed), -1)
        rank = rank.masked_fill(~allowed, torch.inf)
        places = rank.topk(min(count, allowed.shape[1]), dim=1, largest=False).indices
        drawn.append((places, allowed.gather(1, places)))
    return drawn


def inside_at(inside: Tensor, size: torch.Size) -> Tensor:
    """Whether the middle of each cell of a tap is inside: (B, 1, *S) to (B, *size), bool.

    A tap that is larger than the image is one that was padded; nothing is inside its border.
    """
    here = inside.shape[2:]
    if any(there > now for there, now in zip(size, here, strict=True)):
        pads = [(there - now) // 2 for there, now in zip(size, here, strict=True)]
        return F.pad(inside, [p for pad in reversed(pads) for p in (pad, pad)])[:, 0] > 0
    return F.interpolate(inside.float(), size=list(size), mode="nearest-exact")[:, 0] > 0
