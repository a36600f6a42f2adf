"""`train` runs a config in a run folder."""

import hashlib
import json
import logging
import os
import signal
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from spinect.errors import ConfigError
from spinect.inference.prepare import condition_channels
from spinect.protocols import Method
from spinect.training.adapter import MethodAdapter
from spinect.training.aside import deterministic
from spinect.training.build import make_method
from spinect.training.config import DatasetData, RunConfig
from spinect.training.features import give_features, note_features
from spinect.training.folder import RunFolder, write_text
from spinect.training.keeper import Keeper
from spinect.training.loader import TimedLoader, data_roots, make_loader, make_stream
from spinect.training.optim import as_module
from spinect.training.record import Recorder
from spinect.training.validate import make_plan

LOG = logging.getLogger(__name__)


def train(config: RunConfig, run_folder: Path) -> Path:
    """Train until the config's end, or go on with a run that stopped; returns the run folder.

    Started again on the same folder with the same config it continues from the last checkpoint,
    and the result equals that of an uninterrupted run. Ctrl-C and SIGTERM finish the update
    under way and leave a checkpoint.

    Raises:
        ConfigError: The method's fields or the data do not fit, a validation would measure what is
            trained on, or an operation has no deterministic form.
        TrainingError: The loss or a batch is not finite, memory ran out, or the folder belongs to
            another network; the last checkpoint is kept.
        KeyboardInterrupt: Ctrl-C, after the checkpoint.
        SystemExit: 143 by SIGTERM, after the checkpoint; 130 by a second Ctrl-C, at once.
    """
    settings = config.trainer
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    method = make_method(config)
    _refuse_thin_patches(config, method)
    _refuse_other_channels(config, method)
    features = give_features(method, config)
    plan = make_plan(config, method)
    folder = RunFolder(run_folder)
    rank = int(os.environ.get("LOCAL_RANK", "0"))  # set for the further processes of ddp
    first = rank == 0  # the others only read
    state = folder.open(config) if first else folder.load()
    start = int(state["updates"]) if state else 0
    if settings.max_steps is not None and start >= settings.max_steps:
        LOG.info("%s is complete: %d updates", run_folder, start)
        return run_folder
    stream = make_stream(config)
    if first:
        note_features(run_folder, features)
        facts = data_fingerprint(config)
        write_text(run_folder / "data.json", json.dumps(facts, indent=2) + "\n")
    adapter = MethodAdapter(method, config, state)
    loader = make_loader(stream, config, start, rank, settings.devices)
    keeper = Keeper(config, folder, loader, Recorder(plan, folder) if plan else None)
    LOG.info("%s: from update %d, %d parameters", run_folder, start, count_parameters(method))
    _fit(_trainer(config, method, keeper), adapter, loader)
    if keeper.signal == signal.SIGINT:
        raise KeyboardInterrupt
    if keeper.signal is not None:
        raise SystemExit(128 + keeper.signal)  # as a shell says of a program that SIGTERM ended
    return run_folder


def _fit(trainer: Trainer, adapter: MethodAdapter, loader: TimedLoader) -> None:
    """Run Lightning without its talk, and in the way that `trainer.deterministic` asks for."""
    exact = adapter.config.trainer.deterministic
    talk = logging.getLogger("lightning.pytorch")
    level = talk.level
    with warnings.catch_warnings(), deterministic(exact):
        # Lightning's advice on workers and its list of our own settings say nothing new.
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*(lightning|isinstance.treespec).*")
        talk.setLevel(logging.WARNING)
        try:
            trainer.fit(adapter, train_dataloaders=loader)
        except RuntimeError as error:
            if not (exact and "deterministic" in str(error)):
                raise
            raise ConfigError(
                f"trainer.deterministic: {' '.join(str(error).split())[:200]}: this method cannot "
                f"be trained so on {adapter.device}; set it to false"
            ) from error
        finally:
            talk.setLevel(level)


def _refuse_thin_patches(config: RunConfig, method: Method) -> None:
    """A gradient that must not be trusted: bf16 on a processor, two cells along the first axis.

    There the weight gradient of a 3x3x3 convolution reads memory that nobody wrote, and may be
    anything (oneDNN of torch 2.13 on processors with avx512_bf16 and without AMX).
    """
    settings, patch = config.trainer, config.data.patch
    gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    on_cpu = settings.accelerator == "cpu" or (settings.accelerator == "auto" and not gpu)
    if not (on_cpu and settings.precision == "bf16" and method.ndim == 3):
        return
    if patch[0] // method.divisor <= 2:
        raise ConfigError(
            f"a patch of {patch[0]} voxels along the first axis is two cells thick inside the "
            f"network, where bf16 on a CPU gives wrong gradients: take at least "
            f"{3 * method.divisor} voxels, or trainer.precision: fp32"
        )


def _refuse_other_channels(config: RunConfig, method: Method) -> None:
    """A network that takes another number of channels than the patches have."""
    data = config.data
    name, neighbours = data.channels, data.neighbours
    free = not isinstance(data, DatasetData) and data.direction == "mr_to_ct" and not neighbours
    if free:  # simulated MRs have three channels, and a method may be given others to test it
        return
    count = condition_channels(name, neighbours)
    if method.in_channels != count:
        slices = f" of {2 * neighbours + 1} slices" if neighbours else ""
        raise ConfigError(
            f"patches have {count} channels ({name}{slices}), the method takes "
            f"{method.in_channels}: set method.in_channels to {count}"
        )


def data_fingerprint(config: RunConfig) -> dict[str, Any]:
    """Names and sizes of the training files, hashed per folder; free of the folders' places."""
    facts: dict[str, Any] = {}
    for root, weight in data_roots(config.data).items():
        files = sorted(path for path in root.rglob("*") if path.is_file())
        digest = hashlib.sha256()
        for path in files:
            digest.update(f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n".encode())
        facts[root.name] = {"weight": weight, "files": len(files), "sha256": digest.hexdigest()}
    return facts


def count_parameters(method: Method) -> int:
    """Number of trainable values."""
    return sum(w.numel() for w in as_module(method).parameters() if w.requires_grad)


def _trainer(config: RunConfig, method: Method, keeper: Keeper) -> Trainer:
    settings = config.trainer
    strategy: str = settings.strategy
    if strategy == "ddp" and len(method.parts) > 1:
        strategy = "ddp_find_unused_parameters_true"  # a part's loss leaves the others unused
    return Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        strategy=strategy,
        precision="32-true",  # the adapter casts forward passes itself
        max_epochs=1,
        callbacks=[keeper],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
