"""The only interpolation in the package: one kernel for images, masks and label maps.

Area average when downsampling, linear when upsampling (`geometry.mapping`). A target voxel whose
centre lies outside the source's outer voxel faces takes the kind's outside value. Grids with
parallel axes (any permutation, flip, spacing, shift) are done axis by axis with sparse weights;
others by linear interpolation after a Gaussian of the target voxel's variance.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinect.errors import GeometryError, LabelError
from spinect.geometry.grid import Grid
from spinect.geometry.mapping import Box, Mapping
from spinect.geometry.volume import Volume

Array = NDArray[Any]
Float = NDArray[np.float64]

HALF = 0.5 - 1e-5  # float32 sums of weights that are exactly one half must count as a half


def resample(volume: Volume, grid: Grid, moving_from_fixed: Float | None = None) -> Volume:
    """A volume's values on another grid.

    Args:
        volume: Source; "mr" and "ct" are interpolated, "labels" become the most probable label
            where the area-averaged probability of all labels together is at least one half.
        grid: Target.
        moving_from_fixed: (4, 4) mm -> mm, RAS+; maps points of the target's world into the
            volume's world. None: both live in the same world.
    Returns:
        The same kind on `grid`: float32 for images, the source's integer type for labels.
        Equal grids (or ones that differ by whole voxels, permutations, flips) copy the values.
    Raises:
        GeometryError: `moving_from_fixed` is not an invertible affine map.
        LabelError: "labels" that are not integers of at least 0.
    """
    mapping = Mapping.between(grid, volume.grid, moving_from_fixed)
    outside = volume.rules.outside
    labels = volume.rules.interpolation == "labels"
    if labels:
        _check_ids(volume.data)
    if mapping.is_copy:
        dtype = volume.data.dtype if labels else np.dtype(np.float32)
        data = mapping.copy(volume.data, outside, dtype)
    elif labels:
        data = _most_probable(volume.data, mapping)
    else:
        data = mapping.apply(volume.data)
        mapping.fill_outside(data, outside)
    return Volume(data, grid.affine, volume.kind)


def average_mask(mask: Array, from_grid: Grid, to_grid: Grid) -> NDArray[np.float32]:
    """Area-averaged share of a mask in every voxel of another grid.

    Args:
        mask: Bool or probability on `from_grid`.
    Returns:
        (X, Y, Z) of `to_grid`, in [0, 1]; 0 outside `from_grid`.
    """
    if mask.shape != from_grid.shape:
        raise GeometryError(f"a mask of shape {mask.shape} does not fit the grid {from_grid}")
    mapping = Mapping.between(to_grid, from_grid, None)
    if mapping.is_copy:
        return mapping.copy(mask, 0.0, np.dtype(np.float32))
    probability = np.zeros(to_grid.shape, np.float32)
    box = _bounding_box(mask)
    if box is not None:
        part, values = mapping.apply_box(mask[box].astype(np.float32), box)
        probability[part] = values
        mapping.fill_outside(probability, 0.0)
    return probability


def to_iso(volume: Volume, spacing: float = 1.0) -> Volume:
    """The volume at isotropic spacing (mm), its own axes in the order closest to R, A, S.

    Obliquity is kept: nothing is rotated, so this is exact along each axis and fast.
    """
    return resample(volume, volume.grid.canonical().with_spacing(spacing))


def _bounding_box(mask: Array) -> Box | None:
    """The smallest box around what is not zero."""
    box = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        hit = np.flatnonzero(np.any(mask, axis=others))
        if not hit.size:
            return None
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return (box[0], box[1], box[2])


def _check_ids(data: Array) -> None:
    kind = data.dtype.kind
    if kind not in "iub" or (kind == "i" and data.size and data.min() < 0):
        raise LabelError(
            f"labels must be integers of at least 0 to be resampled, not {data.dtype} "
            f"from {data.min()}: convert them first"
        )


def _most_probable(data: Array, mapping: Mapping) -> Array:
    """Label map on the target: foreground where all labels together hold half of the voxel."""
    out = np.zeros(mapping.target, data.dtype)
    best = np.zeros(mapping.target, np.float32)
    total = np.zeros(mapping.target, np.float32)
    source = data.view(np.uint8) if data.dtype == bool else data
    for label, box in enumerate(ndimage.find_objects(source), start=1):
        if box is None:
            continue
        part, probability = mapping.apply_box((source[box] == label).view(np.uint8), box)
        total[part] += probability
        better = probability > best[part]
        best[part][better] = probability[better]
        out[part][better] = label
    out[total < HALF] = 0
    mapping.fill_outside(out, 0)
    return out
