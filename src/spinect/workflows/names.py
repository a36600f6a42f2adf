"""Names of the output files: the stem of the input, then one of these ends."""

from pathlib import Path
from typing import Final

from spinect.io.read import SUFFIXES
from spinect.workflows.options import RunOptions

ISO: Final = "_space-iso"
CT: Final = "_desc-synth_ct.nii.gz"
STD: Final = "_desc-std_ct.nii.gz"
VERTEBRAE: Final = "_desc-vertebrae_dseg"
SUBREGIONS: Final = "_desc-subregions_dseg"
TABLE: Final = "_vertebrae.tsv"
PREVIEW: Final = "_preview.png"
PAGE: Final = ".html"
RECORD: Final = "_run.json"
_SIMPLE: Final = {"table": TABLE, "preview": PREVIEW, "html": PAGE}


def output_ends(options: RunOptions) -> list[str]:
    """Ends of the file names that a run with these options writes, run.json last."""
    chosen = set(options.outputs)
    if options.segmenter == "none":
        chosen -= {"vertebrae", "subregions", "table"}
    if not options.translates:
        chosen -= {"ct", "std"}
    ends = []
    if "ct" in chosen:
        ends.append(synthetic(options))
        if "iso" in chosen:
            ends.append(ISO + synthetic(options))
    if "std" in chosen and options.mode == "mc":
        ends.append(synthetic(options, STD))
    for mask, end in (("vertebrae", VERTEBRAE), ("subregions", SUBREGIONS)):
        if mask in chosen:
            for space in ("", ISO) if "iso" in chosen else ("",):
                ends += [f"{space}{end}.nii.gz", f"{space}{end}.tsv"]
    ends += [end for key, end in _SIMPLE.items() if key in chosen]
    return [*ends, RECORD]


def synthetic(options: RunOptions, end: str = CT) -> str:
    """The end of what is made, or of its spread: that of a CT, or of an MR by its suffix."""
    return end.replace("_ct.", f"_{options.makes}.")


def stem_of(source: Path) -> str:
    """File name without its image suffix; other suffixes stay, so names never merge silently."""
    for suffix in SUFFIXES:
        if source.name.lower().endswith(suffix):
            return source.name[: -len(suffix)] or source.name
    return source.name
