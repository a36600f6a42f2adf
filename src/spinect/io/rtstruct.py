"""Contours of a DICOM RTSTRUCT, and masks of them on an image's grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from spinect.errors import GeometryError, InputError
from spinect.geometry import Grid
from spinect.io.dicom import load

Float = NDArray[np.float64]
Contours = Sequence[Float]

OFF_SLICE: Final = 0.25  # of the slice distance: contours further from a slice are of another grid
_LPS: Final = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Structures:
    """The regions of one RTSTRUCT.

    Attributes:
        label: StructureSetLabel, such as the observer.
        frames: FrameOfReferenceUIDs that the contours live in.
        regions: Name -> closed planar contours, each (N, 3) mm, RAS+.
        passed_over: Names of regions without such a contour (points, open lines).
    """

    label: str
    frames: frozenset[str]
    regions: Mapping[str, Contours]
    passed_over: tuple[str, ...] = ()


def is_structures(header: Any) -> bool:
    """Whether a DICOM header is that of an RTSTRUCT."""
    return str(header.get("Modality", "")) == "RTSTRUCT"


def read_structures(path: Path) -> Structures:
    """Read an RTSTRUCT.

    Raises:
        InputError: Another kind of DICOM, two regions of one name, or contour data that are not
            triples of numbers.
    """
    file = load(path)
    if not is_structures(file):
        raise InputError(f"{path}: modality {file.get('Modality', '?')}, not an RTSTRUCT")
    names: dict[int, str] = {}
    frames = set()
    for roi in file.get("StructureSetROISequence", ()):
        name = str(roi.get("ROIName", "")).strip() or f"region {roi.ROINumber}"
        if name in names.values():
            raise InputError(f"{path}: two regions are called {name!r}: rename one")
        names[int(roi.ROINumber)] = name
        frames.add(str(roi.get("ReferencedFrameOfReferenceUID", "")))
    regions: dict[str, list[Float]] = {}
    for entry in file.get("ROIContourSequence", ()):
        number = int(entry.ReferencedROINumber)
        if number not in names:
            raise InputError(f"{path}: contours of region {number}, which is not defined")
        found = [
            _points(contour, path, names[number])
            for contour in entry.get("ContourSequence", ())
            if str(contour.get("ContourGeometricType", "")).startswith("CLOSED_PLANAR")
        ]
        if found:
            regions[names[number]] = found
    return Structures(
        label=str(file.get("StructureSetLabel", "")),
        frames=frozenset(frames - {""}),
        regions=regions,
        passed_over=tuple(name for name in names.values() if name not in regions),
    )


def _points(contour: Any, path: Path, name: str) -> Float:
    numbers = np.array([float(v) for v in contour.ContourData])
    if numbers.size < 9 or numbers.size % 3 or not np.isfinite(numbers).all():
        raise InputError(
            f"{path}: a contour of {name!r} has {numbers.size} numbers, not at least three points "
            "of three"
        )
    return np.asarray(numbers.reshape(-1, 3) * _LPS)


def rasterise(contours: Contours, grid: Grid, name: str) -> NDArray[np.bool_]:
    """The voxels whose centre lies inside the contours, even-odd: inner contours are holes.

    Args:
        contours: Each (N, 3) mm, RAS+, in a slice of `grid` (its third array axis).
    Returns:
        bool on `grid`. Parts beyond its edges are lost; slices between contours are not filled.
    Raises:
        GeometryError: A contour that does not lie in a slice of the grid.
    """
    mask = np.zeros(grid.shape, bool)
    for points in contours:
        index = grid.index(points)
        depth = float(index[:, 2].mean())
        off = float(np.abs(index[:, 2] - round(depth)).max())
        if off > OFF_SLICE:
            raise GeometryError(
                f"a contour of {name!r} lies {off * grid.spacing[2]:.2f} mm off the slices of "
                f"{grid}: it was drawn on another series"
            )
        if 0 <= round(depth) < grid.shape[2]:
            mask[:, :, round(depth)] ^= _polygon(index[:, :2], grid.shape[:2])
    return mask


def _polygon(corners: Float, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixel centres inside a polygon: each edge toggles all pixels beyond where it crosses.

    Args:
        corners: (N, 2) fractional index along the two axes; the last one joins the first.
    """
    toggles = np.zeros((shape[0] + 1, shape[1]), np.uint8)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0), strict=True):
        low, high = sorted((y0, y1))
        rows = np.arange(max(int(np.ceil(low)), 0), min(int(np.ceil(high)), shape[1]))
        if not rows.size:  # between two rows of centres, or beyond the image
            continue
        crossing = x0 + (rows - y0) * (x1 - x0) / (y1 - y0)
        first = np.clip(np.ceil(crossing), 0, shape[0]).astype(int)
        np.bitwise_xor.at(toggles, (first, rows), 1)
    return np.asarray(np.bitwise_xor.accumulate(toggles, 0)[:-1], bool)
