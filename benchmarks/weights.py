"""Which weights ship: candidates scored on labelled real MR by a rule that was written first.

    python benchmarks/weights.py DIR mr2ct NAME=BUNDLE ... [--out runs/weights]

DIR is as for `real_mr.py`. The first bundle is the one that ships now; the others are candidates,
at most six in all. The score of a bundle is the mean over sources (VB1, VB2, VB3, SPIDER) of the
mean over its scans of (Dice + NSD at 2 mm) / 2; Dice is of bodies or, for SPIDER, of whole
vertebrae; a scan without a result counts 0. A candidate wins over the one that is held only if the
95 % interval of its gain (scans resampled within their source, in pairs) lies above 0; where the
interval holds 0, the bundle of fewer parameters is kept, of equal ones the one that is held. See
docs/decisions/0007-how-weights-are-chosen.md. Every figure is "selected on these scans".
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common import publish, run_spinect, table
from real_mr import SOURCES, score_folder
from spinect.bundle import load_bundle

MOST = 6  # candidates, the shipped bundle not counted
DRAWS = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class Scored:
    """One bundle: its parameters, and (Dice + NSD at 2 mm) / 2 of each scan."""

    name: str
    parameters: int
    hours: float  # of training, as its card says
    scans: Mapping[str, float]


@dataclass(frozen=True)
class Choice:
    """A candidate against the bundle that was held before it."""

    gain: float
    low: float
    high: float
    wins: bool


def by_source(scans: Mapping[str, float]) -> dict[str, list[float]]:
    """Values of the scans of each source, in the order of their names."""
    groups = {
        source: [scans[name] for name in sorted(scans) if name.startswith(prefix)]
        for prefix, source in SOURCES.items()
    }
    return {source: values for source, values in groups.items() if values}


def score(scans: Mapping[str, float]) -> float:
    """The mean over sources of the mean over scans: sources count alike, however many scans."""
    return float(np.mean([np.mean(values) for values in by_source(scans).values()]))


def gain_interval(
    new: Mapping[str, float], old: Mapping[str, float], seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap of the gain: scans are drawn within their source, in pairs."""
    if set(new) != set(old):
        raise SystemExit(f"not the same scans: {sorted(set(new) ^ set(old))}")
    rng = np.random.default_rng(seed)
    change = {name: new[name] - old[name] for name in new}
    means: list[NDArray[np.float64]] = []
    for values in by_source(change).values():
        drawn = rng.integers(0, len(values), (DRAWS, len(values)))
        means.append(np.asarray(values)[drawn].mean(axis=1))
    low, high = np.quantile(np.mean(means, axis=0), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def choose(candidate: Scored, held: Scored) -> Choice:
    """The rule: a clear gain wins, a clear loss loses, else the fewer parameters."""
    low, high = gain_interval(candidate.scans, held.scans)
    undecided = low <= 0 <= high
    wins = candidate.parameters < held.parameters if undecided else low > 0
    return Choice(score(candidate.scans) - score(held.scans), low, high, wins)


def measure(name: str, bundle: str, folder: Path, out: Path) -> Scored:
    """Run a bundle on every scan (finished ones are kept) and score what it made."""
    loaded = load_bundle(bundle)
    parameters = sum(p.numel() for p in loaded.method.parameters())
    run_spinect(sorted(folder.glob("*_mr.nii.gz")), out / name, "--model", bundle)
    rows = score_folder(folder, out / name)
    (out / f"{name}.json").write_text(json.dumps([asdict(row) for row in rows], indent=1))
    scans = {row.name: (row.main + row.nsd_2mm) / 2 for row in rows}
    return Scored(name, parameters, float(loaded.card.training.hours or 0), scans)


def report(every: Sequence[Scored], choices: Sequence[Choice | None], winner: str) -> str:
    """One row per bundle, in the order in which they were compared."""
    sources = list(by_source(every[0].scans))
    header = (
        "bundle",
        "million parameters",
        "hours",
        "score",
        *sources,
        "gain",
        "interval",
        "kept",
    )
    lines = []
    for one, choice in zip(every, choices, strict=True):
        groups = [float(np.mean(v)) for v in by_source(one.scans).values()]
        told = ("", "", "") if choice is None else (
            f"{choice.gain:+.3f}", f"{choice.low:+.3f} to {choice.high:+.3f}",
            "yes" if choice.wins else "no",
        )  # fmt: skip
        first = (one.name, round(one.parameters / 1e6, 2), one.hours, score(one.scans), *groups)
        lines.append((*first, *told))
    return (
        "Score: mean over sources of (Dice + NSD at 2 mm) / 2. **Selected on these scans**: the "
        "figures of the bundle that is kept are not those of unseen scans.\n\n"
        + table(header, lines)
        + f"\n\nKept: {winner}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("bundles", nargs="+", help="the shipped one, then NAME=BUNDLE each")
    parser.add_argument("--out", type=Path, default=Path("runs/weights"))
    args = parser.parse_args()
    named = [text.partition("=") for text in args.bundles]
    if len(named) - 1 > MOST:
        raise SystemExit(f"{len(named) - 1} candidates; the rule allows {MOST}")
    args.out.mkdir(parents=True, exist_ok=True)
    every = [measure(n, b or n, args.folder, args.out) for n, _, b in named]
    held, choices = every[0], [None]
    for candidate in every[1:]:
        choices.append(choice := choose(candidate, held))
        held = candidate if choice.wins else held
    publish("weights", "Candidates for the shipped weights", report(every, choices, held.name))


if __name__ == "__main__":
    main()
