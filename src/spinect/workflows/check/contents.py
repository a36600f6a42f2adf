"""Contents: does an image hold what its name says, and a mask labels that exist?"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinect.anatomy import SUBREGIONS, VERTEBRAE
from spinect.errors import ImageError, InputError
from spinect.geometry import Volume
from spinect.io.checks import HU_SPREAD, check_ct, check_mr, detect_stack
from spinect.io.participants import read_rows
from spinect.workflows.check.findings import Finding
from spinect.workflows.check.loading import Opened

SCHEMES: Final = {"vertebrae": set(VERTEBRAE), "subregions": set(SUBREGIONS)}
PADDING_HU: Final = 1.5  # a border filled with a value this close to 0 is water, not air
PADDING_SHARE: Final = 0.25  # of the border voxels
BONE_HU: Final = 30.0  # a mask of bone is at least this much brighter than what is around it
_RING_MM: Final = 8.0


def check_image(opened: Opened) -> Iterator[Finding]:
    """An MR or CT."""
    data, file = opened.data, opened.file
    if data is None or opened.grid is None:
        return
    if bad := int(np.count_nonzero(~np.isfinite(data))):
        todo = f"replace them ({'-1000 in' if opened.item.kind == 'ct' else '0 in'} this image)"
        yield Finding("nan", file, f"{bad} of {data.size} voxels are NaN or infinite", todo)
        return
    low, high = float(data.min()), float(data.max())
    if low == high:
        yield Finding("constant", file, f"every voxel is {low:g}", "export the series again")
        return
    if opened.item.kind == "ct":
        yield from _ct(file, Volume(data, opened.grid.affine, "ct"))
    else:
        yield from _mr(file, Volume(data, opened.grid.affine, "mr"))


def _ct(file: str, ct: Volume) -> Iterator[Finding]:
    try:
        check_ct(ct, file)
    except ImageError as error:
        data = ct.data
        scaled = float(data.max()) - float(data.min()) < HU_SPREAD
        mr = not scaled and data.min() >= 0 and not _has_offset(data)
        todo = "put the CT there" if mr else "scale the values back to HU: air -1000, water 0"
        text = str(error).removeprefix(f"{file}: ").partition(", or insist")[0]
        if mr:
            text += "; no peaks of air and of water 1000 above it: this looks like an MR"
        yield Finding("ct-is-mr" if mr else "ct-not-hu", file, text, todo)
        return
    value, share = border_value(ct.data)
    if share >= PADDING_SHARE and abs(value) <= PADDING_HU:
        yield Finding(
            "ct-padding",
            file,
            f"{share:.0%} of the border voxels are {value:g} HU, as if there were water around",
            "set what lies outside the scan to -1000 HU, and keep a mask of where it is valid",
        )


def _has_offset(data: NDArray[Any]) -> bool:
    """Whether values of at least 0 are HU + 1024: a peak of air, and water about 1000 above."""
    sample = data.ravel()[:: max(1, data.size // 200_000)]
    air = float((sample < 200).mean())
    rest = sample[sample >= 200]
    return bool(air > 0.02 and rest.size and 850 <= float(np.median(rest)) <= 1200)


def border_value(data: NDArray[Any]) -> tuple[float, float]:
    """The most frequent value of the four sides of the slices, and its share of their voxels.

    The first and last slice are left out: they show anatomy in every scan. Slices run along the
    shortest array axis.
    """
    slices = np.moveaxis(data, int(np.argmin(data.shape)), 0)
    sides = (slices[:, 0], slices[:, -1], slices[:, :, 0], slices[:, :, -1])
    values, counts = np.unique(np.concatenate([s.ravel() for s in sides]), return_counts=True)
    best = int(np.argmax(counts))
    return float(values[best]), float(counts[best] / counts.sum())


def _mr(file: str, mr: Volume) -> Iterator[Finding]:
    try:
        check_mr(mr, file)
        detect_stack(mr, file)
    except ImageError as error:
        text = str(error).removeprefix(f"{file}: ").partition(", or insist")[0]
        text, _, todo = text.rpartition(": ")
        code = "mr-is-ct" if "looks like" in text else "stack"
        yield Finding(code, file, text, todo)


def check_mask(opened: Opened) -> Iterator[Finding]:
    """Labels of a mask, and the table of their names."""
    data, file, name = opened.data, opened.file, opened.item.name
    if data is None:
        return
    if data.dtype.kind == "f" and not np.isfinite(data).all():
        count = int(np.count_nonzero(~np.isfinite(data)))
        yield Finding("nan", file, f"{count} of {data.size} voxels are not finite", "replace them")
        return
    if not is_label_map(data):
        text = f"labels run from {data.min():g} to {data.max():g} with fractions or below 0"
        todo = "give the original label map: this one was interpolated or scaled"
        yield Finding("labels-not-whole", file, text, todo)
        return
    ids = {int(i) for i in np.unique(data)} - {0}
    if not ids:
        yield Finding("mask-empty", file, "there is no label in it", "segment again, or remove it")
        return
    known = SCHEMES.get(name.get("desc") or "")
    if known is not None and (odd := sorted(ids - known)):
        shown = ", ".join(map(str, odd[:8])) + (" ..." if len(odd) > 8 else "")
        yield Finding(
            "labels-unknown",
            file,
            f"labels {shown} do not belong to {name.get('desc')}",
            "translate them into this scheme (docs: outputs), TotalSegmentator has another one",
        )
    elif known is not None:
        yield from _table(opened, ids)


def is_label_map(data: NDArray[Any]) -> bool:
    """Whether all values are whole numbers from 0 to 65535."""
    low, high = float(data.min()), float(data.max())
    return 0 <= low <= high <= 65535 and (data.dtype.kind in "iub" or not (data % 1 != 0).any())


def _table(opened: Opened, ids: set[int]) -> Iterator[Finding]:
    path = opened.item.path.with_name(opened.item.name.stem + ".tsv")
    try:
        named = {int(row["index"]) for row in read_rows(path, ("index", "name"))}
        missing = sorted(ids - named)
        text = f"{path.name} does not name {missing}" if missing else ""
    except (InputError, ValueError, UnicodeDecodeError):
        text = f"{path.name} is {'damaged' if path.exists() else 'missing'}"
    if text:
        yield Finding("dseg-table", opened.file, text, "--fix writes it", "dseg-table")


def check_on_bone(file: str, vertebrae: Volume, ct: Volume) -> Iterator[Finding]:
    """Whether a vertebra mask covers what is bright in the CT; sees masks that were flipped."""
    step = tuple(max(1, round(2.0 / s)) for s in ct.grid.spacing)
    thin = tuple(slice(None, None, n) for n in step)
    mask, hu = vertebrae.data[thin] > 0, np.asarray(ct.data[thin], np.float32)
    if mask.sum() < 50 or not np.isfinite(hu).all():
        return
    distance = ndimage.distance_transform_edt(~mask, sampling=ct.grid.spacing * step)
    ring = (distance > 2.0) & (distance <= _RING_MM)
    if not ring.any():
        return
    inside, around = float(hu[mask].mean()), float(hu[ring].mean())
    if inside < around + BONE_HU:
        yield Finding(
            "mask-off-bone",
            file,
            f"mean {inside:.0f} HU inside the mask, {around:.0f} HU up to {_RING_MM:g} mm around",
            "look at both: the mask is flipped or shifted, or of another patient",
        )
