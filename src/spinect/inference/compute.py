"""Where a network runs and in which precision: tiles in, float32 tiles out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from spinect.data.neighbours import beside, slices_of
from spinect.data.tiles import Box, shifted
from spinect.errors import BundleError, ConfigError
from spinect.nets.packed import can_pack, packed, packed_bytes
from spinect.nets.unet import channels_last
from spinect.protocols import HEADS, Method, Prepares

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class Compute:
    """A device and the type that convolutions run in; None is float32."""

    device: torch.device
    dtype: torch.dtype | None

    @classmethod
    def choose(
        cls, device: str | torch.device = "auto", precision: Precision = "auto"
    ) -> "Compute":
        """Resolve "auto": CUDA, then MPS, then CPU; bf16 where the hardware multiplies it.

        Raises:
            ConfigError: The device is not there, or the precision is unknown.
        """
        if str(device) == "auto":
            device = (
                "cuda"
                if torch.cuda.is_available()
                else "mps"
                if torch.backends.mps.is_available()
                else "cpu"
            )
        chosen = torch.device(device)
        there = {
            "cpu": True,
            "cuda": torch.cuda.is_available(),
            "mps": torch.backends.mps.is_available(),
        }
        if not there.get(chosen.type, False):
            found = ", ".join(kind for kind, yes in there.items() if yes)
            raise ConfigError(f"device {str(chosen)!r} is not available; this machine has: {found}")
        if precision not in ("auto", "fp32", "bf16"):
            raise ConfigError(f"precision {precision!r} is not auto, fp32 or bf16")
        wanted = _has_bf16(chosen) if precision == "auto" else precision == "bf16"
        return cls(chosen, torch.bfloat16 if wanted else None)

    @property
    def packs(self) -> bool:
        """Whether weights are kept in the order of the processor's kernels."""
        return self.device.type == "cpu" and can_pack(self.dtype or torch.float32)

    def packed_bytes(self, method: nn.Module) -> int:
        """What that takes, beside the method's own weights."""
        return packed_bytes(method, self.dtype or torch.float32) if self.packs else 0


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cpu":
        return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


@dataclass
class TileNetwork:
    """A method that is asked for tiles of one condition volume.

    Attributes:
        method: In eval mode; moved to the device here. What is asked is a copy with packed weights
            where these are quicker.
        condition: (C, *padded) float32 on the host.
        compute: Device and precision.
        flip: Average `regress` with the left-right mirrored prediction.
        neighbours: Slices on each side of a tile of one slice whose channels it sees, too.
        compare: Hears every plain prediction of `regress` with the mirrored one that it is averaged
            with, (tiles, channels, *tile) each.
        keep: Bytes for what the method prepares of the tiles' conditions (`Prepares`); beyond them
            it is made anew in every call, with the same result. None: it prepares nothing.
        first: Voxel of `condition` where boxes begin; not 0 where only a part of it is worked on.
        calls: Tiles that went through the network so far, mirrored ones included.
    """

    method: Method
    condition: Tensor
    compute: Compute
    flip: bool = False
    neighbours: int = 0
    compare: Callable[[Tensor, Tensor], None] | None = None
    keep: int | None = None
    first: tuple[int, ...] = (0, 0, 0)
    calls: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.method, nn.Module):
            raise BundleError(f"{type(self.method).__name__} is not a torch module")
        channels_last(self.method.to(self.compute.device), self.method.ndim)
        if self.compute.packs:
            self.method = packed(self.method, self.compute.dtype or torch.float32)  # type: ignore[assignment]
        self._kept: dict[tuple[int, ...], Tensor] = {}
        self.mirror = mirror_signs(self.method.heads).to(self.compute.device)

    def regress(self, boxes: Sequence[Box]) -> Tensor:
        """One call per tile: -> (tiles, channels of all heads, *tile) float32."""
        condition = self._seen(boxes)
        out = self._run(condition)
        if self.flip:
            mirrored = self._run(condition.flip(2)).flip(2)
            mirrored = mirrored.mul_(self.mirror.view(-1, *[1] * (mirrored.ndim - 2)))
            if self.compare is not None:
                self.compare(out, mirrored)
            out = mirrored.add_(out).mul_(0.5)  # in place: tiles of 15 channels are large
        return out

    def denoise(self, x: Tensor, sigma: Tensor, boxes: Sequence[Box]) -> Tensor:
        """Clean image of tiles of x (1, *padded): -> (tiles, 1, *tile) float32."""
        return self._run(self._seen(boxes), self._tiles(x, boxes), sigma, self._prepared(boxes))

    def _prepared(self, boxes: Sequence[Box]) -> Tensor | None:
        """What the method made of the tiles' conditions, now or before."""
        method = self.method
        if self.keep is None or not isinstance(method, Prepares) or not method.prepared_channels:
            return None
        made = []
        for box in boxes:
            corner = tuple(part.start for part in box)
            share = self._kept.get(corner)
            if share is None:
                condition = self._seen([box])
                flat = condition.squeeze(2) if self.method.ndim == 2 else condition
                share = method.prepare(flat).to(self.compute.dtype or torch.float32)
                if share.nbytes <= self.keep:
                    self.keep -= share.nbytes
                    self._kept[corner] = share
            made.append(share)
        return made[0] if len(made) == 1 else torch.cat(made)

    def _seen(self, boxes: Sequence[Box]) -> Tensor:
        """Channels of tiles and, where the network sees them, of the slices beside."""
        boxes = [shifted(box, self.first) for box in boxes]
        if self.neighbours == 0:
            return self._tiles(self.condition, boxes)
        last = self.condition.shape[1] - 1  # slices are never padded along their own axis
        tiles = []
        for slot, *within in boxes:
            slices = slices_of(slot.start, self.neighbours, 0, last)
            tiles.append(beside(self.condition[:, :, within[0], within[1]], slices))
        return torch.stack(tiles).to(self.compute.device, torch.float32)

    def _tiles(self, volume: Tensor, boxes: Sequence[Box]) -> Tensor:
        tiles = torch.stack([volume[(slice(None), *box)] for box in boxes])
        return tiles.to(self.compute.device, torch.float32)

    def _run(
        self,
        condition: Tensor,
        x: Tensor | None = None,
        sigma: Tensor | None = None,
        prepared: Tensor | None = None,
    ) -> Tensor:
        """Call the method on (tiles, C, *tile); a two-dimensional one sees (tiles, C, Y, Z)."""
        flat = self.method.ndim == 2
        if flat:
            condition = condition.squeeze(2)
            x = None if x is None else x.squeeze(2)
        self.calls += len(condition)
        kind, dtype = self.compute.device.type, self.compute.dtype
        with torch.autocast(kind, dtype=dtype, enabled=dtype is not None):
            if x is None or sigma is None:
                out = self.method.predict(condition)
            elif prepared is None:
                out = self.method.denoise(x, sigma.to(x.device), condition)
            else:
                assert isinstance(self.method, Prepares)
                out = self.method.denoise(x, sigma.to(x.device), condition, prepared)
        out = out.float()
        return out.unsqueeze(2) if flat else out


def head_slices(heads: Sequence[str]) -> dict[str, slice]:
    """Where each head lies among the channels of `Method.predict`."""
    found, start = {}, 0
    for head in heads:
        found[head] = slice(start, start + HEADS[head])
        start += HEADS[head]
    return found


def mirror_signs(heads: Sequence[str]) -> Tensor:
    """Sign of every channel under a left-right mirror: only the offset to the right turns."""
    signs = torch.ones(sum(HEADS[head] for head in heads))
    if "offset" in heads:
        signs[head_slices(heads)["offset"].start] = -1
    return signs
