"""Make a phantom, run the main job on it, and score the masks against the truth.

python examples/compare_with_truth.py OUT
"""

import sys
from pathlib import Path

from spinect import RunOptions, read, run_files
from spinect.evaluation.measures import at
from spinect.evaluation.protocols.strict_segmentation import strict_segmentation
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
    score = strict_segmentation(made[0], made[1], true[0], true[1])
    posterior = at(score, "posterior", "dice")
    print(f"vertebra Dice {at(score, 'vertebra', 'dice'):.2f}, posterior Dice {posterior:.2f}")
    for row in score:
        if (row.region, row.metric) == ("vertebra", "dice") and row.item:
            surface = at(score, "vertebra", "signed_distance", row.item)
            print(f"  {row.item}: Dice {row.value:.2f}, surface {surface:+.2f} mm")


if __name__ == "__main__":
    main()
