"""Where the parts of a real vertebra are: foramen, body, posterior elements, from its mask alone.

A vertebra's own frame has its origin in the centre of the foramen at mid-body height and axes to
the right (x), front (y) and head (z). The foramen is found by looking through the vertebra along
the canal: the direction of view with the largest hole in the silhouette is the canal's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinect.anatomy import ORDER, SACRUM
from spinect.geometry import Grid

Float = NDArray[np.float64]
ANGLES = 48  # directions in which the contour of the foramen is kept
MIN_FORAMEN_MM2 = 70.0  # a smaller hole in the silhouette is a gap between processes
S1_MM = 42.0  # height of the first sacral segment with its arch
MAX_WIDTH_MM = 58.0  # of a body; sacral wings are wider
MARGIN = 4  # voxels around the silhouette


@dataclass(frozen=True)
class Frame:
    """Place and size of one vertebra.

    Attributes:
        vertebra: Vertebra id.
        origin: (3,) centre of the foramen at mid-body height, mm, RAS+.
        axes: (3, 3) unit vectors to the right, front and head, one per row, RAS+.
        contour: (ANGLES,) radius of the foramen, mm, from +x over +y.
        wall: Posterior wall of the body, mm in front of the origin.
        centre: (3,) centre of the body, mm, RAS+.
        width, depth, height: Of the body, mm.
        whole: False where the foramen was not seen but taken from a neighbour.
    """

    vertebra: int
    origin: Float
    axes: Float
    contour: Float
    wall: float
    centre: Float
    width: float
    depth: float
    height: float
    whole: bool = True

    @property
    def matrix(self) -> Float:
        """(4, 4) world from body frame: x right, y front, z head, origin in the body's centre."""
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = self.axes.T, self.centre
        return matrix

    def local(self, world: Float) -> Float:
        """mm, RAS+ (N, 3) -> x, y, z in this frame, mm."""
        return np.asarray((world - self.origin) @ self.axes.T)


def radius(contour: Float, x: Float, y: Float) -> Float:
    """Radius in the direction of x, y (N,) of one contour (ANGLES,) or of one per point."""
    turn = np.arctan2(y, x) / (2 * np.pi) * ANGLES
    low = np.floor(turn).astype(int)
    part = turn - low
    low = low % ANGLES
    high = (low + 1) % ANGLES
    if contour.ndim == 1:
        return np.asarray(contour[low] * (1 - part) + contour[high] * part)
    row = np.arange(len(x))
    return np.asarray(contour[row, low] * (1 - part) + contour[row, high] * part)


def find_frames(vertebrae: NDArray[np.uint8], grid: Grid) -> dict[int, Frame]:
    """Frames of all labelled vertebrae, head to feet.

    Args:
        vertebrae: Vertebra ids on `grid`, 1 mm isotropic with axes near R, A, S.
    Returns:
        Vertebra id -> frame. Where no foramen is seen (a vertebra cut by the image edge) the frame
        is moved over from the nearest vertebra that has one, and `whole` is False. Empty when no
        vertebra shows a foramen.
    """
    points = _points(vertebrae, grid)
    order = [v for v in ORDER if v in points]
    middle = {v: np.asarray(points[v].mean(0)) for v in order}
    found: dict[int, Frame] = {}
    for v in order:
        head = _tangent(v, order, middle)
        cloud = points[v]
        if v in SACRUM:  # a sacrum labelled as a whole bends: its first segment only
            up = cloud @ head
            cloud = cloud[up > up.max() - S1_MM]
        frame = _frame(v, cloud, head)
        if frame is not None:
            found[v] = frame
    if not found:
        return {}
    seen = sorted(found, key=order.index)
    for v in order:
        if v not in found:
            near = min(seen, key=lambda other: abs(order.index(other) - order.index(v)))
            found[v] = _borrowed(v, points[v], found[near])
    return {v: found[v] for v in order}


def _points(vertebrae: NDArray[np.uint8], grid: Grid) -> dict[int, Float]:
    boxes = ndimage.find_objects(vertebrae)
    points: dict[int, Float] = {}
    for v in ORDER:
        if v <= len(boxes) and (box := boxes[v - 1]) is not None:
            index = np.argwhere(vertebrae[box] == v) + [s.start for s in box]
            if len(index) > 500:
                points[v] = grid.world(index)
    return points


def _tangent(vertebra: int, order: list[int], middle: Mapping[int, Float]) -> Float:
    """Headward direction of the chain of vertebrae at one of them."""
    at = order.index(vertebra)
    upper, lower = order[max(at - 1, 0)], order[min(at + 1, len(order) - 1)]
    along = middle[upper] - middle[lower]
    size = float(np.linalg.norm(along))
    return np.array([0.0, 0.0, 1.0]) if size < 1 else along / size


def _axes(head: Float, front: Float) -> Float:
    head = head / np.linalg.norm(head)
    front = front - head * (front @ head)
    front = front / np.linalg.norm(front)
    return np.stack([np.cross(front, head), front, head])


def _silhouette(points: Float) -> tuple[NDArray[np.bool_], Float]:
    """Projection of points (N, 3) onto x, y with 1 mm bins, and the position of the first bin."""
    x, y = points[:, 0], points[:, 1]
    first = np.floor([x.min(), y.min()]) - MARGIN
    i, j = np.rint(x - first[0]).astype(int), np.rint(y - first[1]).astype(int)
    image = np.zeros((i.max() + 1 + MARGIN, j.max() + 1 + MARGIN), bool)
    image[i, j] = True
    return image, first


def _hole(points: Float) -> tuple[float, NDArray[np.bool_], Float]:
    """Area (mm2), mask and first bin of the largest hole in the silhouette."""
    image, first = _silhouette(points)
    holes, count = ndimage.label(ndimage.binary_fill_holes(image) & ~image)
    if count == 0:
        return 0.0, np.zeros_like(image), first
    sizes = np.bincount(holes.ravel())[1:]
    return float(sizes.max()), holes == 1 + int(sizes.argmax()), first


def _best_view(centred: Float, head: Float) -> tuple[float, Float]:
    """Area of the largest hole and the direction of view (axes) that shows it."""
    best, axes = 0.0, _axes(head, np.array([0.0, 1.0, 0.0]))
    thin = centred[:: max(1, len(centred) // 20000)]
    for span, count in ((25.0, 7), (6.0, 5)):
        start = axes
        for pitch in np.radians(np.linspace(-span, span, count)):
            for roll in np.radians(np.linspace(-span, span, count) / 2):
                turned = start[2] + np.tan(pitch) * start[1] + np.tan(roll) * start[0]
                view = _axes(turned, start[1])
                area, _, _ = _hole(thin @ view.T)
                area -= 0.02 * best * (abs(pitch) + abs(roll))  # the smallest turn among equals
                if area > best:
                    best, axes = area, view
    return best, axes


def _frame(vertebra: int, points: Float, head: Float) -> Frame | None:
    middle = points.mean(0)
    area, axes = _best_view(points - middle, head)
    if area < MIN_FORAMEN_MM2:
        return None
    for _ in range(2):  # turn about the canal until the body lies straight in front of it
        local = (points - middle) @ axes.T
        area, hole, first = _hole(local)
        if area < MIN_FORAMEN_MM2:
            return None
        cells = np.argwhere(hole) + first
        canal = cells.mean(0)
        ahead = local[local[:, 1] > cells[:, 1].max() + 2][:, :2]
        if len(ahead) < 200:
            return None
        to_body = np.median(ahead, 0) - canal
        axes = _axes(axes[2], to_body[0] * axes[0] + to_body[1] * axes[1])
    local = (points - middle) @ axes.T
    _, hole, first = _hole(local)
    cells = np.argwhere(hole) + first
    canal = cells.mean(0)
    wall = _wall(cells, canal)
    local[:, :2] -= canal
    return _measured(
        Frame(
            vertebra=vertebra,
            origin=middle + canal @ axes[:2],
            axes=axes,
            contour=_contour(hole, first, canal),
            wall=wall,
            centre=middle,
            width=0,
            depth=0,
            height=0,
        ),
        points,
    )


def _wall(cells: Float, canal: Float) -> float:
    """Front edge of the foramen in its middle third, mm in front of its centre."""
    across = cells[:, 0] - canal[0]
    middle = cells[np.abs(across) < 0.33 * across.max()]
    columns = [middle[middle[:, 0] == x, 1].max() for x in np.unique(middle[:, 0])]
    return float(np.median(columns)) + 0.5 - float(canal[1])


def _contour(hole: NDArray[np.bool_], first: Float, canal: Float) -> Float:
    """Radius of the hole in ANGLES directions, smoothed."""
    angles = 2 * np.pi * np.arange(ANGLES) / ANGLES
    steps = np.arange(0, 25, 0.25)
    x = canal[0] - first[0] + np.cos(angles)[:, None] * steps
    y = canal[1] - first[1] + np.sin(angles)[:, None] * steps
    inside = ndimage.map_coordinates(hole.astype(np.float32), [x, y], order=1) > 0.5
    reach = steps[np.argmin(np.minimum.accumulate(inside, axis=1), axis=1)]
    return np.asarray(ndimage.gaussian_filter1d(np.maximum(reach, 2.0), 1.2, mode="wrap"))


def _measured(frame: Frame, points: Float) -> Frame:
    """The frame with origin at mid-body height and the body's centre and size."""
    local = frame.local(points)
    reach = frame.contour.max()
    body = local[(local[:, 1] > frame.wall + 3) & (np.abs(local[:, 0]) < max(reach, 12.0))]
    if len(body) < 100:
        body = local
    low, high = np.percentile(body[:, 2], [1, 99])
    front = np.percentile(body[:, 1], 99)
    # the front half: transverse processes and sacral wings lie behind it
    ahead = local[:, 1] > (frame.wall + front) / 2
    middle = local[ahead & (np.abs(local[:, 2] - (low + high) / 2) < 4)]
    side = np.percentile(np.abs(middle[:, 0]), 97) if len(middle) else reach
    up = (low + high) / 2
    depth = float(front - frame.wall)
    return replace(
        frame,
        origin=frame.origin + up * frame.axes[2],
        centre=frame.origin + (frame.wall + depth / 2) * frame.axes[1] + up * frame.axes[2],
        width=float(min(2 * side, MAX_WIDTH_MM)),
        depth=depth,
        height=float(high - low),
    )


def _borrowed(vertebra: int, points: Float, near: Frame) -> Frame:
    """A neighbour's frame shifted along the canal to the height of this vertebra's front part."""
    local = near.local(points)
    ahead = local[local[:, 1] > near.wall + 3]
    up = float(np.median((ahead if len(ahead) > 50 else local)[:, 2]))
    shift = up * near.axes[2]
    return replace(
        near,
        vertebra=vertebra,
        origin=near.origin + shift,
        centre=near.centre + shift,
        whole=False,
    )


def split(
    vertebrae: NDArray[np.uint8], grid: Grid, frames: Mapping[int, Frame]
) -> NDArray[np.uint8]:
    """Body (50) and posterior elements (41-48) of every framed vertebra.

    The body ends at the plane of the posterior wall, so that the pedicles are arcus; what lies in
    front of that plane but is thinner than a body (transverse processes of L5, rib facets)
    belongs to the posterior elements. A posterior voxel of a vertebra that is not whole stays 0.

    Returns:
        uint8, subregion ids on `grid`; 0 outside vertebrae and where the part is not certain.
    """
    out = np.zeros(grid.shape, np.uint8)
    boxes = ndimage.find_objects(vertebrae)
    for v, frame in frames.items():
        box = boxes[v - 1]
        mask = vertebrae[box] == v
        index = np.argwhere(mask)
        local = frame.local(grid.world(index + [s.start for s in box]))
        body = np.zeros(mask.shape, bool)
        body[tuple(index.T)] = local[:, 1] > frame.wall
        body = _thick_part(body, min(5.0, 0.2 * frame.height))
        is_body = body[tuple(index.T)]
        part = np.full(len(index), 50, np.uint8)
        part[~is_body] = _posterior(frame, local[~is_body]) if frame.whole else 0
        if v in SACRUM:
            part[~is_body] = 41  # definitions: the rest of the sacrum
            part[local[:, 2] < -0.8 * frame.height] = 0  # S2 and below bend away from the plane
        view = out[box]
        view[tuple(index.T)] = part
    return out


def _thick_part(mask: NDArray[np.bool_], size: float) -> NDArray[np.bool_]:
    """Largest component of an opening with a ball of radius `size` mm, and what touches it."""
    padded = np.pad(mask, 1)
    core = ndimage.distance_transform_edt(padded) > size
    labels, count = ndimage.label(core)
    if count == 0:
        return mask
    core = labels == 1 + int(np.bincount(labels.ravel())[1:].argmax())
    away = ndimage.distance_transform_edt(~core)
    rest, count = ndimage.label(padded & (away >= size + 2.5), np.ones((3, 3, 3)))
    far = ndimage.maximum(away, rest, np.arange(count + 1)) > size + 7  # a process, not a rim
    far[0] = False
    return np.asarray((padded & ~far[rest])[1:-1, 1:-1, 1:-1])


def _posterior(frame: Frame, local: Float) -> NDArray[np.uint8]:
    """Subregion of posterior voxels (N, 3) given in the vertebra's own frame."""
    x, y, z = local.T
    half = 0.5 * frame.height
    side = float(radius(frame.contour, np.array([1.0, -1.0]), np.zeros(2)).mean())
    back = -float(radius(frame.contour, np.zeros(1), -np.ones(1))[0])
    left = (x < 0).astype(np.uint8)  # 43, 45, 47 are left: one less than right
    part = np.full(len(x), 41, np.uint8)
    behind = y < 0
    part[behind & (np.abs(x) > 0.75 * side) & (z > 0.3 * half)] = 46
    part[behind & (np.abs(x) > 0.35 * side) & (z < -0.35 * half)] = 48
    wide = np.abs(x) - side
    part[(wide > 9) & (np.abs(z - 0.1 * half) < 0.35 * half)] = 44
    part[wide > 13] = 44
    part[(np.abs(x) < max(4.5, 0.4 * side)) & (y < back - 8)] = 42
    paired = part >= 44
    part[paired] -= left[paired]
    return part
