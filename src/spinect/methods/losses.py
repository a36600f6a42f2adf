"""Losses inside the field of view; labels that are known in part count for what they say.

Shapes: B batch, *S two or three spatial axes. Every loss is a mean, so it depends neither on the
size of the patch nor on how much of it is known; a loss of nothing known is zero.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.autograd.function import once_differentiable

from spinect.anatomy import (
    CLASS_NOT_VERTEBRA,
    CLASS_UNKNOWN,
    CLASS_VERTEBRA,
    CLASSES,
    VERTEBRA_CLASSES,
)
from spinect.errors import LabelError

_TINY = 1e-30  # smallest probability of a label
_CPU_PIECE = 2**15  # voxels; 1.3 MB of float32 probabilities


class LossWeights(BaseModel, frozen=True, extra="forbid"):
    """How much each term counts; the CT is in units of half its HU range, offsets of 50 mm."""

    l1: NonNegativeFloat = 1.0  # mean absolute error of the CT; its best answer is the median
    l2: NonNegativeFloat = 0.0  # mean squared error of the CT; its best answer is the mean
    near_bone: PositiveFloat = 4.0  # weight of a voxel within 10 mm of bone; elsewhere 1
    gradient: NonNegativeFloat = 0.5  # mean absolute error of differences between neighbours
    classes: NonNegativeFloat = 1.0  # soft Dice loss plus cross-entropy in nat
    centre: NonNegativeFloat = 0.1  # cross-entropy of the heatmap of body centres, nat
    offset: NonNegativeFloat = 0.05  # mean absolute error of the vector to the body centre
    features: NonNegativeFloat = 0.0  # difference of a frozen network's features of both CTs
    peak: NonNegativeFloat = 50.0  # extra weight of a heatmap voxel of value 1; peaks are rare


def l1_loss(pred: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean absolute error; all (B, C or 1, *S), weight >= 0."""
    return ((pred - target).abs() * weight).sum() / weight.sum().clamp(min=1e-6)


def l2_loss(pred: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean squared error; all (B, C or 1, *S), weight >= 0."""
    return ((pred - target).square() * weight).sum() / weight.sum().clamp(min=1e-6)


def gradient_loss(pred: Tensor, target: Tensor, inside: Tensor) -> Tensor:
    """Mean absolute error of the differences between neighbours, summed over the axes.

    A pair counts where both voxels are inside. Shapes: (B, 1, *S) each.
    """
    error = pred - target
    total = error.new_zeros(())
    for axis in range(2, error.ndim):
        near = error.narrow(axis, 0, error.shape[axis] - 1)
        pair = inside.narrow(axis, 0, error.shape[axis] - 1) * inside.narrow(
            axis, 1, error.shape[axis] - 1
        )
        step = error.narrow(axis, 1, error.shape[axis] - 1) - near
        total = total + (step.abs() * pair).sum() / pair.sum().clamp(min=1e-6)
    return total


def class_losses(logits: Tensor, labels: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and soft Dice loss of the mask classes, missing labels marginalised.

    The probability of a label is the sum over the classes that it allows: one class, all of
    VERTEBRA_CLASSES for CLASS_VERTEBRA, all others for CLASS_NOT_VERTEBRA; CLASS_UNKNOWN counts
    nowhere. Dice is taken over the batch, for each foreground class with at least one voxel,
    among voxels with an exact label, and for "any vertebra", among all that say whether it is.

    Args:
        logits: (B, len(CLASSES), *S).
        labels: (B, *S) uint8, anatomy.CLASSES or anatomy.CLASS_*.
        inside: (B, 1, *S), 1 where the loss counts.
    Returns:
        Cross-entropy in nat, and 1 - mean Dice; scalars.
    Raises:
        LabelError: A label that is none of these.
    """
    known = torch.where(inside.reshape(-1) > 0, labels.reshape(-1), CLASS_UNKNOWN)
    if bool(((known >= len(CLASSES)) & (known < CLASS_NOT_VERTEBRA)).any()):
        raise LabelError(
            f"a training target holds a class between {len(CLASSES)} and {CLASS_NOT_VERTEBRA - 1}; "
            f"allowed are 0-{len(CLASSES) - 1} and {CLASS_NOT_VERTEBRA}-{CLASS_UNKNOWN}"
        )
    entropy, hits, said, size = _ClassSums.apply(  # type: ignore[no-untyped-call]
        logits.movedim(1, -1).reshape(-1, len(CLASSES)), known
    )
    dice = 2 * hits / (said + size).clamp(min=1e-6)
    there = (size > 0).to(dice.dtype)
    return entropy, ((1 - dice) * there).sum() / there.sum().clamp(min=1)


def _tables(like: Tensor) -> tuple[Tensor, Tensor]:
    """What a label says, in two tables of 256 rows.

    Returns:
        allowed (256, classes): 1 for each class that the label allows.
        counts (256, regions + regions): for each region of `_regions`, whether the label says
        that the voxel belongs to it, and whether it says anything about it.
    """
    count, regions = len(CLASSES), _regions(like).shape[1]
    vertebra = torch.zeros(count, dtype=torch.bool)
    vertebra[list(VERTEBRA_CLASSES)] = True
    allowed = torch.zeros(256, count, dtype=torch.bool)
    allowed[:count] = torch.eye(count, dtype=torch.bool)
    allowed[CLASS_VERTEBRA], allowed[CLASS_NOT_VERTEBRA] = vertebra, ~vertebra
    says = torch.zeros(256, 2, regions, dtype=torch.bool)
    says[:count, 0, :-1] = allowed[:count, 1:]
    says[:count, 1] = True
    says[:, 0, -1] = (allowed & vertebra).any(dim=1)
    says[[CLASS_VERTEBRA, CLASS_NOT_VERTEBRA], 1, -1] = True
    return allowed.to(like), says.reshape(256, 2 * regions).to(like)


def _regions(like: Tensor) -> Tensor:
    """(classes, regions) 0 or 1: each foreground class, then any vertebra."""
    regions = torch.eye(len(CLASSES))[:, 1:]
    vertebra = torch.zeros(len(CLASSES), 1)
    vertebra[list(VERTEBRA_CLASSES)] = 1
    return torch.cat([regions, vertebra], dim=1).to(like)


class _ClassSums(torch.autograd.Function):
    """Sums over voxels for `class_losses`, forward and backward in pieces that fit a cache.

    Automatic differentiation of the same sums keeps about ten copies of the probabilities at
    full resolution and takes as long as the network.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(N, classes) and (N,) to mean cross-entropy and (regions,) hits, said, size."""
        wide = torch.promote_types(logits.dtype, torch.float32)
        zero = logits.new_zeros((), dtype=wide)
        region, (allowed, says) = _regions(zero), _tables(zero)
        regions = region.shape[1]
        entropy, seen = zero.clone(), (label != CLASS_UNKNOWN).sum().clamp(min=1)
        hits, said, size = (zero.new_zeros(regions) for _ in range(3))
        for z, y in _pieces(logits, label):
            p = _softmax(z, wide)
            right = ((p * allowed.index_select(0, y)) @ zero.new_ones(len(CLASSES))).clamp(
                min=_TINY
            )
            entropy -= torch.where(y != CLASS_UNKNOWN, right, 1.0).log().sum()
            inside, known = says.index_select(0, y).tensor_split(2, dim=1)
            q = p @ region
            hits += (q * inside).sum(dim=0)
            said += (q * known).sum(dim=0)
            size += inside.sum(dim=0)
        ctx.save_for_backward(logits, label, seen)
        ctx.mark_non_differentiable(size)
        return entropy / seen, hits, said, size

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, by_entropy: Tensor, by_hits: Tensor, by_said: Tensor, _: Tensor
    ) -> tuple[Tensor, None]:
        """With g the gradient by the probabilities p, that by the logits is p (g - p.g)."""
        logits, label, seen = ctx.saved_tensors
        region, (allowed, says) = _regions(by_hits), _tables(by_hits)
        one = by_hits.new_ones(len(CLASSES))
        # One row per label: the gradient by p of everything but the cross-entropy.
        inside, known = says.tensor_split(2, dim=1)
        by_p = (inside * by_hits + known * by_said) @ region.T
        grad = torch.empty_like(logits)
        for z, y, out in _pieces(logits, label, grad):
            p = _softmax(z, by_hits.dtype)
            may = allowed.index_select(0, y)
            right = ((p * may) @ one).clamp(min=_TINY)
            g = torch.addcmul(by_p.index_select(0, y), may, (-by_entropy / seen / right)[:, None])
            along = (p * g) @ one
            out.copy_(g.sub_(along[:, None]).mul_(p))
        return grad, None


def _softmax(z: Tensor, dtype: torch.dtype) -> Tensor:
    """Softmax over the last axis; eight times as fast as torch.softmax for ten classes."""
    p = z.to(dtype)
    p = (p - p.amax(dim=1, keepdim=True)).exp_()
    return p.div_((p @ p.new_ones(p.shape[1]))[:, None])


def _pieces(logits: Tensor, label: Tensor, *more: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Runs of voxels; on a CPU short enough that their probabilities stay in its cache."""
    length = _CPU_PIECE if logits.device.type == "cpu" else max(len(label), 1)
    for start in range(0, len(label), length):
        piece = slice(start, start + length)
        yield logits[piece], label[piece].long(), *(tensor[piece] for tensor in more)


def centre_loss(logits: Tensor, target: Tensor, inside: Tensor, peak: float) -> Tensor:
    """Cross-entropy of the heatmap in nat, smallest where sigmoid(logits) is the target.

    Args:
        logits: (B, 1, *S / stem), on the cells of the network's body.
        target: (B, 1, *S) in [0, 1]; averaged over each cell.
        inside: (B, 1, *S).
        peak: A cell of value t weighs 1 + peak * t.
    """
    stem = target.shape[-1] // logits.shape[-1]
    pool = F.avg_pool3d if logits.ndim == 5 else F.avg_pool2d
    goal, known = pool(target.float(), stem), pool(inside.float(), stem)
    weight = known * (1 + peak * goal)
    entropy = F.binary_cross_entropy_with_logits(logits.float(), goal, reduction="none")
    return (entropy * weight).sum() / weight.sum().clamp(min=1e-6)


def offset_loss(pred: Tensor, target: Tensor, inside: Tensor) -> Tensor:
    """Mean absolute error over the voxels of known vertebrae, in units of 50 mm, axes summed.

    A cell answers for each of its voxels, so where two vertebrae meet in one the larger wins.

    Args:
        pred: (B, 3, *S / stem), on the cells of the network's body.
        target: (B, 3, *S); NaN where there is no vertebra.
        inside: (B, 1, *S).
    """
    stem = target.shape[-1] // pred.shape[-1]
    known = target.isfinite().all(dim=1, keepdim=True) & (inside > 0)
    voxels = F.interpolate(pred.float(), scale_factor=float(stem), mode="nearest")
    error = torch.where(known, voxels - target.nan_to_num(), 0.0)
    return error.abs().sum() / known.sum().clamp(min=1)
