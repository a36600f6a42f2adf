"""What is decided after a round: who is accepted, who failed and why, whether there is another.

Pure logic on the records of the steps; no file is read or written here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from spinect.workflows.loop.cases import Case
from spinect.workflows.loop.config import AcceptConfig, LoopConfig
from spinect.workflows.loop.state import SCHEMA_VERSION, StepRecord
from spinect.workflows.names import stem_of

REGISTER: Final = "register"  # the last step of a series


class Trial(BaseModel):
    """What became of one series in one round; of an accepted one, how good it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str
    accepted: bool
    reason: str  # of the failure, or what the registration says
    registered: bool = False  # the steps reached the registration
    residual_mm: tuple[float, ...] = ()  # of the landmarks used
    renamed: dict[str, str] = {}  # level by the segmenter -> level by the CT

    @property
    def mean_mm(self) -> float | None:
        """Over the landmarks used."""
        return round(float(np.mean(self.residual_mm)), 3) if self.residual_mm else None

    @property
    def p95_mm(self) -> float | None:
        """95 % of them lie closer."""
        return round(float(np.percentile(self.residual_mm, 95)), 3) if self.residual_mm else None


class Decision(BaseModel):
    """One finished round, `round.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal["1.0"] = SCHEMA_VERSION
    round: int
    trained_on: str = ""  # contrast; empty for round 0, which trains nothing
    training: tuple[str, ...] = ()  # series that the model learnt from
    trials: tuple[Trial, ...]  # sorted by series
    seconds: float

    @property
    def gained(self) -> tuple[str, ...]:
        """Series accepted in this round."""
        return tuple(t.case for t in self.trials if t.accepted)

    @property
    def failed(self) -> dict[str, str]:
        """Series -> reason."""
        return {t.case: t.reason for t in self.trials if not t.accepted}


@dataclass(frozen=True)
class Lesson:
    """What the model of a round learns from."""

    contrast: str
    cases: tuple[str, ...]


def blocked(case: Case) -> str:
    """Why a series cannot be registered whatever a model does; empty where it can."""
    pair = case.pair
    if pair.problem or pair.ct is None:
        return pair.problem or f"{case.name} has no CT"
    if pair.ct_landmarks is None:
        return (
            f"{pair.ct.name} has no landmarks: segment it, then spinect landmarks -o "
            f"{stem_of(pair.ct)}_poi.json beside it"
        )
    if pair.ct_vertebrae is None:
        return f"{pair.ct.name} has no vertebra mask beside it, which training needs"
    return ""


def trial(case: str, steps: Sequence[StepRecord], limits: AcceptConfig) -> Trial:
    """The verdict on a series from its steps in order; the last one failed or registered it."""
    last = steps[-1]
    renamed: Mapping[str, str] = next((s.facts["renamed"] for s in steps if s.step == "match"
                                       and s.status == "done"), {})  # fmt: skip
    if last.status == "failed":
        reason = f"{last.step}: {last.reason}"
        return Trial(case=case, accepted=False, reason=reason, renamed=dict(renamed))
    wrong = complaint(last.facts, limits)
    return Trial(
        case=case,
        accepted=not wrong,
        reason=wrong or last.facts["reason"],
        registered=True,
        residual_mm=tuple(last.facts["residual_mm"]),
        renamed=dict(renamed),
    )


def complaint(facts: Mapping[str, Any], limits: AcceptConfig) -> str:
    """Why a registration is not accepted; empty where it is. Every limit that is missed is named.

    Args:
        facts: verdict, reason, residual_mm, vertebrae of the registration.
    """
    found = []
    verdict = facts["verdict"]
    if verdict == "reject" or (verdict == "review" and not limits.review):
        found.append(f"verdict {verdict}: {facts['reason']}")
    if facts["vertebrae"] < limits.vertebrae:
        found.append(f"{facts['vertebrae']} vertebrae have a landmark, {limits.vertebrae} needed")
    residual = facts["residual_mm"]
    if residual:
        mean, p95 = float(np.mean(residual)), float(np.percentile(residual, 95))
        if mean > limits.mean_mm:
            found.append(f"mean residual {mean:.1f} mm, at most {limits.mean_mm:g}")
        if p95 > limits.p95_mm:
            found.append(f"95 % residual {p95:.1f} mm, at most {limits.p95_mm:g}")
    else:
        found.append("no landmark was used")
    return "; ".join(found)


def accepted(decisions: Sequence[Decision]) -> dict[str, int]:
    """Series -> round that accepted it, of all rounds so far."""
    return {name: one.round for one in decisions for name in one.gained}


def lesson(
    cases: Sequence[Case], done: Mapping[str, int], config: LoopConfig, split: str
) -> Lesson:
    """The accepted targets, as soon as there are enough of them; before that the seeds.

    Args:
        done: Series that are accepted. split: The one that training reads.
    """
    ready = [case for case in cases if case.name in done and case.split == split]
    targets = tuple(c.name for c in ready if c.contrast == config.targets)
    seeds = tuple(c.name for c in ready if c.contrast == config.seeds.contrast)
    if len(targets) >= config.least_pairs or config.targets == config.seeds.contrast:
        return Lesson(config.targets, targets)
    return Lesson(config.seeds.contrast, seeds)


def candidates(cases: Sequence[Case], done: Mapping[str, int], config: LoopConfig) -> list[Case]:
    """Targets that no round accepted, those that failed before included."""
    return [c for c in cases if c.contrast == config.targets and c.name not in done]


def end_of(decisions: Sequence[Decision], left: int, rounds: int, then: Lesson) -> str:
    """Why the loop ends here; empty while there is a round to do.

    Args:
        decisions: Of all rounds so far, round 0 first.
        left: Targets that are not accepted. then: What the next round would learn from.
    """
    last = decisions[-1]
    if not left:
        return "every target is accepted"
    if last.round >= rounds:
        return f"{last.round} round(s) are done, {left} target(s) failed"
    if last.round and not last.gained:
        return f"round {last.round} gained nothing, {left} target(s) failed"
    if last.round and (then.contrast, then.cases) == (last.trained_on, last.training):
        return f"the next model would learn from the same pairs, {left} target(s) failed"
    return ""
