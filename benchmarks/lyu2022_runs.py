"""The models and samplers of lyu2022.py, and what they draw; every drawn set is kept."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lyu2022_slices import Slices, draw, load, mean_over, measured
from spinect.bundle import Bundle, load_bundle
from spinect.evaluation import uncertainty as unc
from spinect.evaluation.regions import tissue_masks
from spinect.workflows.compare.engine import variant

FIRST_TEST = 1_000_000
CALLS = (10, 20, 50, 100, 200, 500, 1000, 2000)
COUNTS = (1, 2, 5, 10)
BUDGET = 100  # network calls of each draw that is averaged
QUALITY = ("psnr", "ssim", "mae", "spectrum", "histogram", "bone_dice")


@dataclass(frozen=True)
class Way:
    """A model and a sampler.

    Attributes:
        fields: Of the method's config. each: Network calls per step.
        last: Calls that a run takes fewer than `each` times its steps.
        fixed: Whether it chooses its own steps. most: Network calls that are worth trying.
    """

    row: str
    sampler: str
    fields: dict[str, Any]
    each: int = 1
    last: int = 0
    fixed: bool = False
    most: int = 1000

    @property
    def name(self) -> str:
        return f"{self.row}-{self.sampler}"

    def steps(self, calls: int) -> int | None:
        return None if self.fixed else max(1, (calls + self.last) // self.each)


PC = {"sampler": "pc", "snr": 0.16}
HEUN, RK45 = {"sampler": "ode", "solver": "heun"}, {"sampler": "ode", "solver": "rk45"}
WAYS = (
    Way("ddpm", "ddpm", {"sampler": "ddpm"}),
    Way("ddpm", "ddim", {"sampler": "ancestral", "eta": 0.0}),
    Way("score_vp", "em", {"sampler": "em"}),
    Way("score_vp", "pc", PC, 2, most=2000),  # as many steps as the others
    Way("score_vp", "ode heun", HEUN, 2),
    Way("score_vp", "ode rk45", RK45 | {"rtol": 1e-3, "atol": 1e-3}, fixed=True),
    Way("score_ve", "em", {"sampler": "em"}, most=500),
    Way("score_ve", "pc", PC, 2, most=500),
    Way("score_ve", "ode heun", HEUN, 2, most=500),
    Way("score_subvp", "em", {"sampler": "em"}, most=500),
    Way("score_subvp", "ode heun", HEUN, 2, most=500),
    Way("edm", "dpmpp_2m", {"sampler": "dpmpp_2m"}, most=200),
    Way("edm", "heun", {"sampler": "heun"}, 2, 1, most=200),
)
AVERAGED = ("ddpm-ddpm", "score_vp-em", "score_vp-pc", "score_vp-ode heun", "score_ve-em",
            "edm-dpmpp_2m")  # fmt: skip


class Experiment:
    """The bundles of a finished experiment and the slices of its test subjects."""

    def __init__(self, folder: Path, subjects: int, slices: int) -> None:
        self.folder, self.slices = folder, slices
        data = next(p for p in (folder / "data").iterdir() if p.is_dir())
        scans = sorted(
            path
            for path in data.glob("sub-*/anat/*.nii.gz")
            if int(path.name.split("_")[0].removeprefix("sub-")) >= FIRST_TEST
        )
        self.scans = [p for p in scans if p.name.endswith("_T2w.nii.gz")][:subjects]
        self.truth = data / "derivatives" / "truth"
        self.bundles: dict[str, Bundle] = {}
        for path in sorted((folder / "training").glob("*/bundle")):
            self.bundles[path.parent.name.rpartition("-")[0]] = load_bundle(path)

    def first(self, row: str) -> Slices:
        """Of the first subject."""
        return next(self.load(row))

    def load(self, row: str) -> Iterator[Slices]:
        for path in self.scans:
            stem = path.name.removesuffix(".nii.gz")
            name, _, suffix = stem.partition("_")
            truth = self.truth / name / f"{name}_space-{suffix}"
            yield load(path, truth, self.bundles[row], self.slices)

    def kept(self, key: str, seen: Slices) -> Path:
        return self.folder / "slices" / f"{key.replace(' ', '_')}_{seen.name}.json"


def once(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a file holds; made and written if it is not there."""
    if not path.is_file():
        found = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found))
    return dict(json.loads(path.read_text()))


def single(whole: Experiment, way: Way, calls: int) -> list[dict[str, float]]:
    """One draw per slice; values by subject."""
    bundle = variant(whole.bundles[way.row], way.fields)

    def make(seen: Slices) -> dict[str, float]:
        hu, count, seconds = draw(bundle, seen, way.steps(calls), seed=0)
        return {**measured(hu, seen), "calls": count, "seconds": seconds}

    found = []
    for seen in whole.load(way.row):
        key = way.name if way.fixed else f"{way.name}-{calls}"
        found.append(once(whole.kept(key, seen), lambda seen=seen: make(seen)))
    print(way.name, calls, mean_over(found), flush=True)
    return found


def still(whole: Experiment, row: str) -> list[dict[str, float]]:
    """The one answer of a model without noise."""
    found = []
    for seen in whole.load(row):

        def make(seen: Slices = seen) -> dict[str, float]:
            hu, count, seconds = draw(whole.bundles[row], seen, None, 0, "regress")
            return {**measured(hu, seen), "calls": count, "seconds": seconds}

        found.append(once(whole.kept(row, seen), make))
    return found


def averaged(whole: Experiment, way: Way, draws: int) -> list[dict[str, Any]]:
    """Means over K of the same draws, and whether their spread is the error; by subject."""
    bundle = variant(whole.bundles[way.row], way.fields)

    def make(seen: Slices) -> dict[str, Any]:
        made = np.stack([draw(bundle, seen, way.steps(BUDGET), seed)[0] for seed in range(draws)])
        found: dict[str, Any] = {}
        for count in (k for k in COUNTS if k <= draws):
            sets = made[: draws - draws % count].reshape(-1, count, *made.shape[1:])
            found[f"K={count}"] = mean_over([measured(s.mean(axis=0), seen) for s in sets])
        mean, std = made.mean(axis=0), made.std(axis=0, ddof=1)
        inside = seen.patient
        for name, mask in tissue_masks(mean, inside).items():
            if mask.any():
                error = math.sqrt(float(((mean - seen.truth)[mask] ** 2).mean()))
                spread = math.sqrt(float((std[mask] ** 2).mean()) * (draws + 1) / draws)
                found[name] = {"spread": spread, "error": error, "skill": spread / error}
        low, high = unc.interval_ranks(draws, 0.8)
        ranked = np.sort(made, axis=0)
        found["coverage"] = unc.coverage(ranked[low - 1], ranked[high - 1], seen.truth, inside)
        return found

    found = []
    for seen in whole.load(way.row):
        key = f"{way.name}-mean-{draws}"
        found.append(once(whole.kept(key, seen), lambda seen=seen: make(seen)))
    print(way.name, "averaged", flush=True)
    return found
