"""Time of one elastic deformation of an image and its mask; synthetic data.

    OMP_NUM_THREADS=1 python benchmarks/augment.py [--repeats 15]

256 x 256 x 32 voxels, the 32 sagittal slices of 4 mm first as everywhere in spinect. Each run
draws control points, works out the field at every voxel, reads the image and the nearest voxel of
the mask. One core. The bar, 0.4 s, is for linear reading, which is what training does unless told
otherwise; the cubic spline of the preset graf2023 stands beside it, and so does what training
reads for one patch: a slice or 32 x 128 x 128 voxels of CT, MR and masks.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from common import publish, table
from spinect.data.elastic import Elastic, draw_lattice
from spinect.data.prepared import Case
from spinect.data.reading import read_patch
from spinect.data.warp import Mode, Warp

SHAPE = (32, 256, 256)
SPACING = (4.0, 1.0, 1.0)
BAR = 0.4  # s
RULES = {"mm": Elastic(), "voxels": Elastic(rule="voxels")}


def crop(start: tuple[int, int, int], shape: tuple[int, int, int]) -> Warp:
    """A plain patch."""
    middle = np.array(start) + (np.array(shape) - 1) / 2
    return Warp(middle, np.eye(3), torch.zeros(1).expand(3, *shape))


def deform(image: torch.Tensor, mask: torch.Tensor, rule: str, mode: Mode, copy: int) -> None:
    """The whole volume: image and mask by one new field."""
    elastic = RULES[rule]
    warp = crop((0, 0, 0), SHAPE).bent(draw_lattice(elastic, SHAPE, SPACING, "series", copy))
    _, at = warp.box(SHAPE, reach=elastic.margin)
    warp.read(image, at, mode)
    warp.read(mask, at, "nearest")


def patch(case: Case, shape: tuple[int, int, int], mode: Mode, copy: int) -> None:
    """What training reads."""
    elastic = RULES["voxels"]
    start = ((SHAPE[0] - shape[0]) // 2, (SHAPE[1] - shape[1]) // 2, (SHAPE[2] - shape[2]) // 2)
    lattice = draw_lattice(elastic, SHAPE, SPACING, "series", copy)
    read_patch(case, crop(start, shape).bent(lattice), "outside", elastic.margin, mode)


def seconds(run: Callable[[int], None], repeats: int) -> list[float]:
    """Processor seconds of each run after one that warms up; on one core equal to wall time."""
    out = []
    for copy in range(repeats + 1):
        began = time.process_time()
        run(copy)
        out.append(time.process_time() - began)
    return out[1:]


def synthetic() -> Case:
    """Noise and blocks."""
    rng = np.random.default_rng(0)
    labels = np.zeros(SHAPE, np.uint8)
    labels[8:24, 80:180, 20:230] = rng.integers(1, 25, (16, 10, 21)).repeat(10, 1).repeat(10, 2)
    arrays = {
        "channels": rng.random((2, *SHAPE)).astype(np.float16),
        "hu": rng.integers(-1000, 1000, SHAPE).astype(np.int16),
        "vertebrae": labels,
        "subregions": np.where(labels > 0, 50, 0).astype(np.uint8),
        "distance": np.where(labels > 0, -50, 50).astype(np.int8),
        "bone": np.argwhere(labels > 0)[::7].astype(np.int16),
        "valid": np.ones(SHAPE, np.uint8),
    }
    return Case("series", arrays, {}, SPACING)


def main() -> None:
    """Print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    case = synthetic()
    image = torch.from_numpy(case.arrays["channels"][:1].astype(np.float32))
    mask = torch.from_numpy(case.arrays["vertebrae"].astype(np.float32))[None]
    size = " x ".join(map(str, SHAPE[1:] + SHAPE[:1]))
    runs: list[tuple[str, str, Callable[[int], None]]] = [
        (f"image and mask, {size}, linear, sigma in mm", f"<= {BAR:g}",
         lambda c: deform(image, mask, "mm", "linear", c)),
        (f"image and mask, {size}, linear, graf2023's points", f"<= {BAR:g}",
         lambda c: deform(image, mask, "voxels", "linear", c)),
        (f"image and mask, {size}, cubic, graf2023's points", "",
         lambda c: deform(image, mask, "voxels", "cubic", c)),
        ("one slice for training, 256 x 256, cubic", "",
         lambda c: patch(case, (1, 256, 256), "cubic", c)),
        ("one patch for training, 128 x 128 x 32, linear", "",
         lambda c: patch(case, (32, 128, 128), "linear", c)),
        ("one patch for training, 128 x 128 x 32, cubic", "",
         lambda c: patch(case, (32, 128, 128), "cubic", c)),
    ]  # fmt: skip
    rows = []
    for name, bar, run in runs:
        took = seconds(run, repeats)
        rows.append((name, statistics.median(took), min(took), max(took), bar))
    body = "Processor seconds on one core; the bar is for the median.\n\n"
    body += table(["what", "median", "least", "most", "bar"], rows)
    publish("augment", "Time of an elastic deformation", body)


if __name__ == "__main__":
    main()
