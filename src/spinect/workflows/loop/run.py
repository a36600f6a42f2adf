"""`spinect loop`: register, train, translate, segment, mark, match, register, again."""

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from spinect.errors import ConfigError, OutputError
from spinect.io import write_json
from spinect.training import load_config
from spinect.training.config import dump_config
from spinect.training.parse import resolve_path
from spinect.workflows.loop import rounds, steps, table
from spinect.workflows.loop.cases import Case, find_cases
from spinect.workflows.loop.config import LoopConfig
from spinect.workflows.loop.engines import make_models, training_split
from spinect.workflows.loop.rounds import Decision, Lesson, Trial
from spinect.workflows.loop.state import Clock, Ledger, Made, StepRecord, Tell, claim
from spinect.workflows.loop.steps import Models, Place

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ended:
    """What a loop came to.

    Attributes:
        decisions: One per round, round 0 first.
        why: The reason of the end.
        accepted: Dataset folder of the accepted pairs, to train from.
        waiting: Targets that no round accepted.
    """

    out: Path
    decisions: tuple[Decision, ...]
    why: str
    accepted: Path
    waiting: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 every target is accepted, 3 some are not."""
        return 3 if self.waiting else 0

    def as_json(self) -> dict[str, Any]:
        """Machine-readable: the rounds, and what failed with its reason."""
        return {
            "schema_version": "1.0",
            "exit_code": self.exit_code,
            "ended": self.why,
            "accepted": str(self.accepted),
            "waiting": list(self.waiting),
            "rounds": table.round_rows(self.decisions),
            "decisions": [one.model_dump(mode="json") for one in self.decisions],
        }


def run_loop(
    config: LoopConfig,
    out: Path,
    models: Models | None = None,
    *,
    tell: Tell | None = None,
    clock: Clock = time.perf_counter,
) -> Ended:
    """Run a loop, or go on with one that stopped.

    Args:
        out: The loop's folder; every round writes to a folder of its own in it.
        models: What trains, translates and segments; None: as the config says.
        tell: Hears of each step as it ends.
    Raises:
        ConfigError: The config, or `out` belongs to another loop.
        InputError: The dataset cannot be used at all.
        OutputError: `out` cannot be written.
        TrainingError: As `train`.
    """
    training = load_config(resolve_path(config.train))
    split = training_split(training)
    dataset, out = resolve_path(config.dataset).resolve(), out.resolve()
    cases = find_cases(dataset, config)
    claim(out, config.fingerprint(dump_config(training)))
    loop = Loop(config, cases, dataset, Ledger(out, clock, tell))
    return loop.run(models or make_models(config, training), split)


class Loop:
    """The rounds of one loop; its memory is on the disk."""

    def __init__(
        self, config: LoopConfig, cases: Sequence[Case], dataset: Path, ledger: Ledger
    ) -> None:
        self.config, self.cases, self.dataset, self.ledger = config, cases, dataset, ledger
        self.out = ledger.out
        self.decisions: list[Decision] = []

    def run(self, models: Models, split: str) -> Ended:
        """All rounds that there are to do."""
        self._decide(0, Lesson("", ()), self._seeds)
        while True:
            done = rounds.accepted(self.decisions)
            left = rounds.candidates(self.cases, done, self.config)
            then = rounds.lesson(self.cases, done, self.config, split)
            why = rounds.end_of(self.decisions, len(left), self.config.rounds, then)
            number = len(self.decisions)
            if why or self.ledger.done("train", number) is None:
                self._write_accepted()
            if why:
                waiting = tuple(case.name for case in left)
                view = self.out / table.ACCEPTED
                return Ended(self.out, tuple(self.decisions), why, view, waiting)
            if not then.cases:
                raise ConfigError(
                    f"no {then.contrast} of split {split!r} is accepted, so there is nothing to "
                    f"train from: {self.out / 'cases.tsv'} says why; correct its landmarks and "
                    "begin in another folder"
                )
            self._decide(number, then, partial(self._targets, left, then, models))

    def _write_accepted(self) -> None:
        table.write_accepted(self.cases, self.decisions, self.dataset, self.out)

    def _decide(self, number: int, learnt: Lesson, work: Callable[[int], list[Trial]]) -> None:
        """One round: found finished, or done now; then the tables."""
        path = self.ledger.folder(number) / "round.json"
        decision = _read_decision(path)
        if decision is None:
            trials = work(number)
            decision = Decision(
                round=number,
                trained_on=learnt.contrast,
                training=learnt.cases,
                trials=tuple(sorted(trials, key=lambda t: t.case)),
                seconds=self._seconds(number),
            )
            write_json(decision.model_dump(mode="json"), path)
        self.decisions.append(decision)
        table.write_tables(self.cases, self.decisions, self.out)

    def _seconds(self, number: int) -> float:
        """Of all steps of a round, over all starts of the loop."""
        files = (self.ledger.folder(number) / "steps").glob("*.json")
        spent: list[float] = [json.loads(f.read_text(encoding="utf-8"))["seconds"] for f in files]
        return round(sum(spent), 3)

    def _seeds(self, number: int) -> list[Trial]:
        """Round 0: what has landmarks."""
        trials = []
        for case in self.cases:
            if case.pair.mr_landmarks is None:
                continue
            if reason := rounds.blocked(case):
                trials.append(Trial(case=case.name, accepted=False, reason=reason))
                continue
            place = Place(case, self.ledger.folder(number))
            step = self._step(place, rounds.REGISTER, partial(self._register, place, None))
            trials.append(rounds.trial(case.name, [step], self.config.accept))
        return trials

    def _targets(
        self, left: Sequence[Case], learnt: Lesson, models: Models, number: int
    ) -> list[Trial]:
        """A further round: a new model, then every target that is not accepted yet."""
        folder = self.ledger.folder(number)

        def train() -> Made:
            view = self.out / table.ACCEPTED
            model = models.train(view, learnt.contrast, folder / "training")
            return Made((model,))

        trained = self.ledger.do("train", number, "", train)
        model = self.out / trained.files[0]
        trials = []
        for case in left:
            if reason := rounds.blocked(case):
                trials.append(Trial(case=case.name, accepted=False, reason=reason))
                continue
            found = self._target(Place(case, folder), model, models)
            trials.append(rounds.trial(case.name, found, self.config.accept))
        return trials

    def _target(self, place: Place, model: Path, models: Models) -> list[StepRecord]:
        """The steps of one target, up to the first that fails."""
        config = self.config
        accepted = self._frame_of(place.case)
        matched = place.synthetic(steps.MATCHED)
        works: dict[str, Callable[[], Made]] = {
            "translate": lambda: steps.translate(place, model, models.translate),
            "segment": lambda: steps.segment(place, models.segment),
            "landmarks": lambda: steps.mark(place, config),
            "match": lambda: steps.match(place, config.match, accepted),
            rounds.REGISTER: partial(self._register, place, matched),
        }
        found = []
        for name, work in works.items():
            found.append(self._step(place, name, work))
            if found[-1].status == "failed":
                break
        return found

    def _register(self, place: Place, landmarks: Path | None) -> Made:
        return steps.register(place, self.config, landmarks)

    def _step(self, place: Place, name: str, work: Callable[[], Made]) -> StepRecord:
        number = int(place.folder.name.removeprefix("round-"))
        return self.ledger.do(name, number, place.case.name, work)

    def _frame_of(self, case: Case) -> Path | None:
        """Transforms of a series of the same visit that an earlier round accepted."""
        done = rounds.accepted(self.decisions)
        same = [c for c in self.cases if c.name in done and c.visit == case.visit]
        if not same:
            return None
        return steps.transforms_of(Place(same[0], self.ledger.folder(done[same[0].name])))


def _read_decision(path: Path) -> Decision | None:
    if not path.is_file():
        return None
    try:
        return Decision.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, ValidationError) as problem:
        first = str(problem).splitlines()[0]
        raise OutputError(
            f"{path} is no decision of this version ({first}): remove it to decide again from the "
            "finished steps"
        ) from None
