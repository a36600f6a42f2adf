"""`spinect check` and `spinect import`: datasets that can be trusted."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spinect.cli import choices as c
from spinect.cli.guard import guarded, print_json, say

if TYPE_CHECKING:
    from spinect.workflows.check import Report
    from spinect.workflows.check.mending import Fixed
    from spinect.workflows.importers.case import Planned

importers = typer.Typer(
    name="import",
    help="A foreign collection into a dataset folder, split by patient.",
    no_args_is_help=True,
)

Source = Annotated[Path, typer.Argument(metavar="SOURCE", help="Where the collection lies.")]
Out = Annotated[
    Path, typer.Option("-o", "--out", metavar="DATASET", help="New or empty dataset folder.")
]
Split = Annotated[
    str, typer.Option(metavar="A,B,C", help="Shares of train, validation, test; whole patients.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of the split.")]
Contrast = Annotated[
    str, typer.Option(metavar="NAME", help="Suffix of the MR, such as T1w or T2w.")
]
_SHARES = "0.7,0.15,0.15"


@guarded
def check(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Dataset folder.")],
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend what is safe to mend; the old files are kept.")
    ] = False,
    json: c.Json = False,
) -> None:
    """Look for everything that would spoil a training; exit code 1 when there are errors."""
    from spinect.workflows import check as checker

    report = checker.check(dataset, None if json else say)
    fixed = checker.fix(dataset, report) if fix else []
    if fixed:
        report = checker.check(dataset)
    if json:
        print_json(report.as_json() | {"fixed": [one.as_json() for one in fixed]})
    else:
        _show(report, fixed)
    raise typer.Exit(0 if report.ok else 1)


def _show(report: "Report", fixed: Sequence["Fixed"]) -> None:
    for one in fixed:
        if one.problem:
            typer.echo(f"not mended  {one.file}: {one.problem}")
        else:
            kept = f", the old one is {one.backup}" if one.backup else ""
            typer.echo(f"mended  {one.file}: {one.finding.text}{kept}")
    for finding in report.findings:
        typer.echo(f"{finding.severity:<8} {finding.code:<20} {finding.file}: {finding.text}")
        typer.echo(f"{'':<29} -> {finding.todo}{' (--fix)' if finding.mend else ''}")
    typer.echo(report.summary)


@importers.command("gold-atlas")
@guarded
def gold_atlas(
    source: Source, out: Out, split: Split = _SHARES, seed: Seed = 0, json: c.Json = False
) -> None:
    """Gold Atlas male pelvis: zips or DICOM folders 1_01_P ... 3_04_P."""
    from spinect.workflows.importers import gold_atlas as layout

    _write(lambda: layout.plan(source, out.parent), out, "gold-atlas", (split, seed, json))


@importers.command()
@guarded
def synthrad(
    source: Source,
    out: Out,
    contrast: Contrast = "mr",
    split: Split = _SHARES,
    seed: Seed = 0,
    json: c.Json = False,
) -> None:
    """SynthRAD2023 or 2025, task 1: a folder or an archive with CASE/{mr,ct,mask}."""
    from spinect.io.archives import unpacked
    from spinect.workflows.importers import synthrad as layout

    with unpacked(source, out.parent) as folder:
        _write(lambda: layout.plan(folder, contrast), out, "synthrad", (split, seed, json))


@importers.command()
@guarded
def folders(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Folder of the MRs.")],
    ct: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the CTs, equal names.")],
    out: Out,
    contrast: Contrast = "T2w",
    aligned: Annotated[
        bool, typer.Option("--aligned", help="The CTs lie on the grids of their MRs.")
    ] = False,
    split: Split = _SHARES,
    seed: Seed = 0,
    json: c.Json = False,
) -> None:
    """Two folders, one of MRs and one of CTs, whose files have equal names."""
    from spinect.workflows.importers import files as layout

    _write(
        lambda: layout.plan_folders(source, ct, contrast, aligned),
        out,
        "folders",
        (split, seed, json),
    )


@importers.command()
@guarded
def table(
    source: Annotated[Path, typer.Argument(metavar="TABLE.tsv", help="One row per MR series.")],
    out: Out,
    contrast: Contrast = "T2w",
    split: Split = _SHARES,
    seed: Seed = 0,
    json: c.Json = False,
) -> None:
    """A table with columns participant_id, mr, ct and more; paths relative to it."""
    from spinect.workflows.importers import files as layout

    _write(lambda: layout.plan_table(source, contrast), out, "table", (split, seed, json))


def _write(
    plan: Callable[[], "Sequence[Planned]"],
    out: Path,
    importer: str,
    how: tuple[str, int, bool],
) -> None:
    """Import, say what was done; exit code 3 when some patients were rejected."""
    from spinect.io.splits import parse_shares
    from spinect.workflows.importers.write import write_dataset

    split, seed, json = how
    shares = parse_shares(split)
    done = write_dataset(plan(), out, importer, shares, seed, None if json else say)
    if json:
        print_json(done.as_json())
    else:
        for name, notes in done.done.items():
            for note in notes:
                typer.echo(f"note      {name}: {note}")
        for name, reason in done.rejected.items():
            typer.echo(f"rejected  {name}: {reason}")
        typer.echo(f"{len(done.done)} imported, {len(done.rejected)} rejected: {out}")
    if done.rejected:
        raise typer.Exit(3)
