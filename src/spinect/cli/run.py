"""`spinect run`, `translate` and `segment`: three doors to one workflow."""

from pathlib import Path
from typing import Any

import typer

from spinect.cli import choices as c
from spinect.cli.guard import guarded, print_json


@guarded
def run(
    context: typer.Context,
    out: c.Out,
    mr: c.Inputs = None,
    list_file: c.ListFile = None,
    root: c.Root = None,
    volume: c.VolumeIndex = None,
    force: c.Force = False,
    model: c.Model = "mr2ct",
    mode: c.ModeOption = c.Mode.regress,
    samples: c.Samples = 10,
    interval: c.Interval = 0.8,
    steps: c.Steps = None,
    seed: c.Seed = 0,
    region: c.PartOption = c.Part.all,
    segmenter: c.Segmenter = "embedded",
    scheme: c.SchemeOption = c.Scheme.totalsegmentator,
    lowest: c.Lowest = None,
    highest: c.Highest = None,
    sacrum: c.SacrumOption = c.Sacrum.full,
    outputs: c.Outputs = "all",
    device: c.DeviceOption = c.Device.auto,
    precision: c.PrecisionOption = c.Precision.auto,
    max_memory: c.MaxMemory = "6G",
    resume: c.Resume = False,
    overwrite: c.Overwrite = False,
    shard: c.Shard = None,
    timeout: c.Timeout = None,
    json: c.Json = False,
) -> None:
    """Synthetic CT, vertebra masks and a report for each MR.

    A model that makes an MR takes CTs instead, and segments them if it is told to.

    Exit codes: 0 done, 1 an error, 2 wrong usage, 3 some of several cases failed,
    130 interrupted.
    """
    direction = _direction(model)
    source = context.get_parameter_source("segmenter")
    if direction and source is not None and source.name == "DEFAULT":
        segmenter = "none"  # nobody asked for masks of the CT
    asked = dict(
        model=model, mode=mode, samples=samples, interval=interval, steps=steps, seed=seed,
        region=region, segmenter=segmenter, scheme=scheme, lowest=lowest, highest=highest,
        sacrum=sacrum, volume=volume, device=device, precision=precision, resume=resume,
        overwrite=overwrite, timeout=timeout, force=force, **direction,
    )  # fmt: skip
    _go(mr, out, asked, outputs, max_memory, (list_file, root, shard), json)


@guarded
def translate(
    out: c.Out,
    mr: c.Inputs = None,
    list_file: c.ListFile = None,
    root: c.Root = None,
    volume: c.VolumeIndex = None,
    force: c.Force = False,
    model: c.Model = "mr2ct",
    mode: c.ModeOption = c.Mode.regress,
    samples: c.Samples = 10,
    interval: c.Interval = 0.8,
    steps: c.Steps = None,
    seed: c.Seed = 0,
    region: c.PartOption = c.Part.all,
    outputs: c.Outputs = "ct,std,iso,preview",
    device: c.DeviceOption = c.Device.auto,
    precision: c.PrecisionOption = c.Precision.auto,
    max_memory: c.MaxMemory = "6G",
    resume: c.Resume = False,
    overwrite: c.Overwrite = False,
    shard: c.Shard = None,
    timeout: c.Timeout = None,
    json: c.Json = False,
) -> None:
    """Synthetic CT only, without masks; or the synthetic MR of a CT, with a model for that."""
    asked = dict(
        model=model, mode=mode, samples=samples, interval=interval, steps=steps, seed=seed,
        region=region, segmenter="none", volume=volume, device=device, precision=precision,
        resume=resume, overwrite=overwrite, timeout=timeout, force=force, **_direction(model),
    )  # fmt: skip
    _go(mr, out, asked, outputs, max_memory, (list_file, root, shard), json)


@guarded
def segment(
    out: c.Out,
    ct: c.CtInputs = None,
    list_file: c.ListFile = None,
    root: c.Root = None,
    volume: c.VolumeIndex = None,
    force: c.Force = False,
    segmenter: c.Segmenter = "embedded",
    scheme: c.SchemeOption = c.Scheme.totalsegmentator,
    lowest: c.Lowest = None,
    highest: c.Highest = None,
    sacrum: c.SacrumOption = c.Sacrum.full,
    outputs: c.Outputs = "vertebrae,subregions,iso,table,preview,html",
    device: c.DeviceOption = c.Device.auto,
    precision: c.PrecisionOption = c.Precision.auto,
    max_memory: c.MaxMemory = "6G",
    resume: c.Resume = False,
    overwrite: c.Overwrite = False,
    shard: c.Shard = None,
    timeout: c.Timeout = None,
    json: c.Json = False,
) -> None:
    """Vertebra masks of a CT, synthetic or real."""
    asked = dict(
        kind="ct", segmenter=segmenter, scheme=scheme, lowest=lowest, highest=highest,
        sacrum=sacrum, volume=volume, device=device, precision=precision, resume=resume,
        overwrite=overwrite, timeout=timeout, force=force,
    )  # fmt: skip
    _go(ct, out, asked, outputs, max_memory, (list_file, root, shard), json)


def _direction(model: str) -> dict[str, str]:
    """Options of a model that makes an MR of a CT; none of any other."""
    from spinect.card import find_bundle, read_card

    card = read_card(find_bundle(model))
    return {"kind": "ct", "makes": card.makes} if card.image_kind == "mr" else {}


def _go(
    inputs: list[Path] | None,
    out: Path,
    asked: dict[str, Any],
    outputs: str,
    max_memory: str,
    where: tuple[Path | None, Path | None, str | None],
    json: bool,
) -> None:
    from spinect.cli.progress import ProgressLine
    from spinect.workflows.options import RunOptions, parse_outputs, parse_size
    from spinect.workflows.planning import parse_shard
    from spinect.workflows.run import run_files

    table, root, shard = where
    options = RunOptions.checked(
        **asked, outputs=parse_outputs(outputs), max_memory=parse_size(max_memory)
    )
    with ProgressLine() as line:
        summary = run_files(
            inputs or [],
            out,
            options,
            table=table,
            root=root,
            shard=parse_shard(shard) if shard else None,
            watcher=line,
        )
    if json:
        print_json(summary.as_json())
    else:
        _print_summary(summary)
    raise typer.Exit(summary.exit_code)


def _print_summary(summary: Any) -> None:
    """Where to look: the folder of one case, a table of several."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    shown = [outcome for outcome in summary.outcomes if outcome.record]
    if not shown:
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("case", "status", "vertebrae", "level from", "confidence", "look at"):
        table.add_column(heading, overflow="fold")
    for outcome in shown:
        record = outcome.record
        found = record.vertebrae
        span = f"{found[0]}-{found[-1]} ({len(found)})" if found else "-"
        trust = "-" if record.confidence is None else f"{record.confidence:.2f}"
        table.add_row(
            escape(outcome.case.stem), outcome.status, span, record.level_source or "-", trust,
            escape(str(_best(outcome))),
        )  # fmt: skip
    console.print(table)
    console.print("Not a medical device. Not for diagnosis.")


def _best(outcome: Any) -> Path:
    """The output that a person wants to open first."""
    for end in (".html", "_preview.png"):
        path: Path = outcome.case.output(end)
        if path.name in outcome.record.outputs:
            return path
    folder: Path = outcome.case.folder
    return folder
