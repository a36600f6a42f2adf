"""What the networks are trained to say about a scene."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spinect.anatomy import (
    CLASS_UNKNOWN,
    CLASS_VERTEBRA,
    PRESACRAL,
    VERTEBRA_CLASSES,
    classes_from_labels,
)
from spinect.data.augment import Scene
from spinect.protocols import OFFSET_MM

NEAR_BONE_MM = 10.0
CENTRE_SIGMA_MM = 4.0


@dataclass(frozen=True, eq=False)
class Targets:
    """Targets of one scene at 1 mm; the fields are those of `protocols.Batch` without B.

    Attributes:
        classes: (*S) uint8, anatomy.CLASSES, or CLASS_UNKNOWN, CLASS_VERTEBRA.
        near_bone: (1, *S) float32, 1 within 10 mm of any bone.
        centre: (1, *S) float32, Gaussians of sigma 4 mm at the centres of presacral bodies.
        offset: (3, *S) float32, from each vertebra voxel to its own body centre, units of
            OFFSET_MM along R, A, S; NaN elsewhere.
        known: (1, *S) float32, 1 where the CT may be trained on.
    """

    classes: Tensor
    near_bone: Tensor
    centre: Tensor
    offset: Tensor
    known: Tensor


Spacing = tuple[float, float, float]
CUBES: Spacing = (1.0, 1.0, 1.0)


def targets(scene: Scene, spacing: Spacing = CUBES) -> Targets:
    """Classes, bone surroundings, centres and offsets of a scene whose voxels have `spacing` mm."""
    labels = classes_from_labels(scene.vertebrae.numpy(), scene.subregions.numpy())
    classes = torch.from_numpy(labels)
    classes[~scene.known] = CLASS_UNKNOWN
    return Targets(
        classes=classes,
        near_bone=(scene.distance <= NEAR_BONE_MM).float()[None],
        centre=_heatmap(scene, spacing)[None],
        offset=_offsets(scene, classes, spacing),
        known=scene.known.float()[None],
    )


def _heatmap(scene: Scene, spacing: Spacing) -> Tensor:
    """Largest of the Gaussians around the body centres."""
    heat = torch.zeros(scene.shape)
    reach = [4 * CENTRE_SIGMA_MM / mm for mm in spacing]
    for vertebra, centre in scene.centres.items():
        sides = zip(centre, scene.shape, reach, strict=True)
        if vertebra not in PRESACRAL or any(c < -r or c > n + r for c, n, r in sides):
            continue
        x, y, z = (
            torch.exp(-0.5 * ((torch.arange(n) - c) * mm / CENTRE_SIGMA_MM) ** 2)
            for c, n, mm in zip(centre, scene.shape, spacing, strict=True)
        )
        torch.maximum(heat, x[:, None, None] * y[:, None] * z, out=heat)
    return heat


def _offsets(scene: Scene, classes: Tensor, spacing: Spacing) -> Tensor:
    """Vector to the centre named by a voxel's vertebra id; NaN where there is none."""
    offset = torch.full((3, *scene.shape), torch.nan)
    wanted = (classes >= min(VERTEBRA_CLASSES)) & (classes <= max(VERTEBRA_CLASSES))
    wanted |= classes == CLASS_VERTEBRA  # a vertebra whose subregion is not labelled
    places = wanted.nonzero()
    if len(places) == 0:
        return offset
    table = torch.full((256, 3), torch.nan)
    for vertebra, centre in scene.centres.items():
        if vertebra in PRESACRAL:
            table[vertebra] = torch.tensor(centre)
    own = scene.vertebrae[wanted].long()
    offset[:, wanted] = ((table[own] - places) * (torch.tensor(spacing) / OFFSET_MM)).T
    return offset
