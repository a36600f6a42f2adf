"""Registration of articulated lumbar phantoms by noisy landmarks, against the true motions.

    python benchmarks/registration.py [--subjects 20] [--noise 2]

Landmarks of both scans carry independent noise (SD per axis); each level turns against the next
by the stated SD (half of it for side bend and twist) and slides by 1 mm per axis. Errors are
distances between where a voxel of the MR's bone goes and where it belongs. The margin by which
motion must beat the rigid fit was chosen on other motions of these subjects (motion seeds 0-2 and
10; here 20-22).

Then the limits of `registration_limits.py`: no folds, rigid bone, and exact landmarks.
"""

import argparse
import itertools
import multiprocessing
import os
import resource
import time

import numpy as np
from numpy.typing import NDArray

from common import publish, table
from registration_cases import Case, errors, make_case, motions, scans
from registration_limits import AROUND_MM, exact, exact_text, fields, fields_text
from spinect.geometry import Grid, Volume
from spinect.geometry.transform import apply
from spinect.registration import align_centres, displacement, quality, register, warp
from spinect.registration.result import Model, Points

FIRST = 1_000_000
MOTION_SEEDS = (20, 21, 22)  # motions and noises of each subject
DEGREES = (0.0, 2.0, 4.0)
METHODS: dict[str, tuple[Points, Model]] = {
    "rigid-1": ("1", "rigid"),
    "rigid-2": ("2", "rigid"),
    "rigid-all": ("all", "rigid"),
    "polyrigid-2": ("2", "polyrigid"),
    "polyrigid-all": ("all", "polyrigid"),
}
WORKERS = 2
FIELDS = (
    "One motion per subject, 1 mm, noisy landmarks; the box of the bone and "
    f"{AROUND_MM:g} mm about it."
)
EXACT = (
    "Without noise, every motion; worst subject. A vertebra at the end of the MR may have two, one "
    "or no landmarks inside it, and two points per vertebra leave a rotation open: no fit can know "
    "those motions. The bar is on vertebrae with three landmarks or more, not on one line."
)
Float = NDArray[np.float64]
Found = dict[tuple[float, str], Float]


def unregistered(case: Case, truth: dict[int, Float]) -> Float:
    """Points 0: image centres put together; the CT's table has no common frame."""
    moved = case.grid.affine.copy()
    middle = case.grid.world((np.array(case.grid.shape) - 1) / 2)
    moved[:3, 3] += apply(truth[0], middle) - middle
    return align_centres(Grid(case.grid.shape, moved), case.grid, same_frame=False)


def compare(job: tuple[int, float]) -> tuple[Found, dict[str, Float]]:
    """Errors of every method on one subject; and those with exact landmarks.

    Args:
        job: Seed of the subject, noise in mm.
    Returns:
        (degrees, method) -> (motions, 2, 3): over bone and over posterior elements the mean, the
        95th percentile and the mean square; and what `exact` found.
    """
    subject, noise = job
    case, found = make_case(subject), {}
    for degrees, seed in itertools.product(DEGREES, MOTION_SEEDS):
        truth = motions(case, degrees, seed)
        ct, mr = scans(case, truth, noise, seed)
        start = unregistered(case, truth)
        away = {"points 0": errors(case, truth, lambda _, m=start: m)}
        for name, (points, model) in METHODS.items():
            away[name] = errors(case, truth, register(ct, mr, points, model).of)
        for name, mm in away.items():
            sums = [
                [part.mean(), np.percentile(part, 95), np.mean(part**2)]
                for part in (mm, mm[case.posterior])
            ]
            found.setdefault((degrees, name), []).append(sums)
    return {k: np.array(v) for k, v in found.items()}, exact(case, MOTION_SEEDS)


def rms(results: Float, posterior: bool) -> float:
    """Root of the mean square error, every subject counting the same, mm."""
    return float(np.sqrt(results[:, int(posterior), 2].mean()))


def row(name: str, results: Float) -> list[object]:
    """Mean, 95th percentile (of subjects' means and percentiles) and RMS; bone, posterior."""
    cells: list[object] = [name]
    for posterior in (False, True):
        mean, most, _ = results[:, int(posterior)].mean(0)
        cells += [float(mean), float(most), rms(results, posterior)]
    return cells


def bars(found: Found) -> str:
    """What was asked for beside what was found."""

    def ratio(degrees: float, name: str, other: str, posterior: bool) -> float:
        return rms(found[degrees, name], posterior) / rms(found[degrees, other], posterior)

    rows: list[list[object]] = []
    for text, degrees, name, other, bound in (
        ("polyrigid-2 / rigid-2 at 2 degrees", 2.0, "polyrigid-2", "rigid-2", 1.0),
        ("polyrigid-2 / rigid-2 at 4 degrees", 4.0, "polyrigid-2", "rigid-2", 0.85),
        ("polyrigid-2 / rigid-2 without motion", 0.0, "polyrigid-2", "rigid-2", 1.05),
        ("polyrigid-all / rigid-all without motion", 0.0, "polyrigid-all", "rigid-all", 1.05),
        ("rigid-2 / rigid-1 at 2 degrees", 2.0, "rigid-2", "rigid-1", 1.0),
    ):
        both = [ratio(degrees, name, other, posterior) for posterior in (False, True)]
        rows.append([text, *both, f"<= {bound:g}"])
    value = rms(found[4.0, "polyrigid-all"], True)
    rows.append(["polyrigid-all at 4 degrees, posterior RMS, mm", float("nan"), value, "<= 2.5"])
    return table(["bar (of RMS)", "bone", "posterior", "asked"], rows)


def cost(seed: int) -> list[object]:
    """One lumbar pair from landmarks to the CT on the MR's grid; a process of its own."""
    case = make_case(seed, 1.0)
    truth = motions(case, 2.0, MOTION_SEEDS[0])
    ct, mr = scans(case, truth, 2.0, MOTION_SEEDS[0])
    hu = np.where(case.mask.data > 0, 400.0, 40.0).astype(np.float32)
    image = Volume(hu, case.mask.affine, "ct")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    wall, cpu = time.perf_counter(), time.process_time()
    result = register(ct, mr, "all", "polyrigid")
    field = displacement(result, case.mask.grid, case.mask)
    warp(image, case.mask.grid, result, field)
    warp(case.mask, case.mask.grid, result, field)
    spent = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found = quality(field, case.mask)
    size = "x".join(map(str, case.mask.grid.shape))
    return [
        size,
        *spent,
        os.getloadavg()[0],
        before,
        peak,
        found.rigidity_mm,
        found.min_jacobian,
        100 * found.outside,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=20)
    parser.add_argument("--noise", type=float, default=2.0, help="mm per axis and scan")
    args = parser.parse_args()
    seeds = range(FIRST, FIRST + args.subjects)
    with multiprocessing.get_context("spawn").Pool(WORKERS, maxtasksperchild=1) as pool:
        spent = pool.apply(cost, (FIRST,))
        pairs = pool.map(compare, [(s, args.noise) for s in seeds], chunksize=1)
        jobs = [(s, args.noise, MOTION_SEEDS[0]) for s in seeds]
        space = pool.map(fields, jobs, chunksize=1)
    found = {k: np.concatenate([one[k] for one, _ in pairs]) for k in pairs[0][0]}
    header = ["method", "bone mean", "95 %", "RMS", "posterior mean", "95 %", "RMS"]
    parts = [
        f"{len(seeds)} subjects, {len(MOTION_SEEDS)} motions each, noise {args.noise:g} mm "
        "per axis on the landmarks of both scans; mm."
    ]
    for degrees in DEGREES:
        rows = [row(name, values) for (d, name), values in found.items() if d == degrees]
        parts += [f"## {degrees:g} degrees per level", table(header, rows)]
    parts += ["## Bars", bars(found), "## Fields", FIELDS, fields_text(space)]
    parts += ["## Exact landmarks", EXACT, exact_text([one for _, one in pairs])]
    names = ["voxels, 1 mm", "wall s", "CPU s", "load", "GiB before", "GiB peak",
             "rigidity 95 % mm", "min Jacobian", "% outside [0.5, 2]"]  # fmt: skip
    title = "## One pair: fit, field, CT and mask on the MR's grid (2 degrees, noisy)"
    parts += [title, table(names, [spent])]
    publish("registration", "Registration by landmarks of lumbar phantoms", "\n\n".join(parts))


if __name__ == "__main__":
    main()
