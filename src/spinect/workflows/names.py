"""Names of the output files: the stem of the input, then one of these ends."""

import re
from pathlib import Path
from typing import Final

from spinect.io.read import SUFFIXES
from spinect.workflows.options import RunOptions

ISO: Final = "_space-iso"
CT: Final = "_desc-synth_ct.nii.gz"
VERTEBRAE: Final = "_desc-vertebrae_dseg"
SUBREGIONS: Final = "_desc-subregions_dseg"
REGION: Final = "_desc-region_mask"
TABLE: Final = "_vertebrae.tsv"
PREVIEW: Final = "_preview.png"
PAGE: Final = ".html"
RECORD: Final = "_run.json"
# Output of a Monte-Carlo run -> name of each of its volumes -> end without suffix. Each has a
# sidecar of that name, which also holds for its 1 mm twin.
LAYERS: Final[dict[str, dict[str, str]]] = {
    "std": {"std": "_desc-std_ct"},
    "interval": {"lower": "_desc-lower_ct", "upper": "_desc-upper_ct"},
    "medoid": {"medoid": "_desc-medoid_ct"},
    "votes": {"probability": "_desc-vertebrae_probseg", "voted": "_desc-voted_dseg"},
}
_SIMPLE: Final = {"table": TABLE, "preview": PREVIEW, "html": PAGE}


def output_ends(options: RunOptions) -> list[str]:
    """Ends of the file names that a run with these options writes, run.json last."""
    chosen = set(options.outputs)
    if options.segmenter == "none":
        chosen -= {"vertebrae", "subregions", "table"}
    if not options.translates:
        chosen -= {"ct"}
    spaces = ("", ISO) if "iso" in chosen else ("",)
    ends = []
    if "ct" in chosen:
        ends += [space + synthetic(options) for space in spaces]
    for end in layer_ends(options).values():
        ends += [f"{space}{end}.nii.gz" for space in spaces]
        ends += [f"{space}{end}.tsv" for space in spaces if end.endswith("_dseg")]
        ends.append(f"{end}.json")
    for mask, end in (("vertebrae", VERTEBRAE), ("subregions", SUBREGIONS)):
        if mask in chosen:
            for space in spaces:
                ends += [f"{space}{end}.nii.gz", f"{space}{end}.tsv"]
    if options.region != "all":
        ends += [*(f"{space}{REGION}.nii.gz" for space in spaces), f"{REGION}.json"]
    ends += [end for key, end in _SIMPLE.items() if key in chosen]
    return [*ends, RECORD]


def layer_ends(options: RunOptions) -> dict[str, str]:
    """Name -> end of the volumes that tell of the samples, as far as these options write them."""
    if options.mode != "mc" or not options.translates:
        return {}
    chosen = [output for output in LAYERS if output in options.outputs]
    return {
        name: synthetic(options, end) for output in chosen for name, end in LAYERS[output].items()
    }


def synthetic(options: RunOptions, end: str = CT) -> str:
    """The end of what is made, or of what tells of it: that of a CT, or of an MR by its suffix."""
    return re.sub(r"_ct(?=\.|$)", f"_{options.makes}", end)


def stem_of(source: Path) -> str:
    """File name without its image suffix; other suffixes stay, so names never merge silently."""
    for suffix in SUFFIXES:
        if source.name.lower().endswith(suffix):
            return source.name[: -len(suffix)] or source.name
    return source.name
