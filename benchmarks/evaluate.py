"""Time and memory of all metrics of one case of 512 x 512 x 64 voxels, on two cores.

    python benchmarks/evaluate.py [--slices 64] [--edge 512]

A made-up case: a textured body, a column of vertebrae, a prediction with noise and a shift of HU.
Seconds on the wall of each step, and the peak of the process' resident memory when it was over (the
case itself included). The bars are 30 s for all steps together and 3 GB.
"""

import argparse
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage

from common import publish, table
from spinect.evaluation.protocols.graf2023_image import graf2023_image
from spinect.evaluation.protocols.strict_image import strict_image
from spinect.evaluation.protocols.synthrad import synthrad
from spinect.evaluation.regions import regions_of
from spinect.geometry import Volume

BARS = (30.0, 3.0)  # seconds on the wall, GB
SPACING = (3.0, 1.0, 1.0)  # mm: sagittal slices, in plane as graf2023 asks


@dataclass
class Case:
    """What the steps compare, and what earlier steps have found."""

    prediction: Volume
    truth: Volume
    vertebrae: Volume
    found: dict[str, Any] = field(default_factory=dict)


def make_case(slices: int, edge: int) -> Case:
    """A body with a column of vertebrae; axes R, A, S."""
    rng, shape = np.random.default_rng(0), (slices, edge, edge)
    affine = np.diag([*SPACING, 1.0])
    hu = rng.standard_normal(shape, np.float32)
    hu = ndimage.gaussian_filter(hu, (0.5, 1.5, 1.5)) * np.float32(150)
    hu += 40
    labels = np.zeros(shape, np.uint8)
    middle, depth = slices // 2, 7  # a vertebra is 45 mm wide
    for number, foot in enumerate(range(edge // 16, edge - 30, 36)):
        column = (slice(middle - depth, middle + depth), slice(edge // 2 - 50, edge // 2 + 20))
        labels[(*column, slice(foot, foot + 26))] = 8 + number
    hu[labels > 0] += 300
    hu[:, : edge // 8], hu[:, -edge // 8 :] = -1000, -1000
    wrong = rng.standard_normal(shape, np.float32) * np.float32(60)
    wrong += hu
    wrong += 15
    truth, prediction = Volume(hu, affine, "ct"), Volume(wrong, affine, "ct")
    return Case(prediction, truth, Volume(labels, affine, "labels"))


def regions(case: Case) -> int:
    """The masks of the strict protocol."""
    case.found["regions"] = regions_of(case.truth, case.vertebrae)
    return len(case.found["regions"])


def strict(case: Case) -> int:
    """All metrics in all regions, the oracle floor of the labels included."""
    masks = case.found["regions"]
    return len(strict_image(case.prediction, case.truth, masks, tissue=case.vertebrae))


def graf(case: Case) -> int:
    """The published formulas, slice by slice."""
    return len(graf2023_image(case.prediction, case.truth, case.vertebrae))


def challenge(case: Case) -> int:
    """MAE, PSNR and MS-SSIM of SynthRAD2025 in the patient mask."""
    return len(synthrad(case.prediction, case.truth, case.found["regions"]["patient"]))


# in this order: later steps may use what earlier ones found
STEPS: list[tuple[str, Callable[[Case], int]]] = [
    ("regions", regions),
    ("strict image", strict),
    ("graf2023 image", graf),
    ("synthrad", challenge),
]


def peak_gb() -> float:
    """Largest resident memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def main() -> None:
    """Run the steps; print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=64)
    parser.add_argument("--edge", type=int, default=512)
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    case = make_case(args.slices, args.edge)
    rows: list[tuple[object, ...]] = [("(making the case)", "", "", "", peak_gb())]
    total = cpu = 0.0
    for name, step in STEPS:
        begin, busy = time.perf_counter(), time.process_time()
        values = step(case)
        wall, spent = time.perf_counter() - begin, time.process_time() - busy
        total, cpu = total + wall, cpu + spent
        rows.append((name, values, wall, spent, peak_gb()))
    rows.append(("all", "", total, cpu, peak_gb()))
    rows.append(("bar", "", BARS[0], "", BARS[1]))
    body = f"Case: {case.truth.grid}; two cores at most.\n\n"
    body += table(["step", "values", "seconds on the wall", "processor seconds", "peak GB"], rows)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    body += f"\n\nOther work on the machine: load average {load:.1f} at the end."
    publish("evaluate", "Time and memory of all metrics of one case", body)


if __name__ == "__main__":
    main()
