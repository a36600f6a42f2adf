"""Where the spine is in an image: one quick look with the mask heads of a network."""

from dataclasses import replace
from typing import Any, Final

import numpy as np

from spinect.bundle import Bundle
from spinect.geometry import Grid, Volume
from spinect.inference import MaskHeads, predict_masks
from spinect.segmentation.instances import find_instances

# Around the vertebrae found, along axes near R, A, S. To head and feet as much as a vertebra is
# high: the look may miss the last one.
MARGIN_MM: Final = (20.0, 20.0, 40.0)


def find_spine(image: Volume, bundle: Bundle, **compute: Any) -> Grid | None:
    """A box around the spine of an image.

    Tiles lie side by side and none is mirrored, which costs a quarter to a third of a whole pass;
    fewer or coarser voxels than a network was trained on would cost its sense of anatomy.

    Args:
        image: Of the kind that the bundle takes.
        bundle: One with mask heads.
        compute: precision, max_memory, device, progress of `inference.predict_masks`.
    Returns:
        A part of the bundle's grid, with `MARGIN_MM` around what was found as far as the image
        goes; None where no vertebra was found.
    Raises:
        BundleError: The bundle lacks a mask head.
    """
    return spine_box(predict_masks(image, glancing(bundle), **compute))


def glancing(bundle: Bundle) -> Bundle:
    """The same network with tiles side by side, and without its mirrored pass."""
    quick = {"overlap": 0.0, "flip_average": False}
    settings = bundle.card.preprocessing.model_copy(update=quick)
    return replace(bundle, card=bundle.card.model_copy(update={"preprocessing": settings}))


def spine_box(masks: MaskHeads) -> Grid | None:
    """The box around vertebrae and sacrum with `MARGIN_MM`; None where there are none."""
    instances = find_instances(masks)
    bone = (instances.labels > 0) | instances.sacrum
    if not bone.any():
        return None
    start, stop = [], []
    for axis, (n, spacing, margin) in enumerate(
        zip(bone.shape, masks.grid.spacing, MARGIN_MM, strict=True)
    ):
        hit = np.flatnonzero(bone.any(axis=tuple(a for a in range(3) if a != axis)))
        more = int(np.ceil(margin / spacing))
        start.append(max(int(hit[0]) - more, 0))
        stop.append(min(int(hit[-1]) + 1 + more, n))
    return masks.grid.crop(start, np.subtract(stop, start))
