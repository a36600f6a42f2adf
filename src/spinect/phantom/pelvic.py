"""The stages that paint a man's pelvis, the inside of its bones and its joints."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spinect.phantom import pelvic_muscles, pelvic_organs
from spinect.phantom.maps import DISTANCE_STEP_MM
from spinect.phantom.pelvic_place import Place, outline
from spinect.phantom.pelvis import OPENING, Pelvis
from spinect.phantom.rasterise import index_box, lattice
from spinect.phantom.shapes import Float
from spinect.phantom.surroundings import Body, Stage
from spinect.phantom.tissues import Tissue

_CANAL_END: Final = 28.5  # rank: below S4 there is no fat beside the canal
_PLATE_MM: Final = 1.3  # compact bone of hips and femoral heads
# Of the femur: heights in units of the scale, and its thickness there, mm.
_SHAFT: Final = ((-190, -165, -142, -120), (6.5, 5.0, 2.4, 1.3))
_SHAFT_X: Final = 92.0  # at these heights the femur lies farther out, the hip bone farther in
_PLAIN: Final = (Tissue.OTHER_CORTEX, Tissue.OTHER_MARROW)
_BONY: Final = (
    Tissue.COMPACT, Tissue.HIP_MARROW, Tissue.CORTEX, Tissue.MARROW, Tissue.BASIVERTEBRAL,
)  # fmt: skip


def pelvic_body(
    pelvis: Pelvis, posed: dict[int, Float], world: Float, half_depth: dict[int, float],
    bone_distance: NDArray[np.int8],
) -> Body:  # fmt: skip
    """What `surround` paints for a pelvis.

    Args:
        posed: Vertebra id -> 4x4, posed world from body frames.
        world: 4x4, posed world from pelvis coordinates.
        half_depth: Vertebra id -> that of sacral bodies and coccyx, mm.
        bone_distance: As `surround` takes it.
    """

    def on(paint: Callable[[Place], None]) -> Stage:
        return lambda scene: paint(Place(scene, pelvis, world))

    organs = pelvic_organs
    return Body(
        before=(on(outline), on(organs.cavity), on(pelvic_muscles.muscles),
                on(pelvic_muscles.vessels)),
        after=(on(organs.pelvic_floor), on(organs.bowel), on(organs.sigmoid), on(organs.bladder),
               on(organs.prostate), on(lambda p: organs.rectum(p, posed, half_depth)),
               on(organs.root_of_penis)),
        last=(on(lambda p: _inside(p, bone_distance)), on(_joints)),
        end=_CANAL_END,
    )  # fmt: skip


def _inside(place: Place, bone_distance: NDArray[np.int8]) -> None:
    """Compact bone over marrow, thick in the shaft of the femur."""
    tissue, grid, k = place.scene.tissue, place.scene.grid, place.scale
    bone = np.isin(tissue, _PLAIN)
    tissue[bone] = Tissue.HIP_MARROW
    tissue[bone & (bone_distance > round(-_PLATE_MM / DISTANCE_STEP_MM))] = Tissue.COMPACT
    for side in (-1, 1):
        ends = np.array([[side * _SHAFT_X, -60, -400], [side * 220, 120, _SHAFT[0][-1]]]) * k
        bounds = np.stack([ends.min(0), ends.max(0)])
        box = index_box(bounds, place.world, grid, 0.0)
        if box is None:
            continue
        x, _, z = lattice(np.linalg.inv(place.world) @ grid.affine, box)
        depth = np.interp(z / k, *_SHAFT)
        femur = bone[box] & (x * side > _SHAFT_X * k) & (z < _SHAFT[0][-1] * k)
        tissue[box][femur & (bone_distance[box] * DISTANCE_STEP_MM > -depth)] = Tissue.COMPACT


def _joints(place: Place) -> None:
    """Cartilage in the hip joints and in the symphysis."""
    pelvis, grid = place.pelvis, place.scene.grid
    soft = [t for t in Tissue if t not in (*_BONY, Tissue.CSF, Tissue.ROOTS)]
    place.part(place.limb(1, (0, 76, -111), (0, 67, -139), (5.5, 8), (5.5, 7)), Tissue.CARTILAGE,
               soft)  # fmt: skip
    reach = pelvis.head_radius + pelvis.joint + 0.3
    for side in (-1, 1):
        centre = np.array(pelvis.head_centre(side))
        box = index_box(np.stack([centre - reach, centre + reach]), place.world, grid, 0.0)
        if box is None:
            continue
        coords = lattice(np.linalg.inv(place.world) @ grid.affine, box)
        x, y, z = (c - np.float32(s) for c, s in zip(coords, centre, strict=True))
        out, ahead, down = OPENING
        covered = side * out * x + ahead * y + down * z < 2
        gap = (
            covered & (x * x + y * y + z * z < reach**2) & ~np.isin(place.scene.tissue[box], _BONY)
        )
        place.scene.tissue[box][gap] = Tissue.CARTILAGE
