"""DICOM series to volumes, by their geometry: file names and instance numbers are not believed.

Needs the extra `dicom`. World: DICOM's patient coordinates (LPS+, mm) become RAS+.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from spinect.errors import ConfigError, GeometryError, ImageError, InputError
from spinect.geometry import Grid, Volume

try:
    import pydicom
    from pydicom.errors import InvalidDicomError
except ModuleNotFoundError as _missing:
    raise ConfigError("DICOM needs pydicom: pip install 'spinect[dicom]'") from _missing

log = logging.getLogger(__name__)
Float = NDArray[np.float64]

LPS_TO_RAS: Final = np.diag([-1.0, -1.0, 1.0, 1.0])
UNEVEN_MM: Final = 0.05  # slice distances that differ by more are a missing or doubled slice
TILT_MM: Final = 0.05  # sideways shift from slice to slice: a tilted gantry
_TAGS: Final = (
    "SOPClassUID", "SeriesInstanceUID", "SeriesDescription", "Modality", "FrameOfReferenceUID",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns",
    "NumberOfFrames", "ImageType", "PatientID",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Series:
    """The slices of one stack, sorted along the normal (row direction x column direction).

    Attributes:
        uid: SeriesInstanceUID. description: SeriesDescription. modality: "MR", "CT".
        frame: FrameOfReferenceUID; series of one frame lie in one world.
        files: One per slice, by position; the instance number plays no part.
        grid: (columns, rows, slices), voxel index -> mm, RAS+.
    """

    uid: str
    description: str
    modality: str
    frame: str
    files: tuple[Path, ...]
    grid: Grid

    def __str__(self) -> str:
        return f"{self.modality} {self.description!r} ({self.grid})"


def read_headers(folder: Path) -> list[tuple[Path, Any]]:
    """Path and header (no pixels) of every DICOM file below a folder, others are passed over.

    Raises:
        InputError: There is none.
    """
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            found.append((path, pydicom.dcmread(path, stop_before_pixels=True)))
        except (InvalidDicomError, EOFError):
            log.debug("%s is not DICOM", path)
    if not found:
        raise InputError(f"{folder} holds no DICOM file: give the folder of a patient")
    return found


def load(path: Path) -> Any:
    """A DICOM file with everything in it."""
    return pydicom.dcmread(path)


def find_series(headers: Iterable[tuple[Path, Any]]) -> list[Series]:
    """The image series among the headers; a series of several stacks is told apart by geometry.

    Raises:
        GeometryError: Slices that are missing, doubled, or shifted sideways (tilted gantry).
        ImageError: An enhanced multi-frame file.
    """
    groups: dict[tuple[Any, ...], list[tuple[Path, Any]]] = defaultdict(list)
    for path, header in headers:
        if "ImagePositionPatient" not in header and "NumberOfFrames" not in header:
            continue  # structures, registrations, plans, screenshots
        if int(header.get("NumberOfFrames", 1) or 1) > 1:
            raise ImageError(
                f"{path}: an enhanced multi-frame file of {header.NumberOfFrames} frames: "
                "convert it first, dcm2niix -z y -o OUT FOLDER, and import the .nii.gz"
            )
        turn = tuple(round(float(v), 4) for v in header.ImageOrientationPatient)
        pixel = tuple(round(float(v), 5) for v in header.PixelSpacing)
        size = (int(header.Rows), int(header.Columns))
        groups[str(header.SeriesInstanceUID), turn, pixel, size].append((path, header))
    return [_series(members) for _, members in sorted(groups.items(), key=lambda g: g[0])]


def _series(members: list[tuple[Path, Any]]) -> Series:
    first = members[0][1]
    name = f"{first.get('Modality', '?')} series {str(first.get('SeriesDescription', ''))!r}"
    along_columns, along_rows = np.array(first.ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(along_columns, along_rows)
    positions = np.array([header.ImagePositionPatient for _, header in members], float)
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    step = _step(positions, normal, name)
    row_mm, column_mm = (float(v) for v in first.PixelSpacing)  # between rows, between columns
    affine = np.eye(4)
    affine[:3, :3] = np.stack([along_columns * column_mm, along_rows * row_mm, step], 1)
    affine[:3, 3] = positions[0]
    shape = (int(first.Columns), int(first.Rows), len(members))
    return Series(
        uid=str(first.SeriesInstanceUID),
        description=str(first.get("SeriesDescription", "")),
        modality=str(first.get("Modality", "")),
        frame=str(first.get("FrameOfReferenceUID", "")),
        files=tuple(members[int(i)][0] for i in order),
        grid=Grid(shape, LPS_TO_RAS @ affine),
    )


def _step(positions: Float, normal: Float, name: str) -> Float:
    """(3,) from slice to slice, mm LPS+, of sorted positions (N, 3)."""
    if len(positions) < 2:
        return np.asarray(normal, float)  # one slice: no reader takes it for a volume
    depth = positions @ normal
    gaps = np.diff(depth)
    if gaps.min() < UNEVEN_MM:
        at = int(np.argmin(gaps))
        raise GeometryError(
            f"{name}: two slices lie at {depth[at]:.2f} mm: several echoes or times in one "
            "series, or a file that is there twice; leave one of them"
        )
    if np.ptp(gaps) > UNEVEN_MM:
        at = int(np.argmax(gaps))
        raise GeometryError(
            f"{name}: {len(positions)} slices, {gaps.min():.2f} to {gaps.max():.2f} mm apart: "
            f"a slice is missing after {depth[at]:.2f} mm; export the series again"
        )
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    aside = float(np.linalg.norm(step - (step @ normal) * normal))
    if aside > TILT_MM:
        raise GeometryError(
            f"{name}: each slice is shifted sideways by {aside:.2f} mm (tilted gantry): "
            "resample it onto a straight grid first, as dcm2niix does"
        )
    return np.asarray((step @ normal) * normal)


def read_series(series: Series) -> Volume:
    """The voxels of a series with slope and intercept of each slice, and padding as air.

    Returns:
        "ct" in HU for modality CT, else "mr"; float32 (columns, rows, slices) on `series.grid`.
    Raises:
        ImageError: Colours, inverted grey values, pixels that cannot be decoded or read.
    """
    data = np.empty(series.grid.shape, np.float32)
    for index, path in enumerate(series.files):
        data[:, :, index] = _slice(path, series.modality == "CT")
    return Volume(data, series.grid.affine, "ct" if series.modality == "CT" else "mr")


def _slice(path: Path, is_ct: bool) -> NDArray[np.float32]:
    """(columns, rows) of one file, stored value * slope + intercept."""
    file = load(path)
    if (kind := str(file.get("PhotometricInterpretation", "MONOCHROME2"))) != "MONOCHROME2":
        raise ImageError(
            f"{path}: photometric interpretation {kind}, a screenshot or an inverted image: "
            "give the original series (MONOCHROME2)"
        )
    try:
        stored = np.asarray(file.pixel_array)
    except (AttributeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise ImageError(
            f"{path}: the pixels cannot be decoded ({' '.join(str(error).split())[:150]}): "
            "store the series uncompressed, for example with dcmdjpeg"
        ) from error
    slope = float(file.get("RescaleSlope", 1) or 1)
    values = stored.astype(np.float32) * slope + float(file.get("RescaleIntercept", 0) or 0)
    if is_ct and "PixelPaddingValue" in file:
        values[stored == int(file.PixelPaddingValue)] = -1000.0
    return np.asarray(values.T, np.float32)
