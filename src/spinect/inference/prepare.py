"""From a volume to the channels that a network sees, on the grid that it works on."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spinect.card import Card, Channels
from spinect.data.intensity import (
    HuRange,
    ct_channels,
    inside_field_of_view,
    mr_channels,
    relative_of_robust,
    relative_of_unit,
    unit_of_max,
)
from spinect.data.prepared import working_grid
from spinect.errors import ImageError
from spinect.geometry import Grid, Volume
from spinect.geometry.resample import resample

# Recipes of the input channels -> how many they are.
CHANNELS: dict[Channels, int] = {
    "robust3": 3, "hu": 1, "hu_range": 1, "max": 1,
    "robust3_ramps": 6, "hu_range_ramps": 4, "max_ramps": 4, "max_ramps_rip": 4,
}  # fmt: skip


def condition_channels(channels: Channels, neighbours: int) -> int:
    """How many channels a network sees of a slice, its neighbours on both sides included."""
    return CHANNELS[channels] * (2 * neighbours + 1)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A network's input without tiles.

    Attributes:
        grid: As the bundle's card says.
        channels: (C, X, Y, Z) float32 without ramps; `outside` outside the field of view.
        inside: (X, Y, Z) bool, the field of view.
        peeled: Constant boundary planes of the source that are outside of it.
        outside: What pads the channels.
        ramps: Axes that it sees the position along, "RAS" or "RIP"; "" for none.
    """

    grid: Grid
    channels: Tensor
    inside: NDArray[np.bool_]
    peeled: int
    outside: float = 0.0
    ramps: Literal["RAS", "RIP", ""] = ""


def bundle_grid(grid: Grid, card: Card) -> Grid:
    """The grid on which a bundle works for a volume on `grid`."""
    settings = card.preprocessing
    return working_grid(grid, settings.raster, settings.spacing_mm, settings.axes)


def prepare(volume: Volume, card: Card) -> Prepared:
    """Resample, find the field of view, scale intensities.

    Raises:
        ImageError: The kind of the volume is not what the bundle takes, or it is constant.
    """
    if volume.kind != card.inputs:
        raise ImageError(
            f"bundle {card.name} takes a volume of kind {card.inputs!r}, not {volume.kind!r}: "
            f"give it one, or take a bundle that starts from {volume.kind}"
        )
    cropped, peeled = _without_frame(volume) if volume.kind == "mr" else (volume, 0)
    grid = bundle_grid(volume.grid, card)
    data = torch.from_numpy(resample(cropped, grid).data)[None, None]
    inside = _coverage(cropped, grid)
    if card.channels == "hu":
        channels = ct_channels(data)[0]
    elif card.channels.startswith("hu_range"):
        channels = _hu_range(card).to_unit(data[0])
    elif card.channels.startswith("max"):
        mask = torch.from_numpy(inside)[None].float()
        channels = unit_of_max(data[0], float(volume.data.max())) * mask * 2 - 1
    else:
        channels = _robust(data, inside, grid)
    outside = -1.0 if card.channels.startswith(("max", "hu_range")) else 0.0
    return Prepared(grid, channels, inside, peeled, outside, _ramps(card.channels))


def relative_mr(mr: Volume, card: Card) -> tuple[Volume, NDArray[np.bool_]]:
    """A measured MR in the unit of a synthetic one, scaled as training scales it.

    Returns:
        Relative intensity on the bundle's grid, 0 outside the field of view; and the field of view.
    Raises:
        ImageError: The image is constant.
    """
    cropped, _ = _without_frame(mr)
    grid = bundle_grid(mr.grid, card)
    data = torch.from_numpy(resample(cropped, grid).data)[None, None]
    inside = _coverage(cropped, grid)
    values = relative_of_robust(_robust(data, inside, grid)[0])
    return Volume(values.numpy(), grid.affine, "mr"), inside


def _robust(data: Tensor, inside: NDArray[np.bool_], grid: Grid) -> Tensor:
    """The three channels of an MR on a grid, (1, 1, X, Y, Z) -> (3, X, Y, Z)."""
    mask = torch.from_numpy(inside)[None, None].float()
    return mr_channels(data, mask, grid.spacing.round(6).tolist())[0]


def image_of(unit: Tensor, card: Card) -> Tensor:
    """[-1, 1] -> what the bundle makes: HU, or the relative intensity of an MR; any shape."""
    return relative_of_unit(unit) if card.image_kind == "mr" else _hu_range(card).to_hu(unit)


def _hu_range(card: Card) -> HuRange:
    return HuRange(low=card.preprocessing.hu_low, high=card.preprocessing.hu_high)


def _ramps(channels: Channels) -> Literal["RAS", "RIP", ""]:
    if channels.endswith("_rip"):
        return "RIP"
    return "RAS" if channels.endswith("_ramps") else ""


def _without_frame(volume: Volume) -> tuple[Volume, int]:
    """The volume without constant boundary planes, and how many these were."""
    image = torch.from_numpy(np.ascontiguousarray(volume.data, dtype=np.float32))
    inside = inside_field_of_view(image[None, None])[0, 0].numpy()
    box: list[slice] = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        hit = np.flatnonzero(inside.any(axis=others))
        if not hit.size:
            value = float(volume.data.flat[0])
            raise ImageError(
                f"the image is constant, every voxel is {value:g}: nothing to translate"
            )
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    data: NDArray[Any] = volume.data[tuple(box)]
    kept = volume.grid.crop([part.start for part in box], data.shape)
    peeled = sum(n - m for n, m in zip(volume.data.shape, data.shape, strict=True))
    return Volume(data, kept.affine, volume.kind), peeled


def _coverage(volume: Volume, grid: Grid) -> NDArray[np.bool_]:
    """Which voxel centres of `grid` lie within the outer faces of `volume`."""
    ones = np.broadcast_to(np.float32(1), volume.data.shape)
    return np.asarray(resample(Volume(ones, volume.affine, "mr"), grid).data > 0.5)
