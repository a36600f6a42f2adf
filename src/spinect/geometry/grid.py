"""Where voxels lie: shape, affine, spacing, orientation."""

from dataclasses import dataclass, field

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray

from spinect.errors import GeometryError

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular lattice of voxel centres.

    Attributes:
        shape: Voxels along each of the three array axes.
        affine: (4, 4), voxel index -> mm, RAS+ world.
    """

    shape: tuple[int, int, int]
    affine: Float = field(default_factory=lambda: np.eye(4))

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        affine = np.array(self.affine, np.float64)
        if len(shape) != 3 or min(shape) < 1:
            raise GeometryError(f"a grid needs three axes of at least one voxel, not {shape}")
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GeometryError(f"the affine must be a finite 4x4 matrix, not {affine.tolist()}")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise GeometryError(
                f"the affine is singular, its axes are {affine[:3, :3].tolist()} mm: "
                "the header gives no usable voxel size or direction"
            )
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @property
    def spacing(self) -> Float:
        """(3,) distance between neighbouring voxel centres along each array axis, mm."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def direction(self) -> Float:
        """(3, 3) unit vectors of the array axes in RAS+, one per column."""
        return np.asarray(self.affine[:3, :3] / self.spacing)

    @property
    def axes(self) -> str:
        """Closest anatomical direction that each array axis points to, such as "RAS"."""
        return "".join(nib.aff2axcodes(self.affine))

    @property
    def plane(self) -> str:
        """ "sagittal", "coronal", "axial" by the thickest axis, or "isotropic" within 25 %."""
        spacing = self.spacing
        if spacing.max() < 1.25 * np.median(spacing):
            return "isotropic"
        letter = self.axes[int(np.argmax(spacing))]
        return {"L": "sagittal", "A": "coronal", "I": "axial"}[
            {"R": "L", "P": "A", "S": "I"}.get(letter, letter)
        ]

    @property
    def extent(self) -> Float:
        """(3,) size along each array axis, outer voxel faces included, mm."""
        return np.asarray(self.spacing * self.shape)

    def world(self, index: ArrayLike) -> Float:
        """Voxel index (..., 3), fractions allowed -> mm, RAS+."""
        return np.asarray(np.asarray(index) @ self.affine[:3, :3].T + self.affine[:3, 3])

    def index(self, world: ArrayLike) -> Float:
        """mm, RAS+ (..., 3) -> fractional voxel index."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(np.asarray(world) @ inverse[:3, :3].T + inverse[:3, 3])

    def corners(self) -> Float:
        """(8, 3) centres of the corner voxels, mm, RAS+."""
        last = np.array(self.shape) - 1
        picks = np.stack(np.meshgrid(*[[0, n] for n in last], indexing="ij"), -1)
        return self.world(picks.reshape(8, 3))

    def gap(self, other: "Grid") -> float:
        """Largest distance between corresponding corners, mm; inf when the shapes differ."""
        if self.shape != other.shape:
            return float("inf")
        return float(np.linalg.norm(self.corners() - other.corners(), axis=1).max())

    def matches(self, other: "Grid", tolerance_mm: float = 0.01) -> bool:
        """Same shape, and corners within `tolerance_mm`."""
        return self.gap(other) <= tolerance_mm

    def canonical(self) -> "Grid":
        """The same voxels with the array axes permuted and flipped to be closest to R, A, S."""
        return self.reoriented("RAS")

    def reoriented(self, axes: str) -> "Grid":
        """The same voxels with the array axes closest to `axes`, such as "RAS" or "PIR"."""
        change = nib.orientations.ornt_transform(
            nib.io_orientation(self.affine), nib.orientations.axcodes2ornt(axes)
        )
        affine = self.affine @ nib.orientations.inv_ornt_aff(change, self.shape)
        shape = np.empty(3, int)
        shape[change[:, 0].astype(int)] = self.shape
        return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)

    def with_spacing(self, spacing: ArrayLike) -> "Grid":
        """A grid of other spacing over the same box: outer faces start where this one's do.

        Args:
            spacing: mm, one number or three (per array axis).
        """
        new = np.broadcast_to(np.asarray(spacing, np.float64), 3)
        count = np.maximum(np.ceil(self.extent / new - 1e-3), 1).astype(int)
        first = (count * new - self.extent) / -2 / self.spacing  # centred: same margin both sides
        affine = np.eye(4)
        affine[:3, :3] = self.direction * new
        affine[:3, 3] = self.world(first + (new / self.spacing - 1) / 2)
        return Grid((int(count[0]), int(count[1]), int(count[2])), affine)

    def crop(self, start: ArrayLike, shape: ArrayLike) -> "Grid":
        """The sub-grid whose first voxel is `start`; it may reach outside this grid."""
        affine = self.affine.copy()
        affine[:3, 3] = self.world(start)
        size = np.asarray(shape, int)
        return Grid((int(size[0]), int(size[1]), int(size[2])), affine)

    def __str__(self) -> str:
        size = "x".join(map(str, self.shape))
        spacing = "x".join(f"{s:.3g}" for s in self.spacing)
        return f"{size} voxels of {spacing} mm, {self.axes}"
