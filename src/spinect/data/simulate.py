"""One scan of a scene: the MR and the CT of a subject whose tissues are known."""

import numpy as np
import torch
from torch import Tensor

from spinect.data.augment import Scene
from spinect.data.intensity import inside_field_of_view, mr_channels
from spinect.phantom.anatomy import PELVIS
from spinect.phantom.contrast import (
    ContrastName,
    ct_hu,
    ct_scan,
    draw_ct,
    draw_mr,
    draw_name,
    mr_signal,
)
from spinect.phantom.fields import blur
from spinect.phantom.scanner import acquire, back_skin, draw_scan
from spinect.phantom.series import axial

_CT_MARGIN = 3  # voxels around a patch that its CT is computed with


def simulate_mr(
    scene: Scene,
    rng: np.random.Generator,
    generator: torch.Generator,
    contrast: ContrastName | None = None,
) -> tuple[Tensor, Tensor]:
    """One scan, normalised over its own field of view; of a random contrast where none is named.

    Returns:
        Channels (3, *S) as a translator sees them, and `inside` (*S).
    """
    mr = scan_mr(scene, rng, generator, contrast)[None, None]
    inside = inside_field_of_view(mr)
    return mr_channels(mr, inside)[0], inside[0, 0]


def scan_mr(
    scene: Scene,
    rng: np.random.Generator,
    generator: torch.Generator,
    contrast: ContrastName | None = None,
) -> Tensor:
    """One scan (*S) on the scene's grid, stored units 0-1; arguments as for `simulate_mr`."""
    name = contrast or draw_name(rng)
    recipe = draw_mr(name, scene.subject, rng)
    water, fat = mr_signal(
        scene.tissue[None],
        scene.distance[None],
        [recipe],
        thick=scene.thick[None],
        generator=generator,
    )
    skin = back_skin(scene.tissue)
    inside = [c[1] for c in scene.centres.values() if 0 <= c[2] < scene.shape[2]]
    front = max(inside, default=skin + 85) - skin
    scan = draw_scan(name, rng, front)
    if scene.subject.part == PELVIS:
        scan = axial(scan)
    return acquire(water[0], fat[0], scan, skin=skin, generator=generator)


def simulate_ct(
    scene: Scene, box: tuple[slice, ...], rng: np.random.Generator, generator: torch.Generator
) -> Tensor:
    """Noise-free HU (*box); the real CT where the scene has one."""
    if scene.hu is not None:
        return scene.hu[box]
    start = [max(0, s.start - _CT_MARGIN) for s in box]
    stop = [min(n, s.stop + _CT_MARGIN) for s, n in zip(box, scene.shape, strict=True)]
    near = scene.crop(
        (start[0], start[1], start[2]),
        (stop[0] - start[0], stop[1] - start[1], stop[2] - start[2]),
    )
    hu = ct_hu(
        near.tissue[None],
        near.distance[None],
        [draw_ct(scene.subject, rng)],
        thick=near.thick[None],
        generator=generator,
    )[0]
    return hu[tuple(slice(s.start - a, s.stop - a) for s, a in zip(box, start, strict=True))]


def degrade_ct(hu: Tensor, rng: np.random.Generator, generator: torch.Generator) -> Tensor:
    """A CT as a segmenter may meet it: noisy, smoothed (as synthetic ones are), shifted.

    Shapes: hu (*S) -> (*S).
    """
    if rng.random() < 0.5:
        hu = blur(hu[None], rng.uniform(0.4, 1.2))[0]
    if rng.random() < 0.7:
        hu = ct_scan(hu[None], rng, generator)[0]
    if rng.random() < 0.5:
        hu = hu * rng.uniform(0.85, 1.15) + rng.uniform(-40, 40)
    return hu
