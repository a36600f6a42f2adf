"""What does the work of an experiment; a test puts oracles in its place."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from spinect.workflows.compare import data, engine, scoring, training
from spinect.workflows.compare.config import Level, PhantomSource
from spinect.workflows.compare.data import Pause
from spinect.workflows.compare.engine import Use
from spinect.workflows.compare.marks import Errors
from spinect.workflows.compare.scoring import Asked, Values
from spinect.workflows.compare.stages import Facts


class MakesPhantoms(Protocol):
    """Writes the dataset of an experiment."""

    def __call__(self, source: PhantomSource, folder: Path, pause: Pause) -> Facts:
        """See `data.make_phantoms`."""
        ...


class Registers(Protocol):
    """Registers the training pairs."""

    def __call__(
        self,
        dataset: Path,
        contrast: str,
        level: Level,
        errors: Errors,
        view: Path,
        pause: Pause,
    ) -> Facts:
        """See `data.register_level`."""
        ...


class Trains(Protocol):
    """Trains a row and leaves a bundle."""

    def __call__(
        self, fields: Mapping[str, Any], dataset: Path, folder: Path, minutes: float | None
    ) -> Facts:
        """See `training.train_row`."""
        ...


class Translates(Protocol):
    """Makes the results of a row."""

    def __call__(
        self, bundle: Path, scans: list[Path], use: Use, folder: Path, pause: Pause
    ) -> Facts:
        """See `engine.translate_row`."""
        ...


class Scores(Protocol):
    """Measures the results of all rows of one contrast."""

    def __call__(
        self,
        dataset: Path,
        results: Mapping[str, Path],
        asked: Asked,
        out: Path,
        pause: Pause,
    ) -> Values:
        """See `scoring.score_methods`."""
        ...


@dataclass(frozen=True)
class Tools:
    """The workers of the stages."""

    phantoms: MakesPhantoms = data.make_phantoms
    register: Registers = data.register_level
    train: Trains = training.train_row
    translate: Translates = engine.translate_row
    score: Scores = scoring.score_methods
