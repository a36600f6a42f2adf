"""Random smooth deformation that multiplies few scans: seeded per series and copy.

A coarse lattice of control points is moved at random; between them the displacement is a cubic
spline with mirrored ends (that of ``scipy.ndimage``), so that image and masks are read at places
that vary smoothly. On a grid the spline is separable: three small matrix products.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, PositiveFloat, model_validator
from scipy import ndimage
from torch import Tensor

from spinect.data.stream import Triple
from spinect.errors import ConfigError

# Graf et al. 2023, as published in their generator: sigma below the first number -> most control
# points per axis. Both are then multiplied by 0.8 there.
_MOST_POINTS: Final = (
    (2.1, 15), (2.3, 14), (2.5, 13), (2.6, 12), (2.7, 11), (2.8, 10),
    (3.0, 9), (3.5, 8), (4.0, 7), (4.3, 6), (np.inf, 5),
)  # fmt: skip
_SHRINK: Final = 0.8
_MARGIN: Final = 10  # voxels beyond each face that their lattice covers


class Elastic(BaseModel, frozen=True, extra="forbid"):
    """How control points are placed and moved.

    With the rule "mm" the displacement is the same in every direction of the body, and control
    points lie so far apart that the image does not fold. "voxels" is what Graf et al. 2023 did:
    sigma in voxels whatever their size (5-12 mm across 3.3 mm slices), 2-12 points per axis by
    their table, on a lattice 10 voxels wider than the volume; it may fold.
    """

    rule: Literal["mm", "voxels"] = "mm"
    sigma: tuple[PositiveFloat, PositiveFloat] = (1.6, 3.6)  # SD per axis, range; mm or voxels
    apart: tuple[PositiveFloat, PositiveFloat] = (8.0, 16.0)  # of control points, in sigma; mm only

    @model_validator(mode="after")
    def _ordered(self) -> "Elastic":
        for name, (low, high) in (("sigma", self.sigma), ("apart", self.apart)):
            if low > high:
                raise ValueError(f"{name} is a range, least first, not {low:g} to {high:g}")
        return self

    @property
    def margin(self) -> int:
        """Voxels beyond each face that control points cover, and that reading mirrors."""
        return _MARGIN if self.rule == "voxels" else 0


@dataclass(frozen=True, eq=False)
class Lattice:
    """Displacements of control points; voxel o of the copy is read at ``o + bend(o)``.

    Attributes:
        moved: (3, k0, k1, k2) float32, source voxels.
        shape: Voxels of the volume.
        margin: Voxels by which the outermost control points lie beyond the outermost voxels;
            also how far reading beyond the volume is mirrored back into it.
    """

    moved: NDArray[np.float32]
    shape: Triple
    margin: int

    def bend(self, axes: Sequence[NDArray[np.float64]]) -> Tensor:
        """(3, n0, n1, n2) float32 displacement, voxels, at the lattice of three coordinates."""
        field = torch.from_numpy(self.moved)
        for axis, at in enumerate(axes):
            weights = torch.from_numpy(self._weights(axis, at))
            field = torch.tensordot(field, weights, dims=([1], [1]))  # the new axis goes last
        return field.contiguous()

    def _weights(self, axis: int, at: NDArray[np.float64]) -> NDArray[np.float32]:
        """(n, k) share of every control point at coordinates (n,) along an axis, voxels."""
        count = self.moved.shape[axis + 1]
        length = max(self.shape[axis] - 1 + 2 * self.margin, 1)
        places = ((at + self.margin) * (count - 1) / length)[None]
        one = [ndimage.map_coordinates(e, places, order=3, mode="mirror") for e in np.eye(count)]
        return np.stack(one, 1).astype(np.float32)


def draw_lattice(
    elastic: Elastic, shape: Triple, spacing: Sequence[float], series: str, copy: int
) -> Lattice:
    """The deformation of one copy of a series; the same for the same name and number.

    Args:
        shape: Voxels of the volume. spacing: mm per voxel along each axis.
        series: Name of the series. copy: Number of the copy.
    """
    rng = np.random.default_rng([_number(series), copy])
    sigma = float(rng.uniform(*elastic.sigma))
    if elastic.rule == "voxels":
        most = next(n for limit, n in _MOST_POINTS if sigma / _SHRINK < limit)
        counts = [max(2, round(_SHRINK * int(rng.integers(3, most + 1))))] * 3
        voxels = np.full(3, sigma)
    else:
        gap = sigma * float(rng.uniform(*elastic.apart))
        sides = [(n - 1) * mm for n, mm in zip(shape, spacing, strict=True)]
        counts = [max(2, 1 + int(side // gap)) for side in sides]
        voxels = sigma / np.asarray(spacing, np.float64)
    drawn = rng.standard_normal((3, *counts)) * voxels[:, None, None, None]
    return Lattice(drawn.astype(np.float32), shape, elastic.margin)


def is_deformed(copy: int, copies: int) -> bool:
    """Whether a copy differs from the scan; the last one never does.

    Raises:
        ConfigError: There is no such copy.
    """
    if not 0 <= copy < copies:
        raise ConfigError(f"copy {copy} of {copies}: they are numbered from 0")
    return copy < copies - 1


def _number(name: str) -> int:
    """A name as a seed that is the same on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
