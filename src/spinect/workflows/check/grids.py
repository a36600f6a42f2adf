"""Grids and units: headers that can be read but not believed, and masks beside their image."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from spinect.anatomy import ORDER
from spinect.geometry.landmarks import Landmarks
from spinect.io.bids import Patient
from spinect.io.headers import SPACING_MM, raw_header
from spinect.io.read import NIFTI
from spinect.workflows.check.findings import Finding
from spinect.workflows.check.loading import Opened

UNIT_MM: Final = {1: ("metre", 1e3), 3: ("micron", 1e-3)}
PLAUSIBLE_MM: Final = (0.1, 12.0)  # voxel edges of spine images
NEIGHBOURS_MM: Final = (8.0, 65.0)  # centres of neighbouring vertebrae, C3 of a child to tall L4


def check_header(opened: Opened) -> Iterator[Finding]:
    """Unit, orientation and readability of one file."""
    finding = _unit(opened)
    if finding is not None:
        yield finding
    elif opened.failure:
        yield Finding("unreadable", opened.file, opened.failure, "see there")
    for text in opened.said:
        if "sform and qform disagree" in text:
            yield Finding(
                "sform-qform",
                opened.file,
                text,
                "look which of the two is right; --fix makes the qform follow the sform",
                "qform-from-sform",
            )
        elif "no orientation" in text:
            todo = "convert the series again from DICOM; left and right cannot be known from it"
            yield Finding("orientation-missing", opened.file, text, todo)
        else:
            yield Finding("header", opened.file, text, "convert the series again if in doubt")


def _unit(opened: Opened) -> Finding | None:
    """The unit of a NIfTI header: nonsense, or true but passed over by many programs."""
    header = header_of(opened.item.path)
    if header is None or (code := int(header["xyzt_units"]) & 7) not in UNIT_MM:
        return None
    name, scale = UNIT_MM[code]
    sizes = np.abs(np.asarray(header["pixdim"][1:4], float))
    shown = " x ".join(f"{s:.4g}" for s in sizes)
    low, high = PLAUSIBLE_MM
    scaled = sizes * scale
    if not (scaled.min() >= SPACING_MM[0] and scaled.max() < SPACING_MM[1]):
        plausible = sizes.min() >= low and sizes.max() <= high
        return Finding(
            "unit-wrong",
            opened.file,
            f"the unit is {name} and the voxel size {shown}, which is "
            f"{' x '.join(f'{s:.4g}' for s in scaled)} mm",
            "set the unit to mm: the sizes are plausible in mm"
            if plausible
            else "correct unit and voxel size, or convert the series again",
            "unit-to-mm" if plausible else None,
        )
    return Finding(
        "unit-not-mm",
        opened.file,
        f"the unit is {name} ({shown}); programs that pass over it see other sizes",
        "write the header in mm",
        "affine-to-mm",
    )


def header_of(path: Path) -> Any:
    """The raw header of a NIfTI file; None for other formats and for files without one."""
    if not path.name.lower().endswith(NIFTI):
        return None
    try:
        return raw_header(path)
    except (OSError, EOFError, ValueError, gzip.BadGzipFile):
        return None


def check_grid(patient: Patient, opened: Opened, reference: Opened | None) -> Iterator[Finding]:
    """A mask, or a CT in an MR's space, against the image that it belongs to."""
    if reference is None or opened.grid is None or reference.grid is None:
        return
    if opened.grid.matches(reference.grid):
        return
    gap = opened.grid.gap(reference.grid)
    apart = "other sizes" if np.isinf(gap) else f"corners {gap:.2f} mm apart"
    yield Finding(
        "grid",
        opened.file,
        f"it lies on {opened.grid}, {reference.item.path.name} of {patient.name} on "
        f"{reference.grid}; {apart}",
        "resample the one that was made from the other onto its grid",
    )


def check_size(file: str, centres: Landmarks) -> Iterator[Finding]:
    """Distances between neighbouring vertebrae, which no unit error survives."""
    points = centres.array()
    if len(points) < 3:
        return
    levels = np.diff([ORDER.index(vertebra) for vertebra, _ in centres])  # 2: one is not there
    typical = float(np.median(np.linalg.norm(np.diff(points, axis=0), axis=1) / levels))
    low, high = NEIGHBOURS_MM
    if not low <= typical <= high:
        yield Finding(
            "size",
            file,
            f"neighbouring vertebrae are {typical:.3g} mm apart (median of {len(points) - 1}), "
            f"people have {low:g} to {high:g}",
            "correct the voxel size or unit of image and mask",
        )
