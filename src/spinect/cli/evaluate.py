"""`spinect evaluate`: results against the truth, tables and a report."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spinect.cli import choices as c
from spinect.cli.guard import guarded, print_json, say

if TYPE_CHECKING:
    from spinect.workflows.evaluate import Evaluated, Outcome


class Protocol(StrEnum):
    strict = "strict"
    graf2023 = "graf2023"
    synthrad = "synthrad"
    all = "all"


class Split(StrEnum):
    train = "train"
    validation = "validation"
    test = "test"
    all = "all"


class Renderer(StrEnum):
    pyvista = "pyvista"
    matplotlib = "matplotlib"
    none = "none"


_WHAT = "What is scored"


@guarded
def evaluate(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Dataset folder with truth.")],
    results: Annotated[
        Path,
        typer.Argument(
            metavar="RESULTS", help="What spinect run wrote, or one such folder per method."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder. Default RESULTS with -evaluation at its end."),
    ] = None,
    protocol: Annotated[
        Protocol, typer.Option(help="How it is scored.", rich_help_panel=_WHAT)
    ] = Protocol.all,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="BUNDLE",
            help="Segmenter that scores every synthetic CT.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(metavar="METHOD", help="Test the others against it.", rich_help_panel=_WHAT),
    ] = None,
    split: Annotated[
        Split, typer.Option(help="Side of the dataset.", rich_help_panel=_WHAT)
    ] = Split.test,
    contrast: Annotated[
        str,
        typer.Option(
            metavar="LIST", help="Such as T2w or T1w,T2w. Default all.", rich_help_panel=_WHAT
        ),
    ] = "",
    one_series: Annotated[
        bool,
        typer.Option(
            "--one-series",
            help="Expect one series per patient, not every series.",
            rich_help_panel=_WHAT,
        ),
    ] = False,
    renderer: Annotated[
        Renderer | None,
        typer.Option(
            help="Of the surfaces. Default pyvista if installed, else matplotlib; the report "
            "says which."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Series at a time.")] = 1,
    resume: c.Resume = False,
    overwrite: c.Overwrite = False,
    json: c.Json = False,
) -> None:
    """HU and masks against the truth: values, tables, and one self-contained report.

    A series without a result counts as missing: Dice 0, no HU. Results of a wrong image, on a wrong
    grid, given twice or leaked from training are refused and listed; the others are scored.
    Exit codes: 0 all results scored, missing ones included, 1 an error, 2 wrong usage, 3 some
    results were refused or failed, 130 interrupted.
    """
    from spinect.workflows.evaluate import EvaluateOptions, evaluate
    from spinect.workflows.evaluate.options import PROTOCOLS

    options = EvaluateOptions.checked(
        protocols=PROTOCOLS if protocol is Protocol.all else (protocol.value,),
        judge=judge,
        reference=reference,
        split=split.value,
        contrasts=tuple(part.strip() for part in contrast.split(",") if part.strip()),
        one_series=one_series,
        renderer=renderer.value if renderer else None,
        workers=workers,
        resume=resume,
        overwrite=overwrite,
    )
    place = out or results.with_name(f"{results.resolve().name}-evaluation")
    done = evaluate(dataset, results, place, options, None if json else _tell)
    if json:
        print_json(done.as_json())
    else:
        _show(done)
    raise typer.Exit(done.exit_code)


def _tell(outcome: "Outcome", number: int, count: int) -> None:
    """One line to stderr for each result as it ends."""
    head = f"[{number}/{count}] {outcome.method} {outcome.series.name}"
    if outcome.error:
        say(f"{head} failed: {outcome.error}")
    else:
        say(f"{head} {outcome.status} in {outcome.seconds:.1f} s")


def _show(done: "Evaluated") -> None:
    """The headline, and where to look."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from spinect.evaluation.tables.text import figures

    console = Console(highlight=False)
    for warning in done.record.warnings:
        say(f"warning: {warning}")
    if done.tables:
        first = done.tables[0]
        table = Table(box=None, pad_edge=False, title=first.title, title_justify="left")
        table.add_column("measure")  # a line each: methods are fewer than measures
        for method in first.table.methods:
            table.add_column(escape(method.name), justify="right", overflow="fold")
        for k, column in enumerate(first.table.columns):
            cells = [figures(column, row[k]) for row in first.table.cells]
            table.add_row(*map(escape, (column.heading, *cells)))
        console.print(table)
        for note in first.table.notes:
            console.print(note, markup=False)
    console.print(f"report: {done.out / 'report.html'}", soft_wrap=True)
    console.print(f"all values: {done.out / 'values.csv'}", soft_wrap=True)
    console.print("Not a medical device. Not for diagnosis.")
