"""Reads a warped patch of a prepared series: image, CT and masks by one field."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spinect.data.augment import Scene
from spinect.data.prepared import Case
from spinect.data.warp import SPLINE_REACH, Border, Mode, Warp
from spinect.phantom.maps import DISTANCE_STEP_MM, Subject

_PERSON = Subject(seed=-1, age=0, sex="", marrow_fat=0, trabecular_hu=0, source="dataset")
_FAR_MM = 12.7  # distance to bone where nothing is known


@dataclass(frozen=True, eq=False)
class Read:
    """A patch.

    Attributes:
        scene: Its masks and its CT.
        image: (C, *S) grey channels of the MR, 0 where the volume does not reach.
        inside: (1, *S), 1 inside the MR's field of view.
        covered: (1, *S), 1 where the volume reaches.
        known: (1, *S), 1 where CT and masks are valid, too.
    """

    scene: Scene
    image: Tensor
    inside: Tensor
    covered: Tensor
    known: Tensor


def read_mask(case: Case, warp: Warp, reach: int) -> Tensor:
    """(*S) vertebra ids of a patch; 0 where it pads the volume."""
    box, at = warp.box(case.shape, reach=reach)
    mask = torch.from_numpy(np.array(case.arrays["vertebrae"][box]))[None]
    return warp.read(mask.float(), at, "nearest")[0].to(torch.uint8)


def read_patch(case: Case, warp: Warp, border: Border, reach: int, mode: Mode) -> Read:
    """Image and CT by `mode`, masks by their nearest voxel, so that labels stay labels.

    Args:
        border, reach: As for `Warp.box`.
    """
    margin = SPLINE_REACH if mode == "cubic" else 1
    box, at = warp.box(case.shape, border, reach, margin)
    held = {
        k: torch.from_numpy(np.array(case.arrays[k][box]))
        for k in ("hu", "distance", "vertebrae", "subregions", "valid")
    }
    channels = torch.from_numpy(np.array(case.arrays["channels"][(slice(None), *box)])).float()
    images = torch.cat([channels[:-1], (held["hu"].float() + 1024)[None]])
    images = warp.read(images, at, mode)  # 0 outside: -1024 HU
    soft = torch.cat([channels[-1:], held["distance"].float()[None]])
    view, distance = warp.read(soft, at, "linear")
    names = torch.stack([held[k] for k in ("vertebrae", "subregions", "valid")]).float()
    whole = torch.cat([names, torch.ones_like(names[:1])])
    vertebrae, subregions, valid, covered = warp.read(whole, at, "nearest").to(torch.uint8)
    # The field of view has no half voxels; outside it every channel is 0, as in inference.
    # What the CT does not reach is hidden from the losses only: the network sees the MR.
    inside = ((view > 0.5) & (covered > 0)).float()[None]
    reached = covered.float()[None]
    known = reached * (valid > 0)
    scene = Scene(
        tissue=torch.zeros_like(vertebrae),
        vertebrae=vertebrae,
        subregions=subregions,
        distance=torch.where(covered > 0, distance * DISTANCE_STEP_MM, _FAR_MM),
        known=known[0] > 0,
        hu=images[-1] - 1024,
        centres=warp.moved(case.centres),
        subject=_PERSON,
    )
    image = images[:-1].clamp_(min=0)  # a spline may overshoot
    return Read(scene, image, inside, reached, known)
