"""What a loop on phantoms came to, against the truth that only phantoms have.

spinect phantom data --subjects 2 --contrast T1w,T2w --motion articulated
spinect loop configs/fast/loop/t1w_from_t2w.yaml
python benchmarks/loop.py data runs/t1w_from_t2w
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from common import publish, table
from spinect.geometry.landmarks import Key, Landmarks
from spinect.geometry.transform import apply
from spinect.io import read, read_poi, read_transforms
from spinect.workflows.landmarks import LandmarkOptions, landmarks_of

BODY, SPINOUS = 50, 42


def rows_of(path: Path) -> list[dict[str, str]]:
    """A tab-separated table."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def between(mine: Landmarks, true: Landmarks, part: int) -> tuple[float, float]:
    """Mean distance, and how far towards the front on average, mm."""
    keys = [key for key in true.common(mine) if key[1] == part]
    gap = mine.array(keys) - true.array(keys)
    return float(np.linalg.norm(gap, axis=1).mean()), float(gap[:, 1].mean())


def error(case: dict[str, str], data: Path, run: Path, keys: list[Key], marks: Landmarks) -> float:
    """Mean distance of where one rigid motion takes the MR's landmarks to where they belong, mm."""
    name, contrast = case["participant_id"], case["contrast"]
    file = f"{name}_from-{contrast}_to-ct_transforms.json"
    truth = read_transforms(data / "derivatives" / "truth" / name / file)
    made = read_transforms((run / case["outputs"]).with_name(file))
    gaps = [
        np.linalg.norm(apply(made.whole, marks[k]) - apply(truth.vertebrae[k[0]], marks[k]))
        for k in keys
    ]
    return float(np.mean(gaps))


def landmark_rows(case: dict[str, str], data: Path, run: Path) -> list[tuple[object, ...]]:
    """Landmarks that the loop found, and those of perfect masks, from the phantom's own."""
    name = case["participant_id"]
    own = read_poi(data / name / "anat" / f"{name}_T1w_poi.json")
    stem = data / "derivatives" / "truth" / name / f"{name}_space-T1w_desc-"
    masks = [read(f"{stem}{m}_dseg.nii.gz", "labels") for m in ("vertebrae", "subregions")]
    perfect = landmarks_of(*masks, LandmarkOptions(points="two")).landmarks
    folder = run / f"round-{case['round']}" / "synthetic" / name
    found = read_poi(folder / f"{name}_space-T1w_desc-matched_poi.json")
    rows: list[tuple[object, ...]] = []
    for what, marks in (("found by the loop", found), ("of perfect masks", perfect)):
        values = [v for part in (BODY, SPINOUS) for v in between(marks, own, part)]
        rows.append((case["series"], what, *values))
    return rows


def main() -> None:
    """The rounds, the landmarks, and where the CT lands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("run", type=Path)
    asked = parser.parse_args()
    rounds = rows_of(asked.run / "rounds.tsv")
    cases = [c for c in rows_of(asked.run / "cases.tsv") if c["state"] == "accepted"]
    marks, places = [], []
    for case in cases:
        name, contrast = case["participant_id"], case["contrast"]
        own = read_poi(asked.data / name / "anat" / f"{name}_{contrast}_poi.json")
        keys = [key for key in own.points if key[1] in (BODY, SPINOUS)]
        off = error(case, asked.data, asked.run, keys, own)
        places.append((case["series"], case["mean_mm"], off))
        if contrast == "T1w":
            marks += landmark_rows(case, asked.data, asked.run)
    body = "\n\n".join(
        [
            table(list(rounds[0]), [list(r.values()) for r in rounds]),
            "Mean distance of landmarks from the phantom's own, mm; front: how far to the front.",
            table(("series", "landmarks", "bodies", "front", "processes", "front"), marks),
            "Mean residual of the registration, and how far the CT lands from the truth, mm.",
            table(("series", "residual", "error"), places),
        ]
    )
    publish("loop", "A loop on phantoms", body)


if __name__ == "__main__":
    main()
