"""How much memory a volume needs, known before it is touched."""

import copy
import math
import os
import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spinect.data.tiles import Tiling
from spinect.errors import ResourceError
from spinect.inference.blend import main_axis
from spinect.inference.compute import Compute
from spinect.inference.shapes import shape_of
from spinect.protocols import Method

MOST_TILES = 4  # per call; more gains nothing on a 96-voxel tile
MOST_KEPT = 256 * 2**20  # of what methods prepare: memory must not grow so with the volume
_SLACK = 1.35  # kernels reorder their operands, and allocators keep some
_RESIDENT = 700 * 2**20  # of a process with torch, where the system does not tell
PREPARE_BYTES = 36  # per voxel while the input channels are made
_SAMPLER_BYTES = 24  # per voxel: the state of the sampler, and its temporaries


@dataclass(frozen=True)
class Demand:
    """What a run holds, in bytes per voxel of the volume unless said otherwise.

    Attributes:
        channels_in: Of the condition, float32; a network sees those of `slices` slices at once.
        channels_out: Of the slab that tiles are added up in, float32.
        outputs: Whole-volume results.
        samples: Whether a sampler runs on the whole volume.
        spooled: On disk in any case.
        prepared: Per voxel of every tile; kept as far as there is room, see `Prepares`.
        workspace: Bytes of memory that the draws are compared in after the sampler has finished.
    """

    channels_in: int
    channels_out: int
    outputs: int
    samples: bool = False
    spooled: int = 0
    workspace: int = 0
    slices: int = 1
    prepared: int = 0


@dataclass(frozen=True)
class Plan:
    """How a run fits into memory; it changes nothing about the result.

    Attributes:
        batch: Tiles per network call.
        on_disk: Whether the condition and the whole-volume results lie in temporary files.
        peak_bytes: Expected peak of the process.
        disk_bytes: Temporary files, in the folder that `tempfile` chooses.
        tile_bytes: Of the host's memory while one tile passes, beside everything else.
        keep: Bytes for what the method prepares of its condition; None where it prepares nothing.
    """

    batch: int
    on_disk: bool
    peak_bytes: int
    disk_bytes: int = 0
    tile_bytes: int = 0
    keep: int | None = None


def plan_memory(
    method: Method, tiling: Tiling, demand: Demand, compute: Compute, max_memory: int
) -> Plan:
    """Fit a run into `max_memory` bytes of the whole process.

    Raises:
        ResourceError: One tile and one slab do not fit; both values are named.
    """
    voxels = math.prod(tiling.padded)
    slab = demand.channels_out * 4 * voxels * tiling.tile[main_axis(tiling)]
    slab = round(2.5 * slab / tiling.padded[main_axis(tiling)])  # + its quantised copy
    stored = (4 * demand.channels_in + demand.outputs) * voxels
    spooled = demand.spooled * voxels
    sampler = max(_SAMPLER_BYTES * voxels if demand.samples else 0, demand.workspace)
    tile = round(_SLACK * activation_bytes(method, demand.channels_in * demand.slices, tiling.tile))
    host = compute.device.type == "cpu"
    assert isinstance(method, nn.Module)
    base = resident_bytes() + compute.packed_bytes(method) + sampler + (slab if host else 0)
    most = MOST_TILES if compute.dtype is None else 1  # bf16 rounding may depend on the batch

    def peak(batch: int, on_disk: bool) -> int:
        running = base + (batch * tile if host else 0) + (0 if on_disk else stored)
        preparing = resident_bytes() + PREPARE_BYTES * voxels
        return max(running, preparing)

    if not host:
        free = _free_on_device(compute.device)
        if free is not None and slab + tile > free:
            raise _too_little(slab + tile, free, f"on {compute.device}")
        fits = most if free is None else min(most, max(1, (free - slab) // max(tile, 1)))
        options = [(fits, False), (fits, True)]
    else:
        options = [(n, False) for n in range(most, 0, -1)] + [(1, True)]
    for batch, on_disk in options:
        if peak(batch, on_disk) <= max_memory:
            files = spooled + (stored if on_disk else 0)
            check_disk(files)
            own = tile if host else 0
            wanted = demand.prepared * math.prod(tiling.tile) * len(tiling)
            if not (host and wanted):
                return Plan(batch, on_disk, peak(batch, on_disk), files, own)
            keep = min(wanted, MOST_KEPT, max_memory - peak(batch, on_disk))
            return Plan(batch, on_disk, peak(batch, on_disk) + keep, files, own, keep)
    raise _too_little(peak(1, True), max_memory, "for the smallest tile and slab")


def _too_little(needed: int, allowed: int, where: str) -> ResourceError:
    return ResourceError(
        f"{needed / 2**30:.2f} GB of memory are needed {where}, {allowed / 2**30:.2f} GB are "
        "allowed: raise --max-memory, crop the image, or use a bundle with smaller tiles"
    )


def check_disk(needed: int) -> None:
    """Refuse temporary files of more bytes than are free.

    A mapped file takes its room only when it is written, and a full disk then ends the process.

    Raises:
        ResourceError: Less is free; both values are named.
    """
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if needed > free:
        raise ResourceError(
            f"{needed / 2**30:.2f} GB of temporary files are needed in {tempfile.gettempdir()}, "
            f"{free / 2**30:.2f} GB are free: set TMPDIR to another disk, "
            "raise --max-memory, or draw fewer samples"
        )


def allocate(shape: tuple[int, ...], dtype: DTypeLike, on_disk: bool) -> NDArray[Any]:
    """An array of zeros in memory, or in a temporary file that vanishes with it."""
    if not on_disk:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile() as file:  # the mapping outlives the handle
        return np.memmap(file, dtype, mode="w+", shape=shape)


def resident_bytes() -> int:
    """Memory that this process holds now."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return _RESIDENT


def _free_on_device(device: torch.device) -> int | None:
    """Free bytes; None where the device shares the host's memory."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def activation_bytes(method: Method, channels: int, tile: tuple[int, ...]) -> int:
    """Peak of the tensors that are alive while one tile passes in float32, without computing it.

    The method is run on the meta device, where tensors have shapes but no values.
    """
    assert isinstance(method, nn.Module)
    shadow: Any = copy.deepcopy(method).to("meta")
    spatial = tile[1:] if method.ndim == 2 else tile
    condition = torch.empty((1, channels, *spatial), device="meta")
    with torch.no_grad(), _Meter() as meter:
        if "regress" in method.modes:
            shadow.predict(condition)
        else:
            sigma = torch.empty((), device="meta")
            shadow.denoise(torch.empty((1, 1, *spatial), device="meta"), sigma, condition)
    return int(meter.peak + condition.nbytes)


class _Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of storages that operations create, for as long as they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: else the first operation imports torch's compiler, which is never used here."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = shape_of(func)(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage not in self._seen:
                    self._seen.add(storage)
                    self._count(storage.nbytes())
                    weakref.finalize(storage, self._count, -storage.nbytes())
        return out

    def _count(self, change: int) -> None:
        self.live += change
        self.peak = max(self.peak, self.live)
