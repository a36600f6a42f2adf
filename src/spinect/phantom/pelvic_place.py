"""Painting in pelvis coordinates: the body's outline, and brushes for what lies inside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from spinect.phantom.canal import own_axes
from spinect.phantom.pelvic_form import SKIN_MM, Form
from spinect.phantom.pelvis import Pelvis
from spinect.phantom.rasterise import Box, index_box, lattice
from spinect.phantom.scene import Scene
from spinect.phantom.shapes import Array, Ellipsoid, Float, Limb, Part, point
from spinect.phantom.tissues import Tissue

Field = tuple[Box, Array]
_SLAB: Final = 16  # slices whose outline is computed at a time: it bounds the memory


@dataclass(frozen=True, eq=False)
class Place:
    """A pelvis in a scene.

    Attributes:
        scene: What is painted. pelvis: Whose landmarks are used.
        world: 4x4, posed world from pelvis coordinates.
    """

    scene: Scene
    pelvis: Pelvis
    world: Float

    @property
    def scale(self) -> float:
        """Factor on all landmarks."""
        return self.pelvis.scale

    @property
    def rng(self) -> np.random.Generator:
        """Of the stage that paints."""
        return self.scene.rng

    def part(
        self, part: Part, tissue: int, over: Sequence[int] | None = None, wobble: float = 0.0
    ) -> None:
        """Paint a part given in pelvis coordinates.

        Args:
            over: Tissues it may replace. wobble: SD of its surface, mm.
        """
        field = self.field(part, wobble)
        if field is not None:
            self.put(field, tissue, over)

    def field(self, part: Part, wobble: float = 0.0, margin: float = 0.0) -> Field | None:
        """A box of voxels and the distance to the part there, mm; None outside the grid.

        Args:
            wobble: SD of its surface, mm. margin: How far outside it is still evaluated, mm.
        """
        scene = self.scene
        own = own_axes(scene.grid)
        here = part.moved(own @ self.world)
        back = np.asarray(np.linalg.inv(own), np.float64)
        box = index_box(here.bounds(), back, scene.grid, 1.0 + margin + 3 * wobble)
        if box is None:
            return None
        distance = here.distance(lattice(np.diag([*scene.grid.spacing, 1.0]), box))
        if wobble:
            distance -= np.float32(wobble) * scene.wobble[box]
        return box, distance

    def put(
        self, field: Field, tissue: int, over: Sequence[int] | None = None, grow: float = 0.0
    ) -> None:
        """Paint where a field is below `grow` mm."""
        box, distance = field
        here = self.scene.tissue[box]
        inside = distance < np.float32(grow)
        if over is not None:
            allowed = np.zeros(256, bool)
            allowed[list(over)] = True
            inside &= allowed[here]
        here[inside] = tissue

    def limb(
        self, side: int, start: Sequence[float], end: Sequence[float],
        first: tuple[float, float], last: tuple[float, float],
        along: tuple[float, float, float] = (1.0, 0.0, 0.0),
    ) -> Limb:  # fmt: skip
        """A limb from landmarks of the right side; `along`: direction of the first radii."""
        k = self.scale
        return Limb(0, 0, self.pelvis.at(side, *start), self.pelvis.at(side, *end),
                    (side * along[0], along[1], along[2]), (first[0] * k, first[1] * k),
                    (last[0] * k, last[1] * k))  # fmt: skip

    def ball(self, centre: Sequence[float], radii: ArrayLike) -> Ellipsoid:
        """An ellipsoid whose centre is a landmark and whose radii are mm."""
        a, b, c = point(radii)
        return Ellipsoid(0, 0, self.pelvis.at(1, *centre), (a, b, c))


def outline(place: Place) -> None:
    """Skin, subcutaneous fat and a body of muscle, with the cleft between the buttocks."""
    scene, form, k = place.scene, place.pelvis.form, np.float32(place.scale)
    bare, grid = form.bare(), scene.grid
    matrix = np.linalg.inv(place.world) @ grid.affine
    for start in range(0, grid.shape[2], _SLAB):
        box = (slice(0, grid.shape[0]), slice(0, grid.shape[1]),
               slice(start, min(start + _SLAB, grid.shape[2])))  # fmt: skip
        x, y, z = (c / k for c in lattice(matrix, box))
        skin = np.maximum(form.distance(x, y, z), -_cleft(form, x, y, z)) * k
        here = scene.tissue[box]
        here[skin < 0] = Tissue.SKIN
        here[skin < -SKIN_MM] = Tissue.FAT
        flesh = bare.distance(x, y, z) * k
        here[(flesh < 0) & (skin < -2 * SKIN_MM)] = Tissue.MUSCLE


def _cleft(form: Form, x: Array, y: Array, z: Array) -> Array:
    """A wedge of air between the buttocks, deeper towards the feet; negative inside, mm."""
    deep = np.interp(z, (-200, -120, -60, -20), (34, 30, 20, 0)).astype(np.float32)
    into = y - (deep - form.back(z))  # from the bottom of the cleft, to the front
    return np.asarray(np.maximum(np.abs(x) + into / 9, into), np.float32)
