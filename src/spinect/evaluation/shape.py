"""Length of the spinous process and width of the canal, from label maps, in mm.

Both are taken from one vertebra's own voxels, so that truth and prediction are measured alike.
A voxel counts with its whole extent: measured from outer face to outer face. On shapes of any
position the error is below one voxel along the direction measured, and 0 for a box whose faces
are voxel faces; on sagittal slices of 4 mm the canal's width is therefore good to 4 mm only and
is read at 1 mm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinect.anatomy import BODY, POSTERIOR, VERTEBRAE
from spinect.evaluation.masks import mean_values
from spinect.evaluation.measures import Value
from spinect.geometry import Grid, Volume

Float = NDArray[np.float64]
Rule = Literal["canal", "arch"]
Box = tuple[slice, ...]

SPINOUS: Final = 42
CANAL: Final = (60, 61)  # the cord lies in the canal
SLAB_MM: Final = 2.0  # half thickness of the slab through the body's centre
REACH_MM: Final = 45.0  # from the body's centre; a canal beyond belongs to other levels
PEDICLES_MM: Final = 8.0  # behind the body, where the pedicles bound the canal


@dataclass(frozen=True, eq=False)
class Spine:
    """A labelled volume whose vertebrae are to be measured.

    Attributes:
        vertebrae, subregions: On one grid.
        boxes: Vertebra id - 1 -> its bounding box, None where it does not occur.
    """

    vertebrae: Volume
    subregions: Volume
    boxes: Sequence[Box | None]

    @classmethod
    def of(cls, vertebrae: Volume, subregions: Volume) -> "Spine":
        """The same with the boxes found."""
        return cls(vertebrae, subregions, ndimage.find_objects(vertebrae.data))

    @property
    def grid(self) -> Grid:
        """Of both maps."""
        return self.vertebrae.grid

    def part(self, vertebra: int, subregions: tuple[int, ...], piece: bool = False) -> Float:
        """(N, 3) voxel centres of some subregions of a vertebra, mm; with `piece` the largest only.

        The largest piece, since one stray voxel would otherwise decide a length.
        """
        box = self.boxes[vertebra - 1] if 0 < vertebra <= len(self.boxes) else None
        if box is None:
            return np.empty((0, 3))
        mask = np.isin(self.subregions.data[box], subregions)
        mask &= self.vertebrae.data[box] == vertebra
        return self._points(_largest(mask) if piece else mask, box)

    def canal_near(self, centre: Float) -> Float:
        """(N, 3) voxel centres of the canal's largest piece within `REACH_MM` boxes, mm."""
        index = self.grid.index(centre)
        room = REACH_MM / self.grid.spacing
        low = np.maximum(np.floor(index - room), 0).astype(int)
        high = np.minimum(np.ceil(index + room) + 1, self.grid.shape).astype(int)
        box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
        return self._points(_largest(np.isin(self.subregions.data[box], CANAL)), box)

    def _points(self, mask: NDArray[np.bool_], box: Box) -> Float:
        return self.grid.world(np.argwhere(mask) + [s.start for s in box])


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest piece whose voxels touch by face, edge or corner."""
    pieces, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count <= 1:
        return mask
    return np.asarray(pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:]))


def _voxel_along(grid: Grid, direction: Float) -> float:
    """Size of a voxel along a unit vector, mm: its spacing along its axes, an ellipsoid between."""
    return float(1 / np.linalg.norm(grid.direction.T @ direction / grid.spacing))


def spinous_length(spine: Spine, vertebra: int) -> float | None:
    """Extent of the spinous process (42), mm, along the line from the body's centre to its own.

    Not along its principal axis: a lumbar process is a plate as high as it is long.

    Returns:
        None without a body (49, 50) or without a spinous process.
    """
    body, process = spine.part(vertebra, BODY), spine.part(vertebra, (SPINOUS,), piece=True)
    if not len(body) or not len(process):
        return None
    line = process.mean(0) - body.mean(0)
    line /= np.linalg.norm(line)
    return float(np.ptp(process @ line)) + _voxel_along(spine.grid, line)


def canal_width(spine: Spine, vertebra: int, rule: Rule) -> float | None:
    """Transverse diameter of the canal at a vertebra, mm.

    Across means perpendicular to the world's S axis and to the line from the body's centre back to
    the canal ("canal") or to the posterior elements ("arch").

    Args:
        rule: "canal": extent of the labelled canal (60, 61) in a slab of 4 mm, at least one voxel,
            through the body's centre. "arch": the gap between the left and the right posterior
            elements (41-48) in the upper half of the body, where the pedicles are: for each row
            across, the space free on both sides of the midline over that height, then the median
            of the rows within 8 mm behind the body. The first is the dural sac where a map labels
            the sac, the second the bony canal, so one rule must serve both maps of a comparison.
    Returns:
        None where a part that the rule needs is missing.
    """
    body = spine.part(vertebra, BODY)
    if not len(body):
        return None
    if rule == "canal":
        return _sac_width(spine, body)
    return _arch_width(spine, body, spine.part(vertebra, POSTERIOR))


def _across(centre: Float, behind: Float) -> tuple[Float, Float] | None:
    """Unit vectors (back, across) of a vertebra, horizontal; None when `behind` is straight up."""
    back = (behind - centre) * (1, 1, 0)
    length = float(np.linalg.norm(back))
    if length < 1e-6:
        return None
    back = back / length
    return back, np.array([-back[1], back[0], 0.0])


def _sac_width(spine: Spine, body: Float) -> float | None:
    centre = body.mean(0)
    canal = spine.canal_near(centre)
    slab = max(SLAB_MM, _voxel_along(spine.grid, np.array([0.0, 0.0, 1.0])) / 2)
    canal = canal[np.abs(canal[:, 2] - centre[2]) <= slab]
    axes = _across(centre, canal.mean(0)) if len(canal) else None
    if axes is None:
        return None
    return float(np.ptp(canal @ axes[1])) + _voxel_along(spine.grid, axes[1])


def _arch_width(spine: Spine, body: Float, posterior: Float) -> float | None:
    centre = body.mean(0)
    axes = _across(centre, posterior.mean(0)) if len(posterior) else None
    if axes is None:
        return None
    back, across = axes
    row_mm, step = _voxel_along(spine.grid, back), _voxel_along(spine.grid, across)
    mine = posterior - centre
    upper = (mine[:, 2] >= 0) & (mine[:, 2] <= (body[:, 2] - centre[2]).max())
    depth = mine[upper] @ back - ((body - centre) @ back).max()
    side = mine[upper] @ across
    rows = np.round(depth / row_mm).astype(int)
    gaps = []
    for row in range(1, int(PEDICLES_MM / row_mm) + 1):
        left, right = side[(rows == row) & (side < 0)], side[(rows == row) & (side >= 0)]
        if left.size and right.size:
            gaps.append(max(float(right.min() - left.max()) - step, 0.0))
    return float(np.median(gaps)) if gaps else None


def shape_values(prediction: Spine, truth: Spine, pairs: Mapping[int, int]) -> list[Value]:
    """Errors of the spinous length and the canal width, predicted minus true.

    The canal's width follows the "canal" rule where both maps label the canal at that level, and
    the "arch" rule for both where one does not; the note says so.

    A matched vertebra with a body but without a spinous process has length 0, for leaving it out
    is the error to be seen; whatever else cannot be measured is no number.

    Args:
        pairs: True vertebra -> predicted id, 0 where it has no partner.
    Returns:
        Per vertebra and, with item "", the means of those that are numbers.
    """
    values: list[Value] = []
    for vertebra, partner in pairs.items():
        item = VERTEBRAE[vertebra]
        lengths = spinous_length(prediction, partner), spinous_length(truth, vertebra)
        note = ""
        if lengths[0] is None and len(prediction.part(partner, BODY)):
            lengths, note = (0.0, lengths[1]), "no spinous process was predicted: length 0"
        values.append(_error("spinous_process", item, lengths, note))
        rule: Rule = "canal"
        widths = canal_width(prediction, partner, rule), canal_width(truth, vertebra, rule)
        if partner and None in widths:
            rule = "arch"
            widths = canal_width(prediction, partner, rule), canal_width(truth, vertebra, rule)
        note = "between the arches: no canal is labelled" if rule == "arch" else ""
        values.append(_error("canal", item, widths, note))
    values += mean_values(values, "spinous_process", ("spinous_length_error",))
    return values + mean_values(values, "canal", ("canal_width_error",))


def _error(region: str, item: str, pair: tuple[float | None, float | None], note: str) -> Value:
    """Predicted minus true size; not a number where one of them cannot be measured."""
    metric = "canal_width_error" if region == "canal" else "spinous_length_error"
    prediction, truth = pair
    if prediction is not None and truth is not None:
        return Value(region, item, metric, prediction - truth, note)
    lacking = [n for n, x in (("prediction", prediction), ("truth", truth)) if x is None]
    return Value(region, item, metric, float("nan"), f"not to be measured: {' and '.join(lacking)}")
