"""Draws the progress of a run on stderr: bars on a terminal, one line per case elsewhere."""

import shutil
import tempfile
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from spinect.workflows.case import Outcome
from spinect.workflows.engine import Need
from spinect.workflows.options import human_size, human_time
from spinect.workflows.planning import Case, Plan

_STAGES = {
    "read": "reading",
    "translate": "synthetic CT",
    "segment": "masks",
    "samples": "what the samples say",
    "plausible": "plausibility",
    "native": "onto the MR's grid",
    "write": "writing",
    "report": "report",
}


def _temporary(needed: int) -> str:
    """Where the samples lie until the case ends; nothing where none does."""
    if not needed:
        return ""
    folder = tempfile.gettempdir()
    free = human_size(shutil.disk_usage(folder).free)
    return f", and {human_size(needed)} for a while in {escape(folder)} ({free} free)"


class ProgressLine:
    """A Watcher; also a context manager that takes its bars away at the end."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[left]}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.count = 1
        self.all: TaskID | None = None
        self.one = self.bars.add_task("", total=1.0, left="", visible=False)

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.bars.stop()

    def planned(self, plan: Plan, need: Need) -> None:
        self.count = len(plan.cases)
        cases = f"{self.count} case{'s' if self.count > 1 else ''}"
        self.console.print(
            f"{cases}: up to {human_size(need.memory_bytes)} of memory, at most "
            f"{human_size(plan.disk_bytes)} in {escape(str(plan.out))} "
            f"({human_size(plan.free_bytes)} free){_temporary(need.temporary_bytes)}",
            soft_wrap=True,
        )
        if self.count > 1:
            self.all = self.bars.add_task("all cases", total=self.count, left="")

    def begin(self, case: Case) -> None:
        self.name = escape(case.stem)
        self.bars.reset(self.one, description=self.name, total=1.0, left="", visible=True)

    def stage(self, name: str) -> None:
        text = f"{self.name}: {_STAGES.get(name, name)}"
        self.bars.reset(self.one, description=text, total=None, left="", visible=True)

    def share(self, done: float) -> None:
        self.bars.update(self.one, completed=done, total=1.0)
        elapsed = self.bars.tasks[self.bars.task_ids.index(self.one)].elapsed
        if elapsed and done > 0.1:  # earlier, a guess would be off by factors
            left = elapsed * (1 - done) / done
            self.bars.update(self.one, left=f"{human_time(left)} left of this stage")

    def end(self, outcome: Outcome, done: int, remaining_s: float | None) -> None:
        self.bars.update(self.one, visible=False)
        if self.all is not None:
            left = "" if remaining_s is None else f"about {human_time(remaining_s)} left"
            self.bars.update(self.all, completed=done, left=left)
        self._print(outcome, done, remaining_s)

    def _print(self, outcome: Outcome, done: int, remaining_s: float | None) -> None:
        count = f"[{done}/{self.count}] " if self.count > 1 else ""
        name = escape(count + outcome.case.stem)
        if outcome.status == "failed":
            reason = escape(outcome.error or "")
            self.console.print(f"[red]{name} failed:[/red] {reason}", soft_wrap=True)
            return
        for warning in outcome.record.warnings if outcome.record else ():
            text = f"[yellow]{name} warning:[/yellow] {escape(warning)}"
            self.console.print(text, soft_wrap=True)
        text = f"{name} {outcome.status} in {human_time(outcome.seconds)}"
        if self.count > done and remaining_s is not None:
            text += f", about {human_time(remaining_s)} left"
        self.console.print(text)
