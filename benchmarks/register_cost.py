"""Time and memory of `spinect register` on one lumbar pair; phantom data.

    python benchmarks/register_cost.py [--repeats 3]

A T2w of 20 sagittal slices of 4 mm with 0.6 mm in plane and a CT of 1 mm pixels, vertebrae moved
against each other, all points, polyrigid. Each run is a process of its own, on two cores at most:
seconds on the wall from its start to its end, imports, writing and picture included, processor
seconds, and the peak of its resident memory. The bars are 20 s and 1.5 GB.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from common import publish, table
from spinect.io import read

SEED = 1_000_000
BARS = (20.0, 1.5)  # seconds on the wall, GB


def dataset(folder: Path) -> Path:
    """A dataset folder with one articulated lumbar phantom, made once."""
    made = folder / "pair"
    if not (made / "participants.tsv").exists():
        command = [sys.executable, "-m", "spinect", "phantom", str(made), "--seed", str(SEED)]
        subprocess.run([*command, "--contrast", "T2w", "--motion", "articulated"], check=True)
    return made


def run_once(folder: Path) -> tuple[float, float, float, dict[str, float]]:
    """Wall seconds, processor seconds, peak GB of the process, and the seconds of each stage."""
    command = [sys.executable, "-m", "spinect", "register", str(folder), "--overwrite"]
    begin = time.perf_counter()
    process = subprocess.Popen([*command, "--points", "all", "--model", "polyrigid"])
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    if status:
        raise SystemExit(f"spinect register failed: wait status {status}")
    record = next((folder / "derivatives" / "registered").glob("sub-*/*_registration.json"))
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB on Linux
    seconds = json.loads(record.read_text())["seconds"]
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit / 1e9, seconds


def main() -> None:
    """Print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/register_cost"))
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    folder = dataset(args.out)
    subject = f"sub-{SEED}"
    grids = [read(folder / subject / place / f"{subject}_{name}.nii.gz", kind).grid
             for place, name, kind in (("anat", "T2w", "mr"), ("ct", "ct", "ct"))]  # fmt: skip
    runs = [run_once(folder) for _ in range(args.repeats)]
    wall = [run[0] for run in runs]
    peak = max(run[2] for run in runs)
    rows = [
        ("seconds on the wall", statistics.median(wall), min(wall), max(wall), f"<= {BARS[0]:g}"),
        ("processor seconds", *[f([run[1] for run in runs]) for f in
                                (statistics.median, min, max)], ""),
        ("peak GB", peak, min(run[2] for run in runs), peak, f"<= {BARS[1]:g}"),
    ]  # fmt: skip
    median = {k: statistics.median(run[3][k] for run in runs) for k in runs[0][3]}
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    body = f"MR {grids[0]}; CT {grids[1]}.\n\n"
    body += table(["measure", "median", "least", "most", "bar"], rows)
    body += f"\n\nOther work on the machine: load average {load:.1f} at the end."
    body += "\n\nMedian wall seconds of the stages: "
    body += ", ".join(f"{name} {seconds:.1f}" for name, seconds in median.items()) + "."
    publish("register_cost", "Time and memory of one registration", body)


if __name__ == "__main__":
    main()
