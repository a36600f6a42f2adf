"""The four questions of Lyu and Wang 2022, asked of the bundles of a finished experiment.

    python benchmarks/lyu2022.py RESULTS [--subjects 16] [--slices 8] [--draws 10]

RESULTS is the folder of `spinect compare` with the rows cnn, gan, ddpm, score_ve, score_vp,
score_subvp and edm (those that are missing are left out). On slices of test subjects: quality of
the models; quality and seconds of each sampler against network calls; what averaging gains, and
whether the spread is calibrated; sharpness of single draws. Every drawn set is kept in
RESULTS/slices, so that the script goes on where it stopped. Writes results/lyu2022.md and its
pictures, and RESULTS/slices/claims.json, which claims.py reads. Phantom data.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import RESULTS, publish, table
from lyu2022_claims import Found, decide
from lyu2022_plots import averaging, curves, gallery
from lyu2022_runs import AVERAGED, BUDGET, CALLS, COUNTS, WAYS, Experiment, averaged, single, still
from spinect.evaluation.regions import TISSUES
from spinect.evaluation.stats.intervals import t_interval
from spinect.evaluation.uncertainty import expected_gain

QUALITY = {"psnr": 2, "ssim": 3, "mae": 1, "spectrum": 2, "histogram": 1, "bone_dice": 3}
STILL = ("cnn", "cnn_l2", "gan")


def cell(values: Sequence[float], digits: int) -> str:
    """Mean and its 95 % t-interval over subjects."""
    found = t_interval(values)
    return f"{np.mean(values):.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def column(found: Found, *keys: str) -> list[float]:
    """One value of each subject."""
    values: list[Any] = list(found)
    for key in keys:
        values = [value[key] for value in values]
    return [float(value) for value in values]


def quality(rows: Mapping[str, Found]) -> str:
    """Every measure of every model; differences to the CNN are paired."""
    header = ("what", *QUALITY, "PSNR minus that of cnn")
    lines = []
    for name, found in rows.items():
        cells = [cell(column(found, key), digits) for key, digits in QUALITY.items()]
        gap = np.subtract(column(found, "psnr"), column(rows["cnn"], "psnr"))
        lines.append((name, *cells, "" if name == "cnn" else cell(gap.tolist(), 2)))
    return table(header, lines)


def samplers(ladder: Mapping[str, Sequence[Found]]) -> str:
    """Quality and cost of single draws."""
    header = ("sampler", "calls", "ms per slice", "psnr", "ssim", "mae")
    lines = []
    for name, steps in ladder.items():
        for found in steps:
            calls = f"{np.mean(column(found, 'calls')):.0f}"
            cost = f"{1000 * np.mean(column(found, 'seconds')):.0f}"
            cells = [cell(column(found, key), QUALITY[key]) for key in ("psnr", "ssim", "mae")]
            lines.append((name, calls, cost, *cells))
    return table(header, lines)


def means(sets: Mapping[str, Found], draws: int) -> str:
    """What averaging gains, and whether the spread tells the error."""
    counts = [count for count in COUNTS if 1 < count <= draws]
    header = ("sampler", "psnr of a draw", *(f"gain K={k}" for k in counts),
              *(f"ssim gain K={k}" for k in counts), *(f"skill {t}" for t in TISSUES),
              "coverage")  # fmt: skip
    lines = []
    for name, found in sets.items():
        cells = [cell(column(found, "K=1", "psnr"), 2)]
        for key, digits in (("psnr", 2), ("ssim", 3)):
            for count in counts:
                gain = np.subtract(column(found, f"K={count}", key), column(found, "K=1", key))
                cells.append(cell(gain.tolist(), digits))
        for tissue in TISSUES:
            known = [one[tissue]["skill"] for one in found if tissue in one]
            cells.append(cell(known, 2) if len(known) > 1 else "n/a")
        lines.append((name, *cells, cell(column(found, "coverage"), 3)))
    theory = ", ".join(f"{expected_gain(count):.2f} dB for K={count}" for count in counts)
    return table(header, lines) + f"\n\nExact draws would gain {theory}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--subjects", type=int, default=16)
    parser.add_argument("--slices", type=int, default=8)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--most", type=int, default=2000, help="network calls of a draw")
    args = parser.parse_args()
    whole = Experiment(args.results, args.subjects, args.slices)
    ways = [way for way in WAYS if way.row in whole.bundles]
    rows: dict[str, Found] = {row: still(whole, row) for row in STILL if row in whole.bundles}
    sets = {way.name: averaged(whole, way, args.draws) for way in ways if way.name in AVERAGED}
    ladder: dict[str, list[Found]] = {}
    for way in ways:
        asked = (BUDGET,) if way.fixed else [c for c in CALLS if c <= min(args.most, way.most)]
        ladder[way.name] = [single(whole, way, calls) for calls in asked]
    for name, found in sets.items():
        rows[f"{name}, one draw"] = [one["K=1"] for one in found]
        rows[f"{name}, mean of {args.draws}"] = [one[f"K={args.draws}"] for one in found]
    told = decide(rows, sets, ladder, args.draws)
    (args.results / "slices" / "claims.json").write_text(json.dumps(told, indent=1))
    RESULTS.mkdir(exist_ok=True)
    curves(ladder, {row: rows[row] for row in STILL if row in rows}, RESULTS / "lyu2022_calls.png")
    averaging(sets, RESULTS / "lyu2022_means.png")
    gallery(whole, [way for way in ways if way.name in AVERAGED], RESULTS / "lyu2022_slices.jpg")
    body = (
        f"Phantom data. {len(whole.scans)} test subjects, {args.slices} slices each, inside the "
        "patient; mean over subjects with 95 % t-interval. PSNR has the range 3024 HU; SSIM and "
        "spectrum are of single slices; seconds are of one core.\n\n"
        f"## Quality, at {BUDGET} network calls of a draw\n\n{quality(rows)}\n\n"
        f"## Samplers: one draw\n\n{samplers(ladder)}\n\n"
        f"## Averages of {args.draws} draws at {BUDGET} calls each\n\n{means(sets, args.draws)}"
        "\n\n## Claims (benchmarks/claims.yaml)\n\n"
        + table(("claim", "verdict", "what was found"),
                [(claim, one["word"], one["found"]) for claim, one in told.items()])
    )  # fmt: skip
    publish("lyu2022", "The questions of Lyu and Wang 2022, on phantoms", body)


if __name__ == "__main__":
    main()
