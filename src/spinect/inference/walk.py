"""One volume on its way through one network."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spinect.bundle import Bundle
from spinect.data.appearance import ramps
from spinect.data.tiles import Box, Part, Tiling, part_of, plan_tiles, shifted
from spinect.errors import BundleError, SpinectWarning
from spinect.geometry import Grid, Volume
from spinect.geometry.volume import RULES
from spinect.inference.blend import blend, blend_slabs, without_padding
from spinect.inference.compute import Compute, TileNetwork, head_slices
from spinect.inference.draws import BYTES_PER_DRAW, SLAB_BYTES
from spinect.inference.heads import BYTES_PER_VOXEL, MASK_HEADS, MaskHeads, reduce_masks
from spinect.inference.mirror import Overlap, vertebra_probability
from spinect.inference.noise import NoiseField
from spinect.inference.plan import Demand, Plan, allocate, plan_memory
from spinect.inference.prepare import (
    CHANNELS,
    Prepared,
    bundle_grid,
    condition_channels,
    image_of,
    prepare,
)
from spinect.inference.region import box_on, mask_of
from spinect.protocols import HEADS, IMAGE, Mode, Prepares

# Whole-volume results per voxel; with "mc" two sums in float64 that become mean and spread.
_CT_BYTES: Final[dict[Mode, int]] = {"regress": 4, "sample": 4, "mc": 24}
Progress = Callable[[float], None]  # called with the share done, 0-1


class Shares:
    """Progress in equal rounds."""

    def __init__(self, progress: Progress | None, rounds: int) -> None:
        self._progress, self._rounds, self._finished = progress, rounds, 0

    def part(self, share: float) -> None:
        """`share` of the present round is done."""
        if self._progress is not None:
            self._progress((self._finished + share) / self._rounds)

    def one(self) -> None:
        """The present round is done."""
        self.part(1.0)
        self._finished += 1


def fit(
    grid: Grid,
    bundle: Bundle,
    compute: Compute,
    max_memory: int,
    mode: Mode,
    spooled: int = 0,
) -> tuple[Tiling, Plan]:
    """Tiles of a volume on `grid`, and how the run fits into memory.

    Args:
        spooled: Draws that are kept on disk.
    Raises:
        ResourceError: The smallest tile does not fit into `max_memory`, or the draws not onto the
            disk.
    """
    card, method = bundle.card, bundle.method
    settings, heads = card.preprocessing, method.heads
    shape = bundle_grid(grid, card).shape
    tiling = plan_tiles(shape, settings.tile, settings.overlap, method.divisor)
    results = _CT_BYTES[mode] * (IMAGE in heads)
    results += BYTES_PER_VOXEL * all(head in heads for head in MASK_HEADS)
    channels = sum(HEADS[head] for head in heads)
    kept = method.prepared_channels if isinstance(method, Prepares) else 0
    kept *= (compute.dtype or torch.float32).itemsize
    demand = Demand(
        CHANNELS[card.channels],
        channels,
        results,
        samples=mode != "regress",
        spooled=BYTES_PER_DRAW * spooled,
        workspace=SLAB_BYTES * bool(spooled),
        slices=2 * settings.neighbours + 1,
        prepared=kept * (mode != "regress"),
    )
    return tiling, plan_memory(method, tiling, demand, compute, max_memory)


@dataclass(eq=False)
class Walk:
    """One volume on its way through one network.

    Attributes:
        inside: (X, Y, Z) bool, the field of view as far as it lies in the region.
        tiling: Of the part of the volume that is worked on.
        corner: Voxel of the volume where that part begins.
    """

    bundle: Bundle
    grid: Grid
    inside: NDArray[np.bool_]
    tiling: Tiling
    corner: tuple[int, ...]
    network: TileNetwork
    plan: Plan
    said: list[str]

    @classmethod
    def start(
        cls,
        volume: Volume,
        bundle: Bundle,
        compute: Compute,
        max_memory: int,
        mode: Mode,
        spooled: int = 0,
        region: Grid | None = None,
    ) -> "Walk":
        """Prepare a volume; with a region, only the tiles that it needs will run.

        Raises:
            GeometryError: The region does not lie in the volume, or not along its axes.
        """
        card, method = bundle.card, bundle.method
        if method.ndim == 2 and card.preprocessing.tile[0] != 1:
            raise BundleError(
                f"bundle {card.name} is two-dimensional: its tile must be one slice, "
                f"not {card.preprocessing.tile}"
            )
        _check_neighbours(bundle)
        tiling, plan = fit(volume.grid, bundle, compute, max_memory, mode, spooled)
        prepared = prepare(volume, card)
        flip = card.preprocessing.flip_average and method.ndim == 3
        condition = _padded(prepared, tiling, plan, card.preprocessing.tile)
        beside = card.preprocessing.neighbours
        part = Part(tiling, (0, 0, 0), (0, 0, 0))
        if region is not None:
            box = box_on(region, prepared.grid)
            part = part_of(tiling, box)
            prepared.inside[~mask_of(box, prepared.grid.shape)] = False
        network = TileNetwork(
            method, condition, compute, flip, beside, keep=plan.keep, first=part.first
        )
        said = []
        if prepared.peeled:
            said.append(
                f"{prepared.peeled} boundary planes of constant value were taken as outside the "
                "field of view"
            )
        for text in said:
            warnings.warn(text, SpinectWarning, stacklevel=3)
        grid, inside = prepared.grid, prepared.inside
        return cls(bundle, grid, inside, part.tiling, part.corner, network, plan, said)

    @property
    def _part(self) -> Box:
        """The part that is worked on, in voxels of the volume."""
        return shifted(tuple(slice(0, n) for n in self.tiling.shape), self.corner)

    def _image_array(self) -> NDArray[np.float32]:
        """An image of what its kind says lies outside."""
        out = self.zeros(np.float32)
        if self.tiling.shape != self.grid.shape:
            out[...] = RULES[self.bundle.card.image_kind].outside
        return out

    def zeros(self, dtype: Any, *leading: int) -> NDArray[Any]:
        """A whole-volume array, where the plan wants it."""
        return allocate((*leading, *self.grid.shape), dtype, self.plan.on_disk)

    @torch.inference_mode()
    def regress(self, done: Shares, want_ct: bool) -> tuple[NDArray[Any] | None, MaskHeads | None]:
        """One call per tile; each slab is reduced to its final types as soon as it is complete."""
        heads = self.bundle.method.heads
        where = head_slices(heads)
        masked = all(head in heads for head in MASK_HEADS)
        ct = self._image_array() if want_ct else None
        names = ("classes", "vertebra", "centre") if masked else ()
        stored = {name: self.zeros(np.uint8) for name in names}
        if masked:
            stored["offset"] = self.zeros(np.int8, 3)
            overlap = Overlap()
            self.network.compare = lambda plain, mirrored: overlap.add(
                vertebra_probability(plain, heads), vertebra_probability(mirrored, heads)
            )
        compute, channels = self.network.compute, sum(HEADS[head] for head in heads)
        slabs = blend_slabs(
            self.tiling,
            channels,
            self.network.regress,
            batch=self.plan.batch,
            device=compute.device,
        )
        padded = math.prod(self.tiling.padded)
        covered = 0
        for box, slab in slabs:
            target, source = without_padding(self.tiling, box)
            target = shifted(target, self.corner)
            values = slab[(slice(None), *source)]
            if ct is not None:
                ct[target] = self._image(values[where[IMAGE]][0], target)
            if masked:
                outside = ~self.inside[target]
                for name, part in reduce_masks(values, heads).items():
                    part[..., outside] = 0
                    leading = (slice(None),) * (part.ndim - len(target))
                    stored[name][leading + target] = part
            covered += math.prod(part.stop - part.start for part in box)
            done.part(covered / padded)
        done.one()
        if not masked:
            return ct, None
        return ct, MaskHeads(self.grid, inside=self.inside, mirror=overlap.share(), **stored)

    @torch.inference_mode()
    def sample(self, noise: NoiseField, draw: int, steps: int | None) -> NDArray[Any]:
        """One draw: the sampler sees the whole volume, the network its tiles at every step."""
        padded = self.tiling.padded
        # Noise belongs to voxels of the volume, so that a part of it sees the same.
        x, y, z = (c - b for c, b in zip(self.corner, self.tiling.before, strict=True))
        asked = 0

        def randn(like: Tensor) -> Tensor:
            nonlocal asked
            field = noise.box((x, y, z), (padded[0], padded[1], padded[2]), draw=draw, step=asked)
            asked += 1
            return torch.from_numpy(field)[None, None].to(like.dtype)

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            volume = x[0]
            return blend(
                self.tiling,
                1,
                lambda boxes: self.network.denoise(volume, sigma, boxes),
                batch=self.plan.batch,
                device=self.network.compute.device,
            )[None]

        like = torch.zeros((1, 1, *padded))
        unit = self.bundle.method.sample(denoise, like, steps, randn)[0, 0]
        values = self._image(unit[self.tiling.inner], self._part)
        if values.shape == self.grid.shape:
            return values
        out = self._image_array()
        out[self._part] = values
        return out

    def _image(self, unit: Tensor, target: Box) -> NDArray[np.float32]:
        """[-1, 1] -> HU or relative intensity; what its kind says outside the field of view."""
        card = self.bundle.card
        out = image_of(unit.clamp(-1, 1), card).float().cpu().numpy()
        out[~self.inside[target]] = RULES[card.image_kind].outside
        return np.asarray(out)


def _check_neighbours(bundle: Bundle) -> None:
    """Refuse a network that cannot see what the card says it sees beside its own slice."""
    card, method = bundle.card, bundle.method
    beside = card.preprocessing.neighbours
    if not beside:
        return
    count = condition_channels(card.channels, beside)
    if method.ndim != 2 or method.in_channels != count:
        raise BundleError(
            f"bundle {card.name}: {beside} neighbours on each side are {count} channels of a "
            f"slice ({card.channels}), its network takes {method.in_channels} in {method.ndim} "
            "dimensions: the card does not belong to these tensors"
        )


def _padded(prepared: Prepared, tiling: Tiling, plan: Plan, patch: tuple[int, int, int]) -> Tensor:
    """The channels in a volume that the tiles cover exactly; ramps as patches had them."""
    known = len(prepared.channels)
    out = allocate((known + 3 * bool(prepared.ramps), *tiling.padded), np.float32, plan.on_disk)
    if prepared.outside:
        out[:known] = prepared.outside
    out[(slice(known), *tiling.inner)] = prepared.channels.numpy()
    if prepared.ramps:
        lines = zip(tiling.padded, tiling.before, strict=True)
        steps = [torch.arange(n, dtype=torch.float32) - b for n, b in lines]
        places = torch.stack(torch.meshgrid(*steps, indexing="ij"))
        rising = ramps(places, tiling.shape, patch)
        if prepared.ramps == "RIP":
            rising = torch.stack([rising[0], 1 - rising[2], 1 - rising[1]])
        out[known:] = rising.numpy()
    return torch.from_numpy(out)
