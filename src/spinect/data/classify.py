"""Soft tissue and unlabelled bone of a real CT, by denoised HU and place.

The classes serve to give MR-like contrast to true anatomy; they are plausible, not measured.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinect.anatomy import ORDER
from spinect.data.spaces import Canal
from spinect.geometry import Grid
from spinect.phantom.tissues import Tissue

FAT_HU, FATTY_HU, CALCIUM_HU = -30.0, 12.0, 160.0  # of denoised voxels: below, below, above
SKIN_MM = 2
FILLING_MM3 = 2000  # smaller regions of the lowest HU are clipped air
OTHER_BONE_MM3 = 400  # smaller bright spots are vessel walls, stones or noise
WATER_HU = 18.0  # a homogeneous organ below this mean is fluid
CORE_MM = 5.0  # pieces joined by less than twice this are told apart
PSOAS_LEAVES = ORDER.index(24) + 0.4  # it leaves the spine below L5
AORTA_ENDS = ORDER.index(23) + 0.5  # it divides below L4
WALL_MM = 28.0  # depth below the skin down to which soft tissue is muscle of the trunk wall

Mask = NDArray[np.bool_]
Image = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Classed:
    """Tissue by HU; bone of the spine and what is between it is painted over later."""

    tissue: NDArray[np.uint8]
    other_bone: Mask
    seen: Mask  # inside the field of view
    smooth: Image  # denoised HU of soft tissue
    depth: Image  # mm below the skin


def classify(hu: Image, vertebrae: NDArray[np.uint8]) -> Classed:
    """Tissues of a CT outside its labelled vertebrae.

    Args:
        hu: (X, Y, Z) HU at 1 mm. vertebrae: Ids of the same shape.
    """
    seen = _field_of_view(hu)
    noise = _noise(hu, seen)
    light = ndimage.gaussian_filter(hu, 1.0 if noise > 50 else 0.5)
    body = _body(light, seen)
    bone = _other_bone(light, vertebrae, body)
    soft = body & ~bone & (vertebrae == 0) & (light > -300)
    smooth = _masked_mean(hu, soft & (light < 400), float(np.clip(noise / 40, 0.6, 2.0)))
    tissue = np.zeros(hu.shape, np.uint8)
    tissue[body] = Tissue.MUSCLE
    tissue[body & (smooth < FATTY_HU)] = Tissue.MUSCLE_FAT
    tissue[body & (smooth < FAT_HU)] = Tissue.FAT
    tissue = ndimage.median_filter(tissue, size=3)
    tissue[~body] = Tissue.AIR
    _paint_gas(tissue, body & (light < -350))
    tissue[body & ndimage.binary_dilation(seen & ~body, iterations=SKIN_MM)] = Tissue.SKIN
    shell = ~ndimage.binary_erosion(bone, np.ones((3, 3, 3), bool), border_value=1)
    tissue[bone] = Tissue.OTHER_MARROW
    tissue[bone & (shell | (light > 450))] = Tissue.OTHER_CORTEX
    return Classed(tissue, bone, seen, smooth, _depth(body | ~seen))


def _field_of_view(hu: Image) -> Mask:
    """All but the filling beyond the scanner's reach: large regions of exactly the lowest value."""
    labels, count = ndimage.label(hu <= hu.min() + 1e-3)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    filling = (sizes >= FILLING_MM3)[labels]
    if filling.mean() < 0.005:  # clipped air, not a filling
        return np.ones(hu.shape, bool)
    return np.asarray(ndimage.distance_transform_edt(~filling) > 3)  # the seam is interpolated


def _noise(hu: Image, seen: Mask) -> float:
    """Standard deviation in soft tissue, HU, from differences along the front-back axis."""
    soft = seen & (np.abs(ndimage.uniform_filter(hu, 7)) < 150)
    step = np.diff(hu, axis=1)[soft[:, 1:] & soft[:, :-1]]
    return 1.4826 * float(np.median(np.abs(step))) / np.sqrt(2) if step.size else 0.0


def _coarse(mask: Mask) -> Mask:
    """Every second voxel: enough for distances of centimetres, at an eighth of the cost."""
    return mask[::2, ::2, ::2]


def _fine(values: NDArray[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
    """Coarse values put back on all voxels."""
    for axis, n in enumerate(shape):
        values = np.repeat(values, 2, axis).take(np.arange(n), axis)
    return values


def _depth(body: Mask) -> Image:
    """Distance from the outside, mm, to 2 mm."""
    coarse = 2 * ndimage.distance_transform_edt(_coarse(body))
    return _fine(coarse.astype(np.float32), body.shape)


def _largest(mask: Mask) -> Mask:
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    return np.asarray(labels == 1 + int(np.bincount(labels.ravel())[1:].argmax()))


def _body(light: Image, seen: Mask) -> Mask:
    """The patient without table and blankets, gas inside included."""
    rim = 3  # what is cut by the field of view goes on outside
    dense = np.pad((light > -250) | ~seen, rim, mode="edge")
    dense = ndimage.binary_opening(dense, iterations=2)[rim:-rim, rim:-rim, rim:-rim]
    body = _largest(dense & seen)
    for z in range(body.shape[2]):
        body[:, :, z] = ndimage.binary_fill_holes(body[:, :, z])
    return body


def _other_bone(light: Image, vertebrae: NDArray[np.uint8], body: Mask) -> Mask:
    """Bone that carries no label: bright shells closed and filled, small spots left out."""
    bright = body & (light > CALCIUM_HU) & (vertebrae == 0)
    labels, count = ndimage.label(bright)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    keep = (sizes >= OTHER_BONE_MM3)[labels]
    closed = ndimage.binary_closing(keep, iterations=3)
    for axis in range(3):
        for plane in range(closed.shape[axis]):
            at = tuple(plane if a == axis else slice(None) for a in range(3))
            if closed[at].any():
                closed[at] = ndimage.binary_fill_holes(closed[at])
    marrow = closed & (light > -60) & (vertebrae == 0)
    return np.asarray(ndimage.binary_opening(marrow | keep) & (vertebrae == 0))


def _masked_mean(hu: Image, mask: Mask, sigma: float) -> Image:
    """Gaussian mean over `mask` only, so that bone and gas do not bleed into soft tissue."""
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma)
    value = ndimage.gaussian_filter(np.where(mask, hu, 0).astype(np.float32), sigma)
    return np.asarray(np.where(weight > 0.02, value / np.maximum(weight, 0.02), 40.0), np.float32)


def _paint_gas(tissue: NDArray[np.uint8], gas: Mask) -> None:
    """Large gas is lung, the rest bowel gas or airways."""
    labels, count = ndimage.label(gas)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    tissue[gas] = Tissue.GAS
    tissue[(sizes > 150_000)[labels]] = Tissue.LUNG


def paint_organs(
    classed: Classed, canal: Canal, front: float, grid: Grid, rng: np.random.Generator
) -> None:
    """Vessels, kidneys, liver, bladder and bowel out of the soft tissue in front of the spine.

    Writes into `classed.tissue`. Muscle and organs have the same HU, so place, size and mean HU
    decide; pieces without a name become muscle or bowel at random.

    Args:
        front: Distance from the canal line to the front of the bodies, mm.
    """
    tissue = classed.tissue
    soft = np.isin(tissue, (Tissue.MUSCLE, Tissue.MUSCLE_FAT))
    slices = np.arange(grid.shape[2])
    line = grid.index(canal.line)
    order = np.argsort(line[:, 2])
    x0 = np.interp(slices, line[order, 2], line[order, 0])
    y0 = np.interp(slices, line[order, 2], line[order, 1]) + front
    x = np.arange(grid.shape[0], dtype=np.float32)[:, None, None] - x0.astype(np.float32)
    y = np.arange(grid.shape[1], dtype=np.float32)[None, :, None] - y0.astype(np.float32)
    cavity = soft & (classed.depth > WALL_MM) & (y > -45)
    thick = ndimage.gaussian_filter(classed.smooth, 1.5)
    fluid = cavity & (thick < WATER_HU) & (thick > -15)
    for mask in (cavity & ~fluid, fluid):
        pieces, count = _grown_pieces(mask)
        if count:
            _name_pieces(classed, pieces, count, (np.broadcast_to(x, grid.shape), y), rng)
    rank = np.interp(slices, line[order, 2], canal.height[order])
    beside = soft & ~fluid & (np.abs(x) < 60) & (y < 2) & (rank < PSOAS_LEAVES)
    tissue[beside & (tissue != Tissue.MUSCLE_FAT)] = Tissue.MUSCLE
    large = soft & (y > -6) & (y < 32) & (rank < AORTA_ENDS)
    side, ahead = rng.uniform(4, 9), rng.uniform(9, 13)
    tissue[large & (np.hypot(x + side, y - ahead) < rng.uniform(9, 12))] = Tissue.ARTERY
    tissue[large & (np.hypot(x - 15, y - ahead + 2) < rng.uniform(8, 11))] = Tissue.VEIN


def _grown_pieces(mask: Mask) -> tuple[NDArray[np.int32], int]:
    """Components of the core of a mask, grown back into it: pieces that barely touch come apart."""
    coarse = _coarse(mask)
    pieces, count = ndimage.label(2 * ndimage.distance_transform_edt(coarse) > CORE_MM)
    away, nearest = ndimage.distance_transform_edt(pieces == 0, return_indices=True)
    grown = np.where(2 * away < 1.5 * CORE_MM, pieces[tuple(nearest)], 0).astype(np.int32)
    return np.where(mask, _fine(grown, mask.shape), 0), count


def _name_pieces(
    classed: Classed,
    pieces: NDArray[np.int32],
    count: int,
    offset: tuple[Image, Image],
    rng: np.random.Generator,
) -> None:
    """Tissue of each piece by size, mean HU and offset (right, front) from the spine's front."""
    x, y = offset
    index = np.arange(1, count + 1)
    size = ndimage.sum_labels(np.ones(pieces.shape, np.uint8), pieces, index) / 1000  # mL
    mean = ndimage.mean(classed.smooth, pieces, index)
    aside = ndimage.mean(x, pieces, index)
    ahead = ndimage.mean(np.broadcast_to(y, pieces.shape), pieces, index)
    named = np.zeros(count + 1, np.uint8)
    for k in range(count):
        if size[k] < 3:
            continue
        choice = (Tissue.MUSCLE, Tissue.BOWEL, Tissue.BOWEL, Tissue.BOWEL_BRIGHT)[rng.integers(4)]
        if mean[k] < WATER_HU:
            choice = Tissue.BLADDER if size[k] > 60 else Tissue.BOWEL_BRIGHT
        elif size[k] > 350 and aside[k] > 20:
            choice = Tissue.LIVER
        elif 60 < size[k] < 350 and 25 < abs(aside[k]) < 95 and abs(ahead[k]) < 35:
            choice = Tissue.KIDNEY
        named[k + 1] = choice
    put = named[pieces]
    classed.tissue[put > 0] = put[put > 0]
