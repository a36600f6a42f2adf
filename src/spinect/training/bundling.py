"""What a run makes in the end: its card, and the bundle of its averaged weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from spinect.bundle import save_bundle
from spinect.card import Card, TrainingFacts
from spinect.errors import ConfigError
from spinect.methods.registry import build, config_model
from spinect.training.config import RunConfig, load_config
from spinect.training.features import noted_features
from spinect.training.folder import RunFolder
from spinect.training.optim import as_module

Checkpoint = Literal["last", "best"]


def check_checkpoint(config: RunConfig, checkpoint: Checkpoint) -> None:
    """Refuse before training what `export` could not find after it.

    Raises:
        ConfigError: The best checkpoint is wanted, and nothing says which one that is.
    """
    if checkpoint == "best" and config.validation is None:
        raise ConfigError(
            f"{config.name} has no validation, so that no checkpoint is known to be the best: add "
            "a block `validation` to the config, or export the last one"
        )


def export(
    run_folder: Path,
    out: Path,
    metrics: Mapping[str, Any] | None = None,
    limits: tuple[str, ...] = (),
    checkpoint: Checkpoint = "last",
) -> Card:
    """Make a bundle of a run's averaged weights; it may still be training.

    Args:
        run_folder: Of `train`.
        out: The bundle's folder.
        metrics: Measured figures for the card.
        limits: Known limits for the card, after those of the config.
        checkpoint: "last", or the "best" by the validation's metric.
    Returns:
        The card as written.
    Raises:
        TrainingError: There is no such checkpoint.
    """
    folder = RunFolder(run_folder)
    config = load_config(folder.config)
    state = folder.take(checkpoint)
    with torch.random.fork_rng(devices=[]):  # the caller's draws are not used up
        method = build(config.method["name"], lean_fields(config))
    module, trained = as_module(method).eval(), state["method"] | state["ema"]["average"]
    module.load_state_dict({key: trained[key] for key in module.state_dict()})
    path = run_folder / "data.json"
    updates = int(state["updates"])
    facts = TrainingFacts(
        data=json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {},
        command=config.export.command,
        seed=config.seed,
        steps=updates,
        patches=updates
        * config.trainer.accumulate
        * config.trainer.devices
        * config.data.patches_per_item,
        hours=round(float(state["minutes"]) / 60, 3),
        checkpoint=checkpoint,
        validation=state.get("validation", {}),
        features=noted_features(run_folder),
    )
    card = make_card(config, facts)
    told = {
        "config": lean_fields(config),
        "metrics": dict(metrics or {}),
        "limits": (*card.limits, *limits),
    }
    return save_bundle(out, method, card.model_copy(update=told), config.export.dtype)


def lean_fields(config: RunConfig) -> dict[str, Any]:
    """The method's fields in a bundle: without what only training needs, where they have a word
    for it.
    """
    fields = dict(config.method_fields)
    if "inference_only" in config_model(config.method["name"]).model_fields:
        fields["inference_only"] = True
    return fields


def _made(config: RunConfig) -> str:
    """What the bundle makes: ct, or the suffix of the MR."""
    data = config.data
    return "ct" if data.direction == "mr_to_ct" or data.contrast is None else data.contrast


def make_card(config: RunConfig, training: TrainingFacts | None = None) -> Card:
    """The card of what a config trains, as its block `export` says."""
    about = config.export
    return Card(
        name=about.name or config.name,
        summary=about.summary,
        method=config.method["name"],
        config=config.method_fields,
        modes=about.modes,
        inputs=about.inputs,
        makes=_made(config),
        channels=about.channels,
        preprocessing=about.preprocessing,
        training=training or TrainingFacts(),
        licence=about.licence,
        citation=about.citation,
        limits=about.limits,
    )
