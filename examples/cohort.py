"""All MR series below a folder: one loaded model, failures isolated, resumable.

python examples/cohort.py STUDY OUT
"""

import sys
from pathlib import Path

from spinect import RunOptions, run_files


def main() -> None:
    study, out = Path(sys.argv[1]), Path(sys.argv[2])
    options = RunOptions(resume=True, outputs=("ct", "vertebrae", "table", "html"), timeout=1800)
    scans = sorted(study.rglob("*_T2w.nii.gz"))
    summary = run_files(scans, out, options, root=study)  # mirrors the tree of the study
    for outcome in summary.outcomes:
        if outcome.record:
            found = " ".join(outcome.record.vertebrae)
            print(f"{outcome.case.stem}: {outcome.status}, {found}")
        else:
            print(f"{outcome.case.stem}: failed, {outcome.error}")
    sys.exit(summary.exit_code)


if __name__ == "__main__":
    main()
