"""A tissue map that is being painted, and its brushes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spinect.geometry import Grid
from spinect.phantom.canal import Columns, tube_box
from spinect.phantom.shapes import Float, Waves

UInt8 = NDArray[np.uint8]


@dataclass
class Scene:
    """A tissue map being painted.

    Attributes:
        grid: Axes run R, A, S. cols: The canal per slice, grid mm.
        tissue: uint8 `Tissue`. rng: Source of all choices.
        wobble: Smooth noise of unit variance that keeps soft tissue from being elliptic.
    """

    grid: Grid
    cols: Columns
    tissue: UInt8
    rng: np.random.Generator
    wobble: NDArray[np.float32]

    @property
    def z(self) -> Float:
        """Height of every slice, mm, world: noise along it does not depend on the grid."""
        return np.asarray(
            self.grid.affine[2, 3] + self.grid.affine[2, 2] * np.arange(self.grid.shape[2])
        )

    def tube(
        self, x: Float, y: Float, rx: Float | float, ry: Float | float, tissue: int,
        *, on: NDArray[np.bool_] | None = None, over: Sequence[int] | None = None,
        wobble: float = 0.0,
    ) -> None:  # fmt: skip
        """Paint an upright tube with an elliptic section given per slice, grid mm.

        Args:
            on: Slices where it exists; everywhere by default. over: Tissues it may replace.
            wobble: SD of the relative deviation from the ellipse.
        """
        n = self.grid.shape[2]
        rx, ry = np.broadcast_to(rx, n), np.broadcast_to(ry, n)
        on = np.ones(n, bool) if on is None else on
        room = 1.0 + 2 * wobble * float(max(rx.max(), ry.max()))
        box = tube_box(self.grid, x, y, rx, ry, on, room)
        i, j, k = box
        if i.stop <= i.start or j.stop <= j.start:
            return
        sx, sy = self.grid.spacing[:2]
        dx = (np.arange(i.start, i.stop)[:, None] * sx - x[k]) / np.maximum(rx[k], 1e-3)
        dy = (np.arange(j.start, j.stop)[:, None] * sy - y[k]) / np.maximum(ry[k], 1e-3)
        qx = np.where(on[k], dx * dx, 9.0).astype(np.float32)
        square = qx[:, None] + (dy * dy).astype(np.float32)[None]
        limit = 1 + np.float32(2 * wobble) * self.wobble[box] if wobble else 1
        inside = square < limit
        self._set(box, inside, tissue, over)

    def _set(
        self, box: tuple[slice, slice, slice], inside: NDArray[np.bool_], tissue: int,
        over: Sequence[int] | None,
    ) -> None:  # fmt: skip
        here = self.tissue[box]
        if over is not None:
            allowed = np.zeros(256, bool)
            allowed[list(over)] = True
            inside = inside & allowed[here]
        here[inside] = tissue

    def waves(
        self, box: tuple[slice, slice, slice], count: int, lengths: tuple[float, float],
        stretch: float = 1.0,
    ) -> NDArray[np.float32]:  # fmt: skip
        """Unit-variance noise in a box; `stretch` makes it longer from head to feet."""
        noise = Waves.draw(self.rng, count, lengths, 1.0)
        matrix = np.diag([1, 1, 1 / stretch, 1]) @ self.grid.affine
        start = [s.start for s in box]
        return noise.on_lattice(matrix, start, tuple(s.stop - s.start for s in box))
