"""Voxels with a place in the world and a meaning."""

from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from spinect.errors import GeometryError
from spinect.geometry.grid import Grid

Kind = Literal["mr", "ct", "labels"]


class KindRules(NamedTuple):
    """What follows from the kind of a volume."""

    unit: str
    interpolation: Literal["linear", "labels"]
    outside: float  # the value beyond the field of view
    dtype: type[np.generic]  # how it is written


RULES: Final[dict[str, KindRules]] = {
    "mr": KindRules("arbitrary", "linear", 0.0, np.float32),
    "ct": KindRules("HU", "linear", -1000.0, np.int16),
    "labels": KindRules("label id", "labels", 0.0, np.uint8),
}


@dataclass(frozen=True, eq=False)
class Volume:
    """A scalar image or a label map.

    Attributes:
        data: (X, Y, Z) array; float32 for "mr" and "ct" in memory, an integer type for "labels".
        affine: (4, 4), voxel index -> mm, RAS+ world.
        kind: Fixes unit, interpolation and what lies outside (`RULES`).
    """

    data: NDArray[Any]
    affine: NDArray[np.float64]
    kind: Kind

    def __post_init__(self) -> None:
        if self.data.ndim != 3:
            raise GeometryError(f"a volume has three axes, this array has shape {self.data.shape}")
        object.__setattr__(self, "affine", Grid(self.data.shape, self.affine).affine)

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        shape = self.data.shape
        return Grid((shape[0], shape[1], shape[2]), self.affine)

    @property
    def rules(self) -> KindRules:
        """Unit, interpolation and outside value of this kind."""
        return RULES[self.kind]

    def with_data(self, data: NDArray[Any], kind: Kind | None = None) -> "Volume":
        """Other voxels on the same grid."""
        if data.shape != self.data.shape:
            raise GeometryError(
                f"data of shape {data.shape} do not fit the grid of {self.data.shape} voxels"
            )
        return replace(self, data=data, kind=kind or self.kind)

    def canonical(self) -> "Volume":
        """The same voxels, array axes permuted and flipped to be closest to R, A, S."""
        return self.reoriented("RAS")

    def reoriented(self, axes: str) -> "Volume":
        """The same voxels with array axes closest to `axes`; no interpolation."""
        change = nib.orientations.ornt_transform(
            nib.io_orientation(self.affine), nib.orientations.axcodes2ornt(axes)
        )
        data = nib.orientations.apply_orientation(self.data, change)
        return replace(self, data=data, affine=self.grid.reoriented(axes).affine)
