"""Does the doubt of `spinect run --mode mc` find the bad vertebrae of real MR?

    spinect run $SPINECT_REALDATA/mr_dev/VB*_mr.nii.gz -o RESULTS --model BUNDLE --mode mc \\
        --outputs ct,std,vertebrae,subregions,iso,table,votes
    python benchmarks/risk_coverage.py RESULTS [--truth DIR] [--out DIR] [--name NAME]

DIR holds NAME_mr.nii.gz with NAME_gt.nii.gz, by default mr_dev in $SPINECT_REALDATA; labels count
vertebral bodies from below, label 1 of VB1 is S1 and is not scored. Labels that do not tell
vertebrae apart (SPIDER) cannot be used. Each true body is matched one-to-one by overlap with the
body of a vertebra that was found, whose row of vertebrae.tsv has the doubt: 1 - confidence (the
draws' agreement, output votes), and the spread of the draws. Bodies that were not found have no
row and are counted beside the curve, not on it. Vertebrae of one patient are not independent:
read a correlation as a description, not as a test.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from common import publish, table
from spinect.anatomy import BODY, SACRUM
from spinect.errors import ConfigError
from spinect.evaluation.ordering import RiskCoverage, rank_correlation, risk_coverage
from spinect.evaluation.overlap import overlaps
from spinect.geometry import Volume
from spinect.io import read
from spinect.workflows import names
from spinect.workflows.outputs import read_rows

SOURCES = ("VB1", "VB2", "VB3")
SHARES = (0.5, 0.75, 0.9, 1.0)  # of the bodies that are kept, in the table
COLOURS = {"1 - confidence": "#0b66a8", "spread_hu": "#c2410c"}


@dataclass(frozen=True)
class Body:
    """One labelled vertebral body; confidence and spread are NaN where the table has none."""

    scan: str
    dice: float
    confidence: float = float("nan")
    spread_hu: float = float("nan")
    found: bool = True

    @property
    def doubts(self) -> dict[str, float]:
        """The larger, the worse."""
        return {"1 - confidence": 1 - self.confidence, "spread_hu": self.spread_hu}


def bodies(
    scan: str,
    truth: Volume,
    vertebrae: Volume,
    subregions: Volume,
    rows: Sequence[dict[str, object]],
) -> list[Body]:
    """Every scored body of a scan with what the table says of the vertebra it was matched to."""
    known = {int(float(str(row["id"]))): row for row in rows}
    skipped = {1} if scan.startswith("VB1") else set()  # S1
    found = np.where(np.isin(subregions.data, BODY), vertebrae.data, 0)
    found[np.isin(found, list(SACRUM))] = 0
    shared = overlaps(found, truth.data)
    partner = shared.pairs()
    out = []
    for number in sorted(set(shared.true_ids.tolist()) - skipped):
        if number not in partner:
            out.append(Body(scan, 0.0, found=False))
            continue
        row = known[partner[number]]
        out.append(
            Body(
                scan,
                shared.dice(number, partner[number]),
                _number(row.get("confidence")),
                _number(row.get("spread_hu")),
            )
        )
    return out


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def read_folder(results: Path, truth: Path) -> list[Body]:
    """The bodies of every labelled scan that has results.

    Raises:
        ConfigError: There is none.
    """
    out: list[Body] = []
    for label in sorted(truth.glob("*_gt.nii.gz")):
        scan = label.name.removesuffix("_gt.nii.gz")
        stem = results / f"{scan}_mr"
        if not scan.startswith(SOURCES) or not Path(f"{stem}{names.TABLE}").exists():
            continue
        images = [
            read(Path(f"{stem}{end}.nii.gz"), "labels")
            for end in (names.VERTEBRAE, names.SUBREGIONS)
        ]
        rows = read_rows(Path(f"{stem}{names.TABLE}"))
        out += bodies(scan, read(label, "labels"), *images, rows)
    if not out:
        raise ConfigError(
            f"{results} holds no table of a labelled scan of {truth}: run spinect on its "
            f"{', '.join(SOURCES)} first"
        )
    return out


def curve(chosen: Sequence[Body], which: str) -> tuple[float, RiskCoverage] | None:
    """Spearman's correlation of a doubt with the Dice, and its curve; None without two values."""
    kept = [b for b in chosen if b.found and np.isfinite(b.doubts[which])]
    if len(kept) < 2:
        return None
    score = np.array([b.dice for b in kept])
    doubt = np.array([b.doubts[which] for b in kept])
    return rank_correlation(doubt, score), risk_coverage(1 - score, doubt)


def summary(found: Sequence[Body]) -> str:
    """A row per source and doubt; risk is 1 - body Dice."""
    header = ("source", "doubt", "scans", "bodies", "not found", "Spearman with Dice")
    header += tuple(f"risk of {share:.0%}" for share in SHARES)
    header += ("AURC", "of the best order", "of none")
    lines = []
    for source in (*SOURCES, "all"):
        group = [b for b in found if source == "all" or b.scan.startswith(source)]
        lost = sum(not b.found for b in group)
        for doubt in COLOURS:
            if (made := curve(group, doubt)) is None:
                continue
            rho, got = made
            at = [float(got.risk[max(round(s * len(got.risk)), 1) - 1]) for s in SHARES]
            count = len({b.scan for b in group}), len(got.risk), lost
            areas = got.aurc, got.aurc - got.excess, got.blind
            lines.append((source, doubt, *count, rho, *at, *areas))
    if not lines:
        raise ConfigError("no table has a confidence or a spread: run spinect with --mode mc")
    return table(header, lines)


def draw(found: Sequence[Body], path: Path) -> None:
    """The curves of all sources together, PNG."""
    figure = Figure(figsize=(6, 4), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for doubt, colour in COLOURS.items():
        if (made := curve(found, doubt)) is not None:
            got = made[1]
            axes.plot(got.coverage, got.risk, color=colour, label=doubt)
            axes.plot(got.coverage, got.oracle, color=colour, ls=":", lw=1)
            axes.axhline(got.blind, color=colour, ls="--", lw=0.8, alpha=0.6)
    axes.set(
        xlabel="share of vertebral bodies kept, the surest first",
        ylabel="mean risk, 1 - Dice",
        xlim=(0, 1),
        ylim=(0, None),
    )
    axes.legend(title="dotted: best order, dashed: none", frameon=False)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    real = os.environ.get("SPINECT_REALDATA")
    default = Path(real) / "mr_dev" if real else None
    parser.add_argument("--truth", type=Path, default=default, required=default is None)
    parser.add_argument("--out", type=Path, default=Path("runs/risk_coverage"))
    parser.add_argument("--name", default="risk_coverage", help="name of the file under results/")
    args = parser.parse_args()
    found = read_folder(args.results, args.truth)
    args.out.mkdir(parents=True, exist_ok=True)
    draw(found, args.out / f"{args.name}.png")
    publish(args.name, "Doubt and Dice on real MR", summary(found))


if __name__ == "__main__":
    main()
