"""How often landmarks show that one scan's levels are named one too high or too low.

    python benchmarks/shifted_levels.py [--subjects 20] [--motions 3] [--noise 2]

Both scans of a phantom show the same presacral levels, counted from the lowest, with independent
noise (SD per axis) on all landmarks. Each level turns against the next by the stated SD (half of
it for side bend and twist) and slides by 1 mm per axis; at 0 degrees the body moves as a whole.
The CT's names are right, or moved by one level, by turns towards head and feet. Between the
headers of the scans lies the motion of the body alone, 8 mm (SD per axis) and 3 degrees. The
arcus is left out: the phantom's point in it lies in another place in L5 than above, by 20 mm,
which no centre of mass does, and which alone would show every shift.
"""

import argparse
import itertools
from collections import defaultdict
from multiprocessing import get_context

import numpy as np

from common import publish, table
from spinect.anatomy import PRESACRAL
from spinect.errors import LandmarkError
from spinect.geometry.landmarks import ARCUS, Landmarks
from spinect.geometry.transform import apply, invert
from spinect.phantom.anatomy import landmarks, make_subject, pose
from spinect.registration import register
from spinect.registration.points import relabelled
from spinect.registration.result import Points

FIRST = 1_000_000
FIRST_MOTION = 60  # seeds of motion and noise; the limits were chosen on others
LEVELS = (3, 4, 5, 6, 8)
POINTS: tuple[Points, ...] = ("1", "2", "all")
DEGREES = (0.0, 2.0, 4.0)
Cell = tuple[str, int, float]  # points, levels, degrees
Fate = tuple[bool, bool, str]  # rejected for its levels, hint of the headers, verdict


def subject(task: tuple[int, int, float]) -> list[tuple[Cell, Fate, Fate]]:
    """Every cell of the table for one subject and motion: the right set and the moved one."""
    seed, motion, noise = task
    anatomy = make_subject(seed)
    truth = {k: p for k, p in landmarks(anatomy).items() if k[1] != ARCUS}
    neutral = pose(anatomy)
    found = []
    for number, degrees in enumerate(DEGREES):
        moved = pose(anatomy, "articulated" if degrees else "rigid", motion, degrees=degrees)
        rng = np.random.default_rng([seed, motion, number])
        mr = {k: p + noise * rng.standard_normal(3) for k, p in truth.items()}
        ct = {
            (v, part): apply(moved[v] @ invert(neutral[v]), p) + noise * rng.standard_normal(3)
            for (v, part), p in truth.items()
        }
        for points, count in itertools.product(POINTS, LEVELS):
            seen = [v for v in PRESACRAL if (v, 50) in truth][-count:]
            pair = [Landmarks({k: p for k, p in s.items() if k[0] in seen}) for s in (ct, mr)]
            steps = 1 if (seed + motion) % 2 else -1
            wrong = relabelled(pair[0], steps)
            fates = fate(pair[0], pair[1], points), fate(wrong, pair[1], points)
            found.append(((points, count, degrees), *fates))
    return found


def fate(ct: Landmarks, mr: Landmarks, points: Points) -> Fate:
    """What `register` says about a set."""
    try:
        result = register(ct, mr, points, "rigid")
    except LandmarkError:
        return False, False, "failed"
    shifted = "levels look shifted" in result.reason
    return shifted, "where the headers put" in result.reason, result.verdict


def interval(hits: int, count: int, digits: int = 0) -> str:
    """A share in percent with its 95 % interval (Wilson)."""
    z, share = 1.96, hits / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    values = (share, max(middle - half, 0.0), min(middle + half, 1.0))
    return "{} ({}-{})".format(*(f"{100 * v:.{digits}f}" for v in values))


def rows(cells: dict[Cell, list[tuple[Fate, Fate]]]) -> list[list[object]]:
    """One row per cell of the table, in percent of the sets."""
    out: list[list[object]] = []
    for (points, count, degrees), fates in cells.items():
        right, wrong = zip(*fates, strict=True)
        out.append([
            points, count, f"{degrees:g}",
            interval(sum(f[0] for f in wrong), len(wrong)),
            interval(sum(f[0] or f[1] for f in wrong), len(wrong)),
            interval(sum(f[2] == "accept" for f in wrong), len(wrong)),
            interval(sum(f[0] for f in right), len(right)),
            interval(sum(f[1] for f in right), len(right)),
            interval(sum(f[2] == "accept" for f in right), len(right)),
            sum(f[2] == "failed" for f in (*right, *wrong)),
        ])  # fmt: skip
    return out


def main() -> None:
    """Print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=20)
    parser.add_argument("--motions", type=int, default=3, help="per subject")
    parser.add_argument("--noise", type=float, default=2.0, help="mm per axis and scan")
    args = parser.parse_args()
    tasks = [(FIRST + i, FIRST_MOTION + m, args.noise)
             for i in range(args.subjects) for m in range(args.motions)]  # fmt: skip
    cells: dict[Cell, list[tuple[Fate, Fate]]] = defaultdict(list)
    with get_context("spawn").Pool(2) as pool:
        for result in pool.imap(subject, tasks):
            for cell, right, wrong in result:
                cells[cell].append((right, wrong))
    ordered = dict(sorted(cells.items(), key=lambda c: (POINTS.index(c[0][0]), *c[0][1:])))
    flagged = ", ".join(
        interval(sum(right[0] for right, _ in each), len(each), 1) + f" with {points} point(s)"
        for points in POINTS
        if (each := [f for cell, some in cells.items() if cell[0] == points for f in some])
    )
    header = [
        "points", "levels", "degrees", "moved: rejected", "rejected or header hint", "accepted",
        "right: rejected", "header hint", "accepted", "no fit",
    ]  # fmt: skip
    text = (
        f"{args.subjects} subjects, {args.motions} motion(s) each, noise {args.noise:g} mm per "
        "axis on the landmarks of both scans, rigid fit. Percent of the sets with 95 % interval "
        f"(Wilson). Right sets rejected for their levels, all levels and degrees: {flagged}."
    )
    publish("shifted_levels", "Levels named one too high or too low",
            f"{text}\n\n{table(header, rows(ordered))}")  # fmt: skip


if __name__ == "__main__":
    main()
