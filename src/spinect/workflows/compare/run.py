"""`spinect compare`: every row through the same stages, each done once."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from spinect.card import find_bundle, verify
from spinect.errors import ConfigError, InputError
from spinect.io.bids import find_patients
from spinect.io.participants import patient_splits
from spinect.training.config import resolve_path
from spinect.workflows.compare import training
from spinect.workflows.compare.config import Experiment, PhantomSource, Row
from spinect.workflows.compare.engine import Use
from spinect.workflows.compare.stages import Done, Paused, Stages
from spinect.workflows.compare.status import Status, write_status
from spinect.workflows.compare.tools import Tools
from spinect.workflows.failures import reason
from spinect.workflows.steps import SEGMENTER

Stage = Literal["prepare", "train", "translate", "evaluate"]
STAGES: Final[tuple[Stage, ...]] = ("prepare", "train", "translate", "evaluate")
Tell = Callable[[str, str, float], None]  # stage, what, seconds


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
    """

    experiment: Experiment
    home: Path
    out: Path
    only: tuple[str, ...] = ()
    until: Stage = "evaluate"
    minutes: float | None = None

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
                training.training_fields(self.experiment, weights, job.seed, self.home)
            source = weights.preset or weights.bundle
            lines.append(
                f"{job.name}: weights {job.training} ({source}, seed {job.seed}, registration "
                f"{weights.registration}), mode {job.row.inference.mode}"
            )
        trainings = {job.training for job in self.jobs() if job.weights.preset is not None}
        budget = self.experiment.budget
        total = len(trainings) * budget.minutes
        lines.append(
            f"{len(trainings)} trainings of {budget.minutes:g} {budget.clock} minutes: {total:g}"
        )
        return lines


@dataclass
class Runner:
    """One start of an experiment; its memory is on the disk."""

    plan: Plan
    tools: Tools
    stages: Stages
    clock: Callable[[], float] = time.perf_counter
    statuses: dict[str, Status] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.experiment = self.plan.experiment
        self.began = self.clock()
        self.jobs = self.plan.jobs()
        self.fields = {
            job.training: training.training_fields(
                self.experiment, job.weights, job.seed, self.plan.home
            )
            for job in self.jobs
            if job.weights.preset is not None
        }  # all of them now: an unknown preset is told before anything runs
        self.segmenter = verify(find_bundle(SEGMENTER))

    def left(self) -> float | None:
        """Minutes of this start that are left; None: as many as it takes."""
        if self.plan.minutes is None:
            return None
        return self.plan.minutes - (self.clock() - self.began) / 60

    def pause(self) -> None:
        """Raises:
        Paused: The time of this start is used up.
        """
        left = self.left()
        if left is not None and left <= 0:
            raise Paused(f"the {self.plan.minutes:g} minutes of this start are over")

    def run(self) -> str:
        """Every job through its stages; returns why it stopped early, or nothing."""
        for job in self.jobs:
            self.statuses[job.name] = Status.waiting(job.row, job.seed, job.name)
        try:
            for stage in STAGES[: STAGES.index(self.plan.until) + 1]:
                for job in self.jobs:
                    self._guarded(job, stage)
        except Paused as why:
            return str(why)
        finally:
            write_status(self.statuses.values(), self.plan.out)
        return ""

    def _guarded(self, job: Job, stage: Stage) -> None:
        """One stage of a job; a failure stays with the job."""
        status = self.statuses[job.name]
        if status.state == "failed":
            return
        work: Callable[[Job], Done | None] = getattr(self, stage)
        try:
            work(job)
        except Paused:
            raise
        except Exception as problem:  # the one place where a row may fail in any way
            memory = "out of memory: give it smaller patches, or a smaller batch"
            text = reason(problem, job.name, memory)
            self.statuses[job.name] = status.failed(stage, text)
        write_status(self.statuses.values(), self.plan.out)

    def note(self, job: Job, state: str, **facts: Any) -> None:
        """What is known of a job now."""
        self.statuses[job.name] = self.statuses[job.name].moved(state, facts)

    # --- stages; each asks for those before it, which are done once

    def dataset(self) -> tuple[Path, str]:
        """The dataset folder, and the key of its content."""
        source = self.experiment.data
        if isinstance(source, PhantomSource):
            inputs = source.model_dump(mode="json", exclude={"landmark_noise_mm"})

            def work(folder: Path) -> dict[str, Any]:
                return self.tools.phantoms(source, folder, self.pause)

            done = self.stages.do("data", "phantoms", inputs, work)
            return done.folder, done.key
        folder = resolve_path(source.folder).resolve()
        if not folder.is_dir():
            raise InputError(f"{folder} is no dataset folder: correct data.folder")
        return folder, str(folder)

    def prepare(self, job: Job) -> Done | None:
        """The registered training pairs; None where none are needed."""
        row = job.weights
        dataset, key = self.dataset()
        if row.preset is None or row.registration == "truth":
            return None
        self.pause()
        contrast = self.experiment.contrast_of(row)
        source = self.experiment.data
        sigma = source.landmark_noise_mm if isinstance(source, PhantomSource) else 0.0
        inputs = {"data": key, "contrast": contrast, "level": row.registration, "noise": sigma,
                  "seed": self.experiment.seed}  # fmt: skip
        level, noise = row.registration, (sigma, self.experiment.seed)

        def work(view: Path) -> dict[str, Any]:
            return self.tools.register(dataset, contrast, level, noise, view)

        done = self.stages.do("pairs", f"{contrast}-{level}", inputs, work)
        self.note(job, "prepared", pairs=done.facts["registered"])
        return done

    def train(self, job: Job) -> Done | None:
        """The bundle of a job's weights; None for one that was trained elsewhere."""
        if job.weights.bundle is not None:
            _, facts = training.take_bundle(job.weights.bundle)
            self.note(job, "trained", **facts)
            return None
        pairs = self.prepare(job)
        dataset, key = (pairs.folder, pairs.key) if pairs else self.dataset()
        fields = self.fields[job.training]
        inputs = {"pairs": key, "config": fields}
        place = self.stages.place("training", job.training, inputs)
        self.note(job, "training", **training.progress(place))
        self.pause()

        def work(folder: Path) -> dict[str, Any]:
            return self.tools.train(fields, dataset, folder, self.left())

        done = self.stages.do("training", job.training, inputs, work)
        self.note(job, "trained", **done.facts)
        return done

    def translate(self, job: Job) -> Done:
        """Results of the test subjects."""
        row, trained = job.row, self.train(job)
        own = job.weights.bundle or ""
        bundle = trained.folder / training.BUNDLE if trained else find_bundle(own)
        sha256 = self.statuses[job.name].facts["sha256"]
        dataset, key = self.dataset()
        scans = test_scans(dataset, self.experiment.contrast_of(row))
        use = Use(row.inference, SEGMENTER, self.experiment.seed, self.experiment.budget.threads)
        inputs = {"data": key, "bundle": sha256, "segmenter": self.segmenter,
                  "inference": row.inference.model_dump(mode="json"), "seed": use.seed,
                  "scans": [path.name for path in scans]}  # fmt: skip

        def work(folder: Path) -> dict[str, Any]:
            return self.tools.translate(bundle, scans, use, folder, self.pause)

        done = self.stages.do("results", job.name, inputs, work)
        self.note(job, "translated", **done.facts)
        return done

    def evaluate(self, job: Job) -> Done:
        """Values of every test subject."""
        return self.translate(job)


def test_scans(dataset: Path, contrast: str) -> list[Path]:
    """The MR of a contrast of every patient of the split test, by name.

    Raises:
        InputError: There is none.
    """
    splits = patient_splits(dataset)
    found = [
        item.path
        for patient in find_patients(dataset)
        if splits.get(patient.name) == "test"
        for item in patient.images("anat")
        if item.name.suffix == contrast and item.name.get("space") is None
    ]
    if not found:
        raise InputError(f"{dataset}: no {contrast} of the split test: there is nothing to judge")
    return sorted(found)


def run_compare(
    plan: Plan, tools: Tools | None = None, tell: Tell | None = None
) -> tuple[Sequence[Status], str]:
    """Run an experiment, or go on with one that stopped.

    Returns:
        One status per row and seed, and why this start ended early (empty: it did not).
    Raises:
        ConfigError: The experiment names an unknown preset or row, or a config does not fit.
    """
    runner = Runner(plan, tools or Tools(), Stages(plan.out.resolve(), tell))
    why = runner.run()
    return list(runner.statuses.values()), why
