"""`spinect phantom`, `train`, `demo`: making data, making models, seeing both at work."""

from pathlib import Path
from typing import Annotated

import typer

from spinect.cli import choices as c
from spinect.cli.guard import guarded, print_json


@guarded
def phantom(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Dataset folder.")],
    subjects: Annotated[int, typer.Option(min=1, help="How many.")] = 1,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            help="Subject i has seed S+i: below 1,000,000 for training, up to 1,999,999 for "
            "testing, above for validation.",
        ),
    ] = 0,
    region: Annotated[
        c.Region, typer.Option(help="Part of the spine, or a man's pelvis.")
    ] = c.Region.lumbar,
    contrast: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Some of T1w, T2w, STIR, water, fat, inphase, opposed, PDw, T2starw.",
        ),
    ] = "T1w,T2w",
    motion: Annotated[
        c.Motion, typer.Option(help="How the poses of MR and CT differ.")
    ] = c.Motion.none,
) -> None:
    """Phantom subjects with MR, CT, exact masks and landmarks."""
    from spinect.phantom.pair import write_dataset

    names = tuple(part.strip() for part in contrast.split(",") if part.strip())
    write_dataset(
        out,
        subjects=subjects,
        seed=seed,
        region=region.value,
        contrasts=names,
        motion=motion.value,
    )
    typer.echo(out)


@guarded
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file.")],
    run: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Run folder, resumed if it exists. Default runs/NAME."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="a.b=c", help="Change a field of the config."),
    ] = None,
    export: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a bundle at the end.")
    ] = None,
    checkpoint: Annotated[
        c.Checkpoint, typer.Option(help="What is exported; best: by the config's validation.")
    ] = c.Checkpoint.last,
) -> None:
    """Train a method; started again, it goes on where it stopped."""
    from spinect import training

    settings = training.load_config(config, overrides or [])
    training.check_checkpoint(settings, checkpoint.value)
    folder = training.train(settings, run or Path("runs") / config.stem)
    typer.echo(folder)
    if export is not None:
        training.export(folder, export, checkpoint=checkpoint.value)
        typer.echo(export)


@guarded
def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the outputs.")] = Path("demo"),
    seed: Annotated[
        int, typer.Option(min=1_000_000, max=1_999_999, help="Phantom that no training saw.")
    ] = 1_000_000,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the last demo.")] = False,
    device: c.DeviceOption = c.Device.auto,
    json: c.Json = False,
) -> None:
    """The main job on a phantom: MR -> synthetic CT -> masks -> comparison with the truth."""
    from rich.console import Console
    from rich.table import Table

    from spinect.cli.progress import ProgressLine
    from spinect.workflows.demo import demo as show

    with ProgressLine() as line:
        done = show(out, seed=seed, overwrite=overwrite, device=device.value, watcher=line)
    if json:
        print_json(done.as_json())
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("measure", "value", "what it says"):
        table.add_column(heading)
    for row in done.comparison:
        table.add_row(row.name, row.value, row.note)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"Phantom, not a patient. Report: {done.page}", soft_wrap=True)
