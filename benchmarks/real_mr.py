"""Dice on labelled real spine MR, one row per source.

    python benchmarks/real_mr.py DIR [--out FOLDER] [--options "--segmenter direct"]

DIR holds NAME_mr.nii.gz with NAME_gt.nii.gz. The sources are told by name: VB1, VB2, VB3 label
vertebral bodies from the lowest upwards (the lowest of VB1 is S1, which is not scored); spider
labels disc 1, whole vertebra 2, canal 3.
"""

import argparse
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from common import publish, run_spinect, table
from spinect.anatomy import BODY, PRESACRAL
from spinect.evaluation.measures import at
from spinect.evaluation.overlap import dice
from spinect.evaluation.protocols.strict_segmentation import ceiling, strict_segmentation
from spinect.evaluation.surface import surface_distances
from spinect.geometry import Volume
from spinect.geometry.resample import resample, to_iso
from spinect.io import read

SOURCES = {"VB1": "VB1", "VB2": "VB2", "VB3": "VB3", "spider": "SPIDER"}
UPWARDS = [24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12]  # L5, L4, ... T5


@dataclass(frozen=True)
class Row:
    """One scan. `main` is body Dice for VB, whole-vertebra Dice for SPIDER."""

    name: str
    main: float
    behind: float  # SPIDER: Dice of the part behind the canal's front edge
    nsd_2mm: float
    signed_mm: float
    identified: float
    spurious: int
    ceiling: float  # truth -> 1 mm -> truth


def bodies(name: str, truth: Volume, vertebrae: Volume, subregions: Volume) -> Row:
    """Body Dice of a scan whose labels count the bodies from below."""
    ladder = ([26] if name.startswith("VB1") else []) + UPWARDS
    ids = np.zeros(256, np.uint8)
    ids[1 : len(ladder) + 1] = ladder
    true = truth.with_data(ids[truth.data])
    true_sub = truth.with_data(np.where(truth.data > 0, 50, 0).astype(np.uint8))
    is_body = np.isin(subregions.data, BODY)
    pred = vertebrae.with_data(np.where(is_body, vertebrae.data, 0).astype(np.uint8))
    score = strict_segmentation(pred, subregions, true, true_sub)
    best = ceiling(to_iso(true), to_iso(true_sub), true, true_sub)
    return Row(
        name,
        at(score, "vertebra", "dice"),
        float("nan"),
        at(score, "vertebra", "nsd_2mm"),
        at(score, "vertebra", "signed_distance"),
        at(score, "vertebra", "identified"),
        int(at(score, "vertebra", "spurious")),
        at(best, "vertebra", "dice"),
    )


def behind_canal_front(canal: NDArray[np.bool_], spacing: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Voxels at or behind the most anterior canal voxel of their (x, z) column; axes R, A, S.

    Columns without canal take the nearest column that has one.
    """
    has = canal.any(axis=1)
    front = canal.shape[1] - 1 - np.argmax(canal[:, ::-1, :], axis=1)
    nearest = ndimage.distance_transform_edt(
        ~has, sampling=spacing[[0, 2]], return_distances=False, return_indices=True
    )
    front = front[tuple(nearest)]
    return np.arange(canal.shape[1])[None, :, None] <= front[:, None, :]


def slab(name: str, truth: Volume, vertebrae: Volume) -> Row:
    """Whole-vertebra Dice of a SPIDER slab, and of the part behind the canal's front edge."""
    true_all, pred = truth.canonical(), vertebrae.canonical()
    true = true_all.data == 2
    found = np.isin(pred.data, PRESACRAL)
    behind = behind_canal_front(true_all.data == 3, true_all.grid.spacing)
    near = surface_distances(found, true, true_all.grid.spacing)
    label = true_all.with_data(true.astype(np.uint8))
    there = resample(resample(label, to_iso(label).grid), label.grid)
    return Row(
        name,
        dice(found, true),
        dice(found & behind, true & behind),
        near.nsd(2.0) if near else 0.0,
        near.median_signed() if near else float("nan"),
        float("nan"),
        0,
        dice(there.data > 0, true),
    )


def score_folder(folder: Path, out: Path) -> list[Row]:
    """Score what `spinect run` wrote for every labelled scan of a folder."""
    rows = []
    for scan in sorted(folder.glob("*_mr.nii.gz")):
        stem = scan.name.removesuffix(".nii.gz")
        truth = read(scan.with_name(stem.removesuffix("mr") + "gt.nii.gz"), "labels")
        vertebrae_file = out / f"{stem}_desc-vertebrae_dseg.nii.gz"
        if not vertebrae_file.exists():
            rows.append(Row(stem, 0.0, 0.0, 0.0, float("nan"), 0.0, 0, float("nan")))
            continue
        vertebrae = read(vertebrae_file, "labels")
        if stem.startswith("spider"):
            rows.append(slab(stem, truth, vertebrae))
        else:
            subregions = read(out / f"{stem}_desc-subregions_dseg.nii.gz", "labels")
            rows.append(bodies(stem, truth, vertebrae, subregions))
    return rows


def summary(rows: list[Row]) -> str:
    """One row per source, then one per scan."""
    header = ("source", "scans", "Dice", "behind canal front", "NSD 2 mm", "signed mm")
    header += ("identified", "spurious", "ceiling")
    lines = []
    for prefix, source in SOURCES.items():
        group = [r for r in rows if r.name.startswith(prefix)]
        if group:
            mean = [
                float(np.mean([getattr(r, k) for r in group]))
                for k in ("main", "behind", "nsd_2mm", "signed_mm", "identified")
            ]
            spurious = sum(r.spurious for r in group)
            ceiling = float(np.mean([r.ceiling for r in group]))
            lines.append((source, len(group), *mean, spurious, ceiling))
    each = [
        (r.name, 1, r.main, r.behind, r.nsd_2mm, r.signed_mm, r.identified, r.spurious, r.ceiling)
        for r in rows
    ]
    return (
        "Body Dice for VB1-VB3 (bodies only are labelled), whole-vertebra Dice for SPIDER.\n\n"
        + table(header, lines)
        + "\n\n"
        + table(("scan", *header[1:]), each)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/real_mr"))
    parser.add_argument("--options", default="", help="further options of `spinect run`")
    parser.add_argument("--name", default="real_mr", help="name of the file under results/")
    args = parser.parse_args()
    run_spinect(sorted(args.folder.glob("*_mr.nii.gz")), args.out, *shlex.split(args.options))
    publish(args.name, "Real MR", summary(score_folder(args.folder, args.out)))


if __name__ == "__main__":
    main()
