"""What a loop accepts when every level of an MR carries the name of its neighbour.

    python benchmarks/level_shift.py [--subjects 10] [--noise 2]

Articulated lumbar phantoms (2 degrees a level), landmarks of both scans with independent noise (SD
per axis). The MR's names are right, or all moved by one level up or down. No image is made.
"""

import argparse
from dataclasses import dataclass

import numpy as np

from common import publish, table
from spinect.geometry.landmarks import Landmarks
from spinect.geometry.transform import apply, invert
from spinect.phantom.anatomy import landmarks, make_subject, pose
from spinect.phantom.pair import mr_grid
from spinect.registration import register
from spinect.registration.points import relabelled
from spinect.workflows.loop.config import AcceptConfig
from spinect.workflows.loop.rounds import complaint

FIRST = 1_000_000
MOTION_SEED = 20
DEGREES = 2.0
LIMITS = AcceptConfig()
LEVELS = {"all in view": None, "L1 to L5": range(20, 25)}
METHODS = (("2", "rigid"), ("2", "polyrigid"), ("all", "polyrigid"))


@dataclass(frozen=True)
class Outcome:
    """Mean residual in mm, and whether the loop would accept."""

    mean_mm: float
    accepted: bool


def scans(seed: int, noise: float) -> tuple[Landmarks, Landmarks]:
    """Noisy landmarks of the CT and of the MR; the MR's lie inside its image."""
    anatomy = make_subject(seed)
    grid, rng = mr_grid(anatomy), np.random.default_rng([seed, 1])
    neutral, moved = pose(anatomy), pose(anatomy, "articulated", MOTION_SEED, degrees=DEGREES)
    last = np.array(grid.shape) - 0.5
    ct, mr = {}, {}
    for key, point in landmarks(anatomy).items():
        there = apply(moved[key[0]] @ invert(neutral[key[0]]), point)
        ct[key] = there + noise * rng.standard_normal(3)
        index = grid.index(point)
        if (index >= -0.5).all() and (index <= last).all():
            mr[key] = point + noise * rng.standard_normal(3)
    return Landmarks(ct), Landmarks(mr)


def outcome(ct: Landmarks, mr: Landmarks, points: str, model: str) -> Outcome:
    """As a round of the loop decides."""
    made = register(ct, mr, points=points, model=model)  # type: ignore[arg-type]
    used = {k: r for k, r in made.residual_mm.items() if k not in made.rejected}
    facts = {
        "verdict": made.verdict,
        "reason": made.reason,
        "residual_mm": list(used.values()),
        "vertebrae": len({vertebra for vertebra, _ in used}),
    }
    return Outcome(float(np.mean(facts["residual_mm"])), not complaint(facts, LIMITS))


def main() -> None:
    """One row per method, range of levels and shift."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=10)
    parser.add_argument("--noise", type=float, default=2.0, help="mm")
    asked = parser.parse_args()
    pairs = [scans(FIRST + i, asked.noise) for i in range(asked.subjects)]
    rows = []
    for name, levels in LEVELS.items():
        for points, model in METHODS:
            for shifts in ((0,), (-1, 1)):
                found = []
                for ct, mr in pairs:
                    seen = {k: p for k, p in mr.points.items() if levels is None or k[0] in levels}
                    for steps in shifts:
                        moved = relabelled(Landmarks(seen), steps)
                        found.append(outcome(ct, moved, points, model))
                mean = [one.mean_mm for one in found]
                low = sum(m <= LIMITS.mean_mm for m in mean)
                said = sum(one.accepted for one in found)
                which = "one level off" if shifts != (0,) else "right"
                rows.append((name, f"{points}, {model}", which, len(found),
                             f"{np.median(mean):.1f} ({min(mean):.1f}-{max(mean):.1f})",
                             low, said))  # fmt: skip
    head = ("levels", "points, model", "names", "pairs", "mean_mm: median (range)",
            f"mean_mm <= {LIMITS.mean_mm:g}", "accepted")  # fmt: skip
    told = f"{asked.subjects} subjects, noise {asked.noise:g} mm per axis, limits of `accept`.\n\n"
    publish("level_shift", "Names of all levels moved by one", told + table(head, rows))


if __name__ == "__main__":
    main()
