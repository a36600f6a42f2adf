"""How the voxels of one grid meet those of another: the weights behind every resampling.

Along an axis a target voxel is the average over a box of max(target, source) spacing of the
source voxels, weighted by overlap. Downsampling is thereby an area average (mass is kept),
upsampling is linear interpolation, and the kernel is continuous in between.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from spinect.errors import GeometryError
from spinect.geometry.grid import Grid

Array = NDArray[Any]
Float = NDArray[np.float64]
Box = tuple[slice, slice, slice]

PARALLEL = 0.01  # axes count as parallel while they drift apart less than this, source voxels
SNAP = 1e-3  # a voxel centre this close to a source centre takes its value, source voxels


@dataclass(frozen=True)
class Axis:
    """A source axis and the target axis along it: source index = scale * target index + offset."""

    source: int
    scale: float
    offset: float
    n_source: int
    n_target: int

    @property
    def centres(self) -> Float:
        """(n_target,) source coordinate of each target voxel centre."""
        return np.asarray(self.scale * np.arange(self.n_target) + self.offset)

    @property
    def inside(self) -> NDArray[np.bool_]:
        """(n_target,) whether the centre lies within the source's outer voxel faces."""
        centres = self.centres
        return (centres >= -0.5 - SNAP) & (centres <= self.n_source - 0.5 + SNAP)

    @property
    def steps(self) -> NDArray[np.int64] | None:
        """(n_target,) source indices if every centre meets one (within SNAP), else None."""
        nearest = np.rint(self.centres).astype(np.int64)
        unit = abs(abs(self.scale) - 1) < SNAP  # a coarser lattice may meet centres, but averages
        return nearest if unit and np.abs(self.centres - nearest).max() < SNAP else None

    def weights(self, box: slice = slice(None)) -> tuple[sparse.csr_array, slice]:
        """Overlap weights of the source indices in `box`, and the target rows they reach.

        Rows inside the source sum to 1 over the whole source axis; rows outside are empty.
        """
        first, last, _ = box.indices(self.n_source)
        half = max(abs(self.scale), 1.0) / 2
        centres, inside, steps = self.centres, self.inside, self.steps
        if steps is not None:  # exactly one source voxel each, so that values pass unchanged
            centres, half = steps.astype(np.float64), 0.5
        low, high = centres - half, centres + half
        covered = np.minimum(high, self.n_source - 0.5) - np.maximum(low, -0.5)
        reach = np.flatnonzero(inside & (high > first - 0.5) & (low < last - 0.5))
        rows = slice(int(reach[0]), int(reach[-1]) + 1) if reach.size else slice(0, 0)
        low, high, covered = low[rows], high[rows], covered[rows]
        taps = np.arange(int(np.ceil(2 * half)) + 1)
        columns = np.floor(low + 0.5).astype(np.int64)[:, None] + taps
        overlap = np.minimum(high[:, None], columns + 0.5) - np.maximum(low[:, None], columns - 0.5)
        keep = (overlap > 1e-6) & (columns >= first) & (columns < last) & inside[rows, None]
        values = (overlap / np.where(covered > 0, covered, 1)[:, None])[keep].astype(np.float32)
        starts = np.concatenate([[0], np.cumsum(keep.sum(1))])
        shape = (rows.stop - rows.start, last - first)
        return sparse.csr_array((values, columns[keep] - first, starts), shape=shape), rows


@dataclass(frozen=True)
class Mapping:
    """How the voxels of a target grid meet those of a source grid."""

    matrix: Float  # (4, 4), target index -> source index
    source: tuple[int, int, int]
    target: tuple[int, int, int]
    axes: tuple[Axis, ...] | None  # per target axis; None when the grids are not parallel

    @classmethod
    def between(cls, target: Grid, source: Grid, moving_from_fixed: Float | None) -> "Mapping":
        """The mapping from `target` to `source`."""
        world = np.eye(4) if moving_from_fixed is None else np.asarray(moving_from_fixed, float)
        affine = world.shape == (4, 4) and np.allclose(world[3], [0, 0, 0, 1])
        if not affine or not np.isfinite(world).all() or abs(np.linalg.det(world)) < 1e-9:
            raise GeometryError(
                "moving_from_fixed must be an invertible 4x4 affine map in mm, "
                f"not {world.tolist()}"
            )
        matrix = np.linalg.inv(source.affine) @ world @ target.affine
        return cls(matrix, source.shape, target.shape, _parallel(matrix, source, target))

    @property
    def is_copy(self) -> bool:
        """Whether every target centre meets a source centre, so that values are only moved."""
        return self.axes is not None and all(axis.steps is not None for axis in self.axes)

    def copy(self, data: Array, outside: float, dtype: np.dtype[Any]) -> Array:
        """Move values by permutation, flips and whole voxels."""
        assert self.axes is not None
        moved = data.transpose([axis.source for axis in self.axes])
        out = np.full(self.target, outside, dtype)
        to_box, from_box = [], []
        for axis in self.axes:
            steps = axis.steps
            assert steps is not None
            hit = np.flatnonzero((steps >= 0) & (steps < axis.n_source))
            if not hit.size:
                return out
            to_box.append(slice(int(hit[0]), int(hit[-1]) + 1))
            first, last = int(steps[hit[0]]), int(steps[hit[-1]])
            stop = last + (1 if axis.scale > 0 else -1)
            step = 1 if axis.scale > 0 else -1
            from_box.append(slice(first, None if stop < 0 else stop, step))
        out[tuple(to_box)] = moved[tuple(from_box)]
        return out

    def apply(self, data: Array) -> NDArray[np.float32]:
        """Interpolate the whole source; what lies outside it is undefined (`fill_outside`)."""
        out = np.zeros(self.target, np.float32)
        box, values = self.apply_box(data, tuple(slice(0, n) for n in self.source))
        if values.shape == self.target:
            return values
        out[box] = values
        return out

    def apply_box(self, data: Array, box: tuple[slice, ...]) -> tuple[Box, NDArray[np.float32]]:
        """Interpolate a part of the source, zero beyond it.

        Args:
            data: The voxels of `box`.
            box: Which part of the source they are.
        Returns:
            The part of the target that it reaches, and the values there.
        """
        if self.axes is None:
            return self._apply_rotated(data, box)
        out = np.asarray(data, np.float32)
        rows: list[slice] = [slice(0, 0)] * 3
        order = sorted(range(3), key=lambda t: -abs(self.axes[t].scale))  # type: ignore[index]
        for t in order:  # the axis that shrinks most goes first
            axis = self.axes[t]
            weights, rows[t] = axis.weights(box[axis.source])
            out = _along(weights, out, axis.source)
        return (rows[0], rows[1], rows[2]), out.transpose([axis.source for axis in self.axes])

    def _apply_rotated(
        self, data: Array, box: tuple[slice, ...]
    ) -> tuple[Box, NDArray[np.float32]]:
        linear, shift = self.matrix[:3, :3], self.matrix[:3, 3]
        # The variance of a target voxel beyond that of a source voxel, per source axis.
        extra = np.maximum((linear**2).sum(1) - 1, 0) / 12
        sigma = np.sqrt(np.where(extra > 1e-3, extra, 0))
        # Zeros lie around a part of the source, but its outer rim is replicated.
        margin = 1 + np.ceil(4 * sigma).astype(int)
        start = np.array([b.indices(n)[0] for b, n in zip(box, self.source, strict=True)])
        low = np.minimum(margin, start)
        high = np.minimum(margin, self.source - start - data.shape)
        values = np.pad(np.asarray(data, np.float32), np.stack([low, high], 1))
        if sigma.any():
            values = ndimage.gaussian_filter(values, sigma, mode="nearest")
        reached = self._reached(start - low, np.array(values.shape))
        shape = tuple(part.stop - part.start for part in reached)
        out = np.empty(shape, np.float32)
        if out.size:
            offset = linear @ [part.start for part in reached] + shift - (start - low)
            ndimage.affine_transform(
                values, linear, offset, output=out, order=1, mode="nearest", prefilter=False
            )
        return reached, out

    def _reached(self, first: Array, shape: Array) -> Box:
        """The target box around a source box and half a voxel beyond it."""
        corners = np.stack(np.meshgrid(*[[0, 1]] * 3, indexing="ij"), -1).reshape(8, 3)
        inverse = np.linalg.inv(self.matrix)
        points = (first - 1 + corners * (shape + 1)) @ inverse[:3, :3].T + inverse[:3, 3]
        low = np.clip(np.ceil(points.min(0)), 0, self.target).astype(int)
        high = np.clip(np.floor(points.max(0)) + 1, low, self.target).astype(int)
        x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        return x, y, z

    def fill_outside(self, out: Array, value: float) -> None:
        """Write `value` where the target's centres lie beyond the source's outer faces."""
        if self.axes is not None:
            for t, axis in enumerate(self.axes):
                view = np.moveaxis(out, t, 0)
                view[~axis.inside] = value
            return
        index = [np.arange(n, dtype=np.float32) for n in self.target]
        for i, n in enumerate(self.source):
            row = self.matrix[i].astype(np.float32)
            plane = row[1] * index[1][:, None] + row[2] * index[2] + row[3]
            for x in range(self.target[0]):  # plane by plane, to stay lean
                centre = plane + row[0] * index[0][x]
                out[x][(centre < -0.5 - SNAP) | (centre > n - 0.5 + SNAP)] = value


def _parallel(matrix: Float, source: Grid, target: Grid) -> tuple[Axis, ...] | None:
    """Per target axis the source axis it runs along; None when they are not parallel."""
    linear = matrix[:3, :3]
    partner = np.abs(linear).argmax(0)
    if sorted(partner) != [0, 1, 2]:
        return None
    centre = (np.array(target.shape) - 1) / 2
    axes = []
    for t in range(3):
        s = int(partner[t])
        others = linear[s].copy()
        others[t] = 0
        if np.abs(others) @ np.array(target.shape) > PARALLEL:
            return None
        offset = matrix[s, 3] + others @ centre  # exact in the middle of the target
        axes.append(Axis(s, float(linear[s, t]), float(offset), source.shape[s], target.shape[t]))
    return tuple(axes)


def _along(weights: sparse.csr_array, data: Array, axis: int) -> NDArray[np.float32]:
    """Multiply a sparse (new, old) matrix onto one axis of a volume."""
    new = weights.shape[0]
    shape = tuple(new if a == axis else n for a, n in enumerate(data.shape))
    if axis == 0:
        flat = weights @ np.ascontiguousarray(data).reshape(data.shape[0], -1)
        return np.asarray(flat.reshape(shape))
    out = np.empty(shape, np.float32)
    for x in range(shape[0]):
        out[x] = weights @ data[x] if axis == 1 else (weights @ data[x].T).T
    return out
