"""Options that several commands share, with their help; the defaults are those of RunOptions."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Mode(StrEnum):
    regress = "regress"
    sample = "sample"
    mc = "mc"


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Precision(StrEnum):
    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class Sacrum(StrEnum):
    full = "full"
    single = "single"


class Scheme(StrEnum):
    totalsegmentator = "totalsegmentator"
    verse = "verse"
    spineps = "spineps"


class Region(StrEnum):
    lumbar = "lumbar"
    thoracic = "thoracic"
    cervical = "cervical"
    whole = "whole"
    pelvis = "pelvis"


class Part(StrEnum):
    all = "all"
    spine = "spine"


class Motion(StrEnum):
    none = "none"
    rigid = "rigid"
    articulated = "articulated"


class Checkpoint(StrEnum):
    last = "last"
    best = "best"


_IN, _MODEL, _MASKS, _RUN = "Inputs", "Synthetic CT", "Masks", "How it runs"

Inputs = Annotated[
    list[Path] | None,
    typer.Argument(metavar="MR...", help="Spine MR: .nii, .nii.gz, .mha, .mhd, .nrrd."),
]
CtInputs = Annotated[
    list[Path] | None,
    typer.Argument(metavar="CT...", help="Spine CT in HU: .nii, .nii.gz, .mha, .mhd, .nrrd."),
]
Out = Annotated[Path, typer.Option("-o", "--out", help="Folder of the outputs.")]
RunFolder = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--out",
        metavar="DIR",
        help="Folder, gone on with if it exists. Default runs/NAME.",
    ),
]
ListFile = Annotated[
    Path | None,
    typer.Option(
        "--list",
        metavar="FILE.tsv",
        help="Table with a column mr (and volume, lowest, highest); paths relative to it.",
        rich_help_panel=_IN,
    ),
]
Root = Annotated[
    Path | None,
    typer.Option(help="Mirror the tree below DIR in OUT.", metavar="DIR", rich_help_panel=_IN),
]
VolumeIndex = Annotated[
    int | None,
    typer.Option("--volume", min=0, help="Which volume of a 4D file.", rich_help_panel=_IN),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Take the file even if it looks wrong.", rich_help_panel=_IN),
]
Model = Annotated[
    str, typer.Option(help="Shipped model, or a bundle's folder.", rich_help_panel=_MODEL)
]
ModeOption = Annotated[
    Mode,
    typer.Option(
        help="One call, one draw, or mean and spread of many draws.", rich_help_panel=_MODEL
    ),
]
Samples = Annotated[int, typer.Option(min=2, help="Draws of mode mc.", rich_help_panel=_MODEL)]
Interval = Annotated[
    float,
    typer.Option(help="Least nominal coverage of output interval.", rich_help_panel=_MODEL),
]
Steps = Annotated[
    int | None,
    typer.Option(min=1, help="Network calls per draw.", rich_help_panel=_MODEL),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the noise.", rich_help_panel=_MODEL)]
PartOption = Annotated[
    Part,
    typer.Option(
        "--region",
        help="Translate all, or only a box around the spine; outside it the CT is air.",
        rich_help_panel=_MODEL,
    ),
]
Segmenter = Annotated[
    str,
    typer.Option(
        help='embedded, direct, none or command:"PROGRAM {input} {output}"; where an MR is made of '
        "a CT, nothing is segmented unless embedded is written.",
        rich_help_panel=_MASKS,
    ),
]
SchemeOption = Annotated[
    Scheme, typer.Option(help="Labels of the command's output.", rich_help_panel=_MASKS)
]
Lowest = Annotated[
    str | None,
    typer.Option(
        metavar="LEVEL", help="Lowest vertebra in the image, such as L5.", rich_help_panel=_MASKS
    ),
]
Highest = Annotated[
    str | None,
    typer.Option(metavar="LEVEL", help="Highest vertebra in the image.", rich_help_panel=_MASKS),
]
SacrumOption = Annotated[
    Sacrum, typer.Option(help="S1-S5 apart, or one label.", rich_help_panel=_MASKS)
]
DeviceOption = Annotated[Device, typer.Option(help="Where it runs.", rich_help_panel=_RUN)]
PrecisionOption = Annotated[Precision, typer.Option(help="Of the networks.", rich_help_panel=_RUN)]
MaxMemory = Annotated[
    str,
    typer.Option(metavar="SIZE", help="Memory it may take.", rich_help_panel=_RUN),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Keep what is up to date.", rich_help_panel=_RUN)
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Make all outputs anew.", rich_help_panel=_RUN)
]
Shard = Annotated[
    str | None,
    typer.Option(metavar="i/n", help="Only the i-th of n parts.", rich_help_panel=_RUN),
]
Timeout = Annotated[
    float | None,
    typer.Option(metavar="S", min=0.001, help="Seconds per case.", rich_help_panel=_RUN),
]
Outputs = Annotated[
    str,
    typer.Option(
        metavar="LIST",
        help="all, or some of ct, std, vertebrae, subregions, iso, table, preview, html; "
        "mode mc also has interval, medoid, votes: all,votes.",
        rich_help_panel=_RUN,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Result as JSON on stdout.")]
