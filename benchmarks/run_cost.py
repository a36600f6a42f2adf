"""Time and memory of `spinect run` on a lumbar series and on a whole spine; phantom data.

    python benchmarks/run_cost.py [--repeats 3] [--options "--segmenter direct"]

The series have 20 sagittal slices of 4 mm with 0.55 mm in plane: 512 x 512, and 512 x 1400. Each
run is a process of its own, on two cores at most; seconds on the wall from its start to its end,
imports and writing included, and the peak of its resident memory.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from common import publish, table
from spinect.geometry import Grid, resample
from spinect.io import read, write_volume

SEED = 1_000_100
SPACING = (4.0, 0.55, 0.55)  # left-right, front-back, feet-head, mm
SERIES = {"lumbar": (20, 512, 512), "whole": (20, 512, 1400)}


def series(folder: Path, region: str) -> Path:
    """A T2w phantom of the region on the series' grid, which covers more than the phantom does."""
    target = folder / f"{region}_T2w.nii.gz"
    if not target.exists():
        made = folder / region
        command = [sys.executable, "-m", "spinect", "phantom", str(made), "--subjects", "1"]
        command += ["--seed", str(SEED), "--region", region, "--contrast", "T2w"]
        subprocess.run([*command, "--motion", "none"], check=True)
        subject = f"sub-{SEED}"
        mr = read(made / subject / "anat" / f"{subject}_T2w.nii.gz", "mr")
        old, shape = mr.grid, SERIES[region]
        middle = old.affine @ np.append((np.array(old.shape) - 1) / 2, 1)
        affine = np.diag([*SPACING, 1.0])
        affine[:3, 3] = middle[:3] - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
        # Noise outside the phantom too: zeros would be cropped away before the work.
        wide = resample(mr, Grid(shape, affine))
        noise = np.random.default_rng(SEED).rayleigh(0.01 * float(wide.data.max()), shape)
        write_volume(wide.with_data(np.maximum(wide.data, noise.astype(np.float32))), target)
    return target


def run_once(mr: Path, out: Path, options: list[str]) -> tuple[float, float, dict[str, float]]:
    """Seconds on the wall, peak GiB of the process, and the seconds of each stage."""
    command = [sys.executable, "-m", "spinect", "run", str(mr), "-o", str(out), "--overwrite"]
    begin = time.perf_counter()
    process = subprocess.Popen([*command, *options])
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    if status:
        raise SystemExit(f"spinect run failed on {mr}: wait status {status}")
    record = json.loads((out / f"{mr.name.removesuffix('.nii.gz')}_run.json").read_text())
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB on Linux
    return wall, usage.ru_maxrss * unit / 2**30, record["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/run_cost"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--options", default="", help="further options of `spinect run`")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    rows, stages = [], []
    for region, shape in SERIES.items():
        mr = series(args.out, region)
        runs = [
            run_once(mr, args.out / "results", shlex.split(args.options))
            for _ in range(args.repeats)
        ]
        wall = [seconds for seconds, _, _ in runs]
        size = "x".join(map(str, shape))
        rows.append(
            (
                region,
                size,
                statistics.median(wall),
                min(wall),
                max(wall),
                max(m for _, m, _ in runs),
            )
        )
        median = {k: statistics.median(s[k] for _, _, s in runs) for k in runs[0][2]}
        stages.append((region, ", ".join(f"{k} {v:.1f}" for k, v in median.items())))
    body = table(["series", "voxels", "median s", "least s", "most s", "peak GiB"], rows)
    body += "\n\nMedian seconds of the stages:\n\n" + table(["series", "seconds"], stages)
    publish("run_cost", "Time and memory of one run", body)


if __name__ == "__main__":
    main()
