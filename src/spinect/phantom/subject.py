"""Who the subject is: dimensions by level, curvature, transitional anatomy and disease.

Anchor values are adult means by level (recipe of this project; assumed, not measured here), scaled
per subject by SD 7 % and per vertebra by SD 2 %, limits twice that. `docs/phantom.md` compares the
result with real masks.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from spinect.phantom.vertebra import VertebraShape

# Place of a vertebra along the spine: C1 = 1 ... T12 = 19, L1 = 20 ... L5 = 24, S1 = 25.
RANK: Final = {i: float(i) for i in range(1, 25)} | {
    28: 19.5, 25: 24.5, 26: 25.0, 29: 26.0, 30: 27.0, 31: 28.0, 32: 29.0, 27: 30.0,
}  # fmt: skip

#                      C2    C3    C7    T1    T4    T6    T9   T12    L1    L3    L5
_AT: Final = (2, 3, 7, 8, 11, 13, 16, 19, 20, 22, 24)
_TABLE: Final[dict[str, tuple[float, ...]]] = {
    "width": (17, 17.5, 22, 25, 26, 29, 34, 45, 46.5, 49.5, 52.5),
    "depth": (15.5, 15.5, 17, 18, 22, 26, 31, 34.5, 35, 36.5, 36.5),
    "height": (19, 12, 13.5, 16, 18, 19.5, 22, 25.3, 26.8, 28, 26),  # at the middle of the body
    "wedge": (0, 0, -0.5, -0.8, -1.2, -1.5, -1.2, -0.8, -0.3, 0.8, 4.0),
    "canal_w": (24, 24, 24, 20, 17, 17, 17, 21, 22, 24, 27),
    "canal_d": (17, 15.5, 15, 15, 15.5, 16, 16, 17, 17, 16.5, 15.5),
    "ped_w": (6, 5.5, 6.5, 8, 5, 4.8, 6, 8, 8.5, 10.5, 16),
    "ped_h": (8, 7, 7.5, 9.5, 11, 12, 14, 16.5, 16, 15.5, 15),
    "lamina": (5, 3.2, 4, 5, 5.8, 6, 6.2, 6.2, 6.2, 6.4, 6.2),
    "span": (54, 54, 68, 75, 65, 62, 58, 49, 70, 84, 86),
    "length": (16, 13, 30, 30, 32, 34, 30, 25, 26.5, 27.5, 18),
    "slope": (14, 20, 24, 34, 42, 56, 54, 24, 21, 22, 18),  # degrees below the horizontal
    "plate": (5, 3.4, 4.8, 5.6, 6, 6, 6.5, 8, 8.8, 9.2, 7.2),  # half height
    "thick": (2.6, 2.4, 2.6, 2.6, 2.2, 2.1, 2.4, 2.7, 2.8, 3.0, 3.0),  # half thickness
    "disc": (4.6, 4.8, 5.5, 4.5, 3.8, 4.2, 5.0, 6.5, 8.0, 10.5, 11.0),  # below the vertebra
    "dish": (0.5, 0.8, 0.9, 0.9, 1.0, 1.2, 1.4, 1.8, 2.0, 2.2, 1.8),
    "kidney": (0, 0, 0, 0.6, 1.0, 1.2, 1.4, 2.0, 2.2, 2.0, 0.8),
    "waist": (0.08, 0.06, 0.07, 0.08, 0.08, 0.09, 0.09, 0.1, 0.11, 0.11, 0.1),
}


@dataclass(frozen=True)
class Build:
    """What a subject is before its spine is put together.

    Attributes:
        shapes: C2 and below, head to feet, without the sacrum.
        age, sex, size: Person; size is the factor on all dimensions.
        lordosis, kyphosis, cervical, slope: Curvature, degrees; slope is the sacral slope.
        scoliosis: (Cobb angle in degrees with sign, rank of the apex, half length in ranks).
        fused: Neighbours (upper, lower id) grown together.
        slip: (upper id, mm by which it slides forward), or None.
        joint_gap: Width of the joints, mm.
        ribs: Last thoracic rank with ribs (18, 19 or 19.5).
        screws: Ids of vertebrae with pedicle screws.
        lean: How far the spine is from lying straight: to the front and aside, degrees.
    """

    shapes: tuple[VertebraShape, ...]
    age: float
    sex: str
    size: float
    lordosis: float
    kyphosis: float
    cervical: float
    slope: float
    scoliosis: tuple[float, float, float]
    fused: tuple[tuple[int, int], ...]
    slip: tuple[int, float] | None
    joint_gap: float
    ribs: float
    screws: tuple[int, ...]
    lean: tuple[float, float]


def _clipped(rng: np.random.Generator, sd: float) -> float:
    """A factor around 1: normal, cut at two SD."""
    return float(1 + sd * np.clip(rng.standard_normal(), -2, 2))


def draw(seed: int, sex: str | None = None, ages: tuple[float, float] = (18.0, 88.0)) -> Build:
    """All random choices about a subject's skeleton, from its seed.

    Args:
        sex: "F" or "M"; None: drawn. ages: Youngest and oldest, years.
    """
    rng = np.random.default_rng([seed, 1])
    age = float(rng.uniform(*ages))
    drawn = "F" if rng.random() < 0.5 else "M"
    sex = sex or drawn
    size = (0.97 if sex == "F" else 1.025) * _clipped(rng, 0.035)
    ids = _levels(rng)
    width, tall = _clipped(rng, 0.03), _clipped(rng, 0.03)
    shapes = [_shape(v, rng, size, (width, tall)) for v in ids]
    shapes = _diseased(shapes, rng, age)
    lumbar = [s.vertebra for s in shapes if 20 <= s.vertebra <= 25]
    slip = None
    if rng.random() < 0.06:
        slip = (lumbar[-1 - int(rng.random() < 0.5)], float(rng.uniform(3, 10)))
    cobb = float(rng.uniform(10, 40) if rng.random() < 0.1 else rng.uniform(0, 7))
    lordosis = float(np.clip(50 + 12 * rng.standard_normal(), 18, 78))
    return Build(
        shapes=tuple(shapes),
        age=age,
        sex=sex,
        size=size,
        lordosis=lordosis,
        kyphosis=float(np.clip(38 + 11 * rng.standard_normal(), 12, 68)),
        cervical=float(np.clip(18 + 12 * rng.standard_normal(), -12, 45)),
        slope=float(0.62 * lordosis + 7 + 4 * rng.standard_normal()),
        scoliosis=(cobb * float(rng.choice([-1, 1])), float(rng.uniform(12, 23)),
                   float(rng.uniform(4, 7))),
        fused=_fused(shapes, rng),
        slip=slip,
        joint_gap=float(rng.uniform(1.0, 2.2)),
        ribs=_ribs(ids, rng),
        screws=_screws(lumbar, rng),
        lean=(float(4 * np.clip(rng.standard_normal(), -2, 2)),
              float(2 * np.clip(rng.standard_normal(), -2, 2))),
    )  # fmt: skip


def _levels(rng: np.random.Generator) -> list[int]:
    """Presacral ids from C2; about 6 % have a sixth lumbar, 2 % a missing one, 2 % a T13."""
    ids = list(range(2, 25))
    kind = rng.random()
    if kind < 0.06:
        ids.append(25)
    elif kind < 0.08:
        ids.remove(24)
    elif kind < 0.10:
        ids.insert(ids.index(20), 28)
    return ids


def _ribs(ids: list[int], rng: np.random.Generator) -> float:
    eleven = rng.random() < 0.02
    if 28 in ids:
        return RANK[28]
    return 18.0 if eleven else 19.0


def _screws(lumbar: list[int], rng: np.random.Generator) -> tuple[int, ...]:
    if rng.random() >= 0.02:
        return ()
    first = int(rng.integers(0, len(lumbar) - 1))
    return tuple(lumbar[first : first + int(rng.integers(2, 4))])


def _fused(shapes: list[VertebraShape], rng: np.random.Generator) -> tuple[tuple[int, int], ...]:
    if rng.random() >= 0.04:
        return ()
    k = int(rng.integers(1, len(shapes) - 1))
    return ((shapes[k].vertebra, shapes[k + 1].vertebra),)


def _shape(
    vertebra: int, rng: np.random.Generator, size: float, build: tuple[float, float]
) -> VertebraShape:
    rank = RANK[vertebra]
    mean = {k: float(np.interp(rank, _AT, row)) for k, row in _TABLE.items()}

    def vary(name: str, sd: float = 0.02, factor: float = 1.0) -> float:
        return mean[name] * size * factor * _clipped(rng, sd)

    wide, tall = build
    canal = _clipped(rng, 0.05)
    style = "axis" if vertebra == 2 else "cervical" if vertebra <= 7 else "thoracic"
    if 20 <= vertebra <= 25:
        style = "lumbar"
    dish = mean["dish"] * rng.uniform(0.5, 1.6, 2)
    return VertebraShape(
        vertebra=vertebra,
        style=style,
        half_width=vary("width", factor=wide) / 2,
        half_depth=vary("depth", factor=wide) / 2,
        height=vary("height", factor=tall),
        wedge=mean["wedge"] + 0.5 * float(rng.standard_normal()),
        canal=(vary("canal_w", factor=canal) / 2, vary("canal_d", factor=canal) / 2),
        pedicle=(vary("ped_w", 0.05) / 2, vary("ped_h", 0.03) / 2),
        lamina=vary("lamina", 0.05),
        span=vary("span", 0.035),
        spinous=(vary("length", 0.06), float(np.deg2rad(mean["slope"] + 4 * rng.standard_normal())),
                 vary("plate", 0.06), vary("thick", 0.08)),
        disc=vary("disc", 0.06),
        waist=mean["waist"] * float(rng.uniform(0.6, 1.3)),
        kidney=mean["kidney"] * float(rng.uniform(0.5, 1.4)),
        dish=(float(dish[0]), float(dish[1])),
        turn=float(np.clip(1.2 * rng.standard_normal(), -3, 3)),
        asymmetry=float(0.015 * np.clip(rng.standard_normal(), -2, 2)),
    )  # fmt: skip


def _diseased(
    shapes: list[VertebraShape], rng: np.random.Generator, age: float
) -> list[VertebraShape]:
    """Worn discs, osteophytes, wedge fractures, Schmorl nodes, laminectomy, long L5 wings."""
    worn = np.clip((age - 30) / 60, 0.02, 0.8)
    spurred = rng.random() < np.clip((age - 25) / 55, 0.05, 0.7)
    nodes = rng.random() < 0.1
    out = []
    for s in shapes:
        if s.vertebra >= 3 and rng.random() < worn * 0.45:
            s = replace(s, disc=max(2.2, s.disc * float(rng.uniform(0.25, 0.75))))
        if spurred and rng.random() < 0.5:
            s = replace(s, spurs=_draw_spurs(rng))
        if nodes and s.vertebra >= 12 and rng.random() < 0.35:
            s = replace(s, nodes=(_draw_node(s, rng),))
        out.append(s)
    if rng.random() < 0.07:
        k = int(rng.integers(8, len(out)))
        loss = float(rng.uniform(0.15, 0.5)) * out[k].height
        out[k] = replace(out[k], height=out[k].height - loss * 0.5, wedge=out[k].wedge - loss)
    if rng.random() < 0.04:
        k = len(out) - int(rng.integers(1, 4))
        out[k] = replace(out[k], no_lamina=True)
    if rng.random() < 0.04:
        out[-1] = replace(out[-1], wing=float(rng.uniform(8, 18)))
    return out


def _draw_spurs(rng: np.random.Generator) -> tuple[tuple[float, int, float], ...]:
    count = int(rng.integers(1, 4))
    angles = rng.uniform(-0.25 * np.pi, 1.25 * np.pi, count)  # in front and at the sides
    return tuple((float(a), int(rng.choice([-1, 1])), float(rng.uniform(1.5, 6.0))) for a in angles)


def _draw_node(s: VertebraShape, rng: np.random.Generator) -> tuple[float, float, int, float]:
    x, y = rng.uniform(-0.35, 0.35, 2) * [s.half_width, s.half_depth]
    return float(x), float(y), int(rng.choice([-1, 1])), float(rng.uniform(2.5, 5.0))
