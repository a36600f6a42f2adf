"""Turning, zooming and bending a patch: where each of its voxels is read in the patient."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from torch import Tensor

from spinect.data.elastic import Lattice
from spinect.data.stream import Triple

LATTICE_MM = 24  # between the control points of the displacement
_INVERSE_ROUNDS = 8  # fixed-point steps; each shrinks the error by the gradient, under 0.3
SPLINE_REACH = 8  # voxels after which a cubic spline has forgotten a value, 0.268**8 = 3e-5
_NOWHERE = -1e4  # a place outside every volume

Mode = Literal["linear", "nearest", "cubic"]
Border = Literal["outside", "mirror"]


@dataclass(frozen=True, eq=False)
class Warp:
    """Patch voxel o is read at ``centre + matrix (o - middle) + bend(o)``, in source voxels.

    Attributes:
        centre: (3,). matrix: (3, 3). bend: (3, *patch) float32.
    """

    centre: NDArray[np.float64]
    matrix: NDArray[np.float64]
    bend: Tensor

    @property
    def patch(self) -> Triple:
        """Voxels of the patch."""
        _, first, second, third = self.bend.shape
        return first, second, third

    def sources(self) -> Tensor:
        """(3, *patch) float32 source voxel of every voxel of the patch."""
        return self.places() + self.bend

    def places(self) -> Tensor:
        """(3, *patch) float32, where the patch lies, its bend left out, source voxels."""
        if self._is_straight:
            lines = [torch.from_numpy(at).float() for at in self.axes()]
            return torch.stack(torch.meshgrid(*lines, indexing="ij"))
        steps = [torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in self.patch]
        offsets = torch.stack(torch.meshgrid(*steps, indexing="ij"))
        turned = torch.einsum("ij,jxyz->ixyz", torch.from_numpy(self.matrix), offsets)
        return (turned + torch.from_numpy(self.centre)[:, None, None, None]).float()

    @property
    def _is_straight(self) -> bool:
        """Whether the axes of the patch are those of the source."""
        return not (self.matrix - np.diag(np.diag(self.matrix))).any()

    def axes(self) -> tuple[NDArray[np.float64], ...]:
        """Place of the patch's voxels along each source axis; only of a warp that does not turn."""
        middle = (np.array(self.patch) - 1) / 2
        return tuple(
            self.centre[i] + self.matrix[i, i] * (np.arange(n) - middle[i])
            for i, n in enumerate(self.patch)
        )

    def thickened(self, reach: int) -> "Warp":
        """A slab of `reach` more voxels on both sides of a patch of one, bent as that is."""
        return replace(self, bend=self.bend.expand(-1, 1 + 2 * reach, -1, -1))

    def bent(self, lattice: Lattice) -> "Warp":
        """The same patch of a deformed copy; only of a warp that neither turns nor zooms.

        Beyond the copy, where its mirror image may go on, the bend does so, too.
        """
        inner = [
            _fold(torch.from_numpy(at), n).numpy()
            for at, n in zip(self.axes(), lattice.shape, strict=True)
        ]
        return replace(self, bend=self.bend + lattice.bend(inner))

    def box(
        self, shape: Triple, border: Border = "outside", reach: int = 0, margin: int = 1
    ) -> tuple[tuple[slice, slice, slice], Tensor]:
        """The part of a source of `shape` that is read, and `sources` counted from its corner.

        Args:
            border: "mirror": what lies beyond the source is its mirror image; "outside": a voxel
                of the patch that lies there is nothing.
            reach: Voxels beyond the source that the bend may reach into from within; they mirror
                the source, what lies further away is nothing.
            margin: Voxels around what is read.
        """
        at = self.sources()
        nothing = None
        if border == "mirror" or reach > 0:
            nothing = self._settle(at, shape, border, reach)
        low = [math.floor(v) - margin for v in at.flatten(1).amin(1).tolist()]
        high = [math.ceil(v) + 1 + margin for v in at.flatten(1).amax(1).tolist()]
        starts = [min(max(a, 0), n - 1) for a, n in zip(low, shape, strict=True)]
        stops = [max(min(b, n), a + 1) for b, n, a in zip(high, shape, starts, strict=True)]
        for axis, start in enumerate(starts):
            at[axis] -= start
        if nothing is not None:
            at[:, nothing] = _NOWHERE
        first, second, third = (slice(a, b) for a, b in zip(starts, stops, strict=True))
        return (first, second, third), at

    def _settle(self, at: Tensor, shape: Triple, border: Border, reach: int) -> Tensor | None:
        """Folds sources at the faces, in place; returns where there is nothing (*patch), or None.

        What costs time is done only where a patch reaches beyond the source.
        """
        gone: list[Tensor] = []
        places = self.places()
        for axis, (own, place, n) in enumerate(zip(at, places, shape, strict=True)):
            if _reaches(place, n, 0.0 if border == "mirror" else 0.5):
                if border == "mirror":
                    own += _fold(place, n) - place
                else:
                    gone.append((place < -0.5) | (place > n - 0.5))
            if _reaches(own, n, 0.5 + reach):
                gone.append((own < -0.5 - reach) | (own > n - 0.5 + reach))
            if _reaches(own, n, 0.0):
                at[axis] = _fold(own, n)
        return reduce(torch.logical_or, gone) if gone else None

    def read(self, image: Tensor, at: Tensor, mode: Mode) -> Tensor:
        """Values (C, *patch) of `image` (C, *S) at voxels `at`; 0 where there is no voxel."""
        if mode == "cubic":
            return _read_cubic(image, at)
        unit = torch.empty(*self.patch, 3)
        for axis, n in enumerate(image.shape[1:]):
            torch.mul(at[axis], 2 / n, out=unit[..., 2 - axis])
            unit[..., 2 - axis] += 1 / n - 1
        how = "bilinear" if mode == "linear" else mode  # torch's name, also in three dimensions
        return F.grid_sample(image[None], unit[None], mode=how, align_corners=False)[0]

    def moved(self, points: Mapping[int, ArrayLike]) -> dict[int, tuple[float, float, float]]:
        """Where points of the source (voxels) lie in the patch (voxels, also beyond its edge)."""
        inverse = np.linalg.inv(self.matrix)
        middle = (np.array(self.patch) - 1) / 2
        bend = self.bend.numpy()
        moved = {}
        for name, point in points.items():
            straight = np.asarray(point, np.float64) - self.centre
            place = middle + inverse @ straight
            for _ in range(_INVERSE_ROUNDS):
                index = np.clip(np.rint(place), 0, np.array(self.patch) - 1).astype(int)
                place = middle + inverse @ (straight - bend[:, index[0], index[1], index[2]])
            moved[name] = (float(place[0]), float(place[1]), float(place[2]))
        return moved


def _reaches(at: Tensor, size: int, by: float) -> bool:
    """Whether coordinates leave [-by, size - 1 + by]."""
    low, high = torch.aminmax(at)
    return bool(low < -by) or bool(high > size - 1 + by)


def _fold(at: Tensor, size: int) -> Tensor:
    """Coordinates mirrored at 0 and at size - 1, as often as needed; any shape."""
    if size == 1:
        return torch.zeros_like(at)
    period = 2.0 * (size - 1)
    inner = at.remainder(period)
    return torch.minimum(inner, period - inner)


def _read_cubic(image: Tensor, at: Tensor) -> Tensor:
    """Cubic B-spline through the voxels (C, *S) at voxels `at` (3, *patch); 0 beyond the faces."""
    size = torch.tensor(image.shape[1:])[:, None, None, None]
    within = ((at >= -0.5) & (at <= size - 0.5)).all(0).numpy()
    places = at.clamp(min=-1.0).minimum(size.to(at.dtype)).numpy()
    values = [
        ndimage.map_coordinates(one.numpy(), places, np.float32, order=3, mode="mirror") * within
        for one in image
    ]
    return torch.from_numpy(np.stack(values))


def draw_warp(
    centre: ArrayLike,
    patch: Triple,
    spread: tuple[float, float, float],
    mirror: int | None,
    rng: np.random.Generator,
) -> Warp:
    """A random warp about `centre`.

    Args:
        spread: SD of the turn about each axis (degrees), of the log of each axis's zoom, and of
            the displacement along each axis (voxels); zeros leave the voxels as they are.
        mirror: Axis that is mirrored, 0 exchanges left and right; None for none.
    """
    turn, zoom, elastic = spread
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(turn) * rng.standard_normal(3)):
        i, j = (a for a in range(3) if a != axis)
        step = np.eye(3)
        step[i, i] = step[j, j] = np.cos(angle)
        step[i, j], step[j, i] = -np.sin(angle), np.sin(angle)
        matrix = step @ matrix
    matrix = matrix * np.exp(zoom * rng.standard_normal(3))
    if mirror is not None:
        matrix[:, mirror] *= -1
    knots = [n // LATTICE_MM + 2 for n in patch]
    coarse = torch.from_numpy(rng.standard_normal((1, 3, *knots)).astype(np.float32)) * elastic
    bend = F.interpolate(coarse, size=patch, mode="trilinear", align_corners=True)[0]
    # The middle of an even patch lies between two voxels, so its centre does, too.
    middle = np.asarray(centre, np.float64) + (np.array(patch) % 2 == 0) * 0.5
    return Warp(middle, matrix, bend)
