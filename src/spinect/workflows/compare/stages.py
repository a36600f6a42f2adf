"""What an experiment remembers: every finished stage under the hash of all that it came from.

::

    OUT/STAGE/NAME-KEY/        what the stage made
    OUT/STAGE/NAME-KEY.json    written last and whole: the stage is finished

KEY is the sha256 of the stage's settings and of what it reads, so a changed field or another input
is another folder, and everything that does not depend on it is kept. Nothing is ever removed.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from spinect.errors import OutputError
from spinect.io import write_json

_FORMAT: Final = 1  # of the stages' outputs; another one makes all anew
Facts = dict[str, Any]


class Paused(Exception):
    """The time of this start is used up, or the program was asked to stop; all is kept."""


@dataclass(frozen=True)
class Done:
    """A finished stage.

    Attributes:
        facts: What later stages and the tables need to know, JSON-ready.
    """

    folder: Path
    key: str
    facts: Facts


class Stages:
    """Does each stage once.

    Args:
        out: The experiment's folder.
        tell: Hears of each stage that was done now: its name, its row and its seconds.
    """

    def __init__(self, out: Path, tell: Callable[[str, str, float], None] | None = None) -> None:
        self.out, self.tell = out, tell

    def do(
        self,
        stage: str,
        name: str,
        inputs: Mapping[str, Any],
        work: Callable[[Path], Facts],
    ) -> Done:
        """The finished stage: found, or done now.

        Args:
            inputs: Everything that decides what comes out, JSON-ready.
            work: Makes it in the folder that it gets; called again on the same folder after a
                start that was stopped.
        Raises:
            OutputError: The stage's record is not readable.
        """
        place = self.place(stage, name, inputs)
        found = self._found(place)
        if found is not None:
            return Done(place, _key(stage, inputs), found)
        start = time.perf_counter()
        place.mkdir(parents=True, exist_ok=True)
        facts = work(place)
        seconds = round(time.perf_counter() - start, 3)
        record = {"stage": stage, "name": name, "inputs": inputs, "seconds": seconds}
        write_json({**record, "facts": facts}, _record(place))
        if self.tell:
            self.tell(stage, name, seconds)
        return Done(place, _key(stage, inputs), facts)

    def place(self, stage: str, name: str, inputs: Mapping[str, Any]) -> Path:
        """The folder of a stage, whether or not it is finished."""
        return self.out / stage / f"{name}-{_key(stage, inputs)}"

    def _found(self, place: Path) -> Facts | None:
        path = _record(place)
        if not (path.is_file() and place.is_dir()):
            return None
        try:
            facts: Facts = json.loads(path.read_text(encoding="utf-8"))["facts"]
        except (ValueError, KeyError, TypeError) as problem:
            raise OutputError(
                f"{path} is no record of this version ({problem}): remove it to do the stage again"
            ) from None
        return facts


def _record(place: Path) -> Path:
    return place.with_name(place.name + ".json")


def _key(stage: str, inputs: Mapping[str, Any]) -> str:
    text = json.dumps([_FORMAT, stage, inputs], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
