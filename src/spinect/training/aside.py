"""What is done beside the updates must leave no trace in them."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from spinect.training.optim import Ema


@contextmanager
def averaged(module: nn.Module, ema: Ema) -> Iterator[None]:
    """The averaged weights in evaluation mode; afterwards all is as it was, bit for bit.

    The memory layout of the weights is put back too: inference may store them channels last, and
    a convolution of another layout rounds otherwise.
    """
    modes = {part: part.training for part in module.modules()}
    layouts = [(value, value.stride()) for value in _values(module)]
    ema.swap(module)
    module.eval()
    try:
        yield
    finally:
        for value, stride in layouts:
            if value.stride() != stride:
                kept = torch.empty_strided(
                    value.shape, stride, dtype=value.dtype, device=value.device
                )
                value.data = kept.copy_(value.data)
        for part, training in modes.items():
            part.training = training
        ema.swap(module)


@contextmanager
def random_kept(device: torch.device) -> Iterator[None]:
    """Whatever is drawn inside, the draws after it are those that would have come."""
    plain, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002  the global one
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(plain)
        np.random.set_state(arrays)  # noqa: NPY002


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Torch refuses operations whose result may differ from run to run; then as it was before.

    CUDA's matrix products also want `CUBLAS_WORKSPACE_CONFIG`, which torch reads when it first
    multiplies: a process that did so before must have been started with it.
    """
    name = "CUBLAS_WORKSPACE_CONFIG"
    own = wanted and name not in os.environ
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
    )
    if own:
        os.environ[name] = ":4096:8"
    if wanted:
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    finally:
        if own:
            del os.environ[name]
        if wanted:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before[2:]


def _values(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
