"""The run folder: it describes itself, and a run starts again from it.

::

    RUN/
      config.yaml            resolved; earlier versions as config.until-UPDATE.yaml
      environment.json       versions and machine of every start
      data.json              fingerprint of the training data
      features.json          the frozen network of a feature loss, where there is one
      log.csv                one row per `log_every` updates
      validation.csv         one row per series and one of their means, at every validation
      tensorboard/           the same for TensorBoard
      previews/              update-NNNNNNN.png
      checkpoints/           last.ckpt and previous.ckpt; best.ckpt by the validation's metric
"""

import csv
import json
import os
import pickle
import platform
import time
import warnings
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

import spinect
from spinect.errors import OutputError, SpinectWarning, TrainingError
from spinect.training.config import RunConfig, dump_config, load_config

_UNREADABLE = (OSError, RuntimeError, EOFError, pickle.UnpicklingError)


class RunFolder:
    """Paths of one run, and what is written there; every file is replaced whole."""

    def __init__(self, path: Path):
        self.path = path
        self.config = path / "config.yaml"
        self.log = path / "log.csv"
        self.validation = path / "validation.csv"
        self.previews = path / "previews"
        self.last = path / "checkpoints" / "last.ckpt"
        self.previous = path / "checkpoints" / "previous.ckpt"
        self.best = path / "checkpoints" / "best.ckpt"

    def open(self, config: RunConfig) -> dict[str, Any] | None:
        """Make the folder, or find the state to go on from.

        Returns:
            The last checkpoint (None for a fresh run).
        Raises:
            TrainingError: The folder belongs to a run of another method or seed.
            OutputError: It holds something else, or cannot be written.
        """
        if self.path.exists() and not self.config.is_file() and any(self.path.iterdir()):
            raise OutputError(f"{self.path} is neither empty nor a run folder: choose another")
        try:
            for folder in (self.previews, self.last.parent):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {error.strerror}") from error
        state = self.load()
        if self.config.is_file():
            self._compare(config, int(state["updates"]) if state else 0)
        write_text(self.config, dump_config(config))
        self._note_start(int(state["updates"]) if state else 0)
        for table in (self.log, self.validation):
            _cut_table(table, int(state["updates"]) if state else 0)
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Write a checkpoint; the one before it is kept, and a killed write harms neither."""
        partial = _write_state(state, self.last)
        if self.last.exists():
            self.last.replace(self.previous)
        partial.replace(self.last)

    def save_best(self, state: dict[str, Any]) -> None:
        """Replace the best checkpoint."""
        _write_state(state, self.best).replace(self.best)

    def load(self, device: str = "cpu") -> dict[str, Any] | None:
        """The newest readable checkpoint, tensors and plain values only; None if there is none.

        Raises:
            TrainingError: Checkpoints exist and none can be read.
        """
        present = [path for path in (self.last, self.previous) if path.exists()]
        for path in present:
            try:
                state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
            except _UNREADABLE as error:
                text = f"{path}: not readable ({type(error).__name__}); trying the one before"
                warnings.warn(text, SpinectWarning, stacklevel=2)
                continue
            return state
        if present:
            raise TrainingError(f"{self.last.parent}: no checkpoint can be read; move it away")
        return None

    def load_best(self) -> dict[str, Any] | None:
        """The best checkpoint, its tensors left on disk until they are read; None if none is.

        Raises:
            TrainingError: It cannot be read.
        """
        if not self.best.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(
                self.best, map_location="cpu", weights_only=True, mmap=True
            )
        except _UNREADABLE as error:
            raise TrainingError(
                f"{self.best}: not readable ({type(error).__name__}); move it away"
            ) from error
        return state

    def take(self, checkpoint: str) -> dict[str, Any]:
        """The "last" or the "best" checkpoint.

        Raises:
            TrainingError: There is none.
        """
        state = self.load_best() if checkpoint == "best" else self.load()
        if state is None and checkpoint == "best":
            raise TrainingError(
                f"{self.path} holds no best checkpoint: no validation has been made. Set "
                "`validation` in its config and train on, or take the last one"
            )
        if state is None:
            raise TrainingError(f"{self.path} holds no checkpoint yet: train first")
        return state

    def append(self, row: dict[str, float | int | str]) -> None:
        """Add a row to log.csv; a log with other columns is set aside, and a new one begun."""
        _append(self.log, [row])

    def append_validation(self, rows: list[dict[str, float | int | str]]) -> None:
        """Add rows to validation.csv, likewise."""
        _append(self.validation, rows)

    def _compare(self, config: RunConfig, updates: int) -> None:
        """Refuse another network; record every other change."""
        old = load_config(self.config)
        for field in ("method", "seed"):
            before, now = getattr(old, field), getattr(config, field)
            if before != now:
                raise TrainingError(
                    f"{self.path} belongs to a run with {field} {before}, this one has {now}: "
                    "choose another run folder"
                )
        if old != config:
            changed = sorted(_changes(old.model_dump(), config.model_dump()))
            self.config.replace(self.path / f"config.until-{updates:07d}.yaml")
            text = f"the run goes on from update {updates} with other {', '.join(changed)}"
            warnings.warn(text, SpinectWarning, stacklevel=3)

    def _note_start(self, updates: int) -> None:
        path = self.path / "environment.json"
        starts = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        versions = {"spinect": spinect.__version__, "python": platform.python_version()}
        versions |= {"torch": str(torch.__version__), "lightning": lightning.__version__}
        versions |= {"numpy": np.__version__}
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
        start = {"updates": updates, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        machine = {"platform": platform.platform(), "cores": os.cpu_count(), "device": device}
        starts.append(start | machine | {"versions": versions})
        write_text(path, json.dumps(starts, indent=2) + "\n")


def _write_state(state: dict[str, Any], path: Path) -> Path:
    """Write a checkpoint beside its place; returns the file that is to be moved there."""
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"{partial}: cannot be written: {error.strerror}") from error
    return partial


def _append(table: Path, rows: list[dict[str, float | int | str]]) -> None:
    columns = list(rows[0])
    if table.exists():
        with table.open(encoding="utf-8") as stream:
            before = stream.readline().strip().split(",")
        if before != columns:
            old = f"{table.stem}.until-{rows[0]['update']:07d}{table.suffix}"
            table.replace(table.with_name(old))
    fresh = not table.exists()
    with table.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        if fresh:
            writer.writeheader()
        writer.writerows(rows)


def _cut_table(table: Path, updates: int) -> None:
    """Drop the rows after the checkpoint: they will be written again."""
    if not table.exists():
        return
    head, *rows = table.read_text(encoding="utf-8").splitlines()
    kept = [row for row in rows if int(row.split(",")[0]) <= updates]
    write_text(table, "\n".join([head, *kept]) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a small file whole."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _changes(old: dict[str, Any], new: dict[str, Any], head: str = "") -> list[str]:
    """Dotted names of the fields that differ."""
    names: list[str] = []
    for key in old.keys() | new.keys():
        before, now = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            names += _changes(before, now, f"{head}{key}.")
        elif before != now:
            names.append(f"{head}{key}")
    return names
