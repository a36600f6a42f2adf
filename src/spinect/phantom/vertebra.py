"""One vertebra from its dimensions: body, arch and processes as parts in the body's frame.

Axes: x right, y front, z head; the origin is the centre of the vertebral body. Dimensions are mm.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from spinect.phantom.shapes import Body, Float, Limb, Part, Point, rows

# (left, right) subregion ids. The patient's left is -x in RAS+.
TRANSVERSE: Final = {-1: 43, 1: 44}
SUPERIOR: Final = {-1: 45, 1: 46}
INFERIOR: Final = {-1: 47, 1: 48}


@dataclass(frozen=True)
class VertebraShape:
    """Dimensions of one vertebra.

    Attributes:
        vertebra: Id. style: "cervical", "thoracic" or "lumbar" arch; "axis" is C2.
        half_width, half_depth, height: Of the body; height at the middle, rims included.
        wedge: Anterior minus posterior height.
        canal: Half width and half depth of the bony canal.
        pedicle: Half width and half height.
        lamina: Thickness. span: Tip to tip of the transverse processes.
        spinous: (length behind the lamina, downward slope in rad, half height, half thickness).
        disc: Height of the disc below, at the middle.
        waist, kidney, dish: See `shapes.Body`.
        turn: Sideways deviation of the spinous tip. asymmetry: Relative left-right difference.
        spurs: Osteophytes: (angle in the section, +1 upper or -1 lower rim, size).
        nodes: Schmorl nodes: (x, y, +1 or -1, radius).
        no_lamina: Spinous process and laminae removed by surgery.
        wing: Length by which L5's transverse processes reach for the sacrum.
    """

    vertebra: int
    style: str
    half_width: float
    half_depth: float
    height: float
    wedge: float
    canal: tuple[float, float]
    pedicle: tuple[float, float]
    lamina: float
    span: float
    spinous: tuple[float, float, float, float]
    disc: float
    waist: float = 0.1
    kidney: float = 2.0
    dish: tuple[float, float] = (2.0, 2.0)
    turn: float = 0.0
    asymmetry: float = 0.0
    spurs: tuple[tuple[float, int, float], ...] = ()
    nodes: tuple[tuple[float, float, int, float], ...] = ()
    no_lamina: bool = False
    wing: float = 0.0

    @property
    def canal_y(self) -> float:
        """y of the canal's centre."""
        return -self.half_depth - self.canal[1] + 1.0

    @property
    def lamina_y(self) -> float:
        """y of the middle of the lamina in the midline."""
        deeper = 0.25 * self.canal[1] + (1.5 if self.style == "lumbar" else 0.5)
        return self.canal_y - self.canal[1] - 0.5 * self.lamina - deeper

    @property
    def tilt(self) -> float:
        """Slope of each end plate, dz / dy."""
        return self.wedge / (4 * self.half_depth)


def build(shape: VertebraShape) -> tuple[tuple[Part, ...], tuple[Limb, ...]]:
    """Parts and holes of one vertebra, in its own frame."""
    arch = {"cervical": _cervical, "axis": _axis, "thoracic": _thoracic, "lumbar": _lumbar}
    parts: list[Part] = [_body(shape), *_spurs(shape), *arch[shape.style](shape)]
    if shape.no_lamina:
        parts = [p for p in parts if p.label != 42 and not _is_lamina(p)]
    return tuple(parts), (*_canal(shape), *_nodes(shape), *_foramina(shape))


def _canal(s: VertebraShape) -> list[Limb]:
    """A triangle with round corners: a wide front and a narrow back between the laminae."""
    reach, y, (w, d) = s.height / 2 + s.disc + 6, s.canal_y, s.canal
    sections = ((0.15, w, 0.85 * d), (-0.35, 0.55 * w, 0.9 * d))
    return [
        Limb(s.vertebra, 0, (0, y + at * d, -reach), (0, y + at * d, reach), (1, 0, 0),
             (wide, deep), (wide, deep))
        for at, wide, deep in sections
    ]  # fmt: skip


def _is_lamina(part: Part) -> bool:
    return isinstance(part, Limb) and part.label == 41 and abs(part.end[0]) < 1e-6


def _body(s: VertebraShape) -> Body:
    heart = s.style == "thoracic"
    return Body(
        s.vertebra, 50, rows(np.eye(4)), s.half_width, s.half_depth, s.height,
        split=0.15 if heart else 0.3,
        powers=(1.9, 3.0) if heart else (2.3, 3.4),
        waist=s.waist, kidney=s.kidney, dish=s.dish, tilt=(s.tilt, -s.tilt),
    )  # fmt: skip


def _spurs(s: VertebraShape) -> list[Part]:
    spurs: list[Part] = []
    for angle, end, size in s.spurs:
        out = np.array([np.cos(angle), np.sin(angle)])
        rim = out * [s.half_width, s.half_depth] * 0.95
        z = end * (s.height / 2 - 1.0 + end * 0) + s.tilt * end * rim[1]
        root = (rim[0] - out[0] * 3, rim[1] - out[1] * 3, z - end * 2.0)
        tip = (rim[0] + out[0] * size * 0.6, rim[1] + out[1] * size * 0.6, z + end * size * 0.4)
        wide = (2.0 + size * 0.4, 4.0 + size)
        spurs.append(Limb(s.vertebra, 50, root, tip, (0, 0, 1), wide,
                          (1.2, 2.5 + 0.5 * size), blend=4))  # fmt: skip
    return spurs


def _nodes(s: VertebraShape) -> list[Limb]:
    holes = []
    for x, y, end, radius in s.nodes:
        z = end * (s.height / 2 - 1.5)
        holes.append(Limb(s.vertebra, 0, (x, y - 2, z), (x, y + 2, z), (1, 0, 0),
                          (radius, radius), (radius, radius)))  # fmt: skip
    return holes


def _foramina(s: VertebraShape) -> list[Limb]:
    """Foramina transversaria of C2-C6 (C7's is small and left out)."""
    if s.style not in ("cervical", "axis") or s.vertebra == 7:
        return []
    x, y = s.half_width + 5.5, -s.half_depth + 3.5
    return [Limb(s.vertebra, 0, (e * x, y, -12), (e * x, y, 12), (1, 0, 0), (2.4, 2.4), (2.4, 2.4))
            for e in (-1, 1)]  # fmt: skip


def _limb(s: VertebraShape, label: int, side: int, ends: tuple[Point, Point], *,
          up: Point = (0, 0, 1), first: tuple[float, float], last: tuple[float, float],
          power: int = 2, blend: float = 3.0) -> Limb:  # fmt: skip
    """A limb given for the right side, mirrored to `side` and scaled by the asymmetry."""
    scale = side * (1 + side * s.asymmetry)
    (x0, y0, z0), (x1, y1, z1) = ends
    return Limb(s.vertebra, label, (x0 * scale, y0, z0), (x1 * scale, y1, z1),
                (up[0] * side, up[1], up[2]), first, last, power, blend)  # fmt: skip


def _pedicles(s: VertebraShape, z: float, back: float) -> list[Part]:
    """From the back of the body past the canal; `back` is how far behind the canal's front."""
    pw, ph = s.pedicle
    x = s.canal[0] + pw * 0.9
    front = -s.half_depth * 0.65
    return [
        _limb(s, 41, e, ((min(x, s.half_width * 0.82), front, z), (x + 0.5, -s.half_depth - back,
              z - 1)), first=(ph, pw), last=(ph * 0.9, pw), blend=4)
        for e in (-1, 1)
    ]  # fmt: skip


def _laminae(s: VertebraShape, z: tuple[float, float], half_height: float) -> list[Part]:
    x = s.canal[0] + s.pedicle[0] * 0.6
    y = s.canal_y - 0.25 * s.canal[1]
    t = s.lamina / 2
    return [
        _limb(s, 41, e, ((x, y, z[0]), (0, s.lamina_y, z[1])), up=(0, -0.15, 1),
              first=(half_height * 0.85, t * 1.15), last=(half_height, t), blend=3)
        for e in (-1, 1)
    ]  # fmt: skip


def _spinous(s: VertebraShape, z: float, bulb: float) -> list[Part]:
    """A plate with a thick lower and back edge."""
    length, slope, half_height, thick = s.spinous
    y = s.lamina_y + 1
    end = (s.turn, y - length * np.cos(slope), z - length * np.sin(slope))
    low = half_height * 0.55
    plate = Limb(s.vertebra, 42, (0, y, z), end, (0, 0, 1), (half_height * 0.85, thick),
                 (half_height, thick), power=4, blend=3)  # fmt: skip
    edge = Limb(s.vertebra, 42, (s.turn * 0.5, y - length * 0.45, z - length * 0.45 * np.sin(slope)
                - low), (end[0], end[1], end[2] - low * 0.8), (0, 0, 1), (2.5, thick * 0.9),
                (3.5, thick * bulb), blend=3)  # fmt: skip
    return [plate, edge]


def _lumbar(s: VertebraShape) -> list[Part]:
    h, (cw, cd), (pw, ph) = s.height, s.canal, s.pedicle
    joint = cw + pw * 1.2  # x of the superior facet
    y = s.canal_y - 0.75 * cd
    parts: list[Part] = [
        *_pedicles(s, h * 0.17, cd * 1.1),
        *_laminae(s, (0.0, -h * 0.28), h * 0.32),
        *_spinous(s, -h * 0.32, 1.5),
    ]
    t = {23: 0.35, 24: 1.0, 25: 1.0}.get(s.vertebra, 0.0)  # the last one is squat, its wings stout
    up, down = h / 2 + s.disc * 0.5 + 2.0 - 2.5 * t, -h / 2 - s.disc * 0.5 - 5.0 + 3.0 * t
    inner = max(joint - 5.6, 7.5)
    for e in (-1, 1):
        parts += [  # the superior facet faces back and to the midline, the inferior one fits it
            _limb(s, SUPERIOR[e], e, ((joint, y - 0.5, h * 0.10), (joint - 0.3, y - 2.0, up)),
                  up=(0.85, 0.5, 0), first=(5.6, 7.6), last=(4.2, 7.2)),
            _limb(s, 41, e, ((joint - 1, y - 1, h * 0.1), (inner, y - 4.5, -h * 0.35)),
                  up=(1, 0, 0), first=(4.4, 4.4), last=(4.8, 4.2)),
            _limb(s, INFERIOR[e], e, ((inner + 0.5, y - 5.0, -h * 0.30), (inner, y - 5.0, down)),
                  up=(0.85, 0.5, 0), first=(5.4, 5.6), last=(5.0, 6.4)),
            _limb(s, TRANSVERSE[e], e,
                  ((cw + pw * (1.2 - 0.3 * t), y + 3.0 + 9.0 * t, h * 0.14),
                   (s.span / 2 + s.wing * 0.3, y - 8.0 + 5.0 * t + s.wing * 0.5,
                    h * (0.18 + 0.1 * t) - s.wing * 0.6)),
                  first=(ph * (0.68 + 0.3 * t), 3.6 + 6.0 * t),
                  last=(4.4 + s.wing * 0.5, 2.5 + 0.8 * t + s.wing * 0.3)),
        ]  # fmt: skip
    return parts


def _thoracic(s: VertebraShape) -> list[Part]:
    h, (cw, cd), (pw, _) = s.height, s.canal, s.pedicle
    y = s.canal_y - 0.35 * cd
    x = cw + pw * 0.7 + 1.5
    pitch = h + s.disc
    parts: list[Part] = [
        *_pedicles(s, h * 0.2, cd * 0.9),
        *_laminae(s, (0.0, -h * 0.22), pitch * 0.45),
        *_spinous(s, -h * 0.28, 1.35),
    ]
    reach = s.span / 2 - x
    turn = 3.0 if s.vertebra in (19, 28) else 0.0  # the lowest joint already fits L1
    for e in (-1, 1):
        parts += [
            _limb(s, SUPERIOR[e], e, ((x, y - 0.5, h * 0.1), (x, y - 1.5, pitch / 2 + 2.5)),
                  up=(1, 0.2, 0), first=(5.5, 4.2), last=(4.8, 2.8), blend=3),
            _limb(s, INFERIOR[e], e, ((x - 2.5, y - 5.5, -h * 0.1),
                  (x - 2 - turn, y - 5.5 - 0.4 * turn, -pitch / 2 - 4)),
                  up=(1, 0.2, 0), first=(6.0, 3.6), last=(5.2, 3.0), blend=3),
            _limb(s, TRANSVERSE[e], e, ((x, y - 1.5, h * 0.12),
                  (s.span / 2 - 3.5, y - 1.5 - 0.5 * reach, h * 0.2)),
                  first=(6.0, 4.2), last=(5.2, 4.2), blend=4),
        ]  # fmt: skip
    return parts


def _pillars(s: VertebraShape) -> list[Part]:
    """Articular pillars of the neck with facets that slope 45 degrees down to the back."""
    pitch, cw = s.height + s.disc, s.canal[0]
    x, y = cw + 5.5, s.canal_y + 1.5
    parts: list[Part] = []
    for e in (-1, 1):
        parts += [
            _limb(s, INFERIOR[e], e, ((x, y - 1, 0), (x, y - 5.0, -pitch * 0.52)),
                  up=(1, 0, 0), first=(5.6, 5.0), last=(5.2, 3.2), blend=2),
            _limb(s, 41, e, ((x - 1, y + 0.5, 0), (0.0 + cw * 0.75, y - 6, -1)),
                  first=(6.0, 4.0), last=(5.0, 2.5)),
        ]  # fmt: skip
    return parts


def _cervical(s: VertebraShape) -> list[Part]:
    h, (cw, cd) = s.height, s.canal
    pitch = h + s.disc
    x, y = cw + 5.5, s.canal_y + 1.5
    parts = [*_pedicles(s, 0.5, cd * 0.5), *_laminae(s, (0, -1.5), pitch * 0.36), *_pillars(s)]
    parts += _spinous(s, -h * 0.2, 1.2) if s.vertebra == 7 else _bifid(s)
    for e in (-1, 1):
        parts += [
            _limb(s, SUPERIOR[e], e, ((x, y, 0), (x, y + 1.5, pitch * 0.50)),
                  up=(1, 0, 0), first=(5.6, 5.0), last=(5.2, 3.0), blend=2),
            _limb(s, TRANSVERSE[e], e, ((s.half_width * 0.8, -s.half_depth + 4.5, -0.5),
                  (s.span / 2, -s.half_depth + 2.0, -2.5)), first=(3.8, 5.2), last=(2.6, 4.4)),
            _limb(s, 50, e, ((s.half_width * 0.86, -s.half_depth * 0.5, h * 0.42),
                  (s.half_width * 0.90, s.half_depth * 0.35, h * 0.5 + 0.8)),
                  first=(2.8, 1.8), last=(1.8, 1.4), blend=2),
        ]  # fmt: skip
    return parts


def _bifid(s: VertebraShape) -> list[Part]:
    length, slope, half_height, thick = s.spinous
    y = s.lamina_y + 1
    fork = (0.0, y - 0.65 * length * np.cos(slope), -1 - 0.65 * length * np.sin(slope))
    parts: list[Part] = [
        Limb(s.vertebra, 42, (0, y, -1), fork, (0, 0, 1), (half_height, thick),
             (half_height * 0.8, thick)),
    ]  # fmt: skip
    for e in (-1, 1):
        tip = (e * 4.5, y - length * np.cos(slope), -2 - length * np.sin(slope))
        parts.append(Limb(s.vertebra, 42, fork, tip, (0, 0, 1), (half_height * 0.75, thick * 0.9),
                          (half_height * 0.6, thick * 0.9)))  # fmt: skip
    return parts


def _axis(s: VertebraShape) -> list[Part]:
    h, cd = s.height, s.canal[1]
    parts = [
        *_pedicles(s, 1.0, cd * 0.5),
        *_laminae(s, (0, -2), h * 0.42),
        *_pillars(s),
        *_bifid(s),
    ]
    dens = Limb(s.vertebra, 50, (0, -0.5, h * 0.3), (0, -1.0, h / 2 + 13), (1, 0, 0), (5.6, 5.8),
                (4.6, 4.6), blend=4)  # fmt: skip
    parts.append(dens)
    for e in (-1, 1):
        parts += [
            _limb(s, SUPERIOR[e], e, ((9.5, -1.0, h * 0.38), (17.0, -2.0, h * 0.28)),
                  first=(4.0, 7.5), last=(3.0, 7.0), blend=3),
            _limb(s, TRANSVERSE[e], e, ((s.half_width * 0.8, -s.half_depth + 4.5, -1.0),
                  (s.span / 2, -s.half_depth + 2.0, -3.0)), first=(3.6, 5.0), last=(2.6, 4.0)),
        ]  # fmt: skip
    return parts


def moved(parts: tuple[Part, ...], matrix: Float) -> tuple[Part, ...]:
    """Parts after a rigid motion."""
    return tuple(p.moved(matrix) for p in parts)
