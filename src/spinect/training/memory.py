"""What to say when a device runs out of memory: how large a batch would have fitted."""

import gc
import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Protocol

import torch
from torch import Tensor

from spinect.errors import TrainingError
from spinect.protocols import Batch
from spinect.training.config import RunConfig

_SIGNS = ("DefaultCPUAllocator", "MPS backend out of memory")  # in RuntimeErrors of their own


class Rehearses(Protocol):
    """What can go through an update without stepping."""

    config: RunConfig
    updates: int
    optimisers: dict[str, torch.optim.Optimizer]

    def rehearse(self, batches: list[Batch]) -> None:
        """Forward and backward passes of all parts, side by side as in training."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Free the gradients."""


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an allocator gave up: CUDA's has an error of its own, the others have not."""
    return isinstance(error, torch.OutOfMemoryError) or any(s in str(error) for s in _SIGNS)


def out_of_memory(adapter: Rehearses, batches: list[Batch], said: str) -> TrainingError:
    """The error to raise, after trying what fits; call it outside of the `except`.

    There the failed passes are still referred to, and their memory is not free.

    Args:
        batches: The micro-batches of the update that failed.
        said: By torch.
    """
    data, trainer = adapter.config.data, adapter.config.trainer
    size, count = len(batches[0].condition), len(batches)
    head = (
        f"update {adapter.updates}: out of memory with {size} patches of "
        f"{' x '.join(map(str, data.patch))} in each micro-batch (scans {data.scans}, "
        f"patches_per_scan {data.patches_per_scan}, accumulate {trainer.accumulate}); the last "
        "checkpoint is kept. "
    )
    told = f" (torch: {' '.join(said.split())[:200]})"
    fitting = largest_that_fits(adapter, batches)
    if fitting == 0:
        return TrainingError(
            head + "Not even patches one by one fit: set a smaller data.patch, a smaller "
            "network or trainer.precision bf16" + told
        )
    scans = math.gcd(fitting, data.scans)
    return TrainingError(
        head + f"{fitting} fit: set data.scans {scans}, data.patches_per_scan {fitting // scans} "
        f"and trainer.accumulate {count * size // fitting}, an update of as many patches" + told
    )


def largest_that_fits(adapter: Rehearses, batches: list[Batch]) -> int:
    """Patches per micro-batch, found by halving; 0 if one is too many.

    An update of the same size is tried each time, with as many more micro-batches: those of a
    method of several parts are held side by side, so that one of them alone would tell too little.
    """
    size = len(batches[0].condition)
    patches = size
    while patches > 1:
        patches = next(n for n in range(patches // 2, 0, -1) if size % n == 0)
        pieces = [piece for batch in batches for piece in split(batch, patches)]
        if _fits(adapter, pieces):
            return patches
    return 0


def split(batch: Batch, patches: int) -> Iterator[Batch]:
    """The batch in pieces of so many patches."""
    held = {f.name: getattr(batch, f.name) for f in fields(batch)}
    known = {name: value for name, value in held.items() if value is not None}
    for start in range(0, len(batch.condition), patches):
        yield Batch(**{name: value[start : start + patches] for name, value in known.items()})


def _fits(adapter: Rehearses, pieces: list[Batch]) -> bool:
    _release(adapter)
    try:
        # The first step has still to allocate the optimiser's two moments.
        reserved = [torch.empty_like(w) for w in _unmoved(adapter) for _ in range(2)]
        adapter.rehearse(pieces)
        del reserved
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return False
    else:
        return True
    finally:
        _release(adapter)


def _unmoved(adapter: Rehearses) -> Iterator[Tensor]:
    """Weights whose optimiser has not stepped yet."""
    for optimiser in adapter.optimisers.values():
        for group in optimiser.param_groups:
            yield from (w for w in group["params"] if w not in optimiser.state)


def _release(adapter: Rehearses) -> None:
    adapter.zero_grad(set_to_none=True)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
