"""Registration of articulated lumbar phantoms by noisy landmarks, against the true motions.

    python benchmarks/registration.py [--subjects 20] [--noise 2]

Landmarks of both scans carry independent noise (SD per axis); each level turns against the next
by the stated SD (half of it for side bend and twist) and slides by 1 mm per axis. Errors are
distances between where a voxel of the MR's bone goes and where it belongs. The margin by which
motion must beat the rigid fit was chosen on other motions of these subjects (motion seeds 0-2 and
10; here 20-22).
"""

import argparse
import itertools
import multiprocessing
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common import publish, table
from spinect.anatomy import POSTERIOR, SACRUM
from spinect.evaluation.points import target_errors
from spinect.geometry import Grid, Volume
from spinect.geometry.landmarks import Landmarks
from spinect.geometry.transform import apply, invert
from spinect.phantom.anatomy import Anatomy, landmarks, make_subject, pose, rasterise
from spinect.phantom.pair import mr_grid
from spinect.registration import align_centres, displacement, quality, register, warp
from spinect.registration.result import Model, Points, Registration

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
Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Case:
    """One subject: bone voxels of the MR (mm), their vertebra and whether they are posterior."""

    anatomy: Anatomy
    grid: Grid
    mask: Volume
    points: Float
    vertebra: NDArray[np.uint8]
    posterior: NDArray[np.bool_]


def make_case(seed: int, spacing: float = 1.5) -> Case:
    """The neutral pose of a subject, rasterised."""
    anatomy = make_subject(seed)
    grid = mr_grid(anatomy)
    truth = rasterise(anatomy, grid.canonical().with_spacing(spacing))
    where = np.nonzero(truth.vertebrae)
    vertebra, part = truth.vertebrae[where], truth.subregions[where]
    posterior = np.isin(part, POSTERIOR) & ~np.isin(vertebra, list(SACRUM))
    mask = Volume(truth.vertebrae, truth.grid.affine, "labels")
    points = truth.grid.world(np.stack(where, -1))
    return Case(anatomy, grid, mask, points, vertebra, posterior)


def motions(case: Case, degrees: float, seed: int) -> dict[int, Float]:
    """Vertebra -> true ct_from_mr."""
    kind = "articulated" if degrees else "rigid"
    neutral = pose(case.anatomy)
    moved = pose(case.anatomy, kind, seed, degrees=degrees)
    return {v: moved[v] @ invert(neutral[v]) for v in moved}


def scans(
    case: Case, truth: dict[int, Float], noise: float, seed: int
) -> tuple[Landmarks, Landmarks]:
    """Noisy landmarks of the CT and the MR: those that lie inside the MR."""
    rng = np.random.default_rng([case.anatomy.seed, seed])
    last = np.array(case.grid.shape) - 0.5
    mr, ct = {}, {}
    for key, point in landmarks(case.anatomy).items():
        index = case.grid.index(point)
        if (index >= -0.5).all() and (index <= last).all():
            mr[key] = point + noise * rng.standard_normal(3)
            ct[key] = apply(truth[key[0]], point) + noise * rng.standard_normal(3)
    return Landmarks(ct), Landmarks(mr)


def errors(case: Case, truth: dict[int, Float], guess: Callable[[int], Float]) -> Float:
    """(N,) distance of every bone voxel to where it belongs, mm."""
    return target_errors(case.points, case.vertebra, truth.__getitem__, guess)


def unregistered(case: Case, truth: dict[int, Float]) -> Float:
    """Points 0: image centres put together; the CT's table has no common frame."""
    moved = case.grid.affine.copy()
    middle = case.grid.world((np.array(case.grid.shape) - 1) / 2)
    moved[:3, 3] += apply(truth[0], middle) - middle
    return align_centres(Grid(case.grid.shape, moved), case.grid, same_frame=False)


def compare(cases: list[Case], degrees: float, noise: float) -> dict[str, list[tuple[Float, Case]]]:
    """Errors of every method on every case."""
    found: dict[str, list[tuple[Float, Case]]] = {}
    for case, seed in itertools.product(cases, MOTION_SEEDS):
        truth = motions(case, degrees, seed)
        ct, mr = scans(case, truth, noise, seed)
        start = unregistered(case, truth)
        found.setdefault("points 0", []).append((errors(case, truth, lambda _, m=start: m), case))
        for name, (points, model) in METHODS.items():
            result: Registration = register(ct, mr, points, model)
            found.setdefault(name, []).append((errors(case, truth, result.of), case))
    return found


def rms(results: list[tuple[Float, Case]], posterior: bool) -> float:
    """Root of the mean square error, every subject counting the same, mm."""
    parts = [e[c.posterior] if posterior else e for e, c in results]
    return float(np.sqrt(np.mean([np.mean(p**2) for p in parts])))


def row(name: str, results: list[tuple[Float, Case]]) -> list[object]:
    """Mean, 95th percentile (of subjects' means and percentiles) and RMS; bone, posterior."""
    cells: list[object] = [name]
    for posterior in (False, True):
        parts = [e[c.posterior] if posterior else e for e, c in results]
        cells += [
            float(np.mean([p.mean() for p in parts])),
            float(np.mean([np.percentile(p, 95) for p in parts])),
            rms(results, posterior),
        ]
    return cells


def bars(by_degrees: dict[float, dict[str, list[tuple[Float, Case]]]]) -> str:
    """What was asked for beside what was found."""

    def ratio(degrees: float, name: str, other: str, posterior: bool) -> float:
        found = by_degrees[degrees]
        return rms(found[name], posterior) / rms(found[other], posterior)

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
    value = rms(by_degrees[4.0]["polyrigid-all"], True)
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
    return [size, *spent, before, peak, found.rigidity_mm, found.min_jacobian, 100 * found.outside]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=20)
    parser.add_argument("--noise", type=float, default=2.0, help="mm per axis and scan")
    args = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        spent = pool.apply(cost, (FIRST,))
    cases = [make_case(FIRST + i) for i in range(args.subjects)]
    by_degrees = {d: compare(cases, d, args.noise) for d in DEGREES}
    header = ["method", "bone mean", "95 %", "RMS", "posterior mean", "95 %", "RMS"]
    parts = [
        f"{len(cases)} subjects, {len(MOTION_SEEDS)} motions each, noise {args.noise:g} mm "
        "per axis on the landmarks of both scans; mm."
    ]
    for degrees, found in by_degrees.items():
        rows = [row(name, results) for name, results in found.items()]
        parts += [f"## {degrees:g} degrees per level", table(header, rows)]
    parts += ["## Bars", bars(by_degrees)]
    names = ["voxels, 1 mm", "wall s", "CPU s", "GiB before", "GiB peak", "rigidity 95 % mm",
             "min Jacobian", "% outside [0.5, 2]"]  # fmt: skip
    title = "## One pair: fit, field, CT and mask on the MR's grid (2 degrees, noisy)"
    parts += [title, table(names, [spent])]
    publish("registration", "Registration by landmarks of lumbar phantoms", "\n\n".join(parts))


if __name__ == "__main__":
    main()
