"""What a report shows: volumes of one case, cut along planes through the spine.

Pictures follow the radiological convention: the patient's right is on the left of coronal and
axial pictures, the front on the left of sagittal ones, the head on top.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from spinect.anatomy import BODY, ORDER, SACRUM
from spinect.geometry import Grid, Volume
from spinect.geometry.resample import resample

Plane = Literal["sagittal", "coronal", "axial"]
PLANES: Final[tuple[Plane, ...]] = ("sagittal", "coronal", "axial")
EDGES: Final[dict[Plane, tuple[str, str, str, str]]] = {  # left, right, top, bottom
    "sagittal": ("A", "P", "H", "F"),
    "coronal": ("R", "L", "H", "F"),
    "axial": ("R", "L", "A", "P"),
}
_FIXED: Final[dict[Plane, int]] = {"sagittal": 0, "coronal": 1, "axial": 2}
PIXEL_MM: Final = 0.7  # finer than the 1 mm masks, near the in-plane spacing of clinical series


@dataclass(frozen=True, eq=False)
class Scene:
    """The volumes of one case; each on any grid in the same world.

    Attributes:
        image: What was given, an MR or a CT.
        ct: Synthetic CT, HU, or the MR that was made of a CT; None where only masks were made.
        vertebrae: Vertebra ids; None where nothing was segmented.
        subregions: Subregion ids.
        truth_ct: CT to compare with, HU; phantoms only.
        truth_vertebrae: Vertebra ids to compare with; phantoms only.
        spread: Standard deviation of Monte-Carlo draws, HU; None without draws.
    """

    image: Volume
    ct: Volume | None = None
    vertebrae: Volume | None = None
    subregions: Volume | None = None
    truth_ct: Volume | None = None
    truth_vertebrae: Volume | None = None
    spread: Volume | None = None
    _cache: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def box(self) -> Grid:
        """RAS-aligned grid of PIXEL_MM over the field of view of the image."""
        box: Grid = self.kept("box", self._box)
        return box

    def kept(self, key: str, make: Callable[[], Any]) -> Any:
        """What `make` says, asked once for each key."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def _box(self) -> Grid:
        low, high = self._faces()
        shape = np.maximum(np.ceil((high - low) / PIXEL_MM), 1).astype(int)
        affine = np.diag([PIXEL_MM, PIXEL_MM, PIXEL_MM, 1.0])
        affine[:3, 3] = low + PIXEL_MM / 2
        return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)

    @property
    def makes_mr(self) -> bool:
        """Whether an MR was made of a CT."""
        return self.ct is not None and self.ct.kind == "mr"

    def _faces(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        grid = self.image.grid
        ends = [[-0.5, n - 0.5] for n in grid.shape]
        corners = grid.world(np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(8, 3))
        return corners.min(0), corners.max(0)

    @property
    def centres(self) -> dict[int, NDArray[np.float64]]:
        """Vertebra id -> centre of its body (of the vertebra without subregions), mm, RAS+."""
        centres: dict[int, NDArray[np.float64]] = self.kept(
            "centres", lambda: _centres(self.vertebrae, self.subregions)
        )
        return centres

    def focus(self) -> NDArray[np.float64]:
        """The point, mm, RAS+, that the three planes run through.

        Right-left and front-back: where most vertebral bodies are met; head-feet: the centre of
        the vertebra nearest to the middle of the chain. Without masks, the middle of the image.
        """
        low, high = self._faces()
        middle = (low + high) / 2
        named = {v: c for v, c in self.centres.items() if v not in SACRUM} or self.centres
        if not named:
            return np.asarray(middle)
        points = np.stack([named[v] for v in ORDER if v in named])
        x, y, half = np.median(points[:, 0]), np.median(points[:, 1]), np.median(points[:, 2])
        z = points[np.argmin(np.abs(points[:, 2] - half)), 2]
        return np.array([x, y, z])

    def cut(self, volume: Volume, plane: Plane, at: float) -> NDArray[Any]:
        """One picture, rows from top to bottom, of `volume` in the plane at `at` mm."""
        axis = _FIXED[plane]
        start, shape = np.zeros(3), np.array(self.box.shape)
        start[axis] = (at - self.box.affine[axis, 3]) / PIXEL_MM
        shape[axis] = 1
        piece = resample(volume, self.box.crop(start, shape)).data
        flat = np.take(piece, 0, axis=axis)
        # RAS+ runs to the right, front and head; pictures run to the left, back and feet.
        return np.asarray(flat[::-1, ::-1].T)

    def pixel(self, plane: Plane, point: NDArray[np.float64]) -> tuple[float, float]:
        """(column, row) of a point, mm, RAS+, in a picture of `cut`."""
        index = self.box.index(point)
        last = np.array(self.box.shape) - 1
        a, b = (i for i in range(3) if i != _FIXED[plane])
        return float(last[a] - index[a]), float(last[b] - index[b])


def _centres(vertebrae: Volume | None, subregions: Volume | None) -> dict[int, NDArray[np.float64]]:
    if vertebrae is None:
        return {}
    found = np.argwhere(vertebrae.data > 0)
    ids = vertebrae.data[tuple(found.T)]
    if subregions is not None and subregions.data.shape == vertebrae.data.shape:
        body = np.isin(subregions.data[tuple(found.T)], BODY)
        # A vertebra without body voxels, cut off in front, keeps all of its voxels.
        with_body = set(np.unique(ids[body]).tolist())
        keep = body | ~np.isin(ids, list(with_body))
        found, ids = found[keep], ids[keep]
    centres = {}
    for vertebra in np.unique(ids):
        centres[int(vertebra)] = vertebrae.grid.world(found[ids == vertebra].mean(0))
    return centres


CT_WINDOW: Final = (-250.0, 850.0)  # HU; soft tissue stays visible beside bone


def grey_window(volume: Volume) -> tuple[float, float]:
    """Values shown as black and white: fixed in HU, for an MR the 1st and 99.5th percentile.

    The lowest value of an MR is left out: it is the padding or the air of many series.
    """
    if volume.kind == "ct":
        return CT_WINDOW
    values = np.asarray(volume.data, np.float32).ravel()[:: max(1, volume.data.size // 2_000_000)]
    inside = values[values > values.min()]
    if inside.size == 0:
        inside = values
    low, high = np.percentile(inside, [1, 99.5])
    return float(low), float(max(high, low + 1e-6))
