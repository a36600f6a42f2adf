"""What is known about a spine before it is seen: which vertebra follows which, and how far below.

All numbers are assumed: distances are adult means as the phantom has them (a test holds the two
together), spreads are wider than the phantom's so that real spines and wrong centres fit in, and
the shares of transitional anatomy are of the order that clinical series report.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spinect.anatomy import PRESACRAL, VERTEBRA_IDS

Float = NDArray[np.float64]

STATES: Final = PRESACRAL  # C1 ... T12, T13, L1 ... L6
STATE: Final = {vertebra: place for place, vertebra in enumerate(STATES)}
SACRAL: Final = len(STATES)  # place of "the sacrum" behind them

# Shares of spines with transitional anatomy.
SIXTH_LUMBAR: Final = 0.05  # L6: S1 is free
NO_FIFTH_LUMBAR: Final = 0.015  # L5 belongs to the sacrum
THIRTEENTH_RIB: Final = 0.01  # T13
ELEVEN_RIBS: Final = 0.01  # T11 is followed by L1

MISSED: Final = 0.02  # of vertebrae that lie between two found ones and were not found
LONGEST_GAP: Final = 3  # missed vertebrae in a row

# From the body's centre to that of the vertebra below (of the last one: to S1's), mm.
# fmt: off
_PITCHES: Final = (
    18.0, 20.0, 16.5, 17.1, 17.6, 18.1, 19.7,  # C1-C7
    20.4, 20.9, 21.3, 21.8, 22.7, 23.7, 24.7, 25.9, 27.0, 28.5, 30.1, 31.7, 33.6,  # T1-T13
    34.2, 35.9, 36.6, 36.0, 37.0, 37.7,  # L1-L6
)
# fmt: on
PITCH: Final[dict[int, float]] = dict(zip(STATES, _PITCHES, strict=True))
TO_SACRUM: Final = 0.60  # of that distance: from the last body's centre to the nearest sacral bone
PITCH_SD: Final = 0.10  # of the logarithm, around a patient's own scale
SACRUM_SD: Final = 0.20
SCALE_SD: Final = 0.08  # between patients
_WILD: Final = (0.02, 0.35)  # share and spread of distances that follow no rule: disease, errors

VOLUME_ML: Final = (9.0, 17.0, 2.1)  # mL at a pitch of so many mm, and the exponent
_VOLUME_SD: Final = (0.30, 1.0)  # larger, smaller than expected: fields of view cut volumes


@dataclass(frozen=True, eq=False)
class Descent:
    """Ways down the spine in k steps, k - 1 vertebrae being passed over.

    Attributes:
        weight: (K, S + 1, S + 1) probability of being there after k steps.
        distance: (K, S + 1, S + 1) mm from centre to centre (to the sacrum's top at S).
    """

    weight: Float
    distance: Float


@lru_cache(maxsize=1)
def descent() -> Descent:
    """The ways down for 1 to `LONGEST_GAP` + 1 steps."""
    one, pitch = _one_step()
    weights, distances = [one], [pitch]
    for _ in range(LONGEST_GAP):
        weight = one @ weights[-1]
        total = (one * pitch) @ weights[-1] + one @ (weights[-1] * distances[-1])
        weights.append(weight)
        distances.append(np.divide(total, weight, out=np.ones_like(total), where=weight > 0))
    return Descent(np.stack(weights), np.stack(distances))


def _one_step() -> tuple[Float, Float]:
    follows: dict[str, dict[str, float]] = {
        "T11": {"T12": 1 - ELEVEN_RIBS, "L1": ELEVEN_RIBS},
        "T12": {"L1": 1 - THIRTEENTH_RIB, "T13": THIRTEENTH_RIB},
        "L4": {"L5": 1 - NO_FIFTH_LUMBAR, "": NO_FIFTH_LUMBAR},
        "L5": {"": 1 - SIXTH_LUMBAR, "L6": SIXTH_LUMBAR},
        "L6": {"": 1.0},
    }
    chances = {VERTEBRA_IDS[above]: below for above, below in follows.items()}
    weight = np.zeros((SACRAL + 1, SACRAL + 1))
    pitch = np.ones_like(weight)
    for place, vertebra in enumerate(STATES):
        pitch[place] = PITCH[vertebra]
        pitch[place, SACRAL] *= TO_SACRUM
        if vertebra not in chances:
            weight[place, place + 1] = 1.0
        for below, chance in chances.get(vertebra, {}).items():
            weight[place, STATE[VERTEBRA_IDS[below]] if below else SACRAL] = chance
    return weight, pitch


def log_step(distance_mm: float, scale: float, *, sacrum: bool = False) -> Float:
    """Log probability density of what follows, at a distance, for every level.

    Args:
        distance_mm: From a found centre to the next one, or to the sacrum.
        scale: Size of the patient, 1 = mean.
    Returns:
        (S, S) from level to level; with `sacrum` (S,) from level to sacrum.
    """
    ways = descent()
    pick = np.s_[:, :SACRAL, SACRAL] if sacrum else np.s_[:, :SACRAL, :SACRAL]
    weight, expected = ways.weight[pick], ways.distance[pick]
    off = np.log(max(distance_mm, 1.0)) - np.log(scale * expected)
    gaps = np.arange(len(weight)).reshape(-1, *([1] * (weight.ndim - 1)))
    density = _density(off, SACRUM_SD if sacrum else PITCH_SD)
    total = (weight * (1 - MISSED) * MISSED**gaps * density).sum(0)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(total))


def _density(off: Float, sd: float) -> Float:
    """A normal density with a wide foot."""
    share, wide = _WILD
    narrow = np.exp(-0.5 * (off / sd) ** 2) / sd
    return np.asarray((1 - share) * narrow + share * np.exp(-0.5 * (off / wide) ** 2) / wide)


def log_volume(volume_ml: float, scale: float) -> Float:
    """(S,) log likelihood of a vertebra's volume for every level, 0 at its best.

    A smaller volume than expected says little, since the field of view may cut it.
    """
    base, at, power = VOLUME_ML
    pitch = np.array([PITCH[v] for v in STATES])
    off = np.log(volume_ml) - np.log(base * (scale * pitch / at) ** power)
    larger, smaller = _VOLUME_SD
    return np.asarray(-0.5 * (off / np.where(off > 0, larger, smaller)) ** 2)
