"""A folder of rasterised subjects that training and benchmarks draw from.

python -m spinect.phantom.pool FOLDER --subjects 100 --seed 0 --region mixed --workers 2
"""

import argparse
import logging
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from spinect.phantom.anatomy import REGIONS, Region, field_of_view_grid, make_subject, rasterise

log = logging.getLogger(__name__)
MIXED = "mixed"


def choose(seed: int) -> tuple[Region, float]:
    """Region and head-feet shift (mm) of a subject of a mixed pool.

    60 % lumbar, 20 % thoracic, 10 % cervical, 10 % lumbar or thoracic at another offset.
    """
    rng = np.random.default_rng([seed, 6])
    kind = rng.random()
    if kind < 0.6:
        return "lumbar", 0.0
    if kind < 0.8:
        return "thoracic", 0.0
    if kind < 0.9:
        return "cervical", 0.0
    return ("lumbar" if rng.random() < 0.5 else "thoracic"), float(rng.uniform(-120, 120))


def build(folder: Path, seeds: Iterable[int], region: str = MIXED, workers: int = 1) -> None:
    """Write one map per subject at 1 mm, as `folder`/sub-SEED; complete ones are left alone.

    Args:
        folder: Made when missing.
        seeds: Of the subjects.
        region: One of `anatomy.REGIONS`, or "mixed" (see `choose`).
        workers: Processes.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    work = partial(_write, Path(folder), region)
    if workers <= 1:
        for seed in seeds:
            work(seed)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for _ in pool.map(work, seeds):
            pass


def _write(folder: Path, region: str, seed: int) -> None:
    target = folder / f"sub-{seed}"
    if (target / "map.json").exists():
        return
    name, shift = choose(seed) if region == MIXED else (region, 0.0)
    subject = make_subject(seed, name, shift)  # type: ignore[arg-type]  # checked inside
    rasterise(subject, field_of_view_grid(subject)).save(target)
    log.info("wrote %s (%s)", target.name, name)


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m spinect.phantom.pool", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--subjects", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first subject")
    parser.add_argument("--region", default=MIXED, choices=[MIXED, *REGIONS])
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    build(args.folder, range(args.seed, args.seed + args.subjects), args.region, args.workers)


if __name__ == "__main__":
    main()
