"""What the sign of the implied noise does to one trained network: the published sampler and ours.

    python benchmarks/sign.py BUNDLE DATASET [--subjects 5] [--draws 6] [--steps 10 20]

BUNDLE is a `diffusion` bundle in image mode (`predicts: x0`), DATASET a folder of phantoms with
truth, such as those of `spinect compare`. Per sampler, eta and number of steps: the standard
deviation of draws about their mean, and the mean absolute error of single draws and of their mean,
all in HU within 10 mm of bone; mean over subjects and their standard deviation. Phantom data.
"""

import argparse
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

from common import publish, table
from spinect.bundle import Bundle, load_bundle
from spinect.evaluation.image import near_bone
from spinect.geometry.resample import resample
from spinect.inference import translate
from spinect.io import read
from spinect.workflows.compare.engine import variant

SAMPLERS = (("ancestral", 1.0), ("graf2023", 1.0), ("ancestral", 0.0), ("graf2023", 0.0))
FIRST_TEST = 1_000_000


def draws_of(bundle: Bundle, mr: Path, truth: Path, steps: int, count: int) -> tuple[float, ...]:
    """Spread, error of a draw and error of the mean, HU near bone, of one subject."""
    image = read(mr, "mr")
    true = read(Path(f"{truth}_ct.nii.gz"), "ct")
    bone = read(Path(f"{truth}_desc-vertebrae_dseg.nii.gz"), "labels")
    made = [
        resample(translate(image, bundle, mode="sample", steps=steps, seed=seed).ct, true.grid).data
        for seed in range(count)
    ]
    near = near_bone(bone.data > 0, true.grid.spacing)
    stack = np.stack([ct[near] for ct in made]).astype(np.float64)
    goal = true.data[near]
    spread = float(stack.std(axis=0, ddof=1).mean())
    single = float(np.abs(stack - goal).mean())
    return spread, single, float(np.abs(stack.mean(axis=0) - goal).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--subjects", type=int, default=5)
    parser.add_argument("--draws", type=int, default=6)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 20])
    args = parser.parse_args()
    bundle = load_bundle(args.bundle)
    names = sorted(p.name for p in (args.dataset / "derivatives" / "truth").iterdir())
    tested = [name for name in names if int(name.removeprefix("sub-")) >= FIRST_TEST]
    rows = []
    for steps in args.steps:
        for sampler, eta in SAMPLERS:
            with_sampler = variant(bundle, {"sampler": sampler, "eta": eta})
            found = []
            for name in tested[: args.subjects]:
                mr = args.dataset / name / "anat" / f"{name}_T2w.nii.gz"
                truth = args.dataset / "derivatives" / "truth" / name / f"{name}_space-T2w"
                found.append(draws_of(with_sampler, mr, truth, steps, args.draws))
            means = [f"{fmean(c):.1f} ({stdev(c):.1f})" for c in zip(*found, strict=True)]
            rows.append((steps, sampler, eta, *means))
            print(*rows[-1], flush=True)
    card = bundle.card
    body = (
        f"Phantom data. {len(tested[: args.subjects])} test subjects, {args.draws} draws each; "
        f"{card.training.steps} updates, {card.config['ndim']}D. HU within 10 mm of bone, mean "
        "(SD) over subjects. `ancestral`: the right sign; `graf2023`: the published one.\n\n"
    )
    columns = ("spread of draws", "error of a draw", "error of their mean")
    header = ("steps", "sampler", "eta", *columns)
    publish("sign", "The sign of the implied noise", body + table(header, rows))


if __name__ == "__main__":
    main()
