"""Processor seconds and memory of one phantom subject with both scans, written to the disk.

    python benchmarks/phantom_speed.py [--subjects 5] [--region lumbar]

One thread. Processor seconds, since other programs on a busy machine only add to those on the wall.
"""

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path

import torch

from common import publish, table
from spinect.phantom.pair import write_dataset

SEED = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=5)
    parser.add_argument("--region", default="lumbar")
    args = parser.parse_args()
    torch.set_num_threads(1)
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for index in range(args.subjects):
            began = time.process_time()
            out = Path(folder) / str(index)
            write_dataset(out, 1, SEED + index, args.region, ("T1w", "T2w"), "articulated")
            seconds.append(time.process_time() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    header = ["region", "subjects", "median s", "least s", "most s", "peak GiB"]
    row = [args.region, len(seconds), statistics.median(seconds), min(seconds), max(seconds), peak]
    publish(
        f"phantom_speed_{args.region}",
        "One phantom subject: T1w, T2w, CT, masks, landmarks, truth",
        table(header, [row]),
    )


if __name__ == "__main__":
    main()
