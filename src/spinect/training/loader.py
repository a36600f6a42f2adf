"""From a run config to the micro-batches of each update.

Sample number n of a run is fixed by (seed, n); update s takes the numbers
``(s * accumulate + micro) * processes + rank``, so a resumed run reads on where it stopped.
"""

import logging
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from spinect.data.dataset import DatasetPatches
from spinect.data.intensity import HuRange
from spinect.data.stream import PatchStream, Shown, Triple
from spinect.data.unpaired import Half, UnpairedBatches
from spinect.phantom.pool import build
from spinect.protocols import Batch
from spinect.training.config import (
    DatasetData,
    PhantomData,
    PoolData,
    RunConfig,
)
from spinect.training.optim import draw_seed
from spinect.training.parse import resolve_path

LOG = logging.getLogger(__name__)

UNBOUNDED = 2**31 - 1  # updates of a run that ends by the clock
_OTHER_DRAWS = 2  # second word of the seed that unpaired CTs are drawn with


class StepSampler:
    """Sample numbers of each update, one list per update, for one of several processes."""

    def __init__(self, start: int, end: int, accumulate: int, rank: int = 0, processes: int = 1):
        self.start, self.end, self.accumulate = start, end, accumulate
        self.rank, self.processes = rank, processes

    def __len__(self) -> int:
        return max(0, self.end - self.start)

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.end):
            first = step * self.accumulate
            yield [(first + micro) * self.processes + self.rank for micro in range(self.accumulate)]


class TimedLoader:
    """A loader that knows how many seconds its reader has waited for it."""

    def __init__(self, loader: "DataLoader[Batch]"):
        self.loader = loader
        self.waited = 0.0  # seconds, since the start

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[list[Batch]]:
        batches = iter(self.loader)
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - asked
            if batch is None:
                return
            yield batch


def make_stream(config: RunConfig) -> "Dataset[Batch]":
    """The map-style source of micro-batches that the config names.

    Raises:
        ConfigError: An environment variable in a data root is not set, or unpaired data of one
            patient.
        InputError: A folder is missing or holds nothing usable.
    """
    data = config.data
    stream: Dataset[Batch]
    if data.paired:
        stream = _source(config, config.seed)
    else:
        other = draw_seed(config.seed, _OTHER_DRAWS)
        halves: tuple[Half, Half] = ("mr", "ct")
        shown, taught = halves if data.direction == "mr_to_ct" else halves[::-1]
        stream = UnpairedBatches(
            _source(config, config.seed, shown), _source(config, other, taught)
        )
    if len(data.patch) == 3:
        return stream
    # a simulated scan has axes R, A, S; that of a dataset is kept with its slices first
    simulated = not isinstance(data, DatasetData)
    return Slices(stream, axis=2 if data.plane == "axial" and simulated else 0)


def _source(config: RunConfig, seed: int, half: Half | None = None) -> "Dataset[Batch]":
    """Paired items with three axes, of all patients or of one half of them."""
    data = config.data
    updates = config.trainer.max_steps or UNBOUNDED
    length = updates * config.trainer.accumulate * config.trainer.devices
    patch = _voxels(data)
    hu_range = HuRange(
        low=config.export.preprocessing.hu_low, high=config.export.preprocessing.hu_high
    )
    if isinstance(data, DatasetData):
        options = data.options(hu_range)
        return DatasetPatches(resolve_path(data.folder), options, seed, length, half)
    if isinstance(data, PhantomData):
        seeds = range(data.seed, data.seed + data.subjects)
        for root in data_roots(data):
            LOG.info("%d phantoms in %s; those that are missing are built", len(seeds), root)
            build(root, seeds, data.region, max(1, data.workers))
    return PatchStream(
        pools=data_roots(data),
        seed=seed,
        patch=patch,
        patches_per_scan=data.patches_per_scan,
        scans=data.scans,
        task=data.task,
        length=length,
        hu_range=hu_range,
        half=half,
        shown=Shown(data.direction, data.contrast, data.neighbours),
    )


def _voxels(data: PhantomData | PoolData | DatasetData) -> Triple:
    """The patch with three axes, R, A, S."""
    if len(data.patch) == 3:
        first, second, third = data.patch
        return first, second, third
    first, second = data.patch
    return (first, second, 1) if data.plane == "axial" else (1, first, second)


def data_roots(data: PhantomData | PoolData | DatasetData) -> dict[Path, float]:
    """Folders that the training data lie in, and their weights."""
    if isinstance(data, PoolData):
        return {resolve_path(folder): weight for folder, weight in data.pools.items()}
    if isinstance(data, DatasetData):
        return {resolve_path(data.folder): 1.0}
    last = data.seed + data.subjects - 1  # a folder per set, since every map in it is drawn from
    return {resolve_path(data.folder) / f"{data.region}-{data.seed}-{last}": 1.0}


class Slices(Dataset[Batch]):
    """Patches of one voxel along a spatial axis, as images with the other two."""

    def __init__(self, stream: "Dataset[Batch]", axis: int = 0) -> None:
        self.stream, self.axis = stream, axis

    def __len__(self) -> int:
        return len(self.stream)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Batch:
        batch = self.stream[index]
        held = {k: v for k, v in vars(batch).items() if v is not None}
        return replace(batch, **{k: v.squeeze(v.ndim - 3 + self.axis) for k, v in held.items()})


def make_loader(
    stream: "Dataset[Batch]", config: RunConfig, start: int, rank: int, processes: int
) -> TimedLoader:
    """The batches of every update from `start` on; each is a list of `accumulate` micro-batches."""
    workers, niceness = config.data.workers, config.data.niceness
    end = config.trainer.max_steps or UNBOUNDED
    sampler = StepSampler(start, end, config.trainer.accumulate, rank, processes)

    def settle(_worker: int) -> None:
        # A signal to the whole process group is the trainer's to answer: it ends the workers.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        torch.set_num_threads(1)
        if hasattr(os, "nice"):
            os.nice(niceness)

    loader: DataLoader[Batch] = DataLoader(
        stream,
        batch_sampler=sampler,
        collate_fn=_as_list,
        num_workers=workers,
        worker_init_fn=settle if workers else None,
        prefetch_factor=2 if workers else None,
    )
    return TimedLoader(loader)


def _as_list(batches: list[Batch]) -> list[Batch]:
    return batches
