"""`spinect compare`: many presets on the same data, split and budget."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spinect.cli import choices as c
from spinect.cli.guard import guarded, print_json, say

if TYPE_CHECKING:
    from spinect.workflows.compare import Status


class Until(StrEnum):
    """The last stage."""

    data = "prepare"
    weights = "train"
    results = "translate"
    values = "evaluate"


@guarded
def compare(
    experiment: Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="YAML file.")],
    out: c.RunFolder = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="ROW", help="This row; may be repeated.")
    ] = None,
    until: Annotated[Until, typer.Option(help="The last stage to do.")] = Until.values,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.01, help="Wall time of this start; then leave, and go on another day."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Cases that are measured at a time.")] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, say what would be done, stop.")
    ] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="a.b=c", help="Change a field of the experiment."),
    ] = None,
    json: c.Json = False,
) -> None:
    """Prepare, train, translate, segment and judge every row of an experiment.

    Started again on the same folder it goes on where it stopped; what a changed field does not
    touch is kept.
    Exit codes: 0 every row is finished, 1 an error, 2 wrong usage, 3 some rows failed or are not
    finished, 130 interrupted.
    """
    from spinect.workflows.compare import Plan, load_experiment, run_compare

    settings = load_experiment(experiment, overrides or [])
    plan = Plan(
        settings,
        home=experiment.resolve().parent,
        out=out or Path("runs") / settings.name,
        only=tuple(only or ()),
        until=until.value,
        minutes=minutes,
        workers=workers,
    )
    if dry_run:
        for line in plan.told():
            typer.echo(line)
        return
    statuses, why = run_compare(plan, tell=None if json else _tell)
    code = 3 if why or any(status.state == "failed" for status in statuses) else 0
    if json:
        rows = [status.columns() for status in statuses]
        print_json({"schema_version": "1.0", "exit_code": code, "stopped": why, "rows": rows})
    else:
        _show(statuses, why, plan.out)
    raise typer.Exit(code)


def _tell(stage: str, name: str, seconds: float) -> None:
    """One line to stderr for each stage as it ends."""
    say(f"{stage} {name} done in {seconds:.1f} s")


def _show(statuses: "Sequence[Status]", why: str, out: Path) -> None:
    """How far every row is, and where to look."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    shown = ("row", "seed", "state", "updates", "seconds_per_update", "cases", "reason")
    for heading in shown:
        table.add_column(heading.replace("_", " "))
    for status in statuses:
        cells: dict[str, Any] = status.columns()
        table.add_row(*("-" if cells[key] is None else str(cells[key]) for key in shown))
    console.print(table)
    if why:
        console.print(f"stopped: {why}; start again to go on", soft_wrap=True)
    console.print(f"everything: {out}", soft_wrap=True)
    console.print("Not a medical device. Not for diagnosis.")
