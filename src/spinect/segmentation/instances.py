"""Vertebrae told apart: every voxel goes to the body centre that its offset vector hits.

Watershed and plane cuts fail where thoracic spinous processes overlap the body below and where
bodies are fused; a voxel that knows its own centre does not need a gap to its neighbour.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinect.anatomy import CLASS, VERTEBRA_CLASSES
from spinect.inference.heads import MaskHeads
from spinect.segmentation.centres import (
    Float,
    Mask,
    Votes,
    canal_voxels,
    cast_votes,
    choose_chain,
    find_candidates,
)
from spinect.segmentation.result import Instances

CAP_MM: Final = 15.0  # a voxel that misses every centre by more belongs to none by itself,
WIDE_CAP_MM: Final = 25.0  # or by this share of the step to the nearer neighbour, up to here:
_STEP_SHARE: Final = (
    0.7  # the far end of a lumbar process misses by more than a cervical body is high
)
STRAY_ML: Final = 1.0  # smaller pieces away from the main part go
CUT_STRAY_ML: Final = 0.2  # the same for pieces cut by the image: their link may lie outside it
SMALLEST_ML: Final = 1.0  # of an instance, also of one whose centre is not in the image
_GROWTH: Final = 5  # voxels that orphans may be away from the instance that takes them in
_CHUNK: Final = 250_000
LEFT_OUT_ML: Final = 5.0  # more bone than this in no instance is worth a warning
_FAR_MM: Final = 30.0  # sacral pieces farther from the largest one are not sacrum

_NEIGHBOURS: Final = np.array(
    [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)], np.int32
)


def find_instances(masks: MaskHeads) -> Instances:
    """Tell the vertebrae apart.

    Candidates are the peaks of the heatmap and the places where offset vectors agree, which may
    lie up to 25 mm outside the grid; dynamic programming picks the chain from head to feet; each
    vertebra voxel goes to the centre that its vector hits, within `reach_mm`. Voxels that hit none,
    and pieces under `STRAY_ML` away from their main part (`CUT_STRAY_ML` if a face of the image
    cuts the piece), join an instance that they touch or go. Instances under `SMALLEST_ML` go.

    Args:
        masks: On an isotropic grid with axes near R, A, S.
    Returns:
        At most 250 instances, head to feet; none for an empty input.
    """
    votes = cast_votes(masks)
    chain = choose_chain(find_candidates(masks, votes), canal_voxels(masks))
    labels = np.zeros(masks.grid.shape, np.uint8)
    voxel_ml = float(np.prod(masks.grid.spacing)) / 1000
    warnings: list[str] = []
    if len(chain):
        _assign(labels, votes, chain)
        _tidy(labels, masks)
        chain = _drop_small(labels, chain, voxel_ml)
    lost = (len(votes.voxels) - int(np.count_nonzero(labels))) * voxel_ml
    if lost >= LEFT_OUT_ML:
        warnings.append(
            f"{lost:.0f} mL that look like vertebra belong to no vertebra of the column "
            "and are left out"
        )
    sacrum = _sacrum(masks, chain)
    return Instances(labels, chain / masks.grid.spacing, sacrum, tuple(warnings))


def reach_mm(chain: Float) -> Float:
    """How far the vectors of a vertebra's voxels may miss its centre, mm, for each of a chain.

    A share of the step to the nearer neighbour, so that the voxels of a vertebra that the chain
    lacks do not go to the next one. `chain` is (n, 3) mm, head to feet.
    """
    steps = np.linalg.norm(np.diff(chain, axis=0), axis=1)
    nearer = np.minimum(np.append(steps, np.inf), np.append(np.inf, steps))
    nearer[~np.isfinite(nearer)] = 0.0  # alone: the smallest reach
    return np.asarray(np.clip(_STEP_SHARE * nearer, CAP_MM, WIDE_CAP_MM))


def _assign(labels: NDArray[np.uint8], votes: Votes, chain: Float) -> None:
    """Write the instance that each voxel's vector hits into `labels`."""
    centres, reaches = chain.astype(np.float32), reach_mm(chain).astype(np.float32)
    for start in range(0, len(votes.voxels), _CHUNK):
        part = slice(start, start + _CHUNK)
        nearest = np.zeros(len(votes.targets[part]), np.uint8)
        least = np.full(len(nearest), np.inf, np.float32)
        for i, (centre, reach) in enumerate(zip(centres, reaches, strict=True)):
            away = ((votes.targets[part] - centre) ** 2).sum(1)
            closer = (away <= least) & (away <= reach**2)
            nearest[closer], least[closer] = i + 1, away[closer]
        labels[tuple(votes.voxels[part].T)] = nearest


def _tidy(labels: NDArray[np.uint8], masks: MaskHeads) -> None:
    """Take stray pieces from their instances, then give orphans to an instance they touch."""
    voxel_ml = float(np.prod(masks.grid.spacing)) / 1000
    view = ndimage.find_objects(masks.inside.astype(np.uint8))
    for i, box in enumerate(ndimage.find_objects(labels)):
        if box is None:
            continue
        pieces, size = _pieces(labels[box] == i + 1)
        limit = np.full(len(size), STRAY_ML)
        limit[_at_faces(pieces, box, view[0] if view else box)] = CUT_STRAY_ML
        stray = size * voxel_ml < limit
        stray[[0, int(size.argmax())]] = False
        labels[box][stray[pieces]] = 0
    low, high = min(VERTEBRA_CLASSES), max(VERTEBRA_CLASSES)
    orphans = (masks.classes >= low) & (masks.classes <= high) & (labels == 0)
    boxes = ndimage.find_objects(orphans.astype(np.uint8))
    if not boxes:
        return
    pieces, size = _pieces(orphans[boxes[0]])
    small = size * voxel_ml < STRAY_ML
    small[0] = False
    _adopt(labels, np.argwhere(small[pieces]) + [b.start for b in boxes[0]])


def _at_faces(
    pieces: NDArray[np.int32], box: tuple[slice, ...], view: tuple[slice, ...]
) -> NDArray[np.int32]:
    """Numbers of the pieces inside `box` that reach a face of the field of view."""
    faces = [np.zeros(1, np.int32)]
    for axis, (own, seen) in enumerate(zip(box, view, strict=True)):
        if own.start <= seen.start:
            faces.append(pieces.take(seen.start - own.start, axis).ravel())
        if own.stop >= seen.stop:
            faces.append(pieces.take(seen.stop - 1 - own.start, axis).ravel())
    return np.unique(np.concatenate(faces))


def _pieces(mask: Mask) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Components (face, edge or corner neighbours) and their sizes; size 0 for the background."""
    labels, count = ndimage.label(mask, np.ones((3, 3, 3), bool))
    size = np.bincount(labels.ravel(), minlength=count + 1)
    size[0] = 0
    return labels.astype(np.int32, copy=False), size


def _adopt(labels: NDArray[np.uint8], voxels: NDArray[np.intp]) -> None:
    """Give voxels (n, 3), layer by layer, the commonest label among their face neighbours."""
    last = np.array(labels.shape) - 1
    for _ in range(_GROWTH):
        if len(voxels) == 0:
            return
        around = np.zeros((len(voxels), len(_NEIGHBOURS)), np.uint8)
        for k, step in enumerate(_NEIGHBOURS):
            at = voxels + step
            valid = np.all((at >= 0) & (at <= last), axis=1)
            around[valid, k] = labels[tuple(at[valid].T)]
        votes = (around[:, :, None] == around[:, None]).sum(2) * (around > 0)
        pick = np.take_along_axis(around, votes.argmax(1)[:, None], 1)[:, 0]
        labels[tuple(voxels.T)] = pick
        voxels = voxels[pick == 0]


def _drop_small(labels: NDArray[np.uint8], chain: Float, voxel_ml: float) -> Float:
    """Remove instances under `SMALLEST_ML`, renumber the others, return their centres."""
    volume = np.bincount(labels.ravel(), minlength=len(chain) + 1)[1:] * voxel_ml
    keep = volume >= SMALLEST_ML
    if not keep.all():
        table = np.zeros(256, np.uint8)
        table[1 : len(chain) + 1][keep] = np.arange(1, keep.sum() + 1)
        np.take(table, labels, out=labels)
    return np.asarray(chain[keep])


def _sacrum(masks: MaskHeads, chain: Float) -> Mask:
    """Sacral pieces of 1 mL or more, near the largest, with their middle below the last centre."""
    sacrum: Mask = masks.classes == CLASS["sacrum"]
    boxes = ndimage.find_objects(sacrum.astype(np.uint8))
    if not boxes:
        return sacrum
    spacing = masks.grid.spacing
    pieces, size = _pieces(sacrum[boxes[0]])
    keep = size * float(np.prod(spacing)) >= 1000 * STRAY_ML
    found = ndimage.find_objects(pieces)
    corner = boxes[0][2].start
    for i in np.flatnonzero(keep):
        own = pieces[found[i - 1]] == i
        heights = own.sum((0, 1)) @ np.arange(own.shape[2]) / own.sum()
        height = (heights + found[i - 1][2].start + corner) * spacing[2]
        keep[i] = len(chain) == 0 or height < chain[-1, 2]
    if keep.any():
        largest = found[int((size * keep).argmax()) - 1]
        for i in np.flatnonzero(keep):
            gap = [
                max(a.start - b.stop, b.start - a.stop, 0) * s
                for a, b, s in zip(largest, found[i - 1], spacing, strict=True)
            ]
            keep[i] = float(np.linalg.norm(gap)) <= _FAR_MM
    sacrum[boxes[0]] = keep[pieces]
    return sacrum
