"""`spinect compare`: every row through the same stages, each done once."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from spinect.card import find_bundle, verify
from spinect.errors import InputError
from spinect.io.bids import find_patients
from spinect.io.participants import patient_splits
from spinect.training.parse import resolve_path
from spinect.workflows.compare import training
from spinect.workflows.compare.config import PhantomSource
from spinect.workflows.compare.engine import Use
from spinect.workflows.compare.marks import Errors
from spinect.workflows.compare.plan import STAGES, Job, Plan, Stage
from spinect.workflows.compare.scoring import Asked, conclude
from spinect.workflows.compare.stages import Done, Paused, Stages
from spinect.workflows.compare.status import Status, write_status
from spinect.workflows.compare.tools import Tools
from spinect.workflows.failures import reason
from spinect.workflows.steps import SEGMENTER

Tell = Callable[[str, str, float], None]  # stage, what, seconds


@dataclass
class Runner:
    """One start of an experiment; its memory is on the disk."""

    plan: Plan
    tools: Tools
    stages: Stages
    clock: Callable[[], float] = time.perf_counter
    statuses: dict[str, Status] = field(default_factory=dict)
    results: dict[str, dict[str, Path]] = field(default_factory=dict)  # contrast -> job -> folder

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
        }  # all of them now: what does not fit is told before anything runs
        for job in self.jobs:
            if job.training in self.fields:
                training.check_inference(self.fields[job.training], job.row)
        self.segmenter = verify(find_bundle(SEGMENTER)) if self.experiment.segment else None
        if self.judges and self.experiment.judge is not None:
            find_bundle(self.experiment.judge)

    @property
    def judges(self) -> bool:
        """Whether this start ends in tables; those of some rows alone would replace the others."""
        return self.plan.until == "evaluate" and not self.plan.only

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
        works: dict[Stage, Callable[[Job], Done | None]] = {
            "prepare": self.prepare, "train": self.train, "translate": self.translate,
        }  # fmt: skip
        last = STAGES.index(self.plan.until) + 1
        # Pairs are prepared when a training wants them, so that the first one begins early.
        stages = STAGES[:1] if self.plan.until == "prepare" else STAGES[1:last]
        try:
            for stage in stages:
                if stage in works:
                    for job in self.jobs:
                        self._guarded(job, stage, works[stage])
            if self.judges:
                self.evaluate()
        except Paused as why:
            return str(why)
        finally:
            write_status(self.statuses.values(), self.plan.out)
        return ""

    def _guarded(self, job: Job, stage: Stage, work: Callable[[Job], Done | None]) -> None:
        """One stage of a job; a failure stays with the job."""
        status = self.statuses[job.name]
        if status.state == "failed":
            return
        try:
            work(job)
        except Paused:
            raise
        except Exception as problem:  # the one place where a row may fail in any way
            memory = "out of memory: give it smaller patches, or a smaller batch"
            text = reason(problem, job.name, memory)
            self.statuses[job.name] = self.statuses[job.name].failed(stage, text)
        write_status(self.statuses.values(), self.plan.out)

    def note(self, job: Job, state: str, **facts: Any) -> None:
        """What is known of a job now."""
        self.statuses[job.name] = self.statuses[job.name].moved(state, facts)

    # --- stages; each asks for those before it, which are done once

    def dataset(self) -> tuple[Path, str]:
        """The dataset folder, and the key of its content."""
        source = self.experiment.data
        if isinstance(source, PhantomSource):
            hidden = {"landmark_noise_mm"}  # no part of the images
            inputs = source.model_dump(mode="json", exclude=hidden, exclude_defaults=True)

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
        level = row.registration
        errors = Errors(sigma, self.experiment.seed, row.shift_mm, row.turn_deg)
        inputs = {"data": key, "contrast": contrast, "level": level, "noise": sigma,
                  "seed": errors.seed, **errors.motion}  # fmt: skip

        def work(view: Path) -> dict[str, Any]:
            return self.tools.register(dataset, contrast, level, errors, view, self.pause)

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
        whole = self.experiment
        mirrored = whole.mirror_average
        segmenter = SEGMENTER if whole.segment else None
        use = Use(row.inference, segmenter, whole.seed, whole.budget.threads, mirrored)
        inputs = {"data": key, "bundle": sha256, "segmenter": self.segmenter,
                  "inference": row.inference.model_dump(mode="json", exclude_defaults=True),
                  "seed": use.seed,
                  "scans": [path.name for path in scans],
                  **({} if mirrored else {"mirror_average": False})}  # fmt: skip

        def work(folder: Path) -> dict[str, Any]:
            return self.tools.translate(bundle, scans, use, folder, self.pause)

        done = self.stages.do("results", job.name, inputs, work)
        self.note(job, "translated", **done.facts)
        self.results.setdefault(self.experiment.contrast_of(row), {})[job.name] = done.folder
        return done

    def evaluate(self) -> None:
        """Values of every test subject, then verdicts, tables and the record."""
        self.pause()
        dataset, _ = self.dataset()
        out, judge = self.plan.out, self.experiment.judge
        values = [
            self.tools.score(
                dataset, results, Asked(contrast, judge, self.plan.workers), out, self.pause
            )
            for contrast, results in self.results.items()
        ]
        for name, status in self.statuses.items():
            if status.state == "translated":
                self.statuses[name] = status.moved("evaluated", {})
        conclude(self.experiment, list(self.statuses.values()), values, out)


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
    plan = replace(plan, out=plan.out.resolve())
    runner = Runner(plan, tools or Tools(), Stages(plan.out, tell))
    why = runner.run()
    return list(runner.statuses.values()), why
