"""Masks of many draws: matched to those of their mean, then put to the vote.

Instances and their names are those of the mean CT. A draw says for each voxel to which of them it
belongs, whatever it calls them itself: naming is another question than finding, and asked once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from spinect.anatomy import SACRUM, VERTEBRAE
from spinect.evaluation.overlap import overlaps
from spinect.geometry import Volume
from spinect.geometry.resample import resample
from spinect.inference.draws import slabs
from spinect.inference.plan import allocate, check_disk
from spinect.segmentation.direct import POOR_AGREEMENT
from spinect.segmentation.result import Segmentation

Labels = NDArray[np.uint8]
_IDS: Final = 256
BYTES_PER_LABEL: Final = 1  # per voxel and draw, on disk, until the votes are counted


@dataclass(frozen=True, eq=False)
class Votes:
    """What the draws say together.

    Attributes:
        voted: Vertebra ids where more than half of the draws agree on one; a tie is background.
        probability: Largest share of draws that agree on one vertebra, 0-1, kind "mr" so that 0
            lies outside; above one half exactly where `voted` is not background.
        confidence: Vertebra id -> mean over the draws of the Dice of its mask with the voted one,
            0-1; a draw without it counts 0.
        found: Vertebra id -> share of draws that have it: their Dice with the mean's is above
            `POOR_AGREEMENT`.
    """

    voted: Volume
    probability: Volume
    confidence: Mapping[int, float]
    found: Mapping[int, float]


def vote(mean: Volume, draws: Iterable[Volume], samples: int) -> Votes:
    """Put the vertebrae of each voxel to the vote; one draw is in memory at a time.

    Args:
        mean: Vertebra ids found on the mean CT.
        draws: Vertebra ids found on each draw, any names; brought onto the grid of `mean`.
        samples: How many draws there are, K.
    Raises:
        ResourceError: The label maps, K bytes per voxel, do not fit onto the disk.
        ValueError: There are more or fewer draws.
    """
    check_disk(samples * BYTES_PER_LABEL * mean.data.size)
    kept = allocate((samples, *mean.data.shape), np.uint8, on_disk=True)
    ids = np.unique(mean.data[mean.data > 0]).astype(int).tolist()
    found = dict.fromkeys(ids, 0.0)
    for out, draw in zip(kept, draws, strict=True):
        own, there = matched(resample(draw, mean.grid).data, mean.data)
        out[...] = own
        for number in there:
            found[number] += 1 / samples
    count = _Count(samples, mean.data.shape)
    for part, slab in slabs(kept):
        count.add(part, slab, ids)
    return Votes(
        Volume(count.voted, mean.affine, "labels"),
        Volume(count.share, mean.affine, "mr"),
        count.confidence(ids),
        {number: round(share, 6) for number, share in found.items()},
    )


def matched(draw: Labels, mean: Labels) -> tuple[Labels, list[int]]:
    """The masks of a draw under the names of the mean's.

    The matching is one-to-one by largest overlap; instances without a partner become background.

    Returns:
        The label map, and the ids of the mean whose partner has a Dice above `POOR_AGREEMENT`.
    """
    table = overlaps(draw, mean)
    pairs = table.pairs()
    names = np.zeros(_IDS, np.uint8)
    for number, other in pairs.items():
        names[other] = number
    there = [n for n, other in pairs.items() if table.dice(n, other) > POOR_AGREEMENT]
    return names[draw], there


class _Count:
    """Votes of the voxels seen so far, and the overlaps of each draw with their outcome."""

    def __init__(self, samples: int, shape: tuple[int, ...]) -> None:
        self.samples = samples
        self.voted = np.zeros(shape, np.uint8)
        self.share = np.zeros(shape, np.float32)
        self._common = np.zeros((samples, _IDS), np.int64)
        self._own = np.zeros((samples, _IDS), np.int64)
        self._all = np.zeros(_IDS, np.int64)

    def add(self, part: slice, slab: NDArray[Any], ids: Iterable[int]) -> None:
        """Count a run of voxels, (K, n) ids."""
        busy = slab.any(axis=0)
        said = slab[:, busy]
        most, level = np.zeros(said.shape[1], np.int64), np.zeros(said.shape[1], np.uint8)
        for number in ids:
            votes = (said == number).sum(axis=0)
            more = votes > most
            most[more], level[more] = votes[more], number
        level[2 * most <= self.samples] = 0
        self.voted.reshape(-1)[part][busy] = level
        self.share.reshape(-1)[part][busy] = most / self.samples
        self._all += np.bincount(level, minlength=_IDS)
        for k, one in enumerate(said):
            self._own[k] += np.bincount(one, minlength=_IDS)
            self._common[k] += np.bincount(one[one == level], minlength=_IDS)

    def confidence(self, ids: Iterable[int]) -> dict[int, float]:
        """Mean Dice of the draws with the voted mask."""
        both = np.maximum(self._own + self._all, 1)  # neither has it: 0
        mean = (2 * self._common / both).mean(axis=0)
        return {number: float(mean[number]) for number in ids}


def with_votes(segmentation: Segmentation, votes: Votes) -> Segmentation:
    """The same masks; the table's columns `confidence` and `draws_found` tell the votes.

    A warning names the vertebrae outside the sacrum whose confidence is below `POOR_AGREEMENT`.
    """
    ids = [int(str(row["id"])) for row in segmentation.rows]
    rows = tuple(
        {
            **row,
            "confidence": round(votes.confidence[number], 3),
            "draws_found": round(votes.found[number], 3),
        }
        for number, row in zip(ids, segmentation.rows, strict=True)
    )
    poor = [
        VERTEBRAE[number]
        for number in ids
        if number not in SACRUM and votes.confidence[number] < POOR_AGREEMENT
    ]
    said = segmentation.warnings
    if poor:
        said += (
            f"do not trust {', '.join(poor)}: masks of single draws agree with the voted one by a "
            f"Dice below {POOR_AGREEMENT:g}",
        )
    return replace(segmentation, rows=rows, warnings=said)
