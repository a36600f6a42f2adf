"""Muscles and vessels round the pelvis: bellies that lie in thin planes of fat.

Landmarks are those of the right side in the coordinates of `pelvis`, mm, of a mean man (assumed).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from spinect.phantom.pelvic_place import Place
from spinect.phantom.tissues import Tissue


class Belly(NamedTuple):
    """A piece of muscle: the first radii lie along `along`, the second across it."""

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    first: tuple[float, float]
    last: tuple[float, float]
    along: tuple[float, float, float]


_WOBBLE_MM: Final = 1.5  # SD of their surfaces
_FAN: Final = (0.49, 0.87, -0.07)  # along the wing of the ilium
_SLANT: Final = (0.85, 0.25, 0.46)
# Painted in this order: what comes later lies on top where two meet.
_MUSCLES: Final[dict[str, tuple[Belly, ...]]] = {
    "gluteus maximus": (
        Belly((44, -62, -26), (108, -50, -88), (34, 17), (40, 22), (0, 0.2, 1)),
        Belly((62, -58, -70), (128, -28, -142), (36, 22), (34, 19), (0, 0.2, 1)),
        Belly((58, -48, -112), (120, -22, -182), (30, 20), (26, 17), (0, 0.2, 1)),
    ),
    "gluteus medius": (
        Belly((112, 6, 24), (132, 6, -62), (40, 13), (30, 16), _FAN),
        Belly((96, -22, 12), (132, 0, -70), (30, 12), (24, 14), _FAN),
    ),
    "gluteus minimus": (Belly((108, 30, -10), (128, 26, -84), (26, 8), (16, 9), _FAN),),
    "tensor": (Belly((128, 60, -34), (148, 42, -170), (12, 8), (15, 7), (0, 1, 0)),),
    "iliacus": (
        Belly((98, 26, 14), (92, 50, -58), (36, 10), (17, 13), _FAN),
        Belly((92, 54, -60), (106, 24, -148), (15, 13), (9, 9), (1, 0, 0)),
    ),
    "psoas": (
        Belly((46, 6, 60), (62, 34, -18), (18, 20), (17, 18), (1, 0, 0)),
        Belly((62, 34, -18), (82, 60, -74), (16, 17), (13, 12), (1, 0, 0)),
    ),
    "piriformis": (Belly((28, -22, -48), (126, -2, -92), (15, 10), (7, 6), (0, 0, 1)),),
    "obturator internus": (
        Belly((63, 26, -78), (54, 34, -132), (30, 7), (20, 7), (0.15, 1, 0)),
        Belly((58, 0, -112), (120, 0, -112), (7, 7), (6, 6), (0, 0, 1)),
    ),
    "obturator externus": (Belly((40, 60, -132), (116, 2, -128), (16, 9), (7, 7), (0, 0, 1)),),
    "quadratus femoris": (Belly((72, 2, -144), (116, 4, -140), (15, 8), (15, 7), (0, 0, 1)),),
    "pectineus": (Belly((40, 82, -106), (104, 34, -178), (18, 9), (18, 9), _SLANT),),
    "adductors": (
        Belly((20, 66, -146), (92, 24, -250), (13, 17), (26, 22), (1, 0, 0)),
        Belly((46, 28, -166), (88, 2, -250), (13, 13), (24, 20), (1, 0, 0)),
    ),
    "hamstrings": (Belly((64, -6, -162), (88, -26, -250), (13, 12), (24, 18), (1, 0, 0)),),
    "vastus": (
        Belly((148, 34, -136), (142, 36, -260), (14, 17), (20, 28), (1, 0, 0)),
        Belly((122, 52, -166), (118, 54, -260), (22, 13), (26, 18), (1, 0, 0)),
    ),
    "rectus femoris": (Belly((102, 66, -62), (118, 78, -250), (11, 10), (17, 12), (1, 0, 0)),),
    "sartorius": (Belly((120, 80, -34), (84, 92, -250), (10, 7), (12, 8), (1, 0, 0)),),
    "rectus abdominis": (Belly((30, 104, 70), (11, 88, -104), (28, 7), (10, 5), (1, 0, 0)),),
    "multifidus": (Belly((22, -60, 70), (18, -52, -26), (24, 18), (13, 9), (1, 0, 0)),),
}  # fmt: skip


def muscles(place: Place) -> None:
    """Every muscle of both sides, each in a plane of fat."""
    rng = place.rng
    trophic = float(np.clip(1 + 0.07 * rng.standard_normal(), 0.86, 1.12))
    plane = float(rng.uniform(1.2, 2.4))  # mm of fat between neighbours
    for bellies in _MUSCLES.values():
        sway = trophic * rng.uniform(0.96, 1.04)
        for side in (-1, 1):
            parts = [
                place.limb(side, b.start, b.end, _times(b.first, sway), _times(b.last, sway),
                           b.along)
                for b in bellies
            ]  # fmt: skip
            fields = [f for part in parts if (f := place.field(part, _WOBBLE_MM, plane))]
            for field in fields:
                place.put(field, Tissue.FAT, [Tissue.MUSCLE], plane)
            for field in fields:
                place.put(field, Tissue.MUSCLE, [Tissue.FAT, Tissue.MUSCLE])
    _streaks(place)


def _times(pair: tuple[float, float], factor: float) -> tuple[float, float]:
    return pair[0] * factor, pair[1] * factor


def _streaks(place: Place) -> None:
    """Fat between the bundles of the large muscles, in places."""
    scene, rng = place.scene, place.rng
    amount = float(rng.uniform(0.02, 0.12))
    whole = tuple(slice(0, n) for n in scene.grid.shape)
    box = (whole[0], whole[1], whole[2])
    noise = scene.waves(box, 10, (5.0, 16.0), stretch=4.0)
    density = np.clip(0.6 + scene.wobble, 0, None)
    streak = np.abs(noise) < np.float32(amount) * density
    scene.tissue[streak & (scene.tissue == Tissue.MUSCLE)] = Tissue.MUSCLE_FAT


def vessels(place: Place) -> None:
    """External iliac vessels, which leave under the groin as the femoral ones."""
    rng = place.rng
    r = float(rng.uniform(4.2, 5.6))
    ways: Sequence[Sequence[float]] = (
        (16, 26, 60), (34, 34, 0), (56, 62, -56), (64, 86, -96), (66, 88, -250),
    )  # fmt: skip
    for side in (-1, 1):
        for a, b in pairwise(ways):
            for tissue, radius, aside, ahead in (
                (Tissue.FAT, r + 4.5, -3.0, -2.0),
                (Tissue.VEIN, r * 1.15, -8.5, -4.0),
                (Tissue.ARTERY, r, 2.0, 0.0),
            ):
                first, last = ([p[0] + aside, p[1] + ahead, p[2]] for p in (a, b))
                part = place.limb(side, first, last, (radius, radius), (radius, radius))
                place.part(part, tissue, [Tissue.FAT, Tissue.MUSCLE, Tissue.MUSCLE_FAT,
                                          Tissue.VEIN])  # fmt: skip
