"""The main job on the ten test phantoms: Dice on the native grid and at 1 mm, HU error near bone.

    python benchmarks/main_job.py [--out FOLDER] [--region lumbar] [--subjects 10]
    python benchmarks/main_job.py --contrasts PDw,T2starw       two that no training draws

Seeds 1,000,000 and following; half T1w, half T2w (or others), 0.6 mm in plane, 4 mm slices. Phantom
data.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np

from common import publish, run_spinect, table
from spinect.evaluation.image import mae, near_bone, oracle_floor
from spinect.evaluation.measures import at
from spinect.evaluation.protocols.strict_segmentation import ceiling, strict_segmentation
from spinect.geometry import Volume
from spinect.geometry.resample import resample
from spinect.io import read
from spinect.phantom.tissues import Tissue

FIRST_SEED = 1_000_000


USUAL = "T1w,T2w"


def make_phantoms(folder: Path, subjects: int, region: str, contrasts: str) -> None:
    """Write the test phantoms once."""
    if not (folder / "participants.tsv").exists():
        command = [sys.executable, "-m", "spinect", "phantom", str(folder)]
        command += ["--subjects", str(subjects), "--seed", str(FIRST_SEED), "--region", region]
        subprocess.run([*command, "--contrast", contrasts, "--motion", "none"], check=True)


def scans(folder: Path, subjects: int, contrasts: str) -> list[Path]:
    """One scan for each subject: the first half of the first contrast, the rest of the second."""
    found = []
    first, second = contrasts.split(",")
    for index in range(subjects):
        subject = f"sub-{FIRST_SEED + index}"
        contrast = first if index < (subjects + 1) // 2 else second
        found.append(folder / subject / "anat" / f"{subject}_{contrast}.nii.gz")
    return found


def score(scan: Path, out: Path) -> dict[str, object]:
    """All figures of one subject."""
    subject, contrast = scan.name.removesuffix(".nii.gz").split("_")
    truth = scan.parents[2] / "derivatives" / "truth" / subject
    stem = f"{subject}_{contrast}"
    row: dict[str, object] = {"subject": stem}
    true: dict[str, list[Volume]] = {}
    for space, true_stem, own in (
        ("native", f"{subject}_space-{contrast}", stem),
        ("iso", f"{subject}_space-iso", f"{stem}_space-iso"),
    ):
        files = [f"desc-{kind}_dseg.nii.gz" for kind in ("vertebrae", "subregions")]
        wanted = [read(truth / f"{true_stem}_{f}", "labels") for f in files]
        got = [read(out / f"{own}_{f}", "labels") for f in files]
        if space == "iso":  # both against the 1 mm truth, on the truth's own grid
            got = [resample(g, wanted[0].grid) for g in got]
        result = strict_segmentation(got[0], got[1], wanted[0], wanted[1])
        true[space] = wanted
        row |= {
            f"{space} vertebra": at(result, "vertebra", "dice"),
            f"{space} posterior": at(result, "posterior", "dice"),
            f"{space} body": at(result, "vertebral_body", "dice"),
            f"{space} NSD 1 mm": at(result, "vertebra", "nsd_1mm"),
            f"{space} signed mm": at(result, "vertebra", "signed_distance"),
            f"{space} identified": at(result, "vertebra", "identified"),
            f"{space} spurious": int(at(result, "vertebra", "spurious")),
            f"{space} wrong level": int(at(result, "vertebra", "wrong_level")),
        }
    for space, elsewhere in (("native", "iso"), ("iso", "native")):
        best = ceiling(*true[elsewhere], *true[space])
        row[f"ceiling {space} vertebra"] = at(best, "vertebra", "dice")
        row[f"ceiling {space} posterior"] = at(best, "posterior", "dice")
    error, cortex, marrow, floor = near_bone_error(scan, out)
    row |= {
        "MAE near bone HU": error,
        "of it in cortex HU": cortex,
        "of it in marrow HU": marrow,
        "oracle floor HU": floor,
    }
    record = json.loads((out / f"{stem}_run.json").read_text())
    row["seconds"] = float(sum(record["seconds"].values()))
    return row


def near_bone_error(scan: Path, out: Path) -> tuple[float, float, float, float]:
    """Mean absolute error near bone of a synthetic CT, 1 mm, HU.

    Returns:
        All of it, what of it lies in cortex and in marrow, and what an oracle makes that knows each
        tissue and its HU.
    """
    stem = scan.name.removesuffix(".nii.gz")
    subject = stem.split("_")[0]
    truth = scan.parents[2] / "derivatives" / "truth" / subject
    true_ct = read(truth / f"{subject}_space-iso_ct.nii.gz", "ct")
    vertebrae = read(truth / f"{subject}_space-iso_desc-vertebrae_dseg.nii.gz", "labels")
    tissue = read(truth / f"{subject}_space-iso_desc-tissue_dseg.nii.gz", "labels")
    synthetic = read(out / f"{stem}_space-iso_desc-synth_ct.nii.gz", "ct")
    synthetic = resample(synthetic, true_ct.grid)
    near = near_bone(vertebrae.data > 0, true_ct.grid.spacing)
    error = np.abs(synthetic.data - true_ct.data)
    cortex, marrow = (
        float(error[near & (tissue.data == part)].sum() / near.sum())
        for part in (Tissue.CORTEX, Tissue.MARROW)
    )
    floor = oracle_floor(tissue.data, true_ct.data, near)
    return mae(synthetic.data, true_ct.data, near), cortex, marrow, floor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/main_job"))
    parser.add_argument("--region", default="lumbar")
    parser.add_argument("--subjects", type=int, default=10)
    parser.add_argument("--contrasts", default=USUAL, help="two of them")
    parser.add_argument("--options", default="", help="further options of `spinect run`")
    args = parser.parse_args()
    other = "" if args.contrasts == USUAL else "-" + args.contrasts.replace(",", "-")
    phantoms = args.out / f"phantoms-{args.region}-{args.subjects}{other}"
    make_phantoms(phantoms, args.subjects, args.region, args.contrasts)
    files = scans(phantoms, args.subjects, args.contrasts)
    results = args.out / f"results-{args.region}{other}"
    run_spinect(files, results, *shlex.split(args.options))
    rows = [score(f, results) for f in files]
    columns = [k for k in rows[0] if k != "subject"]
    parts = []
    for title, keys in {
        "Native grid": [k for k in columns if "native" in k],
        "1 mm grid": [k for k in columns if "iso " in k],
        "HU and time": [k for k in columns if k.endswith("HU") or k == "seconds"],
    }.items():
        lines = [[r["subject"], *[r[k] for k in keys]] for r in rows]
        mean = ["**mean**", *[float(np.mean([float(r[k]) for r in rows])) for k in keys]]
        sd = ["SD", *[float(np.std([float(r[k]) for r in rows], ddof=1)) for k in keys]]
        parts.append(f"## {title}\n\n" + table(["subject", *keys], [*lines, mean, sd]))
    title = f"Main job on {args.subjects} {args.region} test phantoms"
    name = f"main_job_{args.region}{other.replace('-', '_')}"
    publish(name, title, "Phantom data.\n\n" + "\n\n".join(parts))


if __name__ == "__main__":
    main()
