"""Make a phantom, run the main job on it, and score the masks against the truth.

python examples/compare_with_truth.py OUT
"""

import sys
from pathlib import Path

from spinect import RunOptions, read, run_files
from spinect.evaluation.overlap import score_case
from spinect.phantom.pair import write_dataset

SEED = 1_000_001  # a test seed: no training has seen this subject


def main() -> None:
    out = Path(sys.argv[1])
    write_dataset(
        out / "phantom", subjects=1, seed=SEED, region="lumbar", contrasts=("T1w",), motion="none"
    )
    subject = f"sub-{SEED}"
    scan = out / "phantom" / subject / "anat" / f"{subject}_T1w.nii.gz"
    run_files([scan], out, RunOptions(overwrite=True))
    kinds = ("desc-vertebrae_dseg", "desc-subregions_dseg")
    truth = out / "phantom" / "derivatives" / "truth" / subject
    made = [read(out / f"{subject}_T1w_{kind}.nii.gz", "labels") for kind in kinds]
    true = [read(truth / f"{subject}_space-T1w_{kind}.nii.gz", "labels") for kind in kinds]
    score = score_case(made[0], made[1], true[0], true[1])
    print(f"vertebra Dice {score.vertebra_dice:.2f}, posterior Dice {score.posterior_dice:.2f}")
    for row in score.vertebrae:
        print(f"  id {row.vertebra}: Dice {row.dice:.2f}, surface {row.signed_mm:+.2f} mm")


if __name__ == "__main__":
    main()
