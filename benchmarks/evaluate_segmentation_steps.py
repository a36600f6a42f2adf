"""Time and memory of all mask figures of a case of 512 x 512 x 64 voxels.

    python benchmarks/evaluate_segmentation_steps.py [--seed 1000000]

A lumbar phantom on sagittal slices of 0.6 x 0.6 x 1.3 mm; the prediction is the truth moved by a
few voxels, gnawed at random places, with two levels swapped and one vertebra missing. Phantom data.
"""

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from common import publish, table
from spinect.evaluation.protocols.graf2023_segmentation import graf2023_segmentation
from spinect.evaluation.protocols.strict_segmentation import ceiling, strict_segmentation
from spinect.geometry import Grid, Volume
from spinect.geometry.resample import resample
from spinect.phantom.anatomy import make_subject, rasterise
from spinect.phantom.pair import mr_grid

SHAPE, SPACING = (64, 512, 512), (1.3, 0.6, 0.6)  # R, A, S; stored as sagittal slices
Masks = tuple[Volume, Volume]  # vertebrae, subregions


def big_case(seed: int) -> tuple[Masks, Masks, Masks]:
    """Prediction and truth on the large grid, and the truth at 1 mm."""
    anatomy = make_subject(seed)
    near = mr_grid(anatomy).canonical()
    affine = np.diag([*SPACING, 1.0])
    middle = near.world((np.array(near.shape) - 1) / 2)
    affine[:3, 3] = middle - (np.array(SHAPE) - 1) / 2 * SPACING
    grid = Grid(SHAPE, affine)
    fine = rasterise(anatomy, grid.with_spacing(1.0))
    labels = fine.vertebrae, fine.subregions
    iso = tuple(Volume(data, fine.grid.affine, "labels") for data in labels)
    truth = tuple(resample(v, grid.reoriented("PSR")) for v in iso)
    return spoil(truth), truth, iso


def spoil(truth: Masks) -> Masks:
    """A prediction with errors of every kind."""
    rng = np.random.default_rng(0)
    coarse = rng.random([n // 8 for n in truth[0].data.shape]) < 0.95
    kept = ndimage.zoom(coarse, 8, order=0)
    vertebrae, subregions = (np.roll(v.data, (2, -1, 1), (0, 1, 2)) * kept for v in truth)
    present = [v for v in np.unique(vertebrae) if 0 < v < 26]
    table = np.arange(256).astype(np.uint8)
    table[present[2]], table[present[3]], table[present[4]] = present[3], present[2], 0
    return truth[0].with_data(table[vertebrae]), truth[1].with_data(subregions)


def steps(prediction: Masks, truth: Masks, iso: Masks) -> list[tuple[str, Callable[[], object]]]:
    """Named pieces of work; each scores one case completely."""
    return [
        ("strict masks", lambda: strict_segmentation(*prediction, *truth)),
        ("Graf 2023 masks", lambda: graf2023_segmentation(*prediction, *truth)),
        ("ceiling of the grid", lambda: ceiling(*iso, *truth)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1_000_000)
    case = big_case(parser.parse_args().seed)
    count = len(np.unique(case[1][0].data)) - 1
    rows = []
    for name, work in steps(*case):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        rows.append([name, time.perf_counter() - wall, time.process_time() - cpu, peak])
    body = f"{case[1][0].grid}; {count} labels in the truth.\n\n"
    header = ["step", "wall s", "CPU s", "GiB peak so far, making the case included"]
    publish("evaluate_segmentation", "All mask figures of one case", body + table(header, rows))


if __name__ == "__main__":
    main()
