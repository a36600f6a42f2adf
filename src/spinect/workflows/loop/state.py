"""What a loop remembers: one small file for each finished step, written last and whole.

::

    OUT/loop.json                              what the loop is; another config is refused
    OUT/round-K/steps/NAME_STEP.json           one finished step of one series
    OUT/round-K/steps/train.json               of the whole round
    OUT/round-K/round.json                     what was decided

A step without its file is done again, and gives the same files again.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from spinect.errors import BundleError, ConfigError, OutputError, SpinectError, TrainingError
from spinect.io import write_json

log = logging.getLogger(__name__)
SCHEMA_VERSION: Final = "1.0"
_OURS: Final = (BundleError, ConfigError, OutputError, TrainingError)  # no fault of a series
Clock = Callable[[], float]  # seconds


@dataclass(frozen=True)
class Made:
    """What a step made: files, and what later steps and the decision need to know."""

    files: tuple[Path, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


class StepRecord(BaseModel):
    """One finished step; a step that failed is finished too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal["1.0"] = SCHEMA_VERSION
    step: str
    round: int
    case: str = ""  # empty for a step of the whole round
    status: Literal["done", "failed"]
    reason: str = ""  # of a failure
    files: tuple[str, ...] = ()  # relative to the loop's folder
    facts: dict[str, Any] = {}
    seconds: float


Tell = Callable[[StepRecord], None]


class Ledger:
    """Does each step once.

    Args:
        out: The loop's folder.
        clock: For the seconds of each step.
        tell: Hears of each step that was done now; not of those that were found finished.
    """

    def __init__(self, out: Path, clock: Clock = time.perf_counter, tell: Tell | None = None):
        self.out, self.clock, self.tell = out, clock, tell

    def folder(self, number: int) -> Path:
        """Of a round."""
        return self.out / f"round-{number}"

    def done(self, step: str, number: int, case: str = "") -> StepRecord | None:
        """The record of a finished step whose files are all there."""
        path = self._path(step, number, case)
        if not path.is_file():
            return None
        try:
            record = StepRecord.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, ValidationError):
            log.warning("%s is not a step of this version and is done again", path)
            return None
        return record if all((self.out / name).exists() for name in record.files) else None

    def do(self, step: str, number: int, case: str, work: Callable[[], Made]) -> StepRecord:
        """The record of a step: the one that is there, or a new one.

        What is wrong with a series fails that series. What is wrong with the config, the model,
        the disk or the program ends the loop, and the step is tried again at the next start.

        Raises:
            SpinectError, OSError: Of the second kind.
        """
        found = self.done(step, number, case)
        if found is not None:
            return found
        start = self.clock()
        status: Literal["done", "failed"] = "done"
        made, reason = Made(), ""
        try:
            made = work()
        except (*_OURS, OSError):
            raise
        except Exception as problem:  # the one place where a series may fail in any way
            if not case:
                raise
            status, reason = "failed", _told(problem, f"{case}, {step}")
        record = StepRecord(
            step=step,
            round=number,
            case=case,
            status=status,
            reason=reason,
            files=tuple(path.relative_to(self.out).as_posix() for path in made.files),
            facts=dict(made.facts),
            seconds=round(self.clock() - start, 3),
        )
        write_json(record.model_dump(mode="json"), self._path(step, number, case))
        if self.tell:
            self.tell(record)
        return record

    def _path(self, step: str, number: int, case: str) -> Path:
        return self.folder(number) / "steps" / (f"{case}_{step}.json" if case else f"{step}.json")


def claim(out: Path, fingerprint: str) -> None:
    """Make the loop's folder, or find that it belongs to this loop.

    Raises:
        ConfigError: It belongs to a loop of another config.
        OutputError: It holds something else.
    """
    path = out / "loop.json"
    if not path.is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise OutputError(f"{out} is neither empty nor the folder of a loop: choose another")
        write_json({"schema_version": SCHEMA_VERSION, "fingerprint": fingerprint}, path)
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["fingerprint"]
    except (ValueError, KeyError, TypeError) as problem:
        raise OutputError(f"{path} is not readable ({problem}): choose another folder") from None
    if found != fingerprint:
        raise ConfigError(
            f"{out} belongs to a loop of another config (or its training config changed): choose "
            "another folder, or restore the config; only `rounds` may change"
        )


def _told(problem: Exception, where: str) -> str:
    """One line; the trace of what nobody foresaw goes to the log."""
    text = " ".join(str(problem).split())
    if isinstance(problem, SpinectError):
        return text
    log.error("%s: unexpected %s", where, type(problem).__name__, exc_info=problem)
    return f"unexpected {type(problem).__name__}: {text}; run again with --debug and report it"
