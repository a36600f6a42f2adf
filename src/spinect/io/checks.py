"""Does an image look like what it is called? Doubts are errors that `force` turns into warnings."""

import warnings
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from spinect.errors import ImageError, SpinectWarning
from spinect.geometry import Volume

CT_AIR_SHARE: Final = 0.05  # more voxels than this below CT_AIR: there is air in HU around
CT_AIR: Final = -500.0
CT_BONE: Final = 300.0  # and the 99.9th percentile above this: there is bone in HU
LABEL_VALUES: Final = 64  # fewer whole numbers than this, and
LABEL_EQUAL: Final = 0.75  # more equal neighbours than this inside: a label map
MIN_SLICES: Final = 8
HU_LIMITS: Final = (-10_000.0, 33_000.0)  # padding and metal reach far, but not further
HU_SPREAD: Final = 300.0  # air or fat to bone; below this the values were scaled
JUMP: Final = (0.35, 0.75)  # correlation across a border, and of the slices on both sides of it
_THUMB: Final = 48  # slices are compared as thumbnails of this many pixels


def check_mr(volume: Volume, name: str, force: bool = False) -> None:
    """Refuse a CT or a label map given as MR.

    Args:
        name: The file's name, for the message.
        force: Warn instead.
    Raises:
        ImageError: More than 5 % of the voxels lie below -500 and the 99.9th percentile above
            300 (a CT), or there are fewer than 64 values, all whole numbers, and neighbours
            are equal (a label map).
    """
    data = volume.data
    share = np.count_nonzero(data < CT_AIR) / data.size
    if share > CT_AIR_SHARE and (top := float(np.percentile(data, 99.9))) > CT_BONE:
        _doubt(
            f"{name}: looks like a CT, not an MR: {share:.0%} of the voxels lie below -500 and "
            f"the 99.9th percentile is {top:.0f}: give the MR",
            force,
        )
    elif (count := _label_count(data)) is not None:
        _doubt(
            f"{name}: looks like a label map, not an MR: only {count} values, all whole numbers, "
            "in areas of one value: give the MR",
            force,
        )


def check_ct(volume: Volume, name: str, force: bool = False) -> None:
    """Refuse a CT that is not in Hounsfield units.

    Raises:
        ImageError: The values span less than 300, none is below 0, or they leave any HU scale.
    """
    low, high = float(volume.data.min()), float(volume.data.max())
    found = f"the values run from {low:g} to {high:g}"
    if high - low < HU_SPREAD:
        _doubt(f"{name}: not in HU, {found}: scale them back to HU (air -1000, water 0)", force)
    elif low >= 0:
        todo = "subtract the offset (often 1024), or give a CT if it is an MR"
        _doubt(f"{name}: not in HU, {found}: {todo}", force)
    elif low < HU_LIMITS[0] or high > HU_LIMITS[1]:
        _doubt(f"{name}: not in HU, {found}: check slope and intercept of the file", force)


def detect_stack(volume: Volume, name: str, force: bool = False) -> str:
    """The plane of a stack of slices; refuses localisers and stacks of several angles.

    One affine places all slices of a file, so stacks of several angles are recognised by their
    content only: slices that repeat, or a sudden break between slices that are alike on both
    sides of it. Stacks whose angles differ by a few degrees pass.

    Returns:
        "sagittal", "coronal", "axial" or "isotropic".
    Raises:
        ImageError: Fewer than 8 slices, repeated slices, or a break inside the stack.
    """
    grid = volume.grid
    plane = grid.plane
    thick = int(np.argmin(grid.shape)) if plane == "isotropic" else int(np.argmax(grid.spacing))
    count = grid.shape[thick]
    if count < MIN_SLICES:
        _doubt(
            f"{name}: {count} {plane} slices of {grid.spacing[thick]:.3g} mm, a localiser or a "
            f"part of a series: at least {MIN_SLICES} are needed, give the full series",
            force,
        )
        return plane
    thumbs, at = _thumbnails(volume.data, thick)
    for index, twin in _repeats(volume.data, thick, thumbs, at):
        _doubt(
            f"{name}: slices {index} and {twin} are the same image, several stacks in one file: "
            "split it and give one stack",
            force,
        )
        return plane
    if (border := _break(thumbs)) is not None:
        _doubt(
            f"{name}: slices {at[border]} and {at[border + 1]} show different things while their "
            "neighbours are alike, a stack of several angles: split it and give one stack",
            force,
        )
    return plane


def field_of_view(data: NDArray[Any]) -> NDArray[np.bool_]:
    """True inside; boundary planes of zero standard deviation are peeled off, again and again.

    Such planes (padding, frames) hold no anatomy, whatever their value. All False if constant.
    """
    start, stop = [0, 0, 0], list(data.shape)

    def flat(axis: int, index: int) -> bool:
        box: list[Any] = [slice(a, b) for a, b in zip(start, stop, strict=True)]
        box[axis] = index
        plane = data[tuple(box)]
        return plane.size == 0 or bool((plane == plane.flat[0]).all())

    changed = True
    while changed and all(a < b for a, b in zip(start, stop, strict=True)):
        changed = False
        for axis in range(3):
            while start[axis] < stop[axis] and flat(axis, start[axis]):
                start[axis] += 1
                changed = True
            while start[axis] < stop[axis] and flat(axis, stop[axis] - 1):
                stop[axis] -= 1
                changed = True
    inside = np.zeros(data.shape, bool)
    inside[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    return inside


def _doubt(text: str, force: bool) -> None:
    if not force:
        raise ImageError(f"{text}, or insist with --force")
    warnings.warn(f"{text} (--force: used all the same)", SpinectWarning, stacklevel=3)


def _label_count(data: NDArray[Any]) -> int | None:
    """How many values a label map has; None for anything else."""
    sample = data.ravel()[:: max(1, data.size // 10_000)]
    if np.unique(sample).size >= LABEL_VALUES or (sample % 1 != 0).any():
        return None
    if (data % 1 != 0).any() or np.ptp(data) > 65_535:
        return None
    seen = np.bincount((data - data.min()).astype(np.uint16).ravel())
    values = int(np.count_nonzero(seen))
    if values >= LABEL_VALUES:
        return None
    background = data.min() + int(np.argmax(seen))
    equal = pairs = 0
    for axis in range(3):
        one, two = np.moveaxis(data, axis, 0)[:-1], np.moveaxis(data, axis, 0)[1:]
        inside = (one != background) & (two != background)
        equal += int(np.count_nonzero(inside & (one == two)))
        pairs += int(np.count_nonzero(inside))
    return values if pairs == 0 or equal / pairs > LABEL_EQUAL else None


def _thumbnails(data: NDArray[Any], axis: int) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Slices that are not constant, thinned to thumbnails of mean 0 and length 1, flattened."""
    slices = np.moveaxis(data, axis, 0)
    thin = slices[:, *(slice(None, None, max(1, n // _THUMB)) for n in slices.shape[1:])]
    flat = thin.reshape(len(thin), -1).astype(np.float32)
    flat = flat - flat.mean(1, keepdims=True)
    length = np.linalg.norm(flat, axis=1)
    at = np.flatnonzero(length > 0)
    return flat[at] / length[at, None], at


def _repeats(
    data: NDArray[Any], axis: int, thumbs: NDArray[np.float32], at: NDArray[np.intp]
) -> list[tuple[int, int]]:
    """Pairs of equal slices with different ones in between (neighbours may be interpolated)."""
    slices = np.moveaxis(data, axis, 0)
    alike = np.argwhere(np.triu(thumbs @ thumbs.T, 2) > 1 - 1e-5)
    return [
        (int(at[i]), int(at[j]))
        for i, j in alike
        if (slices[at[i]] == slices[at[j]]).all() and (slices[at[i]] != slices[at[i] + 1]).any()
    ]


def _break(thumbs: NDArray[np.float32]) -> int | None:
    """The slice after which the content changes at once, well inside a stack."""
    low, high = JUMP
    near = (thumbs[:-1] * thumbs[1:]).sum(1)
    jumps = np.flatnonzero((near[1:-1] < low) & (near[:-2] > high) & (near[2:] > high)) + 1
    return int(jumps[0]) if jumps.size else None
