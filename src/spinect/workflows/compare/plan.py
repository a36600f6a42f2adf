"""What an experiment's start does: which rows, with which seeds, to which stage."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from spinect.errors import ConfigError
from spinect.workflows.compare import training
from spinect.workflows.compare.config import Experiment, Row

Stage = Literal["prepare", "train", "translate", "evaluate"]
STAGES: Final[tuple[Stage, ...]] = ("prepare", "train", "translate", "evaluate")


@dataclass(frozen=True)
class Job:
    """One row with one seed of training.

    Attributes:
        weights: The row whose training it uses.
    """

    row: Row
    weights: Row
    seed: int

    @property
    def name(self) -> str:
        """Of its results."""
        return self._named(self.row)

    @property
    def training(self) -> str:
        """Of its weights."""
        return self._named(self.weights)

    def _named(self, row: Row) -> str:
        """The seed stands in it where there are several."""
        return row.name if len(self.weights.seeds) == 1 else f"{row.name}_seed-{self.seed}"


@dataclass(frozen=True)
class Plan:
    """What this start does.

    Attributes:
        home: Folder of the experiment's file, by which presets are found.
        until: The last stage. minutes: Wall time of this start; None: to the end.
        workers: Cases that are measured at a time.
    """

    experiment: Experiment
    home: Path
    out: Path
    only: tuple[str, ...] = ()
    until: Stage = "evaluate"
    minutes: float | None = None
    workers: int = 1

    def jobs(self) -> list[Job]:
        """Those of this start, in the order of the rows.

        Raises:
            ConfigError: `only` names no row.
        """
        rows = {row.name: row for row in self.experiment.rows}
        if unknown := [name for name in self.only if name not in rows]:
            raise ConfigError(f"no row {unknown[0]!r}; there are {', '.join(rows)}")
        chosen = [rows[name] for name in self.only] or list(rows.values())
        pairs = [(row, self.experiment.weights(row)) for row in chosen]
        return [Job(row, weights, seed) for row, weights in pairs for seed in weights.seeds]

    def told(self) -> list[str]:
        """What there is to do, one line per row and seed; every config is checked.

        Raises:
            ConfigError: An unknown preset or row, or a config that does not fit.
        """
        lines = []
        for job in self.jobs():
            weights = job.weights
            if weights.preset is not None:
                fields = training.training_fields(self.experiment, weights, job.seed, self.home)
                training.check_inference(fields, job.row)
            source = weights.preset or weights.bundle
            lines.append(
                f"{job.name}: weights {job.training} ({source}, seed {job.seed}, registration "
                f"{weights.registration}{_off(weights)}), mode {job.row.inference.mode}"
            )
        trainings = {job.training for job in self.jobs() if job.weights.preset is not None}
        budget = self.experiment.budget
        total = len(trainings) * budget.minutes
        lines.append(
            f"{len(trainings)} trainings of {budget.minutes:g} {budget.clock} minutes: {total:g}"
        )
        return lines


def _off(row: Row) -> str:
    """The misalignment of a row's pairs in words; empty where there is none."""
    shift = f", pairs shifted by {row.shift_mm:g} mm" if row.shift_mm else ""
    turn = f", pairs turned by {row.turn_deg:g} degrees" if row.turn_deg else ""
    return shift + turn
