"""The outline of a man's pelvis: skin, and the flesh below the fat, as functions of position.

Pelvis coordinates as in `pelvis`, in units of the subject's scale; sizes are assumed.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from spinect.phantom.shapes import Array, Float

SKIN_MM: Final = 2.2
# Half width, front and back of the body without its fat, from the thighs to the waist, mm.
_HEIGHTS: Final = (-260, -190, -140, -105, -60, -10, 30, 70)
_WIDTH: Final = (158, 162, 165, 166, 158, 148, 144, 142)
_FRONT: Final = (80, 84, 90, 94, 96, 100, 106, 108)
_BACK: Final = (72, 80, 88, 88, 84, 78, 74, 74)
_ROW_MM: Final = 0.02
_MIDDLE: Final = np.float32(8.0)  # y of the axis of the body, mm


@dataclass(frozen=True)
class Form:
    """How much there is of a man.

    Attributes:
        fat: Thickness of the subcutaneous fat, mm. shares: Of it at the sides, front and back.
        belly: How far it stands out in front at the waist, mm.
        width: Factor on the half width.
    """

    fat: float
    shares: tuple[float, float, float]
    belly: float
    width: float

    def bare(self) -> "Form":
        """What is below the fat: the belly is fat."""
        return Form(0.0, self.shares, 0.0, self.width)

    def reach(self, low: float, high: float) -> tuple[float, float, float]:
        """Largest half width, front and depth behind between two heights, mm."""
        half, front, back = (f.max() for f in self._sizes(np.linspace(low, high, 60)))
        return float(half), float(front), float(back)

    def back(self, z: Array) -> Array:
        """How far the body reaches behind the origin at a height, mm."""
        return np.asarray(np.interp(z, _HEIGHTS, _BACK) + self.fat * self.shares[2], np.float32)

    def _sizes(self, z: Float | Array) -> tuple[Float, Float, Float]:
        paunch = self.belly * np.interp(z, (-100, -20, 70), (0.0, 0.5, 1.0))
        half = np.interp(z, _HEIGHTS, _WIDTH) * self.width + self.fat * self.shares[0]
        front = np.interp(z, _HEIGHTS, _FRONT) + self.fat * self.shares[1] + paunch
        back = np.interp(z, _HEIGHTS, _BACK) + self.fat * self.shares[2]
        return np.asarray(half), np.asarray(front), np.asarray(back)

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        """About the distance to the outline, mm, negative inside: a superellipse per height."""
        # one table for all voxels: the sizes change by less than 0.01 mm between its rows
        first = float(z.min())
        rows = np.arange(first, float(z.max()) + 2 * _ROW_MM, _ROW_MM)
        at = ((z - np.float32(first)) / np.float32(_ROW_MM)).astype(np.intp)
        half, front, back = (v.astype(np.float32)[at] for v in self._sizes(rows))
        ahead = y > _MIDDLE
        depth = np.where(ahead, front - _MIDDLE, back + _MIDDLE)
        power = np.where(ahead, np.float32(2.5), np.float32(2.7))
        k = ((np.abs(x) / half) ** power + (np.abs(y - _MIDDLE) / depth) ** power) ** (1 / power)
        return np.asarray((k - 1) * np.minimum(half, depth), np.float32)


def draw_form(rng: np.random.Generator) -> Form:
    """Fat of 7-48 mm, a belly or none."""
    return Form(
        fat=float(np.clip(rng.lognormal(np.log(19), 0.45), 7, 48)),
        shares=(rng.uniform(0.6, 1.0), rng.uniform(0.6, 1.3), rng.uniform(0.8, 1.2)),
        belly=float(rng.uniform(-4, 26)),
        width=float(1 + 0.02 * np.clip(rng.standard_normal(), -2, 2)),
    )
