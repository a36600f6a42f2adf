"""Continuous shapes: what bones are made of before any voxel exists.

A part is a signed function of position, close to the distance to its surface in mm near it and
negative inside. Parts are evaluated only in a box of voxels around them, and joined with a smooth
minimum. Coordinates are those of the bone: x to the right, y to the front, z to the head, mm.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float32]
Float = NDArray[np.float64]
Point = tuple[float, float, float]
Coords = tuple[Array, Array, Array]  # x, y, z; shapes that broadcast against each other


def point(values: ArrayLike) -> Point:
    """Three numbers as plain floats, so that shapes stay hashable and printable."""
    x, y, z = np.asarray(values, np.float64)
    return float(x), float(y), float(z)


def apply(matrix: Float, points: ArrayLike) -> Float:
    """Map points (..., 3) by a 4x4 matrix."""
    return np.asarray(np.asarray(points, np.float64) @ matrix[:3, :3].T + matrix[:3, 3])


@dataclass(frozen=True)
class Limb:
    """A rod with an elliptic (power 2) or boxy (power 4) section that may taper.

    Attributes:
        vertebra: Vertebra id it belongs to; 0 for bone without a label.
        label: Subregion id.
        start, end: End points of the axis, mm.
        side: Direction of the first radius; made perpendicular to the axis.
        first, last: (along `side`, across it) radii at start and end, mm.
        power: 2 elliptic, 4 boxy.
        blend: Radius of the smooth union with the rest of the bone, mm.
    """

    vertebra: int
    label: int
    start: Point
    end: Point
    side: Point
    first: tuple[float, float]
    last: tuple[float, float]
    power: int = 2
    blend: float = 3.0

    @property
    def radius(self) -> float:
        """Largest radius, for bounding boxes."""
        return max(*self.first, *self.last)

    def inner(self) -> Float:
        """(N, 3) points along the axis, the middle first."""
        share = np.array([0.5, 0.35, 0.65, 0.2, 0.8, 0.95])[:, None]
        return np.asarray(np.array(self.start) * (1 - share) + np.array(self.end) * share)

    def bounds(self) -> Float:
        """(2, 3) corners of a box that holds the part."""
        ends = np.array([self.start, self.end])
        return np.stack([ends.min(0) - self.radius, ends.max(0) + self.radius])

    def moved(self, matrix: Float) -> "Limb":
        """The same limb after a rigid motion."""
        return replace(
            self,
            start=point(apply(matrix, self.start)),
            end=point(apply(matrix, self.end)),
            side=point(matrix[:3, :3] @ np.array(self.side)),
        )

    def distance(self, coords: Coords) -> Array:
        """Signed distance, mm, to first order: (k - 1) / |grad k| of the scaled radius k."""
        axis = np.array(self.end) - self.start
        length = float(np.linalg.norm(axis))
        axis = axis / length
        side = np.array(self.side) - np.dot(self.side, axis) * axis
        side /= np.linalg.norm(side)
        x, y, z = (c - np.float32(s) for c, s in zip(coords, self.start, strict=True))

        def along(v: Float) -> Array:
            return np.asarray(np.float32(v[0]) * x + np.float32(v[1]) * y + np.float32(v[2]) * z)

        s, u, v = along(axis), along(side), along(np.cross(axis, side))
        t = np.clip(s, 0, np.float32(length))
        over = s - t
        t /= np.float32(length)
        ru = np.float32(self.first[0]) + t * np.float32(self.last[0] - self.first[0])
        rv = np.float32(self.first[1]) + t * np.float32(self.last[1] - self.first[1])
        rc = np.minimum(ru, rv)
        terms = [(u / ru, ru), (v / rv, rv), (over / rc, rc)]
        return scaled_radius_distance(terms, self.power, -min(*self.first, *self.last))


def scaled_radius_distance(terms: list[tuple[Array, Array]], power: int, floor: float) -> Array:
    """First-order distance to the surface sum |q|^p = 1 of scaled coordinates q = x / r.

    Args:
        terms: (q, r) of every axis; r in mm. power: 2 or 4. floor: Lowest value, mm, < 0.
    """
    if power == 2:
        k = np.sqrt(sum(q * q for q, _ in terms))
        slope = np.sqrt(sum((q / r) ** 2 for q, r in terms))
    else:
        squares = [q * q for q, _ in terms]
        k = np.sqrt(np.sqrt(sum(q2 * q2 for q2 in squares)))
        slope = np.sqrt(sum((q2 * q / r) ** 2 for q2, (q, r) in zip(squares, terms, strict=True)))
    whole = np.maximum(k, np.float32(1e-4)) ** (power - 1)
    least = np.float32(0.8) / max(float(np.max(r)) for _, r in terms)  # the axis has no gradient
    slope = np.maximum(slope / whole, least)
    return np.asarray(np.maximum((k - 1) / slope, np.float32(floor)), np.float32)


@dataclass(frozen=True)
class Body:
    """A vertebral body: D- or heart-shaped section, waist, concave end plates, wedge.

    Attributes:
        vertebra, label: Vertebra and subregion id.
        frame: 4x4 rows, bone from body coordinates; the origin is the body's centre.
        half_width, half_depth, height: Of the end plates, mm.
        split: Where the widest section lies, as a share of the half depth behind the centre.
        powers: Exponents of the section in front of and behind the split.
        waist: Narrowing at mid height as a share of the radius.
        kidney: Depth of the dent in the back wall, mm.
        dish: Depth of the concavity of the upper and lower end plate, mm.
        tilt: Slope of the upper and lower end plate (dz / dy; radians for small angles).
    """

    vertebra: int
    label: int
    frame: tuple[tuple[float, ...], ...]
    half_width: float
    half_depth: float
    height: float
    split: float = 0.3
    powers: tuple[float, float] = (2.3, 3.4)
    waist: float = 0.1
    kidney: float = 2.0
    dish: tuple[float, float] = (2.0, 2.0)
    tilt: tuple[float, float] = (0.0, 0.0)
    blend: float = 2.0

    def inner(self) -> Float:
        """(1, 3) the centre."""
        return np.array(self.frame)[None, :3, 3]

    def bounds(self) -> Float:
        """(2, 3) corners of a box that holds the part."""
        centre = self.inner()[0]
        rise = abs(np.array(self.tilt)).max() * self.half_depth
        half = np.array([self.half_width, self.half_depth, self.height / 2 + rise]) + 1
        reach = np.abs(np.array(self.frame)[:3, :3]) @ half
        return np.stack([centre - reach, centre + reach])

    def moved(self, matrix: Float) -> "Body":
        """The same body after a rigid motion."""
        frame = matrix @ np.array(self.frame)
        return replace(self, frame=tuple(tuple(map(float, row)) for row in frame))

    def distance(self, coords: Coords) -> Array:
        """Signed distance, mm, to first order."""
        inverse = np.linalg.inv(np.array(self.frame)).astype(np.float32)
        x, y, z = (
            row[0] * coords[0] + row[1] * coords[1] + row[2] * coords[2] + row[3]
            for row in inverse[:3]
        )
        a, b, h = (np.float32(v) for v in (self.half_width, self.half_depth, self.height))
        level = np.clip(2 * z / h, -1, 1)
        shrink = 1 - np.float32(self.waist) * (1 - level * level)
        x = x / shrink
        dent = np.float32(self.kidney) * np.clip(1 - (x / (0.75 * a)) ** 2, 0, None)
        y = np.where(y > 0, y / shrink, y - dent * np.clip(-2 * y / b, 0, 1))
        origin = -np.float32(self.split) * b
        radius = self._section(x, y - origin, a, b - origin, b + origin)
        k, slope = radius
        wall = (k - 1) / np.maximum(slope, 1e-4)
        hollow = np.clip(1 - k * k, 0, None)
        top = z - h / 2 - np.float32(self.tilt[0]) * y + np.float32(self.dish[0]) * hollow
        low = -z - h / 2 + np.float32(self.tilt[1]) * y + np.float32(self.dish[1]) * hollow
        caps = np.maximum(top, low)
        return smooth_max(np.asarray(wall, np.float32), np.asarray(caps, np.float32), 2.2)

    def _section(
        self, x: Array, y: Array, a: np.float32, front: np.float32, back: np.float32
    ) -> tuple[Array, Array]:
        """Scaled radius of the section and the length of its gradient."""
        ahead = y > 0
        depth = np.where(ahead, front, back)
        power = np.where(ahead, np.float32(self.powers[0]), np.float32(self.powers[1]))
        qx = np.abs(x / a) + np.float32(1e-3)
        qy = np.abs(y / depth) + np.float32(1e-3)
        px, py = qx**power, qy**power
        total = px + py
        k = total ** (1 / power)
        slope = k / total * np.sqrt((px / qx / a) ** 2 + (py / qy / depth) ** 2)
        return k, slope


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid; with three equal radii a sphere, whose distance is exact.

    Attributes:
        vertebra, label: Vertebra id, 0 for bone without a label, and subregion id.
        centre: mm. radii: Along x, y and z of its own axes, mm.
        axes: (3, 3) rows; columns are its own axes in the frame of `centre`.
        blend: Radius of the smooth union with the rest of the bone, mm.
    """

    vertebra: int
    label: int
    centre: Point
    radii: tuple[float, float, float]
    axes: tuple[tuple[float, ...], ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    blend: float = 3.0

    @property
    def radius(self) -> float:
        """Largest radius."""
        return max(self.radii)

    def inner(self) -> Float:
        """(1, 3) the centre."""
        return np.array(self.centre)[None]

    def bounds(self) -> Float:
        """(2, 3) corners of a box that holds the part."""
        reach = np.linalg.norm(np.array(self.axes) * self.radii, axis=1)
        return np.stack([np.array(self.centre) - reach, np.array(self.centre) + reach])

    def moved(self, matrix: Float) -> "Ellipsoid":
        """The same ellipsoid after a rigid motion."""
        turned = rows(matrix[:3, :3] @ np.array(self.axes))
        return replace(self, centre=point(apply(matrix, self.centre)), axes=turned)

    def distance(self, coords: Coords) -> Array:
        """Signed distance, mm, to first order; exact for a sphere."""
        x, y, z = (c - np.float32(s) for c, s in zip(coords, self.centre, strict=True))
        terms = []
        for axis, radius in zip(np.array(self.axes, np.float32).T, self.radii, strict=True):
            r = np.float32(radius)
            terms.append(((axis[0] * x + axis[1] * y + axis[2] * z) / r, np.asarray(r)))
        return scaled_radius_distance(terms, 2, -min(self.radii))


Part = Limb | Body | Ellipsoid


def smooth_min(first: Array, second: Array, blend: float) -> Array:
    """Union with a fillet of radius about `blend` mm (polynomial smooth minimum)."""
    gap = np.clip(np.float32(blend) - np.abs(first - second), 0, None)
    return np.asarray(np.minimum(first, second) - gap * gap / np.float32(4 * blend), np.float32)


def smooth_max(first: Array, second: Array, blend: float) -> Array:
    """Intersection with a rounded edge of radius about `blend` mm."""
    return -smooth_min(-first, -second, blend)


@dataclass(frozen=True)
class Waves:
    """Low-frequency noise: a sum of plane waves, the same function on every grid.

    Attributes:
        vectors: (N, 3) wave vectors, radians per mm. phases: (N,). amplitude: mm, each wave's.
    """

    vectors: tuple[Point, ...]
    phases: tuple[float, ...]
    amplitude: float

    @classmethod
    def draw(
        cls, rng: np.random.Generator, count: int, lengths: tuple[float, float], sd: float
    ) -> "Waves":
        """Waves of random direction, `lengths` mm long, whose sum has standard deviation `sd`."""
        direction = rng.standard_normal((count, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        vectors = direction * (2 * np.pi / rng.uniform(*lengths, (count, 1)))
        phases = rng.uniform(0, 2 * np.pi, count)
        return cls(
            tuple(point(v) for v in vectors),
            tuple(float(p) for p in phases),
            float(sd * np.sqrt(2 / count)),
        )

    def on_lattice(self, matrix: Float, start: ArrayLike, shape: tuple[int, ...]) -> Array:
        """Values on the voxels start + (0..shape); `matrix` maps voxel index to the waves' mm."""
        wave = np.array(self.vectors)
        i, j, k = (np.arange(n) + s for n, s in zip(shape, np.asarray(start), strict=True))
        step = wave @ matrix[:3, :3]
        offset = np.array(self.phases) + wave @ matrix[:3, 3]
        plane = i[:, None, None] * step[:, 0] + j[:, None] * step[:, 1] + offset
        line = k[:, None] * step[:, 2]
        # sin(a + b) from products: one matrix product instead of a sine per voxel and wave
        left = np.concatenate([np.sin(plane), np.cos(plane)], -1).astype(np.float32)
        right = np.concatenate([np.cos(line), np.sin(line)], -1).astype(np.float32)
        return np.asarray(
            left.reshape(-1, left.shape[-1]) @ (np.float32(self.amplitude) * right.T)
        ).reshape(shape)


@dataclass(frozen=True)
class Bone:
    """Parts that are one piece of bone.

    Attributes:
        name: For messages, "L3" or "rib T8 left".
        moves_with: Vertebra id whose pose it shares.
        frame: 4x4 rows, neutral world from bone coordinates.
        parts: Joined by smooth union.
        holes: Cut out of the union.
        noise: Surface noise.
    """

    name: str
    moves_with: int
    frame: tuple[tuple[float, ...], ...]
    parts: tuple[Part, ...]
    holes: tuple[Part, ...] = ()
    noise: Waves | None = None

    def bounds(self) -> Float:
        """(2, 3) corners of a box that holds all parts, bone coordinates."""
        return self._box

    @cached_property
    def _box(self) -> Float:
        boxes = np.array([p.bounds() for p in self.parts])
        return np.stack([boxes[:, 0].min(0), boxes[:, 1].max(0)])


def rows(matrix: Float) -> tuple[tuple[float, ...], ...]:
    """A matrix as nested tuples."""
    return tuple(tuple(map(float, row)) for row in np.asarray(matrix))
