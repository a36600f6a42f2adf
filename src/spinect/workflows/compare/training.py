"""From a row to its training config, and from that to a bundle."""

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from spinect.card import find_bundle, read_card, verify
from spinect.errors import ConfigError, SpinectWarning
from spinect.methods.registry import config_model
from spinect.training import RunConfig, export, train
from spinect.training.config import parse_config
from spinect.training.folder import RunFolder
from spinect.training.parse import parse, read_mapping, set_field
from spinect.workflows.compare.config import Experiment, Row
from spinect.workflows.compare.stages import Facts, Paused

RUN: Final = "run"
BUNDLE: Final = "bundle"
_ENDS: Final = ("max_steps", "max_minutes", "schedule")  # of a preset; the budget says others
_KEPT: Final = ("task", "paired", "neighbours")  # of a preset that makes its own data
_ABOUT: Final = "Trained for a comparison within a stated budget, not for use."


def find_preset(name: str, home: Path) -> Path:
    """The file of a preset.

    Args:
        name: A path, or the part of ``configs/NAME.yaml`` that differs.
        home: Folder of the experiment, which lies beside the presets' folders.
    Raises:
        ConfigError: There is none.
    """
    places = [Path(name), home / name, home.parent / f"{name}.yaml"]
    for path in places:
        if path.is_file():
            return path
    known = sorted(
        path.relative_to(home.parent).with_suffix("").as_posix()
        for path in home.parent.glob("**/*.yaml")
        if "experiments" not in path.parts and "loop" not in path.parts
    )
    raise ConfigError(f"no preset {name!r}: give a path or one of {', '.join(known) or 'none'}")


def training_fields(experiment: Experiment, row: Row, seed: int, home: Path) -> dict[str, Any]:
    """The training config of a row as plain values; the data's folder is empty.

    The preset gives the method, its optimiser and its export; the experiment gives data, patches
    and budget. What a preset says of its data counts where it reads a dataset folder too.

    Raises:
        ConfigError: No such preset, or a config that does not fit.
    """
    path = find_preset(row.preset or "", home)
    raw = copy.deepcopy(read_mapping(path))
    _set(raw, row)  # before the data: the number of axes decides about the patches
    _fill_data(raw, experiment, row)
    _fill_budget(raw, experiment, path)
    raw.pop("validation", None)  # no row chooses among its checkpoints
    _set(raw, row)  # and after them: what a row sets counts most
    raw["seed"], raw["name"] = seed, f"{experiment.name}.{row.name}"
    parse_config(raw, f"row {row.name}")
    return raw


def check_inference(fields: Mapping[str, Any], row: Row) -> None:
    """Whether the method of a training config can be used as a row asks, before it is trained.

    Raises:
        ConfigError: It has no such field, or refuses its value.
    """
    if not row.inference.method_fields:
        return
    method = {key: value for key, value in fields["method"].items() if key != "name"}
    asked = method | row.inference.method_fields
    parse(config_model(fields["method"]["name"]), asked, f"row {row.name}, inference")


def _set(raw: dict[str, Any], row: Row) -> None:
    for key, value in row.set.items():
        set_field(raw, key, value, f"row {row.name}, set {key}")


def _fill_data(raw: dict[str, Any], experiment: Experiment, row: Row) -> None:
    old = raw.get("data", {})
    flat = raw.get("method", {}).get("ndim", 3) == 2
    own = {key: old[key] for key in (*_KEPT, "direction") if key in old}
    own = dict(old) if old.get("source") == "dataset" else {"task": "translate", **own}
    own |= experiment.slices if flat else experiment.volumes
    if own.get("direction", "mr_to_ct") != "mr_to_ct":
        raise ConfigError(
            f"row {row.name}: its preset makes an MR of a CT, and a comparison scores synthetic "
            "CTs: take a preset of the direction mr_to_ct"
        )
    raw["data"] = own | {
        "source": "dataset",
        "folder": "",
        "split": "train",
        "contrast": experiment.contrast_of(row),
        "pose": "truth" if row.registration == "truth" else "registered",
    }
    about = raw.setdefault("export", {})
    scalings = {k: v for k, v in about.get("preprocessing", {}).items()
                if k not in ("tile", "raster", "spacing_mm", "axes")}  # fmt: skip
    patch = tuple(own["patch"])
    about["preprocessing"] = scalings | {"tile": [1, *patch] if flat else [*patch]}


def _fill_budget(raw: dict[str, Any], experiment: Experiment, path: Path) -> None:
    budget = experiment.budget
    kept = {k: v for k, v in raw.get("trainer", {}).items() if k not in _ENDS}
    raw["trainer"] = (
        kept
        | experiment.trainer
        | {
            "schedule": "cosine-clock",
            "max_minutes": budget.minutes,
            "clock": budget.clock,
            "threads": budget.threads,
        }
    )
    raw["export"] |= {
        "summary": _ABOUT,
        "command": f"spinect compare {experiment.name}.yaml, preset {path.stem}",
    }


def train_row(
    fields: Mapping[str, Any], dataset: Path, folder: Path, minutes: float | None
) -> Facts:
    """Train, or go on; then export the bundle.

    Args:
        fields: Of `training_fields`. dataset: Where the training pairs are.
        folder: Gets the run and the bundle.
        minutes: Wall time of this piece; None: to the end.
    Raises:
        Paused: There is more to train.
        TrainingError: As `train`.
    """
    raw = copy.deepcopy(dict(fields))
    raw["data"]["folder"] = str(dataset)
    if minutes is not None:
        raw["trainer"]["piece_minutes"] = max(minutes, 0.01)
    config = parse_config(raw)
    with warnings.catch_warnings():  # of another piece_minutes, or of a folder that was moved
        warnings.filterwarnings("ignore", "the run goes on", category=SpinectWarning)
        run = train(config, folder / RUN)
    state = RunFolder(run).load() or {"updates": 0, "minutes": 0.0}
    if not _ended(config, state):
        raise Paused(f"training stopped at update {state['updates']}")
    card = export(run, folder / BUNDLE)
    return {
        "updates": int(state["updates"]),
        "minutes": round(float(state["minutes"]), 3),
        "seconds_per_update": _pace(state),
        "sha256": card.sha256,
        "ndim": len(config.data.patch),
        "method": config.method["name"],
    }


def _ended(config: RunConfig, state: Mapping[str, Any]) -> bool:
    settings = config.trainer
    by_steps = settings.max_steps is not None and state["updates"] >= settings.max_steps
    by_clock = settings.max_minutes is not None and state["minutes"] >= settings.max_minutes
    return by_steps or by_clock


def _pace(state: Mapping[str, Any]) -> float:
    return round(60 * float(state["minutes"]) / max(1, int(state["updates"])), 4)


def progress(folder: Path) -> Facts:
    """Updates and minutes of a training that is under way; empty where none began."""
    log = folder / RUN / "log.csv"
    if not log.is_file():
        return {}
    head, *rows = log.read_text(encoding="utf-8").splitlines()
    if not rows:
        return {}
    last = dict(zip(head.split(","), rows[-1].split(","), strict=False))
    return {"updates": int(last["update"]), "minutes": float(last["minutes"])}


def take_bundle(name: str) -> tuple[Path, Facts]:
    """A bundle that was trained elsewhere: its folder, and what its card says.

    Raises:
        BundleError: No such bundle, or a damaged one.
    """
    folder = find_bundle(name)
    sha256, card = verify(folder), read_card(folder)
    facts = {"updates": card.training.steps, "minutes": 60 * card.training.hours}
    return folder, facts | {"seconds_per_update": None, "sha256": sha256, "method": card.method}
