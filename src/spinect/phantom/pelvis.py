"""The bones of a male pelvis: hip bones with their sockets, and the upper ends of the femora.

Pelvis coordinates have their origin in the centre of the body of S1 and stand upright: x to the
right, y to the front, z to the head, mm. Landmarks are those of an adult man (assumed); a subject
scales them. Sacrum, coccyx and lumbar vertebrae are those of `skeleton`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from spinect.phantom.pelvic_form import Form, draw_form
from spinect.phantom.shapes import Bone, Ellipsoid, Float, Limb, Part, Point, Waves, rows
from spinect.phantom.spine import rotation
from spinect.phantom.subject import Build

AGES: Final = (50.0, 85.0)  # years: who is treated for a tumour of the prostate
_SIZE: Final = 1.025  # of a mean man, as in `subject`
OPENING: Final = (0.74, 0.40, -0.541)  # where the socket looks: out, ahead, down; unit length
HEIGHT_MM: Final = 210.0  # of the field of view: 84 slices of 2.5 mm, or 70 of 3 mm
_AIR_MM: Final = 12.0  # around the body
_STEP_MM: Final = 7.0  # width and depth are whole pixels of 0.875 mm and whole millimetres
_WALL_MM: Final = 6.5  # of the socket

# Crest from the posterior to the anterior superior iliac spine: right side, mm.
_CREST: Final = (
    (47, -50, -8), (70, -36, 27), (100, -8, 46), (122, 26, 38), (126, 54, 8), (118, 74, -20),
)  # fmt: skip
# Blades of the wing: from above the socket to below the crest, and both radii at either end.
_BLADES: Final = (
    ((86, 32, -64), (112, 60, -22), (15, 9), (15, 5.5)),
    ((85, 28, -64), (118, 38, 14), (16, 9), (24, 4.0)),
    ((84, 20, -62), (106, 6, 34), (18, 9), (25, 3.8)),
    ((80, 10, -60), (82, -22, 26), (18, 9), (25, 4.5)),
    ((75, 2, -58), (55, -40, -2), (14, 9), (19, 8.0)),
)


@dataclass(frozen=True)
class Pelvis:
    """One man's pelvis.

    Attributes:
        frame: 4x4 rows, neutral world from pelvis coordinates.
        scale: Factor on all landmarks.
        head: Centre of the right femoral head, mm; the left one is its mirror image.
        head_radius, joint: Of the head and of the gap to the socket, mm.
        neck: From the centre of the right head to the axis of the shaft, mm.
        form: Outline of the body.
    """

    frame: tuple[tuple[float, ...], ...]
    scale: float
    head: Point
    head_radius: float
    joint: float
    neck: Point
    form: Form

    def head_centre(self, side: int) -> Point:
        """Centre of a femoral head, pelvis coordinates; side 1 right, -1 left."""
        return side * self.head[0], self.head[1], self.head[2]

    def window(self, top: float) -> Float:
        """(2, 3) corners of the field of view below a height, neutral world, mm."""
        k, origin = self.scale, np.array(self.frame)[:3, 3]
        half, front, back = self.form.reach(-260, 70)
        size = np.array([2 * half * k, (front + back) * k, HEIGHT_MM])
        size[:2] = np.ceil((size[:2] + 2 * _AIR_MM) / _STEP_MM) * _STEP_MM
        low = [origin[0] - size[0] / 2, origin[1] - back * k - _AIR_MM, top - HEIGHT_MM]
        return np.stack([low, low + size])

    def at(self, side: int, *place: float) -> Point:
        """A landmark of the right side, scaled, on the side that is asked for."""
        x, y, z = (self.scale * v for v in place)
        return side * x, y, z


def level(frames: Mapping[int, Float], build: Build, seed: int) -> dict[int, Float]:
    """The spine turned about S1 so that the pelvis lies straight but for a few degrees.

    Args:
        frames: Vertebra id -> 4x4, world from body frames, S1 (26) among them.
    """
    rng = np.random.default_rng([seed, 9])
    angles = np.array([2.0, 1.5, 1.5]) * np.clip(rng.standard_normal(3), -2, 2)
    lying = rotation(0, angles[0]) @ rotation(1, angles[1]) @ rotation(2, angles[2])
    turn = lying @ np.linalg.inv(frames[26] @ rotation(0, build.slope))
    origin = frames[26][:3, 3]
    turn[:3, 3] = origin - turn[:3, :3] @ origin
    return {v: turn @ f for v, f in frames.items()}


def draw_pelvis(build: Build, sacrum: Float, seed: int) -> Pelvis:
    """A pelvis that fits a sacrum.

    Args:
        sacrum: 4x4, neutral world from the body frame of S1.
    """
    rng = np.random.default_rng([seed, 7])
    vary = np.clip(rng.standard_normal(6), -2, 2)
    scale = build.size / _SIZE * (1 + 0.02 * vary[0])
    upright = sacrum @ rotation(0, build.slope)  # undoes the slope of the sacrum
    angle, ahead = np.deg2rad(127 + 4 * vary[1]), np.deg2rad(12 + 5 * vary[2])
    length = (52 + 2 * vary[3]) * scale
    out, down = np.sin(angle) * length, np.cos(angle) * length
    return Pelvis(
        frame=rows(upright),
        scale=float(scale),
        head=(float(scale * (89 + 2 * vary[4])), 32.0 * float(scale), -95.0 * float(scale)),
        head_radius=float(24.3 * scale * (1 + 0.02 * vary[5])),
        joint=float(rng.uniform(2.8, 4.2)),
        neck=(float(out * np.cos(ahead)), float(-out * np.sin(ahead)), float(down)),
        form=draw_form(rng),
    )


def pelvic_bones(pelvis: Pelvis, seed: int) -> tuple[Bone, ...]:
    """Both hip bones and both femora in the neutral world; all of them move with the sacrum."""
    rng = np.random.default_rng([seed, 8])
    out = []
    for side in (-1, 1):
        name = "right" if side > 0 else "left"
        noise = Waves.draw(rng, 6, (9.0, 32.0), 0.35)
        parts, holes = _hip(pelvis, side)
        out.append(Bone(f"hip {name}", 26, pelvis.frame, parts, holes, noise))
        out.append(Bone(f"femur {name}", 26, pelvis.frame, _femur(pelvis, side)))
    return tuple(out)


class _Builder:
    """Limbs of one side from landmarks of the right side."""

    def __init__(self, pelvis: Pelvis, side: int):
        self.pelvis, self.side = pelvis, side

    def limb(
        self, start: tuple[float, ...], end: tuple[float, ...], first: tuple[float, float],
        last: tuple[float, float], *, along: tuple[float, float, float] = (0, 0, 1),
        blend: float = 5.0,
    ) -> Limb:  # fmt: skip
        """A limb; `along` is the direction of the first of both radii."""
        p, k = self.pelvis, self.pelvis.scale
        return Limb(0, 0, p.at(self.side, *start), p.at(self.side, *end),
                    (self.side * along[0], along[1], along[2]), (first[0] * k, first[1] * k),
                    (last[0] * k, last[1] * k), blend=blend)  # fmt: skip


def _hip(pelvis: Pelvis, side: int) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """Parts and holes of one hip bone."""
    make = _Builder(pelvis, side).limb
    fan = (0.49, 0.87, -0.07)  # along the wing, from back to front
    parts: list[Part] = [make(a, b, r, s, along=fan, blend=7) for a, b, r, s in _BLADES]
    parts += [make(a, b, (6.5, 6), (6.5, 6), blend=6) for a, b in pairwise(_CREST)]
    parts += [
        make((44, -50, -6), (60, -22, -16), (16, 6.5), (22, 7.5)),  # to the sacroiliac joint
        make((86, 32, -64), (100, 58, -52), (11, 9), (8, 7)),  # anterior inferior spine
        make((76, 2, -60), (80, 8, -116), (11, 15), (12, 14), along=(1, 0, 0)),  # posterior column
        make((81, 12, -114), (62, 4, -154), (13, 16), (15, 15), along=(1, 0, 0)),  # ischium
        make((74, 0, -110), (57, -14, -117), (6, 5), (3, 3)),  # its spine
        make((73, 46, -98), (36, 70, -106), (11, 9), (8, 7)),  # upper ramus
        make((36, 70, -106), (13, 77, -116), (8, 7), (9, 8)),
        make((12.5, 76, -113), (11.5, 67, -138), (9, 7.5), (8.5, 6.5), along=(1, 0, 0)),
        make((13, 67, -138), (34, 40, -158), (6.5, 6), (7, 5)),  # lower ramus
        make((34, 40, -158), (57, 12, -162), (7, 5), (9, 8)),
        Ellipsoid(0, 0, pelvis.head_centre(side),
                  (pelvis.head_radius + pelvis.joint + _WALL_MM,) * 3, blend=4),
    ]  # fmt: skip
    return tuple(parts), _socket(pelvis, side)


def _socket(pelvis: Pelvis, side: int) -> tuple[Part, ...]:
    """The hollow for the femoral head, and what opens it towards the neck."""
    inner = pelvis.head_radius + pelvis.joint
    centre = np.array(pelvis.head_centre(side))
    look = np.array(OPENING) * (side, 1, 1)
    wide = inner + 12.0
    ends = [centre + look * (wide + 1 + more) for more in (0.0, 20.0)]
    first, last = ((float(x), float(y), float(z)) for x, y, z in ends)
    mouth = Limb(0, 0, first, last, (0, 0, 1), (wide, wide), (wide, wide))
    return Ellipsoid(0, 0, pelvis.head_centre(side), (inner,) * 3), mouth


def _femur(pelvis: Pelvis, side: int) -> tuple[Part, ...]:
    """Head, neck, trochanters and shaft; the head is a sphere but for its root."""
    k = pelvis.scale
    head = np.array(pelvis.head)
    base = head + pelvis.neck  # on the axis of the shaft

    def rod(
        start: Float, end: Float, first: tuple[float, float], last: tuple[float, float]
    ) -> Limb:
        (ax, ay, az), (bx, by, bz) = start.tolist(), end.tolist()
        return Limb(0, 0, (side * ax, ay, az), (side * bx, by, bz), (0, 0, 1),
                    (first[0] * k, first[1] * k), (last[0] * k, last[1] * k), blend=4)  # fmt: skip

    def off(x: float, y: float, z: float) -> Float:
        return np.asarray(base + k * np.array([x, y, z]))

    return (
        Ellipsoid(0, 0, pelvis.head_centre(side), (pelvis.head_radius,) * 3, blend=4),
        rod(head, base, (14, 12.5), (18, 14)),
        rod(off(8, -8, 24), off(5, -3, -8), (9, 11), (15, 16)),  # greater trochanter
        rod(off(0, 0, 0), off(-6, 2, -38), (17, 16), (15, 15)),
        rod(off(-3, -8, -24), off(-14, -16, -30), (9, 8), (6, 6)),  # lesser trochanter
        rod(off(-6, 2, -38), off(-18, 8, -170), (15, 15), (14, 14)),
    )
