"""Turning, zooming and bending a patch: where each of its voxels is read in the patient."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

LATTICE_MM = 24  # between the control points of the displacement
_INVERSE_ROUNDS = 8  # fixed-point steps; each shrinks the error by the gradient, under 0.3


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
    def patch(self) -> tuple[int, int, int]:
        """Voxels of the patch."""
        _, first, second, third = self.bend.shape
        return first, second, third

    def sources(self) -> Tensor:
        """(3, *patch) source voxel of every voxel of the patch."""
        steps = [torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in self.patch]
        offsets = torch.stack(torch.meshgrid(*steps, indexing="ij"))
        turned = torch.einsum("ij,jxyz->ixyz", torch.from_numpy(self.matrix), offsets)
        middle = torch.from_numpy(self.centre)[:, None, None, None]
        return turned + middle + self.bend.double()

    def box(self, shape: tuple[int, int, int]) -> tuple[tuple[slice, slice, slice], Tensor]:
        """The part of a source of `shape` that is read, and `sources` counted from its corner."""
        at = self.sources()
        low = [int(v) - 1 for v in at.flatten(1).amin(1).floor()]
        high = [int(v) + 2 for v in at.flatten(1).amax(1).ceil()]
        starts = [min(max(a, 0), n - 1) for a, n in zip(low, shape, strict=True)]
        stops = [max(min(b, n), a + 1) for b, n, a in zip(high, shape, starts, strict=True)]
        first, second, third = (slice(a, b) for a, b in zip(starts, stops, strict=True))
        return (first, second, third), at - torch.tensor(starts).double()[:, None, None, None]

    def read(self, image: Tensor, at: Tensor, mode: Literal["bilinear", "nearest"]) -> Tensor:
        """Values (C, *patch) of `image` (C, *S) at voxels `at`; 0 where there is no voxel."""
        size = torch.tensor(image.shape[1:]).double()[:, None, None, None]
        unit = ((2 * at + 1) / size - 1).flip(0).movedim(0, -1).float()
        return F.grid_sample(image[None], unit[None], mode=mode, align_corners=False)[0]

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


def draw_warp(
    centre: ArrayLike,
    patch: tuple[int, int, int],
    spread: tuple[float, float, float],
    mirror: bool,
    rng: np.random.Generator,
) -> Warp:
    """A random warp about `centre`.

    Args:
        spread: SD of the turn about each axis (degrees), of the log of each axis's zoom, and of
            the displacement along each axis (voxels); zeros leave the voxels as they are.
        mirror: Exchange left and right.
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
    if mirror:
        matrix = matrix * np.array([-1.0, 1.0, 1.0])
    knots = [n // LATTICE_MM + 2 for n in patch]
    coarse = torch.from_numpy(rng.standard_normal((1, 3, *knots)).astype(np.float32)) * elastic
    bend = F.interpolate(coarse, size=patch, mode="trilinear", align_corners=True)[0]
    # The middle of an even patch lies between two voxels, so its centre does, too.
    middle = np.asarray(centre, np.float64) + (np.array(patch) % 2 == 0) * 0.5
    return Warp(middle, matrix, bend)
