"""One tile around the vertebrae, seen again: turned over, and with another contrast.

A network is trained on images that stand upright. Shown one upside down it still finds bodies, but
less of what lies behind them; so the way round in which it finds most tells which way is up.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from spinect.anatomy import CLASS, POSTERIOR_CLASSES
from spinect.bundle import Bundle
from spinect.data.intensity import mr_channels
from spinect.data.tiles import Box, plan_tiles
from spinect.geometry import Grid, Volume
from spinect.inference.compute import Compute, Precision, TileNetwork
from spinect.inference.heads import reduce_masks
from spinect.inference.mirror import Overlap
from spinect.inference.plan import PREPARE_BYTES, Plan
from spinect.inference.prepare import Prepared, prepare

Turn = Literal["as stored", "head-feet", "front-back", "both"]
# What is turned -> the axes of R, A, S that are reversed. The last one is half a turn about the
# left-right axis; the others are mirrorings, which a body's symmetry makes turns of.
TURNS: Final[dict[Turn, tuple[int, ...]]] = {
    "as stored": (),
    "head-feet": (2,),
    "front-back": (1,),
    "both": (1, 2),
}
GAMMA: Final = 0.7  # darker tissue becomes brighter, within what two scanners differ by
_COARSE: Final = 8  # voxels of a cell of the map on which the tile is placed


@dataclass(frozen=True)
class Sight:
    """What one call finds in the tile, mL, every voxel counted by its probability of vertebra.

    Attributes:
        body, posterior: Of vertebrae. canal: Whole voxels.
    """

    body: float
    posterior: float
    canal: float


@dataclass(frozen=True)
class Probe:
    """The tile seen in four ways, and with another contrast.

    Attributes:
        seen: By what was turned.
        gamma: Soft overlap (common over union, 0-1) of the vertebrae before and after the
            contrast changed by the power `GAMMA`; None for a CT, and without vertebrae.
    """

    seen: Mapping[Turn, Sight]
    gamma: float | None


def probe(
    source: Volume,
    bundle: Bundle,
    place: Grid,
    vertebra: NDArray[np.uint8],
    *,
    precision: Precision = "auto",
    device: str | torch.device = "auto",
) -> Probe | None:
    """Show a network the tile that holds most of the vertebrae again: five calls, one after one.

    Args:
        source: What the bundle was run on.
        bundle: With mask heads.
        place, vertebra: Where vertebrae were found: a grid, and (X, Y, Z) weights on it.
        precision, device: As `translate`.
    Returns:
        None for networks that see slices or positions, and for a tile of one value.
    """
    card = bundle.card
    if bundle.method.ndim != 3 or card.channels not in ("robust3", "hu"):
        return None
    around = _cut_out(source, place, densest_box(vertebra, card.preprocessing.tile))
    if around.data.min() == around.data.max():
        return None
    prepared = prepare(around, card)
    compute = Compute.choose(device, precision)
    seen, plain = {}, None
    for turn, axes in TURNS.items():
        sides = [axis + 1 for axis in axes]  # channels come first
        found = _call(bundle, prepared.channels.flip(sides), compute)
        plain = found if plain is None else plain
        seen[turn] = _sight(found, float(prepared.grid.spacing.prod()))
    assert plain is not None
    if card.inputs != "mr":
        return Probe(seen, None)
    other = _call(bundle, _other_contrast(prepared), compute)
    overlap = Overlap()
    overlap.add(*(torch.from_numpy(f["vertebra"]).float() / 255 for f in (plain, other)))
    return Probe(seen, overlap.share())


def densest_box(vertebra: NDArray[np.uint8], most: tuple[int, int, int]) -> Box:
    """The box of at most so many voxels that holds the largest sum; the middle one of an empty map.

    Looked for in steps of 8 voxels.
    """
    cells = vertebra
    for axis in range(3):
        cells = np.add.reduceat(
            cells, np.arange(0, cells.shape[axis], _COARSE), axis, dtype=np.uint32
        )
    if not cells.any():
        starts = [max(n - m, 0) // 2 for n, m in zip(vertebra.shape, most, strict=True)]
    else:
        sums = cells.astype(np.float64)
        for axis, size in enumerate(most):
            sums = _window_sums(sums, axis, max(size // _COARSE, 1))
        starts = [int(i) * _COARSE for i in np.unravel_index(int(sums.argmax()), sums.shape)]
    return tuple(
        slice(s, min(s + m, n)) for s, m, n in zip(starts, most, vertebra.shape, strict=True)
    )


def probe_bytes(bundle: Bundle, plan: Plan) -> int:
    """Memory of a probe: one tile on its way, and its channels while they are made and turned."""
    return plan.tile_bytes + PREPARE_BYTES * math.prod(bundle.card.preprocessing.tile)


def _window_sums(values: NDArray[np.float64], axis: int, size: int) -> NDArray[np.float64]:
    """Sums of `size` neighbours along an axis; of all of a shorter one."""
    size = min(size, values.shape[axis])
    total = np.cumsum(np.insert(values, 0, 0, axis), axis)
    count = total.shape[axis]
    return np.asarray(
        np.take(total, range(size, count), axis) - np.take(total, range(count - size), axis)
    )


def _cut_out(source: Volume, grid: Grid, box: Box) -> Volume:
    """The part of a volume that a box of another grid covers."""
    ends = np.array([[b.start - 0.5, b.stop - 0.5] for b in box])
    corners = np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(-1, 3)
    places = source.grid.index(grid.world(corners))
    last = np.array(source.grid.shape) - 1
    low = np.clip(np.ceil(places.min(0) - 1e-6), 0, last).astype(int)
    high = np.clip(np.floor(places.max(0) + 1e-6), low, last).astype(int) + 1
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    return Volume(source.data[part], source.grid.crop(low, high - low).affine, source.kind)


@torch.inference_mode()
def _call(bundle: Bundle, channels: Tensor, compute: Compute) -> dict[str, NDArray[np.uint8]]:
    """One call on what fits into one tile of the bundle, from the first voxel on."""
    most = bundle.card.preprocessing.tile
    shown = channels[:, : most[0], : most[1], : most[2]]
    tiling = plan_tiles(shown.shape[1:], most, 0, bundle.method.divisor)
    rest = [n for full, had in zip(tiling.tile, shown.shape[1:], strict=True)
            for n in (full - had, 0)]  # fmt: skip
    network = TileNetwork(bundle.method, F.pad(shown, rest[::-1]), compute)
    values = network.regress([tuple(slice(0, n) for n in tiling.tile)])[0]
    box = (slice(None), *(slice(0, n) for n in shown.shape[1:]))
    return reduce_masks(values[box], bundle.method.heads)


def _sight(found: Mapping[str, NDArray[np.uint8]], voxel_mm3: float) -> Sight:
    classes = found["classes"]
    sums = np.bincount(classes.ravel(), found["vertebra"].ravel() / 255.0, len(CLASS))
    canal = int(np.count_nonzero(classes == CLASS["canal"]))
    return Sight(
        body=float(sums[CLASS["body"]]) * voxel_mm3 / 1000,
        posterior=float(sums[list(POSTERIOR_CLASSES)].sum()) * voxel_mm3 / 1000,
        canal=canal * voxel_mm3 / 1000,
    )


def _other_contrast(prepared: Prepared) -> Tensor:
    """The channels of the same image after its robust scale was raised to the power `GAMMA`."""
    inside = torch.from_numpy(prepared.inside)[None, None].float()
    image = prepared.channels[:1].clamp(min=0)[None] ** GAMMA
    return mr_channels(image, inside, prepared.grid.spacing.round(6).tolist())[0]
