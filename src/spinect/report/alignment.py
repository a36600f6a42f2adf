"""What the picture of a registration shows, and the planes that it is cut along.

The sagittal and coronal planes follow the spine: at every height they run through the vertebral
bodies, so that lordosis or scoliosis takes no level out of the picture.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinect.anatomy import VERTEBRAE
from spinect.geometry import Grid, Volume
from spinect.geometry.landmarks import BODY_CENTRE, SPINOUS, WHOLE, Key, Landmarks
from spinect.registration import Registration
from spinect.report.scene import CT_WINDOW, Plane

Float = NDArray[np.float64]
Array = NDArray[Any]

PIXEL_MM: Final = 0.5
BONE_HU: Final = 200.0  # where the edges of the CT's bone are drawn
NEAR_MM: Final = 12.0  # landmarks this near to a plane are drawn in it
FRONT_MM: Final = (32.0, 48.0, 30.0)  # shown beyond the landmarks: right, front, head
BACK_MM: Final = (32.0, 24.0, 30.0)  # left, back, feet
AXIAL_MM: Final = 20.0  # shown beyond the landmarks of an axial plane
WIDE_MM: Final = 42.0  # of an axial plane, to each side of the middle of its landmarks
SMALL_MM2: Final = 60.0  # islands and holes of bone that are not drawn
ON_MASK_MM: Final = 4.0  # edges farther from the vertebra mask are not those of vertebrae
AXES: Final[dict[Plane, tuple[int, int, int]]] = {  # across, up, and the axis that is cut
    "sagittal": (1, 2, 0), "coronal": (0, 2, 1), "axial": (0, 1, 2),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Alignment:
    """A registration with its images; all in the MR's world.

    Attributes:
        mr: The MR. ct, valid: The registered CT and where it is known, on one grid.
        vertebrae: The CT's vertebra ids on that grid.
        mr_points, ct_points: Landmarks of both, the CT's moved by the registration.
        registration: For verdict, notes and rejected landmarks.
        facts: Its figures by name, as in the record; None is not shown.
    """

    mr: Volume
    ct: Volume
    valid: Volume
    vertebrae: Volume | None
    mr_points: Landmarks | None
    ct_points: Landmarks | None
    registration: Registration
    facts: Mapping[str, Any]

    @property
    def common(self) -> tuple[Key, ...]:
        """Landmarks of both."""
        return tuple(self.registration.residual_mm)

    @property
    def bodies(self) -> tuple[Key, ...]:
        """Those of them that stand for a vertebra's body."""
        return tuple(k for k in self.common if k[1] in (BODY_CENTRE, WHOLE))

    def point(self, key: Key) -> tuple[Float, Float]:
        """A common landmark in the MR and, moved, in the CT."""
        assert self.mr_points is not None
        assert self.ct_points is not None
        return self.mr_points[key], self.ct_points[key]

    def places(self, keys: tuple[Key, ...]) -> Float:
        """(N, 3) where some common landmarks lie in the MR."""
        return np.array([self.point(k)[0] for k in keys]).reshape(-1, 3)


@dataclass(frozen=True, eq=False)
class View:
    """One plane of an alignment.

    Attributes:
        low, high: (3,) corners of what is shown, mm.
        curve: (N, 2) height and place of the cut, mm; one row for a flat cut.
        level: Vertebra of an axial plane, "" elsewhere.
        tone: MR values shown as black and white.
    """

    alignment: Alignment
    plane: Plane
    low: Float
    high: Float
    curve: Float
    level: str
    tone: tuple[float, float]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height, mm."""
        across, up, _ = AXES[self.plane]
        span = self.high - self.low
        return float(span[across]), float(span[up])

    @property
    def limits(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """x and y limits of the picture, pixels; y runs down."""
        wide, high = (s / PIXEL_MM for s in self.size)
        return (0.0, wide), (high, 0.0)

    def pixel(self, point: Float) -> tuple[float, float]:
        """(column, row) of a point, mm: right and front lie on the left, head and front on top."""
        across, up, _ = AXES[self.plane]
        away = (self.high - point) / PIXEL_MM
        return float(away[across]), float(away[up])

    def place(self, height: Array) -> Array:
        """Where the cut lies at some heights, mm."""
        return np.interp(height, self.curve[:, 0], self.curve[:, 1])

    def cut(self, volume: Volume) -> Array:
        """The picture (rows, columns) of a volume; nearest voxel for labels, else linear."""
        across, up, fixed = AXES[self.plane]
        columns, rows = (np.arange(max(int(s / PIXEL_MM), 1)) * PIXEL_MM for s in self.size)
        points = np.empty((len(rows), len(columns), 3))
        points[..., across] = self.high[across] - columns
        points[..., up] = (self.high[up] - rows)[:, None]
        points[..., fixed] = self.place(points[..., 2]) if fixed != 2 else self.curve[0, 1]
        index = np.moveaxis(volume.grid.index(points), -1, 0)
        labels = volume.kind == "labels"
        return ndimage.map_coordinates(
            volume.data, index, order=0 if labels else 1, cval=volume.rules.outside
        )

    def mr(self) -> Array:
        """Grey of the MR, 0-1."""
        low, high = self.tone
        return np.clip((self.cut(self.alignment.mr) - low) / (high - low), 0, 1)

    def ct(self) -> Array:
        """Grey of the CT, 0-1."""
        low, high = CT_WINDOW
        return np.clip((self.cut(self.alignment.ct) - low) / (high - low), 0, 1)

    def bone(self) -> Array:
        """The CT's bone without islands and holes; of the vertebrae only, where they are known."""
        solid = ndimage.gaussian_filter(self.cut(self.alignment.ct), 0.8 / PIXEL_MM) > BONE_HU
        if self.alignment.vertebrae is not None:
            mask = self.cut(self.alignment.vertebrae) > 0
            inner = ndimage.binary_erosion(mask, iterations=round(2 / PIXEL_MM))
            near = ndimage.binary_dilation(mask, iterations=round(ON_MASK_MM / PIXEL_MM))
            solid = (solid | inner) & near
        return ~_without_small(~_without_small(solid))

    def near(self, key: Key, point: Float) -> bool:
        """Whether a landmark belongs into this plane."""
        if self.plane == "axial":
            return VERTEBRAE.get(key[0]) == self.level
        place = self.place(point[2])
        return abs(float(point[AXES[self.plane][2]] - place)) < NEAR_MM


def _without_small(mask: Array) -> Array:
    """A 2D mask without its small parts."""
    parts, count = ndimage.label(mask)
    size = np.bincount(parts.ravel(), minlength=count + 1) * PIXEL_MM**2
    keep = size >= SMALL_MM2
    keep[0] = False
    return np.asarray(keep[parts])


def views_of(one: Alignment) -> list[View]:
    """Sagittal, coronal, and an axial plane of an upper and a lower vertebra."""
    low, high = box = _box(one.mr.grid)
    if one.common:
        points = one.places(one.common)
        low = np.maximum(low, points.min(0) - BACK_MM)
        high = np.minimum(high, points.max(0) + FRONT_MM)
    bodies = one.places(one.bodies) if one.bodies else ((low + high) / 2)[None]
    bodies = bodies[np.argsort(bodies[:, 2])]
    tone = (0.0, 1.0)
    views: list[View] = []
    planes: tuple[Plane, Plane] = ("sagittal", "coronal")
    for plane in planes:
        curve = bodies[:, [2, AXES[plane][2]]]
        view = View(one, plane, low, high, curve, "", tone)
        if not views:
            tone = _tone(view.cut(one.mr))
        views.append(View(one, plane, low, high, curve, "", tone))
    for key, height in _levels(one, low, high):
        own = tuple(k for k in one.common if k[0] == key) or one.common
        points = one.places(own) if own else np.stack([low, high])
        below, above = low.copy(), high.copy()
        first, last = points.min(0) - AXIAL_MM, points.max(0) + AXIAL_MM
        below[:2] = np.maximum(box[0][:2], np.minimum(first, points.mean(0) - WIDE_MM)[:2])
        above[:2] = np.minimum(box[1][:2], np.maximum(last, points.mean(0) + WIDE_MM)[:2])
        curve = np.array([[0.0, height]])
        views.append(View(one, "axial", below, above, curve, VERTEBRAE.get(key, ""), tone))
    return views


def _tone(picture: Array) -> tuple[float, float]:
    """Black and white of the MR: 1st and 98th percentile around the spine, where there is image."""
    seen = picture[picture > 0]
    if seen.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(seen, [1, 98])
    return float(low), float(max(high, low + 1e-6))


def _levels(one: Alignment, low: Float, high: Float) -> list[tuple[int, float]]:
    """Two vertebrae and the heights of their axial planes, between body and spinous process."""
    keys = sorted(one.bodies, key=lambda k: -one.point(k)[0][2])
    if not keys:
        return [(0, float(low[2] + share * (high[2] - low[2]))) for share in (0.67, 0.33)]
    found = []
    for share in (0.25, 0.7):
        key = keys[min(int(share * len(keys)), len(keys) - 1)]
        height = float(one.point(key)[0][2])
        if (key[0], SPINOUS) in one.common:
            height += 0.35 * (float(one.point((key[0], SPINOUS))[0][2]) - height)
        found.append((key[0], height))
    return found


def _box(grid: Grid) -> tuple[Float, Float]:
    """Corners of a grid's outer voxel faces, mm."""
    ends = [[-0.5, n - 0.5] for n in grid.shape]
    corners = grid.world(np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(8, 3))
    return corners.min(0), corners.max(0)
