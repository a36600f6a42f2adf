"""How well the judge and the shipped segmenter segment true CT: what no synthetic CT can pass.

    python benchmarks/judge.py PHANTOMS [--real DIR] [--subjects 10]

PHANTOMS is the dataset of `main_job.py` (seeds 1,000,000 and following): the noise-free CT at 1 mm,
against the 1 mm truth. DIR is as for `real_ct.py`; only the CTs that no training saw are used, on
their own grid. Phantom data, and two real CTs.
"""

import argparse
import math
import statistics
from pathlib import Path

from common import publish, table
from real_ct import WITHHELD, score
from spinect.bundle import Bundle, load_bundle
from spinect.evaluation.measures import at
from spinect.evaluation.protocols.strict_segmentation import strict_segmentation
from spinect.geometry.resample import resample
from spinect.io import read, write_volume
from spinect.workflows.steps import segment

SEGMENTERS = ("benchmarks/judge", "vertebrae")  # a folder from the repository's root; shipped
FIGURES = (
    ("vertebra", "dice"),
    ("vertebral_body", "dice"),
    ("posterior", "dice"),
    ("vertebra", "nsd_1mm"),
    ("vertebra", "signed_distance"),
    ("vertebra", "identified"),
    ("vertebra", "spurious"),
    ("vertebra", "wrong_level"),
)


def phantom(truth: Path, bundle: Bundle) -> list[float]:
    """FIGURES of one subject's true CT."""
    stem = f"{truth.name}_space-iso"
    true = [
        read(truth / f"{stem}_desc-{kind}_dseg.nii.gz", "labels")
        for kind in ("vertebrae", "subregions")
    ]
    made = segment(read(truth / f"{stem}_ct.nii.gz", "ct"), model=bundle)
    got = [resample(mask, true[0].grid) for mask in (made.vertebrae, made.subregions)]
    values = strict_segmentation(*got, *true)
    return [at(values, region, metric) for region, metric in FIGURES]


def real(folder: Path, bundle: Bundle, out: Path) -> list[tuple[object, ...]]:
    """One row per withheld CT."""
    rows = []
    for name in WITHHELD:
        made = segment(read(folder / f"{name}_ct.nii.gz", "ct"), model=bundle)
        for kind, mask in (("vertebrae", made.vertebrae), ("subregions", made.subregions)):
            write_volume(mask, out / f"{name}_ct_desc-{kind}_dseg.nii.gz")
        rows.append((bundle.card.name, *score(folder, name, out)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("phantoms", type=Path)
    parser.add_argument("--real", type=Path, default=None)
    parser.add_argument("--subjects", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("runs/judge_check"))
    args = parser.parse_args()
    truths = sorted((args.phantoms / "derivatives" / "truth").iterdir())[: args.subjects]
    rows: list[tuple[object, ...]] = []
    seen: list[tuple[object, ...]] = []
    for name in SEGMENTERS:
        bundle = load_bundle(name)
        cases = [phantom(truth, bundle) for truth in truths]
        for text, gather in (("mean", statistics.fmean), ("SD", statistics.stdev)):
            columns = [[x for x in c if not math.isnan(x)] for c in zip(*cases, strict=True)]
            rows.append((bundle.card.name, text, *[gather(c) for c in columns]))
        if args.real is not None:
            args.out.mkdir(parents=True, exist_ok=True)
            seen += real(args.real, bundle, args.out)
    header = ["segmenter", f"of {len(truths)}", *[f"{r} {m}" for r, m in FIGURES]]
    body = "## True CT of phantoms, 1 mm\n\n" + table(header, rows)
    if seen:
        names = ["segmenter", "CT", "vertebrae", "Dice", "NSD 1 mm", "signed mm", "posterior Dice",
                 "least Dice", "right level"]  # fmt: skip
        body += "\n\n## Real CT that no training saw\n\n" + table(names, seen)
    publish("judge", "The judge on true CT", body)


if __name__ == "__main__":
    main()
