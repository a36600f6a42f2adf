"""Turning, zooming and bending a patch: where each of its voxels is read in the patient."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
        """(3, *patch) source voxel of every voxel of the patch, float64."""
        return self.places() + self.bend.double()

    def places(self) -> Tensor:
        """(3, *patch) where the patch lies, its bend left out, source voxels, float64."""
        steps = [torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in self.patch]
        offsets = torch.stack(torch.meshgrid(*steps, indexing="ij"))
        turned = torch.einsum("ij,jxyz->ixyz", torch.from_numpy(self.matrix), offsets)
        return turned + torch.from_numpy(self.centre)[:, None, None, None]

    def axes(self) -> tuple[NDArray[np.float64], ...]:
        """Place of the patch's voxels along each source axis; only of a warp that does not turn."""
        middle = (np.array(self.patch) - 1) / 2
        return tuple(
            self.centre[i] + self.matrix[i, i] * (np.arange(n) - middle[i])
            for i, n in enumerate(self.patch)
        )

    def bent(self, lattice: Lattice) -> "Warp":
        """The same patch of a deformed copy; only of a warp that neither turns nor zooms.

        Beyond the copy, where its mirror image may go on, the bend does so, too.
        """
        inner = [mirrored(at, n) for at, n in zip(self.axes(), lattice.shape, strict=True)]
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
        if border == "mirror" or reach > 0:
            at = self._settled(at, shape, border, reach)
        seen = at.flatten(1)
        seen = seen[:, (seen > _NOWHERE / 2).all(0)]
        if seen.shape[1] == 0:
            seen = torch.zeros(3, 1, dtype=at.dtype)
        low = [int(v) - margin for v in seen.amin(1).floor()]
        high = [int(v) + 1 + margin for v in seen.amax(1).ceil()]
        starts = [min(max(a, 0), n - 1) for a, n in zip(low, shape, strict=True)]
        stops = [max(min(b, n), a + 1) for b, n, a in zip(high, shape, starts, strict=True)]
        first, second, third = (slice(a, b) for a, b in zip(starts, stops, strict=True))
        return (first, second, third), at - torch.tensor(starts).double()[:, None, None, None]

    def _settled(self, at: Tensor, shape: Triple, border: Border, reach: int) -> Tensor:
        """Sources with the mirror at the faces; what is nothing lies nowhere. Writes into `at`."""
        size = torch.tensor(shape).double()[:, None, None, None]
        places = self.places()
        if border == "mirror":
            for axis, n in enumerate(shape):
                at[axis] += torch.from_numpy(mirrored(places[axis].numpy(), n)) - places[axis]
            nothing = torch.zeros(self.patch, dtype=torch.bool)
        else:
            nothing = ((places < -0.5) | (places > size - 0.5)).any(0)
        nothing |= ((at < -0.5 - reach) | (at > size - 0.5 + reach)).any(0)
        for axis, n in enumerate(shape):
            beyond = (at[axis] < 0) | (at[axis] > n - 1)
            at[axis][beyond] = torch.from_numpy(mirrored(at[axis][beyond].numpy(), n))
        at[:, nothing] = _NOWHERE
        return at

    def read(self, image: Tensor, at: Tensor, mode: Mode) -> Tensor:
        """Values (C, *patch) of `image` (C, *S) at voxels `at`; 0 where there is no voxel."""
        if mode == "cubic":
            return _read_cubic(image, at)
        size = torch.tensor(image.shape[1:]).double()[:, None, None, None]
        unit = ((2 * at + 1) / size - 1).flip(0).movedim(0, -1).float()
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


def mirrored(at: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Coordinates folded back into [0, size - 1] at its ends, as often as needed; any shape."""
    if size == 1:
        return np.zeros_like(at)
    period = 2.0 * (size - 1)
    inner = np.mod(at, period)
    return np.asarray(np.minimum(inner, period - inner))


def _read_cubic(image: Tensor, at: Tensor) -> Tensor:
    """Cubic B-spline through the voxels (C, *S) at voxels `at` (3, *patch); 0 beyond the faces."""
    size = torch.tensor(image.shape[1:])[:, None, None, None]
    within = ((at >= -0.5) & (at <= size - 0.5)).all(0).numpy()
    places = at.clamp(min=-1.0).minimum(size.double()).numpy()
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
