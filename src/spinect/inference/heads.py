"""The mask heads of a network, reduced to a few bytes per voxel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spinect.anatomy import CLASSES, VERTEBRA_CLASSES
from spinect.geometry import Grid
from spinect.inference.compute import head_slices
from spinect.protocols import OFFSET_MM

OFFSET_STEP_MM: Final = 1.0  # unit of MaskHeads.offset
MASK_HEADS: Final = ("classes", "centre", "offset")
BYTES_PER_VOXEL: Final = 6


@dataclass(frozen=True, eq=False)
class MaskHeads:
    """What a network knows about vertebrae, on one isotropic grid with axes near R, A, S.

    Attributes:
        grid: Where the voxels lie.
        classes: (X, Y, Z) uint8, index into `anatomy.CLASSES`; "vertebra or not" is decided first.
        vertebra: (X, Y, Z) uint8, probability of any vertebra class, 255 = 1.
        centre: (X, Y, Z) uint8, body-centre heatmap, 255 = 1.
        offset: (3, X, Y, Z) int8, vector along the array axes to the own body centre, in steps of
            OFFSET_STEP_MM; 0 where no vertebra is.
        inside: (X, Y, Z) bool, the field of view.
        mirror: How far the plain and the mirrored prediction agree, 0-1: sum of the smaller over
            sum of the larger probability of any vertebra class. None where the bundle does not
            average the two, or finds next to nothing.
    """

    grid: Grid
    classes: NDArray[np.uint8]
    vertebra: NDArray[np.uint8]
    centre: NDArray[np.uint8]
    offset: NDArray[np.int8]
    inside: NDArray[np.bool_]
    mirror: float | None = None


def reduce_masks(values: Tensor, heads: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Quantise blended logits.

    Args:
        values: (channels of all heads, *S) as `Method.predict` orders them.
        heads: Names in that order; "classes", "centre" and "offset" must be among them.
    Returns:
        "classes", "vertebra", "centre" (*S) and "offset" (3, *S), as MaskHeads holds them.
    """
    where = head_slices(heads)
    probability = values[where["classes"]].softmax(0)
    part = list(VERTEBRA_CLASSES)
    other = [c for c in range(len(CLASSES)) if c not in VERTEBRA_CLASSES]
    vertebra = probability[part].sum(0)
    best_other, which_other = _best(probability, other)
    _, which_part = _best(probability, part)
    is_vertebra = vertebra >= best_other  # six subregions must not lose a vote that they share
    classes = torch.where(is_vertebra, which_part, which_other)
    offset = (values[where["offset"]] * (OFFSET_MM / OFFSET_STEP_MM)).round().clamp(-127, 127)
    centre = values[where["centre"]][0].sigmoid()
    return {
        "classes": classes.cpu().numpy(),
        "vertebra": (vertebra * 255).round().to(torch.uint8).cpu().numpy(),
        "centre": (centre * 255).round().to(torch.uint8).cpu().numpy(),
        "offset": (offset * is_vertebra).to(torch.int8).cpu().numpy(),
    }


def _best(probability: Tensor, classes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The largest of some classes (*S), and which it is (*S) uint8; the first of equals.

    Class by class: `max` along the outermost axis jumps through memory and takes thrice as long.
    """
    best = probability[classes[0]].clone()
    which = torch.full_like(best, classes[0], dtype=torch.uint8)
    for index in classes[1:]:
        which.masked_fill_(probability[index] > best, index)
        torch.maximum(best, probability[index], out=best)
    return best, which
