"""One tile around the vertebrae, seen again: turned over, and with another contrast.

A network is trained on images that stand upright. Shown one upside down it still finds bodies, but
less of what lies behind them; so the way round in which it finds most tells which way is up.
"""

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
from spinect.geometry import Volume
from spinect.inference.compute import Compute, Precision, TileNetwork
from spinect.inference.heads import reduce_masks
from spinect.inference.mirror import Overlap
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
    vertebra: NDArray[np.uint8],
    *,
    precision: Precision = "auto",
    device: str | torch.device = "auto",
) -> Probe | None:
    """Show a network the tile that holds most of the vertebrae again: five calls, one after one.

    Intensities are scaled as in the run itself, by the whole image.

    Args:
        source: What the bundle was run on.
        bundle: With mask heads.
        vertebra: Where vertebrae were found, weights on the bundle's grid of the source.
        precision, device: As `translate`.
    Returns:
        None for networks that see slices, or positions.
    """
    card = bundle.card
    if bundle.method.ndim != 3 or card.channels not in ("robust3", "hu"):
        return None
    box = (slice(None), *densest_box(vertebra, card.preprocessing.tile))
    prepared = prepare(source, card)
    tile = prepared.channels[box].clone()
    other = _other_contrast(prepared)[box].clone() if card.inputs == "mr" else None
    voxel_mm3 = float(prepared.grid.spacing.prod())
    del prepared  # many bytes a voxel, and the calls need room
    compute = Compute.choose(device, precision)
    found = {}
    for turn, axes in TURNS.items():
        sides = [axis + 1 for axis in axes]  # channels come first
        found[turn] = _call(bundle, tile.flip(sides), compute)
    seen = {turn: _sight(heads, voxel_mm3) for turn, heads in found.items()}
    if other is None:
        return Probe(seen, None)
    both = found["as stored"], _call(bundle, other, compute)
    overlap = Overlap()
    overlap.add(*(torch.from_numpy(heads["vertebra"]).float() / 255 for heads in both))
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


def _window_sums(values: NDArray[np.float64], axis: int, size: int) -> NDArray[np.float64]:
    """Sums of `size` neighbours along an axis; of all of a shorter one."""
    size = min(size, values.shape[axis])
    total = np.cumsum(np.insert(values, 0, 0, axis), axis)
    count = total.shape[axis]
    return np.asarray(
        np.take(total, range(size, count), axis) - np.take(total, range(count - size), axis)
    )


@torch.inference_mode()
def _call(bundle: Bundle, tile: Tensor, compute: Compute) -> dict[str, NDArray[np.uint8]]:
    """One call on a tile, (C, *S); the network's own padding is taken off."""
    shape = tile.shape[1:]
    full = plan_tiles(shape, bundle.card.preprocessing.tile, 0, bundle.method.divisor).tile
    rest = [n for size, had in zip(full, shape, strict=True) for n in (size - had, 0)]
    network = TileNetwork(bundle.method, F.pad(tile, rest[::-1]), compute)
    values = network.regress([tuple(slice(0, n) for n in full)])[0]
    return reduce_masks(values[(slice(None), *(slice(0, n) for n in shape))], bundle.method.heads)


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
