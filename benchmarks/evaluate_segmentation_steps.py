"""Time and memory of all mask figures of a case of 512 x 512 x 64 voxels; truth of the widths.

    python benchmarks/evaluate_segmentation_steps.py [--seed 1000000] [--subjects 4]

A lumbar phantom on sagittal slices of 0.6 x 0.6 x 1.3 mm; the prediction is the truth moved by a
few voxels, gnawed at random places, with two levels swapped and one vertebra missing. The width of
the canal between the arches is compared with the one each phantom was built with. Phantom data.
"""

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from common import publish, table
from spinect.anatomy import VERTEBRAE
from spinect.evaluation.protocols.graf2023_segmentation import graf2023_segmentation
from spinect.evaluation.protocols.strict_segmentation import ceiling, strict_segmentation
from spinect.evaluation.shape import Spine, canal_width
from spinect.geometry import Grid, Volume
from spinect.geometry.resample import resample
from spinect.phantom.anatomy import levels, make_subject, rasterise
from spinect.phantom.pair import mr_grid

SHAPE, SPACING = (64, 512, 512), (1.3, 0.6, 0.6)  # R, A, S; stored as sagittal slices
LEVELS = (18, 19, 20, 21, 22, 23, 24)  # T11-L5
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


def width_errors(seed: int) -> dict[int, float]:
    """Vertebra -> width between the arches at 1 mm minus the phantom's bony canal, mm."""
    anatomy = make_subject(seed)
    built = {level.vertebra: 2 * level.canal_half[0] for level in levels(anatomy)}
    truth = rasterise(anatomy, mr_grid(anatomy).canonical().with_spacing(1.0))
    affine = truth.grid.affine
    maps = [Volume(data, affine, "labels") for data in (truth.vertebrae, truth.subregions)]
    spine = Spine.of(*maps)
    found = {v: canal_width(spine, v, "arch") for v in LEVELS}
    return {v: width - built[v] for v, width in found.items() if width is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1_000_000)
    parser.add_argument("--subjects", type=int, default=4, help="for the widths")
    args = parser.parse_args()
    case = big_case(args.seed)
    count = len(np.unique(case[1][0].data)) - 1
    rows = []
    for name, work in steps(*case):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        rows.append([name, time.perf_counter() - wall, time.process_time() - cpu, peak])
    header = ["step", "wall s", "CPU s", "GiB peak so far, making the case included"]
    cost = f"{case[1][0].grid}; {count} labels in the truth.\n\n{table(header, rows)}"
    errors = [width_errors(args.seed + n) for n in range(args.subjects)]
    rows = []
    for v in LEVELS:
        mine = np.array([e[v] for e in errors if v in e])
        rows.append([VERTEBRAE[v], len(mine), float(mine.mean()), float(np.abs(mine).max())])
    title = "## Width between the arches minus the width the phantom was built with, mm"
    widths = table(["level", "phantoms", "mean", "largest"], rows)
    publish(
        "evaluate_segmentation", "All mask figures of one case", f"{cost}\n\n{title}\n\n{widths}"
    )


if __name__ == "__main__":
    main()
