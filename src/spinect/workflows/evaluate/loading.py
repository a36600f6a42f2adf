"""Reads truth and results, and refuses what does not fit its name."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from spinect.anatomy import SUBREGIONS, VERTEBRAE
from spinect.errors import GeometryError, InputError, LabelError
from spinect.evaluation.regions import regions_of
from spinect.evaluation.surface import Mask
from spinect.geometry import Grid, Volume
from spinect.geometry.resample import resample
from spinect.io import read
from spinect.workflows.evaluate.truth import Series, TruthFiles

Masks = tuple[Volume, Volume]  # vertebrae, subregions


def read_masks(vertebrae: Path, subregions: Path) -> Masks:
    """A vertebra map and a subregion map.

    Raises:
        LabelError: Ids that do not belong into the map, such as when the two are swapped.
    """
    return _labels(vertebrae, VERTEBRAE), _labels(subregions, SUBREGIONS)


def _labels(path: Path, known: dict[int, str]) -> Volume:
    volume = read(path, "labels")
    strange = sorted(set(np.unique(volume.data).tolist()) - known.keys() - {0})
    if strange:
        what = "vertebrae" if known is VERTEBRAE else "subregions"
        raise LabelError(
            f"{path.name} holds labels {', '.join(map(str, strange[:8]))}, which are no {what}: "
            "swapped with another file, or another scheme"
        )
    return volume


def on_own_grid(volume: Volume, path: Path, grid: Grid, mr: Path) -> Volume:
    """The volume, if it lies on the MR's own grid.

    Raises:
        GeometryError: It does not.
    """
    if not volume.grid.matches(grid):
        raise GeometryError(
            f"{path.name} has {volume.grid}, {mr.name} has {grid}, corners "
            f"{volume.grid.gap(grid):.2f} mm apart: a result lies on the grid of its MR; "
            "it was resampled, or belongs to another image"
        )
    return volume


@dataclass(frozen=True)
class Truth:
    """The true volumes of one series, read when they are first needed."""

    series: Series

    @cached_property
    def ct(self) -> Volume:
        """At 1 mm."""
        return read(_wanted(self.series.iso.ct, self.series, "CT at 1 mm"), "ct")

    @cached_property
    def native_ct(self) -> Volume:
        """On the MR's grid."""
        return read(_wanted(self.series.native.ct, self.series, "CT on the MR's grid"), "ct")

    @cached_property
    def masks(self) -> Masks:
        """At 1 mm."""
        return self._masks(self.series.iso, "at 1 mm")

    @cached_property
    def native_masks(self) -> Masks:
        """On the MR's grid."""
        return self._masks(self.series.native, "on the MR's grid")

    @cached_property
    def tissue(self) -> Volume | None:
        """Tissue ids at 1 mm, where they are known: on phantoms."""
        path = self.series.iso.tissue
        return None if path is None else read(path, "labels")

    @cached_property
    def regions(self) -> dict[str, Mask]:
        """Masks of the 1 mm truth; those of bone are empty where it has no vertebrae."""
        valid = self.series.iso.valid
        known = None if valid is None else read(valid, "labels").data > 0
        if self.series.iso.masks:
            vertebrae = self.masks[0]
        else:
            vertebrae = Volume(np.zeros(self.ct.data.shape, np.uint8), self.ct.affine, "labels")
        return regions_of(self.ct, vertebrae, known)

    @cached_property
    def flat_grid(self) -> Grid:
        """The MR's grid with 1 x 1 mm in the sagittal plane and its own distance of slices."""
        grid = self.native_ct.grid.canonical()
        return grid.with_spacing([grid.spacing[0], 1.0, 1.0])

    @cached_property
    def flat(self) -> tuple[Volume, Volume]:
        """CT and vertebrae on `flat_grid`."""
        return resample(self.native_ct, self.flat_grid), resample(
            self.native_masks[0], self.flat_grid
        )

    def _masks(self, files: TruthFiles, where: str) -> Masks:
        first = _wanted(files.vertebrae, self.series, f"vertebrae {where}")
        return read_masks(first, _wanted(files.subregions, self.series, f"subregions {where}"))


def _wanted(path: Path | None, series: Series, what: str) -> Path:
    if path is None:
        raise InputError(f"{series.name}: the {series.source} has no {what}: make it first")
    return path
