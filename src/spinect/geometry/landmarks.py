"""Named points of a spine."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spinect.anatomy import BODY, ORDER, SACRUM, SUBREGIONS, VERTEBRAE
from spinect.errors import GeometryError, LandmarkError
from spinect.geometry.grid import Grid
from spinect.geometry.transform import apply
from spinect.geometry.volume import Volume

Float = NDArray[np.float64]
Key = tuple[int, int]  # (vertebra, subregion)

WHOLE: Final = 40  # the "subregion" of a point that stands for the whole vertebra
ARCUS: Final = 41
SPINOUS: Final = 42
BODY_CENTRE: Final = 50
SECOND_POINT_MM: Final = 50.0  # where the normalised second point lies, from the body's centre
_FLAT_MM: Final = 1.0  # a second point closer than this to the axis above the body has no direction


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Points in mm, RAS+, keyed (vertebra, subregion), from head to feet.

    Attributes:
        points: (3,) per key. Ids as in `anatomy`; subregion 40 is the whole vertebra.
    """

    points: Mapping[Key, Float]

    def __post_init__(self) -> None:
        held: dict[Key, Float] = {}
        for vertebra, subregion in sorted(self.points, key=_rank):
            point = np.array(self.points[vertebra, subregion], np.float64)
            if point.shape != (3,) or not np.isfinite(point).all():
                raise LandmarkError(
                    f"landmark {key_name((vertebra, subregion))} must be three finite numbers in "
                    f"mm, not {point.tolist()}"
                )
            point.setflags(write=False)
            held[int(vertebra), int(subregion)] = point
        object.__setattr__(self, "points", MappingProxyType(held))

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[Key]:
        return iter(self.points)

    def __contains__(self, key: object) -> bool:
        return key in self.points

    def __getitem__(self, key: Key) -> Float:
        if key not in self.points:
            raise LandmarkError(
                f"there is no landmark {key_name(key)} among {len(self)}: "
                f"{', '.join(map(key_name, self.points)) or 'none at all'}"
            )
        return self.points[key]

    @property
    def vertebrae(self) -> tuple[int, ...]:
        """Ids that have at least one point, head to feet."""
        return tuple(dict.fromkeys(vertebra for vertebra, _ in self.points))

    def array(self, keys: Iterable[Key] | None = None) -> Float:
        """(N, 3) points of `keys` (all by default), mm."""
        wanted = list(self.points if keys is None else keys)
        return np.array([self[key] for key in wanted]).reshape(len(wanted), 3)

    def common(self, other: "Landmarks") -> tuple[Key, ...]:
        """Keys that both have, in this one's order."""
        return tuple(key for key in self.points if key in other)

    def of(self, subregions: Iterable[int]) -> "Landmarks":
        """The points of these subregions only."""
        wanted = set(subregions)
        return Landmarks({key: point for key, point in self.points.items() if key[1] in wanted})

    def joined(self, other: "Landmarks") -> "Landmarks":
        """The points of both.

        Raises:
            LandmarkError: A name that both have.
        """
        if twice := self.common(other):
            raise LandmarkError(
                f"{len(twice)} landmarks stand in both sets ({', '.join(map(key_name, twice))}): "
                "give each name once"
            )
        return Landmarks({**self.points, **other.points})

    def outside(self, grid: Grid) -> tuple[Key, ...]:
        """Keys of the points beyond the outer voxel faces of a grid."""
        index = grid.index(self.array())
        off = np.any((index < -0.5) | (index > np.array(grid.shape) - 0.5), axis=-1)
        return tuple(key for key, out in zip(self.points, off, strict=True) if out)

    def moved(self, b_from_a: Float) -> "Landmarks":
        """The same points in another world; (4, 4) mm -> mm."""
        return Landmarks({key: apply(b_from_a, point) for key, point in self.points.items()})


def centres_of_mass(
    vertebrae: Volume, subregions: Volume | None = None, min_mm3: float = 0.0
) -> Landmarks:
    """Centres of mass of vertebrae, or of every subregion of every vertebra.

    Args:
        vertebrae: Vertebra ids; 0 is background.
        subregions: Subregion ids on the same grid. None: one point per vertebra, key (id, 40).
        min_mm3: Smaller pieces give no point.
    Raises:
        GeometryError: The two lie on different grids.
    """
    if subregions is not None and not vertebrae.grid.matches(subregions.grid):
        raise GeometryError(
            f"vertebrae and subregions lie on different grids: {vertebrae.grid} against "
            f"{subregions.grid}. Bring one onto the other first: resample(subregions, grid)"
        )
    where = np.nonzero(vertebrae.data)
    first = vertebrae.data[where].astype(np.int64)
    second = np.full_like(first, WHOLE) if subregions is None else subregions.data[where]
    keys, piece, count = np.unique(first * 256 + second, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(piece, axis, len(keys)) for axis in where], -1)
    centres = vertebrae.grid.world(sums / count[:, None])
    voxel_mm3 = float(np.prod(vertebrae.grid.spacing))
    return Landmarks(
        {
            (int(key) // 256, int(key) % 256): centre
            for key, centre, voxels in zip(keys, centres, count, strict=True)
            if voxels * voxel_mm3 >= min_mm3 and key % 256
        }
    )


def _rank(key: Key) -> tuple[int, int]:
    vertebra, subregion = key
    return (ORDER.index(vertebra) if vertebra in ORDER else len(ORDER) + vertebra, subregion)


def merge_bodies(subregions: Volume) -> Volume:
    """Subregion ids with the border of the body (49) made part of the body (50).

    To be done before centres of mass are taken: some maps hold only the one, some only the other.
    """
    data = subregions.data.copy()
    data[np.isin(data, BODY)] = BODY_CENTRE
    return subregions.with_data(data)


class Normalised(NamedTuple):
    """Landmarks with normalised second points, and what was done for it.

    Attributes:
        landmarks: The points.
        from_arcus: Vertebrae whose missing spinous process was replaced by the arcus.
        without: Vertebrae that have a body, but nothing that gives a second point.
        bodiless: Vertebrae whose spinous process was left out, for they have no body.
    """

    landmarks: Landmarks
    from_arcus: tuple[int, ...]
    without: tuple[int, ...]
    bodiless: tuple[int, ...]


def normalise_spinous(landmarks: Landmarks, distance_mm: float = SECOND_POINT_MM) -> Normalised:
    """Second points that do not depend on where along the spinous process somebody clicked.

    The spinous process (42) is brought to the height of the body's centre (50) along the world's
    S axis and put `distance_mm` from it in the direction that is left. The arcus (41) replaces a
    missing spinous process; not in the sacrum, whose 41 is all that is no body.

    Args:
        landmarks: mm, RAS+; points other than 42 are kept.
    Raises:
        LandmarkError: A spinous process straight above or below its body.

    Source: the two-step variant in the registration code published with Graf et al. 2023.
    """
    points = {key: point for key, point in landmarks.points.items() if key[1] != SPINOUS}
    from_arcus, without = [], []
    for vertebra in landmarks.of([BODY_CENTRE]).vertebrae:
        body, key = landmarks[vertebra, BODY_CENTRE], (vertebra, SPINOUS)
        if key not in landmarks and vertebra not in SACRUM and (vertebra, ARCUS) in landmarks:
            key = (vertebra, ARCUS)
            from_arcus.append(vertebra)
        if key not in landmarks:
            without.append(vertebra)
            continue
        back = (landmarks[key] - body) * (1, 1, 0)
        length = float(np.linalg.norm(back))
        if length < _FLAT_MM:
            raise LandmarkError(
                f"{key_name(key)} lies {length:.2f} mm from the vertical through the body's "
                "centre and gives no direction: mend it, or do without normalising"
            )
        points[vertebra, SPINOUS] = body + back * (distance_mm / length)
    spinous = landmarks.of([SPINOUS]).vertebrae
    bodiless = tuple(v for v in spinous if (v, BODY_CENTRE) not in landmarks)
    return Normalised(Landmarks(points), tuple(from_arcus), tuple(without), bodiless)


def key_name(key: Key) -> str:
    """A landmark's name in words, such as "L1/vertebral body"."""
    vertebra, subregion = key
    part = "whole" if subregion == WHOLE else SUBREGIONS.get(subregion, str(subregion))
    return f"{VERTEBRAE.get(vertebra, vertebra)}/{part}"
