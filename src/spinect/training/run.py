"""`train` runs a config in a run folder; `export` makes a bundle of what it learnt."""

import hashlib
import json
import logging
import os
import signal
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from spinect.bundle import load_bundle, save_bundle
from spinect.card import Card, TrainingFacts
from spinect.errors import ConfigError, TrainingError
from spinect.inference.prepare import CHANNELS
from spinect.methods.registry import build
from spinect.protocols import Method
from spinect.training.adapter import MethodAdapter
from spinect.training.config import DatasetData, RunConfig, load_config
from spinect.training.folder import RunFolder, write_text
from spinect.training.keeper import Keeper
from spinect.training.loader import data_roots, make_loader, make_stream
from spinect.training.optim import as_module, draw_seed

LOG = logging.getLogger(__name__)


def train(config: RunConfig, run_folder: Path) -> Path:
    """Train until the config's end, or go on with a run that stopped; returns the run folder.

    Started again on the same folder with the same config it continues from the last checkpoint,
    and the result equals that of an uninterrupted run. Ctrl-C and SIGTERM finish the update
    under way and leave a checkpoint.

    Raises:
        ConfigError: The method's fields or the data do not fit.
        TrainingError: The loss is not finite, or the folder belongs to another network.
        KeyboardInterrupt: Ctrl-C, after the checkpoint.
        SystemExit: 143 by SIGTERM, after the checkpoint; 130 by a second Ctrl-C, at once.
    """
    settings = config.trainer
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    method = make_method(config)
    _refuse_thin_patches(config, method)
    _refuse_other_channels(config, method)
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
        facts = data_fingerprint(config)
        write_text(run_folder / "data.json", json.dumps(facts, indent=2) + "\n")
    adapter = MethodAdapter(method, config, state)
    loader = make_loader(stream, config, start, rank, settings.devices)
    keeper = Keeper(config, folder, loader)
    LOG.info("%s: from update %d, %d parameters", run_folder, start, count_parameters(method))
    with warnings.catch_warnings():
        # Lightning's advice on workers and its list of our own settings say nothing new.
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*(lightning|isinstance.treespec).*")
        talk = logging.getLogger("lightning.pytorch")
        level = talk.level
        talk.setLevel(logging.WARNING)
        try:
            _trainer(config, method, keeper).fit(adapter, train_dataloaders=loader)
        finally:
            talk.setLevel(level)
    if keeper.signal == signal.SIGINT:
        raise KeyboardInterrupt
    if keeper.signal is not None:
        raise SystemExit(128 + keeper.signal)  # as a shell says of a program that SIGTERM ended
    return run_folder


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
    """A network that takes another number of channels than a dataset's patches have."""
    if isinstance(config.data, DatasetData):
        name = config.data.channels
        if method.in_channels != CHANNELS[name]:
            raise ConfigError(
                f"patches have {CHANNELS[name]} channels ({name}), the method takes "
                f"{method.in_channels}: set method.in_channels to {CHANNELS[name]}"
            )


def make_method(config: RunConfig) -> Method:
    """The config's method with its initial weights: drawn from the seed, or a bundle's.

    Raises:
        ConfigError: The config and the bundle of `start_from` describe different networks, or,
            with `start_partly`, have no tensor in common.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw_seed(config.seed, 0))
        method = build(config.method["name"], config.method_fields)
    if config.start_from is not None:
        source = as_module(load_bundle(config.start_from).method).state_dict()
        if config.start_partly:
            source = _fitting(source, as_module(method).state_dict(), config.start_from)
        try:
            as_module(method).load_state_dict(source)
        except RuntimeError as error:
            text = " ".join(str(error).split())[:300]
            raise ConfigError(f"start_from {config.start_from}: another network: {text}") from error
    return method


def export(
    run_folder: Path,
    out: Path,
    metrics: Mapping[str, Any] | None = None,
    limits: tuple[str, ...] = (),
) -> Card:
    """Make a bundle of a run's averaged weights; it may still be training.

    Args:
        run_folder: Of `train`.
        out: The bundle's folder.
        metrics: Measured figures for the card.
        limits: Known limits for the card, after those of the config.
    Returns:
        The card as written.
    Raises:
        TrainingError: There is no checkpoint.
    """
    folder = RunFolder(run_folder)
    config = load_config(folder.config)
    state = folder.load()
    if state is None:
        raise TrainingError(f"{run_folder} holds no checkpoint yet: train first")
    method = make_method(config)
    as_module(method).load_state_dict(state["method"] | state["ema"]["average"])
    facts = run_folder / "data.json"
    updates = int(state["updates"])
    settings, about = config.trainer, config.export
    samples = updates * settings.accumulate * settings.devices
    card = Card(
        name=about.name or config.name,
        summary=about.summary,
        method=config.method["name"],
        config=config.method_fields,
        modes=about.modes,
        inputs=about.inputs,
        channels=about.channels,
        preprocessing=about.preprocessing,
        training=TrainingFacts(
            data=json.loads(facts.read_text(encoding="utf-8")) if facts.is_file() else {},
            command=about.command,
            seed=config.seed,
            steps=updates,
            patches=samples * config.data.patches_per_item,
            hours=round(float(state["minutes"]) / 60, 3),
        ),
        metrics=dict(metrics or {}),
        licence=about.licence,
        citation=about.citation,
        limits=(*about.limits, *limits),
    )
    return save_bundle(out, method, card, about.dtype)


def _fitting(
    source: Mapping[str, Tensor], random: Mapping[str, Tensor], origin: str
) -> dict[str, Tensor]:
    """`random` with what `source` holds under the same name in the same shape."""
    fits = {k: v for k, v in source.items() if k in random and random[k].shape == v.shape}
    if not fits:
        raise ConfigError(f"start_from {origin}: not one tensor fits the method's network")
    kept = sorted(random.keys() - fits.keys())
    LOG.info("start_from %s: %d tensors taken, random: %s", origin, len(fits), ", ".join(kept))
    return {**random, **fits}


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
