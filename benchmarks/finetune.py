"""What fine-tuning on five subjects gives on a contrast that the weights never saw, and costs.

    python benchmarks/finetune.py [--out runs/finetune] [--contrast T2starw] [--subjects 6]

Five training phantoms of the withheld contrast; `configs/finetune.yaml`; then the test phantoms
(seeds 1,000,000 and following) in that contrast and in T1w and T2w, before and after. Phantom data.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from common import publish, table
from main_job import FIRST_SEED, near_bone_error
from spinect.evaluation.stats.intervals import bca
from spinect.phantom.withheld import WITHHELD

OLD = ("T1w", "T2w")
TRAINING = 5  # subjects


def spinect(*arguments: object) -> None:
    """A command, as a user calls it."""
    done = subprocess.run([sys.executable, "-m", "spinect", *map(str, arguments)], check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(f"spinect {arguments[0]} ended with exit code {done.returncode}")


def phantoms(folder: Path, subjects: int, seed: int, contrasts: str) -> None:
    """Write a dataset once."""
    if not (folder / "participants.tsv").exists():
        spinect("phantom", folder, "--subjects", subjects, "--seed", seed,
                "--contrast", contrasts, "--motion", "none")  # fmt: skip


def errors(folder: Path, contrast: str, model: str, out: Path) -> list[float]:
    """Mean absolute error near bone of every test subject, HU."""
    scans = sorted(folder.glob(f"sub-*/anat/*_{contrast}.nii.gz"))
    spinect("translate", *scans, "-o", out, "--model", model, "--resume")
    return [near_bone_error(scan, out)[0] for scan in scans]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/finetune"))
    parser.add_argument("--contrast", choices=sorted(WITHHELD), default="T2starw")
    parser.add_argument("--subjects", type=int, default=6)
    args = parser.parse_args()
    few, test = args.out / f"train-{args.contrast}", args.out / "test"
    phantoms(few, TRAINING, 0, args.contrast)
    phantoms(test, args.subjects, FIRST_SEED, ",".join([*OLD, *sorted(WITHHELD)]))
    bundle, run = args.out / f"bundle-{args.contrast}", args.out / f"run-{args.contrast}"
    config = Path(__file__).parents[1] / "configs" / "finetune.yaml"
    start = time.perf_counter()
    spinect("train", config, "--run", run, "--export", bundle,
            "--set", f"data.folder={few}", "--set", f"data.contrast={args.contrast}")  # fmt: skip
    minutes = (time.perf_counter() - start) / 60
    rows = []
    for contrast in (args.contrast, *OLD):
        before = np.array(errors(test, contrast, "mr2ct", args.out / "before"))
        after = np.array(errors(test, contrast, str(bundle), args.out / f"after-{args.contrast}"))
        change = 100 * (after - before) / before
        interval = bca(change)
        rows.append((
            contrast, "new" if contrast == args.contrast else "old", len(before),
            float(before.mean()), float(after.mean()),
            f"{change.mean():+.1f} % ({interval.low:+.1f} to {interval.high:+.1f})",
        ))  # fmt: skip
    header = ("contrast", "", "subjects", "before, HU", "after, HU", "change (95 % BCa)")
    publish(
        "finetune",
        f"Fine-tuning on {TRAINING} phantoms of a contrast that was never seen",
        f"Phantom data. Mean absolute error near bone; {minutes:.1f} minutes of wall time for the "
        f"training of this start.\n\n{table(header, rows)}",
    )


if __name__ == "__main__":
    main()
