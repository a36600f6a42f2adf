"""`spinect register`: the CT of each MR onto the MR, by landmarks."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spinect.cli import choices as c
from spinect.cli.guard import guarded, print_json, say

if TYPE_CHECKING:
    from spinect.workflows.register import Outcome, Pair, Summary


class Points(StrEnum):
    none = "0"
    one = "1"
    two = "2"
    all = "all"


class Motion(StrEnum):
    rigid = "rigid"
    polyrigid = "polyrigid"


class Frame(StrEnum):
    header = "header"
    centre = "centre"


class Interpolation(StrEnum):
    bspline = "bspline"
    linear = "linear"


_FILES, _HOW = "One pair instead of a dataset", "How it is done"


def _file(flags: str, text: str) -> Any:
    return typer.Option(flags, metavar="FILE", help=text, rich_help_panel=_FILES)


@guarded
def register(
    dataset: Annotated[
        Path | None, typer.Argument(metavar="DATASET", help="Dataset folder; all its pairs.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder. Default DATASET/derivatives/registered."),
    ] = None,
    mr: Annotated[Path | None, _file("--mr", "The MR.")] = None,
    ct: Annotated[Path | None, _file("--ct", "The CT in HU.")] = None,
    mr_landmarks: Annotated[Path | None, _file("--mr-landmarks", "Named points of the MR.")] = None,
    ct_landmarks: Annotated[Path | None, _file("--ct-landmarks", "Named points of the CT.")] = None,
    ct_vertebrae: Annotated[
        Path | None, _file("--ct-vertebrae", "Vertebra mask on the CT's grid.")
    ] = None,
    ct_subregions: Annotated[
        Path | None, _file("--ct-subregions", "Subregion mask on the CT's grid.")
    ] = None,
    mr_vertebrae: Annotated[
        Path | None, _file("--mr-vertebrae", "Vertebra mask on the MR's grid.")
    ] = None,
    points: Annotated[
        Points,
        typer.Option(
            help="Landmarks per vertebra: 1 bodies, 2 bodies and spinous processes, all; "
            "0 does not register.",
            rich_help_panel=_HOW,
        ),
    ] = Points.two,
    model: Annotated[
        Motion | None,
        typer.Option(
            help="One motion for all, or one for each vertebra (default, but for 0 points).",
            rich_help_panel=_HOW,
        ),
    ] = None,
    frame: Annotated[
        Frame,
        typer.Option(
            help="Where 0 points leave the CT: as the headers say, or image centres together.",
            rich_help_panel=_HOW,
        ),
    ] = Frame.header,
    interpolation: Annotated[
        Interpolation, typer.Option(help="Of the CT.", rich_help_panel=_HOW)
    ] = Interpolation.bspline,
    resume: c.Resume = False,
    overwrite: c.Overwrite = False,
    json: c.Json = False,
) -> None:
    """The CT and its masks on the MR, with transforms, residuals, a picture and a verdict.

    Exit codes: 0 done, whatever the verdicts, 1 an error, 2 wrong usage, 3 some of several pairs
    failed, 130 interrupted.
    """
    from spinect.workflows.register import RegisterOptions, register_dataset, register_files

    options = RegisterOptions.checked(
        points=points.value,
        model=model.value if model else None,
        frame=frame.value,
        interpolation=interpolation.value,
        resume=resume,
        overwrite=overwrite,
    )
    given = {
        "mr_landmarks": mr_landmarks,
        "ct_landmarks": ct_landmarks,
        "ct_vertebrae": ct_vertebrae,
        "ct_subregions": ct_subregions,
        "mr_vertebrae": mr_vertebrae,
    }
    tell = None if json else _tell
    if dataset is not None:
        if mr or ct or any(given.values()):
            raise typer.BadParameter("give a dataset folder, or the files of one pair, not both")
        done = register_dataset(dataset, options, out, tell)
    else:
        done = register_files(_pair(mr, ct, out, given), options, tell)
    if json:
        print_json(done.as_json())
    else:
        _show(done)
    raise typer.Exit(done.exit_code)


def _pair(
    mr: Path | None, ct: Path | None, out: Path | None, given: dict[str, Path | None]
) -> "Pair":
    from spinect.workflows.register import Pair

    if mr is None or ct is None or out is None:
        raise typer.BadParameter("give a dataset folder, or --mr, --ct and --out")
    return Pair(
        mr=mr,
        ct=ct,
        folder=out,
        key=str(mr),
        mr_landmarks=given["mr_landmarks"],
        ct_landmarks=given["ct_landmarks"],
        ct_vertebrae=given["ct_vertebrae"],
        ct_subregions=given["ct_subregions"],
        mr_vertebrae=given["mr_vertebrae"],
    )


def _tell(outcome: "Outcome", number: int, count: int) -> None:
    """One line to stderr for each pair as it ends."""
    head = f"[{number}/{count}] {outcome.pair.names.stem}"
    if outcome.record is None:
        say(f"{head} failed: {outcome.error}")
        return
    for warning in outcome.record.warnings:
        say(f"{head} warning: {warning}")
    say(f"{head} {outcome.status} in {outcome.seconds:.1f} s: {outcome.record.verdict}")


def _show(done: "Summary") -> None:
    """A table of the verdicts, and where to look."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    shown = [one for one in done.outcomes if one.record]
    if not shown:
        return
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    for heading in ("pair", "verdict", "mean mm", "95 %", "max", "left out", "reason"):
        table.add_column(heading, overflow="fold")
    for one in shown:
        r = one.record
        assert r is not None
        figures = (
            "-" if v is None else f"{v:.1f}" for v in (r.mean_mm, r.p95_mm, r.max_mm, r.loo_mm)
        )
        table.add_row(escape(one.pair.names.stem), r.verdict, *figures, escape(r.reason))
    console.print(table)
    console.print("look at:")
    for one in shown:  # apart from the table, so that a narrow terminal breaks no path
        console.print(f"  {one.pair.record.with_suffix('.png')}", soft_wrap=True, markup=False)
    if done.table is not None:
        console.print(f"all figures: {done.table}", soft_wrap=True)
    console.print("Not a medical device. Not for diagnosis.")
