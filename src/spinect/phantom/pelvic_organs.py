"""What lies inside the pelvis of a man: bowel, bladder, prostate, seminal vesicles and rectum.

Landmarks as in `pelvis`, mm (assumed); volumes and fillings are drawn anew for every subject.
"""

from itertools import pairwise
from typing import Final

import numpy as np

from spinect.phantom.pelvic_place import Place
from spinect.phantom.shapes import Float, Limb, apply, point
from spinect.phantom.spine import SACRAL_IDS
from spinect.phantom.tissues import Tissue

_BASE: Final = (0.0, 43.0, -117.0)  # neck of the bladder
_HOLLOW: Final = (Tissue.BOWEL, Tissue.BOWEL_BRIGHT, Tissue.GAS)


def cavity(place: Place) -> None:
    """Fat inside the walls of belly and pelvis, and beside the anal canal."""
    for part in (
        place.limb(1, (0, 34, 75), (0, 30, -10), (104, 62), (88, 58)),
        place.limb(1, (0, 30, -10), (0, 28, -70), (84, 56), (50, 48)),
        place.limb(1, (0, 28, -70), (0, 32, -118), (50, 46), (44, 34)),
        place.limb(1, (0, 30, -118), (0, 24, -150), (40, 34), (24, 34)),
        place.limb(1, (0, 96, -112), (0, 92, -160), (34, 12), (40, 14)),  # in front of the pubis
        place.limb(1, (0, -92, -50), (0, -84, -230), (11, 24), (20, 34)),  # between the buttocks
    ):
        place.part(part, Tissue.FAT, [Tissue.MUSCLE], wobble=1.5)
    for side in (-1, 1):  # between anal canal and seat bone
        part = place.limb(side, (30, -16, -132), (26, -30, -178), (17, 20), (18, 20))
        place.part(part, Tissue.FAT, [Tissue.MUSCLE, Tissue.MUSCLE_FAT], wobble=1.5)


def pelvic_floor(place: Place) -> None:
    """The levator: from the side wall down to the anal canal."""
    for side in (-1, 1):
        for front, back in ((44.0, 20.0), (22.0, 2.0), (2.0, -12.0)):
            part = place.limb(side, (46, front, -116), (13, (front + back) / 2 - 4, -150), (14, 3),
                              (10, 3.5), (0, 1, 0))  # fmt: skip
            place.part(part, Tissue.MUSCLE, [Tissue.FAT], wobble=0.5)


def bowel(place: Place) -> None:
    """Loops above the bladder with wall, and gas, fluid or soft content."""
    rng = place.rng
    kinds = (Tissue.GAS, Tissue.BOWEL_BRIGHT, Tissue.BOWEL)
    for _ in range(int(rng.integers(16, 26))):
        start = np.array([rng.uniform(-72, 72), rng.uniform(14, 78), rng.uniform(-34, 70)])
        end = start + rng.standard_normal(3) * [20, 12, 14]
        r, wall = float(rng.uniform(8, 17)), float(rng.uniform(1.8, 3.2))
        content = kinds[int(rng.choice(3, p=(0.3, 0.3, 0.4)))]
        for tissue, less, over in (
            (Tissue.BOWEL, 0.0, (Tissue.FAT, *_HOLLOW)),
            (content, wall, (Tissue.BOWEL,)),
        ):
            radii = (r - less, 0.9 * r - less)
            part = place.limb(1, start.tolist(), end.tolist(), radii, radii, (0.6, 0.8, 0.1))
            place.part(part, tissue, over)


def sigmoid(place: Place) -> None:
    """The colon that leads down from the left to the rectum."""
    r = float(place.rng.uniform(11, 15))
    way = ((-86, 30, 60), (-84, 40, 8), (-60, 48, -24), (-22, 24, -30), (-6, 0, -46))
    inner = place.rng.choice([Tissue.BOWEL, Tissue.GAS])
    for tissue, less, over in (
        (Tissue.RECTUM, 0.0, (Tissue.FAT, *_HOLLOW)),
        (int(inner), 3.0, (Tissue.RECTUM,)),
    ):
        radii = (r - less, r - less)
        for p, q in pairwise(way):
            place.part(place.limb(1, p, q, radii, radii), tissue, over, wobble=1.0)


def bladder(place: Place) -> None:
    """Urine in a wall that is thinner the fuller the bladder."""
    rng = place.rng
    volume = float(np.clip(rng.lognormal(np.log(170), 0.5), 60, 420))  # mL
    a = float(np.cbrt(volume * 1000 / (4 / 3 * np.pi * 0.84 * 0.72)))
    wall = float(np.interp(volume, (60, 200, 420), (5.0, 3.5, 2.5)) + rng.uniform(-0.5, 0.5))
    radii = np.array([a, 0.84 * a, 0.72 * a])
    k = place.scale
    x, y, z = _BASE
    centre = (x, y + 0.05 * a / k, z + (radii[2] - 1) / k)
    over = (Tissue.FAT, Tissue.MUSCLE, Tissue.MUSCLE_FAT, *_HOLLOW)
    place.part(place.ball(centre, radii + wall), Tissue.BLADDER_WALL, over, wobble=0.8)
    place.part(place.ball(centre, radii), Tissue.BLADDER, (Tissue.BLADDER_WALL,), wobble=0.8)


def prostate(place: Place) -> None:
    """The gland below the bladder with both zones, and the seminal vesicles behind and above."""
    rng, k = place.rng, place.scale
    volume = float(np.clip(rng.lognormal(np.log(42), 0.35), 22, 95))  # mL
    a = float(np.cbrt(volume * 1000 / (4 / 3 * np.pi * 0.72 * 0.80)))
    radii = np.array([a, 0.72 * a, 0.80 * a])
    x, y, z = _BASE
    centre = np.array([x, y - 4, z + (3 - radii[2]) / k])
    over = (Tissue.FAT, Tissue.MUSCLE, Tissue.MUSCLE_FAT, Tissue.BLADDER_WALL)
    for side in (-1, 1):
        vesicle = place.limb(side, (4, y - 20, z + 6), (31, y - 27, z + 15), (6.0, 4.5), (5, 4),
                             (0, 0, 1))  # fmt: skip
        place.part(vesicle, Tissue.SEMINAL_VESICLE, over, wobble=0.8)
    place.part(place.ball(centre.tolist(), radii), Tissue.PROSTATE_PERIPHERAL, over, wobble=0.6)
    share = np.interp(volume, (22, 95), (0.58, 0.80))  # the inner gland is what grows with age
    inner = centre + np.array([0, (1 - share) * 0.75 * radii[1], 0.06 * radii[2]]) / k
    place.part(place.ball(inner.tolist(), share * radii), Tissue.PROSTATE,
               (Tissue.PROSTATE_PERIPHERAL,), wobble=0.6)  # fmt: skip


def rectum(place: Place, posed: dict[int, Float], half_depth: dict[int, float]) -> None:
    """From the hollow of the sacrum to the anus; wall round gas, stool or nothing.

    Args:
        posed: Vertebra id -> 4x4, posed world from the body frames of sacrum and coccyx.
        half_depth: Of their bodies, mm.
    """
    rng, k = place.rng, place.scale
    r = float(rng.uniform(11, 17))
    back = np.linalg.inv(place.world)
    way = []
    for v in SACRAL_IDS[2:]:  # S3 to the coccyx
        front = apply(back @ posed[v], [0.0, half_depth[v] + r + 7, 0.0])
        way.append((0.3 * front[0], front[1], front[2]))
    way = [p for p in way if p[2] > -122 * k]
    turn = [(0.0, 13.0 - r * 0.3, -126.0), (0.0, 4.0, -148.0), (0.0, -14.0, -186.0)]
    way += [place.pelvis.at(1, *p) for p in turn]
    wide = [r * k * f for f in np.linspace(0.9, 1.0, len(way) - 2)] + [9.5 * k, 9.5 * k]
    wall = float(rng.uniform(2.6, 3.8))
    gas = float(rng.choice([0.0, 0.35, 0.65, 0.9], p=[0.2, 0.2, 0.3, 0.3]))  # share of the lumen
    over = (Tissue.FAT, Tissue.MUSCLE, Tissue.MUSCLE_FAT, *_HOLLOW)
    for tissue, less in ((Tissue.RECTUM, 0.0), (Tissue.BOWEL, wall)):
        for (p, q), (a, b) in zip(pairwise(way), pairwise(wide), strict=True):
            anal = b == wide[-1]
            if less and anal:
                continue  # the anal canal is closed
            part = Limb(0, 0, point(p), point(q), (1, 0, 0), (a - less, 0.85 * a - less),
                        (b - less, 0.85 * b - less))  # fmt: skip
            place.part(part, tissue, over if not less else (Tissue.RECTUM,))
    if gas:
        for (p, q), (a, b) in list(zip(pairwise(way), pairwise(wide), strict=True))[1:-2]:
            part = Limb(0, 0, point(p), point(q), (1, 0, 0), (gas * (a - wall),) * 2,
                        (gas * (b - wall),) * 2)  # fmt: skip
            place.part(part, Tissue.GAS, (Tissue.BOWEL,), wobble=0.5)


def root_of_penis(place: Place) -> None:
    """Bulb below the prostate, both crura along the lower rami."""
    over = (Tissue.FAT, Tissue.MUSCLE, Tissue.MUSCLE_FAT)
    place.part(place.limb(1, (0, 36, -163), (0, 66, -160), (9, 9), (8, 8)), Tissue.ERECTILE, over)
    place.part(place.limb(1, (0, 66, -160), (0, 104, -158), (11, 9), (13, 11)), Tissue.ERECTILE,
               over)  # fmt: skip
    for side in (-1, 1):
        crus = place.limb(side, (34, 28, -170), (9, 60, -156), (5, 5), (6, 6))
        place.part(crus, Tissue.ERECTILE, over)
