"""Draws of one volume on disk, and what needs all of them at once: order statistics, the medoid."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from spinect.evaluation.uncertainty import interval_ranks, nominal_coverage
from spinect.geometry import Volume
from spinect.inference.plan import allocate

Int16 = NDArray[np.int16]
Affine = NDArray[np.float64]
BYTES_PER_DRAW: Final = 2  # int16 HU, on disk
SLAB_BYTES: Final = 32 * 2**20  # of memory while slabs of all draws are compared
_WORK_BYTES: Final = 12  # per voxel and draw: as stored, sorted, and the difference of two draws
HU_LIMITS: Final = (-32768, 32767)


@dataclass(frozen=True)
class Wanted:
    """What a run shall tell beside mean and spread; anything of it needs the draws on disk.

    Attributes:
        interval: Least nominal coverage of the interval, 0-1; None for no interval.
        medoid: Whether the medoid is found.
        draws: Whether the draws themselves are kept.
    """

    interval: float | None = None
    medoid: bool = False
    draws: bool = False

    def __bool__(self) -> bool:
        return self.interval is not None or self.medoid or self.draws


@dataclass(frozen=True, eq=False)
class Interval:
    """Two order statistics per voxel.

    Attributes:
        lower, upper: The i-th and j-th smallest draw, whole HU, kind "ct".
        ranks: i < j, from 1.
        coverage: Nominal, (j - i) / (K + 1): the probability that one more draw of the same
            continuous distribution lies between them.
    """

    lower: Volume
    upper: Volume
    ranks: tuple[int, int]
    coverage: float


@dataclass(frozen=True, eq=False)
class Medoid:
    """The draw that is closest to the others: a sharp image that was really drawn.

    Attributes:
        ct: That draw, whole HU.
        draw: Its number, from 0.
        distance: Its mean absolute distance to the other draws inside the field of view, HU.
    """

    ct: Volume
    draw: int
    distance: float


def spool(samples: int, shape: tuple[int, ...]) -> Int16:
    """Room for K draws, (K, *shape), in a temporary file that vanishes with the last view of it."""
    return allocate((samples, *shape), np.int16, on_disk=True)


def store(kept: Int16, values: NDArray[np.float32]) -> None:
    """Write one draw plane by plane, rounded to whole HU as a CT file is."""
    for out, plane in zip(kept, values, strict=True):
        out[...] = np.rint(plane)


def order_statistics(
    draws: Int16, ranks: tuple[int, int], lower: NDArray[Any], upper: NDArray[Any]
) -> None:
    """Write the i-th and j-th smallest of the draws, voxel by voxel, slab by slab.

    Args:
        draws: (K, *spatial).
        ranks: i < j, from 1.
        lower, upper: (*spatial), contiguous, written to.
    """
    places = (ranks[0] - 1, ranks[1] - 1)
    low, high = lower.reshape(-1), upper.reshape(-1)
    for part, slab in slabs(draws):
        ordered = np.partition(slab, places, axis=0)
        low[part], high[part] = ordered[places[0]], ordered[places[1]]


def distances(draws: Int16, inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean absolute distance between each two draws inside a mask, (K, K), HU.

    One pass over slabs; the sums are whole numbers, so that slabs of any size give the same.
    """
    count = len(draws)
    total = np.zeros((count, count), np.int64)
    within = inside.reshape(-1)
    for part, slab in slabs(draws):
        here = slab[:, within[part]].astype(np.int32)  # a difference of two int16 may not fit one
        for one in range(count):
            for other in range(one + 1, count):
                total[one, other] += np.abs(here[one] - here[other]).sum(dtype=np.int64)
    return (total + total.T) / max(int(within.sum()), 1)


def central(apart: NDArray[np.float64]) -> tuple[int, float]:
    """The draw of least mean distance to the others, and that distance; the first of equals.

    Args:
        apart: (K, K), K >= 2, distance between each two draws, 0 on the diagonal.
    """
    mean = apart.sum(axis=1) / (len(apart) - 1)
    chosen = int(mean.argmin())
    return chosen, float(mean[chosen])


def interval_of(
    draws: Int16, coverage: float, lower: NDArray[Any], upper: NDArray[Any], affine: Affine
) -> Interval:
    """The narrowest symmetric interval of at least this nominal coverage.

    Args:
        lower, upper: Arrays of one draw's shape, written to.
    """
    ranks = interval_ranks(len(draws), coverage)
    order_statistics(draws, ranks, lower, upper)
    nominal = nominal_coverage(len(draws), ranks)
    return Interval(Volume(lower, affine, "ct"), Volume(upper, affine, "ct"), ranks, nominal)


def medoid_of(draws: Int16, inside: NDArray[np.bool_], out: NDArray[Any], affine: Affine) -> Medoid:
    """The medoid inside a mask; `out`, an array of one draw's shape, is written to."""
    draw, distance = central(distances(draws, inside))
    out[...] = draws[draw]
    return Medoid(Volume(out, affine, "ct"), draw, distance)


def slabs(draws: NDArray[Any]) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Runs of voxels with all their draws: (slice of the flattened voxels, (K, n) array)."""
    flat = draws.reshape(len(draws), -1)
    step = max(SLAB_BYTES // (_WORK_BYTES * len(draws)), 1)
    for first in range(0, flat.shape[1], step):
        part = slice(first, min(first + step, flat.shape[1]))
        yield part, np.asarray(flat[:, part])
