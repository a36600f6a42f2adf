"""Where vertebral bodies may be: heatmap peaks and agreeing offsets, and the chain through them.

All positions here are mm along the array axes (index times spacing), axes near R, A, S.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from spinect.anatomy import CLASS, VERTEBRA_CLASSES
from spinect.inference.heads import OFFSET_STEP_MM, MaskHeads

Float = NDArray[np.float64]
Mask = NDArray[np.bool_]

OUTSIDE_MM: Final = 25.0  # a centre may lie this far outside the grid
_HEAT: Final = 26  # of 255: weaker peaks are noise
_APART_MM: Final = 5.0  # candidates closer than this are one
_REACH_MM: Final = 8.0  # a vote supports a candidate within this
_BIN_MM: Final = 2.0
_SMOOTH_MM: Final = 3.0
_PEAK_ML: Final = 0.3  # votes that make a candidate without any heat
_TRUST_ML: Final = 1.0  # votes that place a centre better than its heat does
_HALF_ML: Final = 2.0  # support is 1/2 with this volume of votes: half a cut cervical vertebra
_MOST: Final = 250

_SPACING_MM: Final = (10.0, 45.0)  # between neighbours
_LONGEST_MM: Final = 140.0  # across vertebrae that were missed
_CANAL_MM: Final = 45.0  # farthest from the canal
_CANAL_LEVEL_MM: Final = 12.0  # a canal this near in height speaks for a candidate's level
_PRICE: Final = 0.2  # of a vertebra: less evidence is not worth one
_BEHIND: Final = 0.5  # cost of a centre in or behind the canal
_MISSED: Final = 0.4  # cost of each vertebra missed between two
_BEND: Final = 2.0  # cost per (1 - cos) of the angle between two steps
_SHARPEST: Final = 0.4  # cos of the largest angle
_UNEVEN: Final = 1.2  # cost per log of the ratio of two steps, beyond the usual
_USUAL: Final = 0.3
_DESCENT: Final = 0.2  # share of a step that must go down


@dataclass(frozen=True, eq=False)
class Votes:
    """What each vertebra voxel says about its centre.

    Attributes:
        voxels: (n, 3) int32 indices of the vertebra voxels.
        targets: (n, 3) float32, voxel plus offset, mm.
    """

    voxels: NDArray[np.int32]
    targets: NDArray[np.float32]


def cast_votes(masks: MaskHeads) -> Votes:
    """Where the offset of every voxel of a vertebra class points to."""
    low, high = min(VERTEBRA_CLASSES), max(VERTEBRA_CLASSES)
    where = np.nonzero((masks.classes >= low) & (masks.classes <= high))
    voxels = np.stack(where, 1).astype(np.int32)
    targets = voxels * masks.grid.spacing.astype(np.float32)
    for axis in range(3):
        targets[:, axis] += OFFSET_STEP_MM * masks.offset[axis][where]
    return Votes(voxels, targets.astype(np.float32))


@dataclass(frozen=True, eq=False)
class Candidates:
    """Possible body centres, (n, 3) mm, and the evidence of each, 0 to 1.5."""

    places: Float
    scores: Float


def find_candidates(masks: MaskHeads, votes: Votes) -> Candidates:
    """Peaks of the heatmap and of the votes, moved to where the votes agree, each once."""
    heat_places, heat = heat_peaks(masks)
    bins, volumes, vote_places = _vote_peaks(masks, votes)
    starts = np.concatenate([heat_places, vote_places])
    if len(starts) == 0:
        return Candidates(np.zeros((0, 3)), np.zeros(0))
    heat = np.concatenate([heat, np.zeros(len(vote_places))])
    tree = cKDTree(bins) if len(bins) else None
    places = np.array([_climb(p, tree, bins, volumes) for p in starts])
    support = _support(places, bins, volumes)
    order = np.lexsort((*places.T, -(0.5 * heat + support)))
    kept: list[int] = []
    for i in order:
        gaps = np.linalg.norm(places[kept] - places[i], axis=1)
        if len(kept) and gaps.min() < _APART_MM:
            same = kept[int(gaps.argmin())]
            heat[same] = max(heat[same], heat[i])
        elif len(kept) < _MOST:
            kept.append(int(i))
    places, heat = places[kept], heat[kept]
    volume = _shared_volume(places, bins, volumes)
    return Candidates(places, 0.5 * heat + volume / (volume + _HALF_ML))


def heat_peaks(masks: MaskHeads) -> tuple[Float, Float]:
    """Local maxima of the heatmap: (n, 3) mm and their height, 0-1; a plateau is one maximum."""
    spacing = masks.grid.spacing
    boxes = ndimage.find_objects((masks.centre >= _HEAT).astype(np.uint8))
    if not boxes:
        return np.zeros((0, 3)), np.zeros(0)
    heat = masks.centre[boxes[0]]
    size = [2 * round(_APART_MM / s) + 1 for s in spacing]
    top = (heat >= _HEAT) & (heat == ndimage.maximum_filter(heat, size))
    labels, count = ndimage.label(top, np.ones((3, 3, 3), bool))
    plateaus = ndimage.find_objects(labels)
    corner = np.array([b.start for b in boxes[0]])
    places, heights = np.zeros((count, 3)), np.zeros(count)
    reach = np.ceil(_APART_MM / spacing).astype(int)
    for i, plateau in enumerate(plateaus):
        own = np.argwhere(labels[plateau] == i + 1) + [b.start for b in plateau]
        middle = np.rint(own.mean(0)).astype(int)
        box = tuple(slice(max(m - r, 0), m + r + 1) for m, r in zip(middle, reach, strict=True))
        peak = float(heat[tuple(own[0])])
        weight = np.maximum(heat[box].astype(np.float64) - 0.5 * peak, 0)
        at = np.array(ndimage.center_of_mass(weight)) + [b.start for b in box]
        places[i], heights[i] = (at + corner) * spacing, peak / 255
    return places, heights


def _vote_peaks(masks: MaskHeads, votes: Votes) -> tuple[Float, Float, Float]:
    """Non-empty bins (mean place, mL) of the votes, and the places where votes are dense."""
    nothing = np.zeros((0, 3))
    extent = masks.grid.spacing * (np.array(masks.grid.shape) - 1)
    targets = votes.targets
    near = np.all((targets >= -OUTSIDE_MM) & (targets <= extent + OUTSIDE_MM), axis=1)
    targets = targets[near]
    if len(targets) == 0:
        return nothing, np.zeros(0), nothing
    low = targets.min(0) - _BIN_MM
    index = ((targets - low) / _BIN_MM).astype(np.int32)
    shape = tuple(int(n) + 2 for n in index.max(0))
    flat = np.ravel_multi_index(tuple(index.T), shape)
    size = int(np.prod(shape))
    count = np.bincount(flat, minlength=size)
    full = np.flatnonzero(count)
    sums = [np.bincount(flat, weights=targets[:, a], minlength=size)[full] for a in range(3)]
    voxel_ml = float(np.prod(masks.grid.spacing)) / 1000
    bins = np.stack(sums, 1) / count[full, None]
    volumes = np.asarray(count[full] * voxel_ml, np.float64)
    density = ndimage.gaussian_filter(
        (count * voxel_ml).reshape(shape).astype(np.float32), _SMOOTH_MM / _BIN_MM, mode="constant"
    )
    enough = _PEAK_ML / ((2 * np.pi) ** 1.5 * (_SMOOTH_MM / _BIN_MM) ** 3)
    top = (density > enough) & (density == ndimage.maximum_filter(density, 5))
    peaks = np.argwhere(top) * _BIN_MM + low + _BIN_MM / 2
    return bins, volumes, np.asarray(peaks, np.float64)


def _climb(place: Float, tree: cKDTree | None, bins: Float, volumes: Float) -> Float:
    """Mean shift: to the middle of the votes around, where they are worth more than the heat."""
    at = place
    for _ in range(20):
        near = tree.query_ball_point(at, _REACH_MM) if tree is not None else []
        if volumes[near].sum() < _TRUST_ML:
            return place if at is place else at
        moved = np.average(bins[near], axis=0, weights=volumes[near])
        done = bool(np.linalg.norm(moved - at) < 0.05)
        at = moved
        if done:
            break
    return at


def _support(places: Float, bins: Float, volumes: Float) -> Float:
    """Volume of votes around each place, saturating, 0-1; places may share votes."""
    if len(bins) == 0:
        return np.zeros(len(places))
    near = cKDTree(bins).query_ball_point(places, _REACH_MM)
    volume = np.array([volumes[n].sum() for n in near])
    return np.asarray(volume / (volume + _HALF_ML))


def _shared_volume(places: Float, bins: Float, volumes: Float) -> Float:
    """Volume of votes within reach of each place, mL, every vote given to the nearest only."""
    if len(bins) == 0:
        return np.zeros(len(places))
    gap, own = map(np.asarray, cKDTree(places).query(bins, distance_upper_bound=_REACH_MM))
    held = np.isfinite(gap)
    shared = np.bincount(own[held], weights=volumes[held], minlength=len(places))
    return np.asarray(shared, np.float64)


def canal_voxels(masks: MaskHeads) -> Float:
    """(n, 3) places of the canal in mm, pieces under 1 mL left out if there are larger ones."""
    mask = masks.classes == CLASS["canal"]
    boxes = ndimage.find_objects(mask.astype(np.uint8))
    if not boxes:
        return np.zeros((0, 3))
    labels, _ = ndimage.label(mask[boxes[0]])
    size = np.bincount(labels.ravel())
    size[0] = 0
    keep = size * float(np.prod(masks.grid.spacing)) >= 1000
    places = np.argwhere((keep if keep.any() else size > 0)[labels])
    places = (places + [b.start for b in boxes[0]]) * masks.grid.spacing
    return np.asarray(places, np.float64)


def choose_chain(candidates: Candidates, canal: Float) -> Float:
    """The vertebral column among the candidates.

    Second-order dynamic programming from head to feet: the sum of the evidence less the cost of
    missed vertebrae, of bends, and of neighbouring steps of different length.

    Args:
        canal: (m, 3) places of canal voxels, mm; without any the chain alone decides.
    Returns:
        (n, 3) centres, mm, head to feet.
    """
    gain = candidates.scores - _PRICE
    keep = np.ones(len(gain), bool)
    if len(canal) and len(gain):
        distance, nearest = map(np.asarray, cKDTree(canal).query(candidates.places))
        levels = np.sort(canal[:, 2])
        height = candidates.places[:, 2]
        first = np.searchsorted(levels, height - _CANAL_LEVEL_MM)
        known = first < np.searchsorted(levels, height + _CANAL_LEVEL_MM)
        keep = ~known | (distance <= _CANAL_MM)
        ahead = candidates.places[:, 1] - canal[nearest, 1]
        gain = gain - _BEHIND * (known & ((ahead < -3.0) | (distance < 2.0)))
    places, gain = candidates.places[keep], gain[keep]
    order = np.lexsort((places[:, 0], places[:, 1], -places[:, 2]))
    places, gain = places[order], gain[order]
    return places[_best_path(places, gain)]


def _best_path(places: Float, gain: Float) -> list[int]:
    """Indices of the chain of largest value; `places` must run from head to feet."""
    n = len(places)
    if n == 0 or gain.max() <= 0:
        return []
    step = places[None] - places[:, None]
    length = np.linalg.norm(step, axis=2)
    unit = step / np.maximum(length, 1e-9)[..., None]
    missed = np.maximum(np.ceil(length / _SPACING_MM[1]) - 1, 0)
    allowed = (length >= _SPACING_MM[0]) & (length <= _LONGEST_MM) & (unit[..., 2] <= -_DESCENT)
    each = np.log(np.maximum(length, 1e-9) / (missed + 1))
    best, before = np.full((n, n), -np.inf), np.full((n, n), -1)
    for j in range(n):
        for k in np.flatnonzero(allowed[j]).tolist():
            value, source = gain[j], -1
            cos = unit[:, j] @ unit[j, k]
            uneven = np.maximum(np.abs(each[:, j] - each[j, k]) - _USUAL, 0)
            longer = best[:, j] - _BEND * (1 - cos) - _UNEVEN * uneven
            longer[cos < _SHARPEST] = -np.inf
            i = int(longer.argmax())
            if longer[i] > value:
                value, source = longer[i], i
            best[j, k], before[j, k] = value + gain[k] - _MISSED * missed[j, k], source
    alone = int(gain.argmax())
    j, k = divmod(int(best.argmax()), n)
    if best[j, k] <= gain[alone]:
        return [alone]
    path = [k]
    while j >= 0:
        path.append(j)
        j, k = int(before[j, k]), j
    return path[::-1]
