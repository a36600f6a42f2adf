"""How the MR of a phantom is taken: which slices, where, and what a drawn acquisition becomes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from spinect.errors import ConfigError
from spinect.geometry import Grid
from spinect.phantom.anatomy import PELVIS, Anatomy, Region
from spinect.phantom.scanner import Scan

SLICE_MM: Final = 4.0
SLICES: Final = 20


@dataclass(frozen=True)
class Layout:
    """The series of a region.

    Attributes:
        axes: Order and direction in which it is stored.
        slice_axis: 0 sagittal, 2 axial.
        pixel_mm: In plane. slice_mm: From slice to slice.
        other_slices: Contrast -> its own distance of slices, mm.
        ct_slices: Distances of CT slices that are drawn from, mm.
        resolution: Coarsest acquired pixel, mm.
    """

    axes: str
    slice_axis: int
    pixel_mm: float
    slice_mm: float
    ct_slices: tuple[float, ...]
    resolution: float
    other_slices: Mapping[str, float] = field(default_factory=dict)

    def slices(self, contrast: str) -> float:
        """From one slice of a contrast to the next, mm."""
        return self.other_slices.get(contrast, self.slice_mm)


SAGITTAL: Final = Layout("PSR", 0, 0.6, SLICE_MM, (1.0, 1.5, 2.0), 1.2)
# As in the Gold Atlas: T2w 0.875 x 0.875 x 2.5 mm, T1w with slices of 3 mm over the same height.
AXIAL: Final = Layout("LPS", 2, 0.875, 2.5, (2.0, 2.5, 3.0), 1.4, {"T1w": 3.0})


def layout_of(region: Region, slice_mm: float | None = None) -> Layout:
    """The series of a region, with another distance of slices where one is given.

    Raises:
        ConfigError: A distance for the pelvis, whose slices are those of the Gold Atlas.
    """
    if region != PELVIS:
        return SAGITTAL if slice_mm is None else replace(SAGITTAL, slice_mm=float(slice_mm))
    if slice_mm is not None:
        raise ConfigError(
            f"slices of {slice_mm:g} mm are for sagittal series, and a pelvis has axial ones: "
            f"{AXIAL.slice_mm:g} mm, T1w {AXIAL.slices('T1w'):g} mm. Leave slice_mm out"
        )
    return AXIAL


def mr_grid(anatomy: Anatomy, slice_mm: float | None = None, contrast: str = "T2w") -> Grid:
    """The slices of a series, in storage order: sagittal around the spine, or axial.

    Args:
        slice_mm: Of sagittal series; 4 by default.
    """
    layout = layout_of(anatomy.region, slice_mm)
    if layout.slice_axis == 2:
        return _axial_grid(anatomy, layout, contrast)
    return _sagittal_grid(anatomy, layout)


def _sagittal_grid(anatomy: Anatomy, layout: Layout) -> Grid:
    low, high = anatomy.window
    points = np.array(list(anatomy.subject.centres.values()))
    seen = points[(points[:, 2] > low[2]) & (points[:, 2] < high[2]), 0]
    width = max(SLICES * SLICE_MM, float(np.ptp(seen)) + 60)
    count = int(np.ceil(width / layout.slice_mm))
    spacing = np.array([layout.slice_mm, layout.pixel_mm, layout.pixel_mm])
    pixels = np.floor((high - low) / layout.pixel_mm).astype(int)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = low + spacing / 2
    affine[0, 3] = (seen.min() + seen.max()) / 2 - layout.slice_mm * (count - 1) / 2
    return Grid((count, int(pixels[1]), int(pixels[2])), affine).reoriented(layout.axes)


def _axial_grid(anatomy: Anatomy, layout: Layout, contrast: str) -> Grid:
    """The whole field of view: every contrast covers the same box."""
    low, high = anatomy.window
    spacing = np.array([layout.pixel_mm, layout.pixel_mm, layout.slices(contrast)])
    count = np.rint((high - low) / spacing).astype(int)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = low + spacing / 2
    return Grid((int(count[0]), int(count[1]), int(count[2])), affine).reoriented(layout.axes)


def as_series(scan: Scan, layout: Layout, slice_mm: float) -> Scan:
    """The same acquisition as a plain series of such slices, nothing folded in."""
    best = layout.resolution
    plain = replace(
        scan,
        slice_axis=layout.slice_axis,
        spacing=slice_mm,
        thickness=slice_mm * min(1.0, scan.thickness / scan.spacing),
        resolution=(min(scan.resolution[0], best), min(scan.resolution[1], best)),
        jitter=min(scan.jitter, 0.3),
        wrap_mm=0.0,
        frames=(),
        upsample=False,
    )
    return plain if layout.slice_axis == 0 else axial(replace(plain, jitter=0.0))


def axial(scan: Scan) -> Scan:
    """The same acquisition with axial slices, taken with coils all round the body.

    The signal does not fall towards the front, and no band saturates the belly.
    """
    return replace(scan, slice_axis=2, coil_depth=2000.0, coil_floor=0.0, saturation=None)
