"""Images that are not what a run takes them for: made of phantoms, with the truth at hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spinect.geometry import Volume
from spinect.geometry.resample import resample
from spinect.io import read

LEAST_MM = 40.0  # of a box beside the spine
SLAB_MM = 28.0
MARGIN_MM = 6.0  # between it and the nearest vertebra


def cropped(volume: Volume, start: list[int], stop: list[int]) -> Volume:
    """A box of a volume, voxels."""
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    data = np.ascontiguousarray(volume.data[box])
    return Volume(data, volume.grid.crop(start, data.shape).affine, volume.kind)


def of_height(mr: Volume, labels: Volume | None, height_mm: float) -> Volume:
    """At most so much height, about the middle of the vertebrae, or of the image; axes R, A, S."""
    mr = mr.canonical()
    count = mr.data.shape[2]
    keep = min(count, round(height_mm / mr.grid.spacing[2]))
    middle = count / 2
    if labels is not None:
        levels = np.flatnonzero(resample(labels, mr.grid).data.any((0, 1)))
        middle = (levels[0] + levels[-1]) / 2
    first = int(np.clip(round(middle - keep / 2), 0, count - keep))
    return cropped(mr, [0, 0, first], [*mr.data.shape[:2], first + keep])


def slab(mr: Volume, labels: Volume, rng: np.random.Generator) -> Volume:
    """Few sagittal slices, 28 mm or less, not quite in the middle: narrow, and nothing is wrong."""
    seen = np.flatnonzero(labels.data.any((1, 2)))
    keep = max(int(SLAB_MM / mr.grid.spacing[0]), 1)
    middle = (seen[0] + seen[-1] + 1) / 2 + rng.uniform(-5, 5) / mr.grid.spacing[0]
    first = int(np.clip(round(middle - keep / 2), 0, mr.data.shape[0] - keep))
    return cropped(mr, [first, 0, 0], [first + keep, *mr.data.shape[1:]])


def upside_down(mr: Volume, _labels: Volume, _rng: np.random.Generator) -> Volume:
    """The voxels reversed from head to feet, the header as it was."""
    return mr.with_data(np.ascontiguousarray(mr.data[:, :, ::-1]))


def front_to_back(mr: Volume, _labels: Volume, _rng: np.random.Generator) -> Volume:
    """The voxels reversed from front to back, the header as it was."""
    return mr.with_data(np.ascontiguousarray(mr.data[:, ::-1]))


def inverted(mr: Volume, _labels: Volume, _rng: np.random.Generator) -> Volume:
    """Bright and dark exchanged between the 0.1st and the 99.9th percentile."""
    low, high = np.percentile(mr.data, [0.1, 99.9])
    return mr.with_data((high + low - np.clip(mr.data, low, high)).astype(np.float32))


def half(mr: Volume, labels: Volume, rng: np.random.Generator) -> Volume:
    """One side of the middle of the vertebrae, left or right."""
    seen = np.flatnonzero(labels.data.any((1, 2)))
    middle = round((seen[0] + seen[-1] + 1) / 2)
    shape = list(mr.data.shape)
    if rng.random() < 0.5:
        return cropped(mr, [0, 0, 0], [middle, *shape[1:]])
    return cropped(mr, [middle, 0, 0], shape)


def beside(mr: Volume, labels: Volume, _rng: np.random.Generator) -> Volume | None:
    """The largest part without vertebrae: in front, behind, above, below, left or right.

    None where no part of 40 mm is free.
    """
    shape, spacing = mr.data.shape, mr.grid.spacing
    boxes: list[tuple[float, list[int], list[int]]] = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        seen = np.flatnonzero(labels.data.any(others))
        margin = int(np.ceil(MARGIN_MM / spacing[axis]))
        for low, high in ((0, seen[0] - margin), (seen[-1] + 1 + margin, shape[axis])):
            start, stop = [0, 0, 0], list(shape)
            start[axis], stop[axis] = low, high
            if (high - low) * spacing[axis] >= LEAST_MM:
                boxes.append((float(np.prod(np.subtract(stop, start) * spacing)), start, stop))
    if not boxes:
        return None
    _, start, stop = max(boxes)
    return cropped(mr, start, stop)


def noise(mr: Volume, _labels: Volume, rng: np.random.Generator) -> Volume:
    """Rician noise without a signal."""
    parts = rng.normal(size=(2, *mr.data.shape)).astype(np.float32)
    values: NDArray[np.float32] = 100 * np.hypot(parts[0], parts[1])
    return mr.with_data(values)


CORRUPTIONS: dict[str, Callable[[Volume, Volume, np.random.Generator], Volume | None]] = {
    "wrong organ": beside,
    "noise": noise,
    "inverted": inverted,
    "upside down": upside_down,
    "front to back": front_to_back,
    "half": half,
}
GOOD: dict[str, Callable[[Volume, Volume, np.random.Generator], Volume]] = {
    "clean": lambda mr, _labels, _rng: mr,
    "slab": slab,
}
TURNED = {
    "clean": "as stored",
    "slab": "as stored",
    "upside down": "head-feet",
    "front to back": "front-back",
}


def truth_of(scan: Path) -> Volume:
    """Vertebrae of a phantom's scan on its own grid."""
    subject, contrast = scan.name.removesuffix(".nii.gz").split("_")
    folder = scan.parents[2] / "derivatives" / "truth" / subject
    return read(folder / f"{subject}_space-{contrast}_desc-vertebrae_dseg.nii.gz", "labels")
