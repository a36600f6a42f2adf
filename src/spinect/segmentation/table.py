"""vertebrae.tsv: what is measured on each vertebra."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinect.anatomy import BODY, ORDER, POSTERIOR, SACRUM, VERTEBRAE
from spinect.geometry import Volume
from spinect.segmentation.heights import ahead_of, body_heights, upward
from spinect.segmentation.result import Level

Float = NDArray[np.float64]
Mask = NDArray[np.bool_]

_CUT_MM2: Final = 10.0  # a mask that touches an edge with less is not cut by it
_AXES: Final = ("cut_lr", "cut_ap", "cut_si")


def vertebra_rows(
    vertebrae: Volume,
    subregions: Volume,
    levels: Mapping[int, Level],
    ct: Volume | None,
    inside: Mask,
    confidence: Mapping[int, float] | None,
) -> tuple[dict[str, object], ...]:
    """One row for each vertebra of a label map, head to feet; None is what cannot be measured.

    A vertebra is cut where its mask touches a face of the grid or the edge of the field of view
    with 10 mm2 or more; a body cut above, below, in front or behind has no heights, and the
    sacrum has none.

    Args:
        vertebrae: Vertebra ids, any grid.
        subregions: Subregion ids on the same grid; empty where there are none.
        levels: By vertebra id.
        ct: HU on the same grid; None leaves the mean HU out.
        inside: (X, Y, Z) bool, the field of view.
        confidence: By vertebra id.
    """
    boxes = ndimage.find_objects(vertebrae.data)
    present = [v for v in ORDER if v <= len(boxes) and boxes[v - 1] is not None]
    column = [v for v in present if v not in SACRUM]
    found = {v: _Piece(vertebrae, subregions, inside, v, boxes[v - 1]) for v in present}
    centres = np.array([found[v].centre for v in column]).reshape(-1, 3)
    rows: list[dict[str, object]] = []
    for v in present:
        piece, level = found[v], levels.get(v)
        p = level.p if level is not None and np.isfinite(level.p) else None
        mean_hu = None if ct is None else float(ct.data[piece.box][piece.mask].mean())
        tall = None if v in SACRUM else piece.heights(centres, column.index(v))
        x, y, z = (round(float(c), 2) for c in piece.centroid)
        anterior, middle, posterior = tall if tall is not None else (None, None, None)
        trust = None if confidence is None else confidence.get(v)
        rows.append(
            {
                "id": v,
                "name": VERTEBRAE[v],
                "level_source": None if level is None else level.source,
                "level_p": None if p is None else round(p, 4),
                "volume_mm3": round(len(piece.places) * piece.voxel_mm3, 1),
                "synthetic_hu_mean": None if mean_hu is None else round(mean_hu, 1),
                "centroid_x_mm": x,
                "centroid_y_mm": y,
                "centroid_z_mm": z,
                "height_anterior_mm": None if anterior is None else round(anterior, 2),
                "height_middle_mm": None if middle is None else round(middle, 2),
                "height_posterior_mm": None if posterior is None else round(posterior, 2),
                "cut_si": piece.cut["cut_si"],
                "cut_ap": piece.cut["cut_ap"],
                "cut_lr": piece.cut["cut_lr"],
                "confidence": None if trust is None else round(trust, 3),
            }
        )
    return tuple(rows)


class _Piece:
    """One vertebra of a label map, cut out."""

    def __init__(
        self,
        vertebrae: Volume,
        subregions: Volume,
        inside: Mask,
        number: int,
        box: tuple[slice, ...],
    ) -> None:
        self.box = box
        self.affine = vertebrae.affine
        self.voxel_mm3 = float(abs(np.linalg.det(self.affine[:3, :3])))
        self.mask = vertebrae.data[box] == number
        self.places = self._world(self.mask)
        self.centroid = self.places.mean(axis=0)
        parts = subregions.data[box]
        body = self.mask & np.isin(parts, BODY)
        self.body = self._world(body)
        self.arches = self._world(self.mask & np.isin(parts, POSTERIOR))
        self.centre = self.body.mean(axis=0) if len(self.body) else self.centroid
        self.cut = _cuts(self.mask, box, inside, self.affine)
        self.body_cut = _cuts(body, box, inside, self.affine)

    def heights(self, centres: Float, place: int) -> tuple[float, float, float] | None:
        """Anterior, middle, posterior, mm; None if the body is missing or cut."""
        if len(self.body) == 0 or self.body_cut["cut_si"] or self.body_cut["cut_ap"]:
            return None
        up = upward(centres, place, self.body, np.array([0.0, 0.0, 1.0]))
        arrow = self.centre - self.arches.mean(axis=0) if len(self.arches) else None
        forward = ahead_of(up, arrow, np.array([0.0, 1.0, 0.0]))
        return body_heights(self.body, self.affine[:3, :3], up, forward)

    def _world(self, mask: Mask) -> Float:
        index = np.argwhere(mask) + [b.start for b in self.box]
        return np.asarray(index @ self.affine[:3, :3].T + self.affine[:3, 3], np.float64)


def _cuts(mask: Mask, box: tuple[slice, ...], inside: Mask, affine: Float) -> dict[str, bool]:
    """Whether a mask touches the edge of the field of view, by world axis."""
    edges = affine[:3, :3]
    areas = np.linalg.norm(
        np.cross(np.roll(edges, -1, axis=1).T, np.roll(edges, 1, axis=1).T), axis=1
    )
    around = tuple(slice(max(b.start - 1, 0), b.stop + 1) for b in box)
    pads = [
        (b.start - a.start == 0, b.stop >= n)
        for b, a, n in zip(box, around, inside.shape, strict=True)
    ]
    seen = np.pad(inside[around], [(int(low), int(high)) for low, high in pads])
    own = np.pad(mask, 1)
    touched = np.zeros(3)
    for axis in range(3):
        for step in (-1, 1):
            neighbour = np.roll(seen, step, axis=axis)
            faces = np.count_nonzero(own & ~neighbour)
            touched[axis] = max(touched[axis], faces * areas[axis])
    world = np.abs(edges / np.linalg.norm(edges, axis=0)).argmax(axis=0)
    return {
        name: bool(touched[world == k].max(initial=0.0) >= _CUT_MM2) for k, name in enumerate(_AXES)
    }
