"""`spinect landmarks`: what the alignment of an MR and a CT starts from."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from spinect.cli import choices as c
from spinect.cli.guard import guarded, say


class Points(StrEnum):
    two = "two"
    all = "all"


class Format(StrEnum):
    poi = "poi"
    slicer = "slicer"


@guarded
def landmarks(
    vertebrae: Annotated[
        Path, typer.Option(metavar="MASK", help="Vertebrae, as ids or labels of --scheme.")
    ],
    subregions: Annotated[
        Path, typer.Option(metavar="MASK", help="Subregions (41-50) on the same grid.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="*_poi.json or *.mrk.json.")],
    points: Annotated[
        Points, typer.Option(help="Body and spinous process, or every subregion.")
    ] = Points.two,
    normalise_spinous: Annotated[
        bool,
        typer.Option(
            "--normalise-spinous",
            help="Second point at the body's height, 50 mm from its centre.",
        ),
    ] = False,
    scheme: Annotated[
        c.Scheme | None, typer.Option(help="Labels of the vertebra mask, if not ids.")
    ] = None,
    form: Annotated[
        Format, typer.Option("--format", help="TPTBox's JSON, or a point list of 3D Slicer.")
    ] = Format.poi,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that exists.")
    ] = False,
) -> None:
    """Landmarks from masks: centres of the body and the spinous process of every vertebra."""
    from spinect.workflows.landmarks import LandmarkOptions, make_landmarks

    options = LandmarkOptions(
        points=points.value,
        normalise_spinous=normalise_spinous,
        scheme=None if scheme is None else scheme.value,
        format=form.value,
    )
    made = make_landmarks(vertebrae, subregions, out, options, overwrite=overwrite)
    for text in made.warnings:
        say(f"warning: {text}")
    typer.echo(out)
