"""`spinect loop`: landmarks for the series that have none, round by round."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spinect.cli import choices as c
from spinect.cli.guard import guarded, print_json, say

if TYPE_CHECKING:
    from spinect.workflows.loop import Ended, StepRecord

_WIDTH = 100  # of the table


@guarded
def loop(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file.")],
    out: c.RunFolder = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="a.b=c", help="Change a field of the config."),
    ] = None,
    json: c.Json = False,
) -> None:
    """Register, train, translate, segment, register again, until nothing is gained.

    Started again on the same folder it goes on where it stopped.
    Exit codes: 0 every target is accepted, 1 an error, 2 wrong usage, 3 some targets are not
    accepted, 130 interrupted by Ctrl-C, 143 ended by SIGTERM.
    """
    from spinect.workflows.loop import load_loop, run_loop

    settings = load_loop(config, overrides or [])
    done = run_loop(settings, out or Path("runs") / config.stem, tell=None if json else _tell)
    if json:
        print_json(done.as_json())
    else:
        _show(done)
    raise typer.Exit(done.exit_code)


def _tell(record: "StepRecord") -> None:
    """One line to stderr for each step as it ends."""
    who = f"{record.case} " if record.case else ""
    what = f"failed: {record.reason}" if record.status == "failed" else "done"
    say(f"[round {record.round}] {who}{record.step} {what} in {record.seconds:.1f} s")


def _show(done: "Ended") -> None:
    """The table of the rounds, and where to look."""
    from rich.console import Console
    from rich.table import Table

    from spinect.workflows.loop import round_rows

    console = Console(highlight=False)
    console.width = max(console.width, _WIDTH)  # a row that wraps says more than figures cut short
    rows = round_rows(done.decisions)
    table = Table(box=None, pad_edge=False)
    for heading in rows[0]:
        table.add_column(heading.replace("_", " "))
    for row in rows:
        table.add_row(*("-" if value is None else str(value) for value in row.values()))
    console.print(table)
    console.print(f"ended: {done.why}")
    console.print(f"every series and its reason: {done.out / 'cases.tsv'}", soft_wrap=True)
    console.print(f"to train from: {done.accepted}", soft_wrap=True)
    console.print("Not a medical device. Not for diagnosis.")
