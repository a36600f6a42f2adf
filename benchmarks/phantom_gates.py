"""Shape of phantom vertebrae beside real ones: the table of docs/phantom.md.

    SPINECT_REALDATA=FOLDER python benchmarks/phantom_gates.py --subjects 10 --seed 0

Real masks are resampled to 1 mm so that depths below the surface compare. Without the folder only
the phantom's rows are printed.
"""

import argparse
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.ndimage import zoom

from spinect.anatomy import VERTEBRAE
from spinect.geometry import Grid, Volume
from spinect.io import read
from spinect.phantom.anatomy import field_of_view_grid, make_subject, rasterise
from spinect.phantom.gates import GATES, SPACING_GATE_MM, VertebraMeasures, cut, measure

REAL = (
    "shapes/healthivert0007_T9-L5_vertebrae.nii.gz",
    "shapes/verse004_T9-L5_vertebrae.nii.gz",
    "ct/verse012_vertebrae.nii.gz",
    "ct/verse014_vertebrae.nii.gz",
    "ct/tptbox_crop_vertebrae.nii.gz",
)
LEVELS = tuple(range(17, 25))  # T10-L5
Row = dict[int, VertebraMeasures]


def measured(vertebrae: np.ndarray, grid: Grid) -> Row:
    """Measures of every whole vertebra of a label map."""
    rows = {}
    for v in LEVELS:
        mask = vertebrae == v
        if mask.sum() * np.prod(grid.spacing) > 5000 and not cut(mask):
            rows[v] = measure(mask, grid)
    return rows


def real_rows(folder: Path) -> Iterator[tuple[str, Row]]:
    """(name, measures) of every real mask that is there."""
    for name in REAL:
        if (folder / name).exists():
            volume: Volume = read(folder / name, kind="labels").canonical()
            factors = volume.grid.spacing
            row = {}
            for v in LEVELS:
                mask = np.asarray(volume.data) == v
                if mask.any() and not cut(mask):
                    fine = zoom(mask.astype(np.float32), factors, order=1, mode="nearest",
                                grid_mode=True) >= 0.5  # fmt: skip
                    row[v] = measure(fine, Grid(fine.shape))
            yield Path(name).name.split(".")[0], row


def phantom_rows(subjects: int, seed: int) -> Iterator[tuple[str, Row, list[float]]]:
    """(name, measures, lumbar body spacings) of phantom subjects at 1 mm."""
    for s in range(seed, seed + subjects):
        subject = make_subject(s, "lumbar")
        made = rasterise(subject, field_of_view_grid(subject))
        centres = [np.array(subject.subject.centres[v]) for v in range(20, 25)
                   if v in subject.subject.centres]  # fmt: skip
        gaps = [float(np.linalg.norm(a - b)) for a, b in pairwise(centres)]
        yield f"phantom {s}", measured(np.asarray(made.vertebrae), made.grid), gaps


def summary(title: str, rows: list[Row]) -> None:
    """One line per measure and level group: median (lowest-highest)."""
    print(f"\n{title}")
    for field, (levels, low, high) in GATES.items():
        values = [getattr(m, field) for row in rows for v, m in row.items() if v in levels]
        if not values:
            continue
        inside = np.mean([low <= x <= high for x in values])
        print(f"  {field:24s} {np.median(values):6.2f} ({min(values):.2f}-{max(values):.2f})"
              f"  gate {low:g}-{high:g}, inside {inside:.0%} of {len(values)}")  # fmt: skip


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", action="store_true", help="print every vertebra")
    args = parser.parse_args()
    folder = os.environ.get("SPINECT_REALDATA")
    groups: list[tuple[str, list[tuple[str, Row]]]] = []
    if folder:
        groups.append(("real masks", list(real_rows(Path(folder)))))
    else:
        print("SPINECT_REALDATA is not set: only the phantom is measured")
    made = list(phantom_rows(args.subjects, args.seed))
    groups.append((f"{args.subjects} phantoms", [(name, row) for name, row, _ in made]))
    for title, named in groups:
        summary(title, [row for _, row in named])
        for name, row in named if args.each else ():
            for v, m in row.items():
                print(f"    {name:32s} {VERTEBRAE[v]:4s}", " ".join(f"{x:7.2f}" for x in m))
    gaps = [g for _, _, spacings in made for g in spacings]
    low, high = SPACING_GATE_MM
    print(f"  lumbar body spacing      {np.median(gaps):6.2f} ({min(gaps):.2f}-{max(gaps):.2f})"
          f"  gate {low:g}-{high:g}")  # fmt: skip


if __name__ == "__main__":
    main()
