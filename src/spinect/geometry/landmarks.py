"""Named points of a spine."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spinect.anatomy import ORDER, SUBREGIONS, VERTEBRAE
from spinect.errors import GeometryError, LandmarkError
from spinect.geometry.transform import apply
from spinect.geometry.volume import Volume

Float = NDArray[np.float64]
Key = tuple[int, int]  # (vertebra, subregion)

WHOLE: Final = 40  # the "subregion" of a point that stands for the whole vertebra


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
                    f"landmark {_name(vertebra, subregion)} must be three finite numbers in mm, "
                    f"not {point.tolist()}"
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
                f"there is no landmark {_name(*key)} among {len(self)}: "
                f"{', '.join(_name(*k) for k in self.points) or 'none at all'}"
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


def _name(vertebra: int, subregion: int) -> str:
    part = "whole" if subregion == WHOLE else SUBREGIONS.get(subregion, str(subregion))
    return f"{VERTEBRAE.get(vertebra, vertebra)}/{part}"
