"""The program `spinect`.

Commands import what they need when they run, so that help costs no torch.
"""

import os
import sys
from typing import Annotated

# Before torch starts its threads: on few cores, waiting threads must not spin.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import typer

from spinect import __version__
from spinect.cli import about, align, dataset, guard, make
from spinect.cli import compare as experiments
from spinect.cli import evaluate as judging
from spinect.cli import loop as circle
from spinect.cli import register as pairs
from spinect.cli import run as jobs

app = typer.Typer(
    name="spinect",
    help="Spine MR to synthetic CT in HU and vertebra masks. Not a medical device; not for "
    "diagnosis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_MAIN, _OTHER = "The main job", "Around it"
app.command(rich_help_panel=_MAIN)(jobs.run)
app.command(rich_help_panel=_MAIN)(jobs.translate)
app.command(rich_help_panel=_MAIN)(jobs.segment)
app.command(rich_help_panel=_MAIN)(make.demo)
app.command(rich_help_panel=_OTHER)(make.phantom)
app.command(rich_help_panel=_OTHER)(make.train)
app.command(rich_help_panel=_OTHER)(align.landmarks)
app.command(rich_help_panel=_OTHER)(dataset.check)
app.command(rich_help_panel=_OTHER)(pairs.register)
app.command(rich_help_panel=_OTHER)(circle.loop)
app.command(rich_help_panel=_OTHER)(experiments.compare)
app.command(rich_help_panel=_OTHER)(judging.evaluate)
app.add_typer(dataset.importers, rich_help_panel=_OTHER)
app.command(rich_help_panel=_OTHER)(about.models)
app.command(rich_help_panel=_OTHER)(about.methods)
app.command(rich_help_panel=_OTHER)(about.info)
app.command(rich_help_panel=_OTHER)(about.doctor)
app.command(rich_help_panel=_OTHER)(about.cite)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"spinect {__version__}")
        raise typer.Exit


@app.callback()
def program(
    debug: Annotated[bool, typer.Option(guard.DEBUG, help="Show tracebacks and the log.")] = False,
    version: Annotated[  # noqa: ARG001 - handled by its callback
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that stand before the command."""
    guard.set_up(debug)


def main() -> None:
    """Run the program; `--debug` may stand anywhere before "--"."""
    arguments = sys.argv[1:]
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if guard.DEBUG in own:
        arguments.remove(guard.DEBUG)
        arguments.insert(0, guard.DEBUG)
    try:
        app(arguments, prog_name="spinect")
    except KeyboardInterrupt:  # while the program starts
        guard.say("interrupted")
        sys.exit(130)
