"""Dice of the embedded segmenter on labelled real CT that no training saw.

    python benchmarks/real_ct.py DIR [--out FOLDER]

DIR holds NAME_ct.nii.gz with NAME_vertebrae.nii.gz and, for some, NAME_subregions.nii.gz, as the
folder `ct` of the development data does. Levels outside the labelled ones are not scored. Dice is
taken on the CT's own grid.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

from common import publish, table
from spinect.anatomy import POSTERIOR, PRESACRAL
from spinect.evaluation.overlap import dice, match
from spinect.evaluation.surface import surface_distances
from spinect.geometry.resample import resample
from spinect.io import read

WITHHELD = ("verse014", "tptbox_crop")  # the others of that folder were trained on


def score(folder: Path, name: str, out: Path) -> tuple[object, ...]:
    """Mean over the labelled vertebrae; the posterior elements where they are labelled."""
    truth = read(folder / f"{name}_vertebrae.nii.gz", "labels")
    named = {k: f"{name}_ct_desc-{k}_dseg.nii.gz" for k in ("vertebrae", "subregions")}
    found = resample(read(out / named["vertebrae"], "labels"), truth.grid)
    wanted = [v for v in PRESACRAL if np.any(truth.data == v)]
    inside = np.isin(found.data, PRESACRAL)
    partner = match(np.where(inside, found.data, 0), np.where(truth.data < 26, truth.data, 0))
    dices, nsd, signed = [], [], []
    for v in wanted:
        mine = found.data == partner[v] if v in partner else np.zeros(truth.data.shape, bool)
        near = surface_distances(mine, truth.data == v, truth.grid.spacing)
        dices.append(dice(mine, truth.data == v))
        nsd.append(near.nsd(1.0) if near else 0.0)
        signed.append(near.median_signed() if near else np.nan)
    posterior = float("nan")
    parts = folder / f"{name}_subregions.nii.gz"
    if parts.exists():
        true = np.isin(read(parts, "labels").data, POSTERIOR) & np.isin(truth.data, wanted)
        mine = resample(read(out / named["subregions"], "labels"), truth.grid).data
        own = np.isin(found.data, [partner[v] for v in wanted if v in partner])
        posterior = dice(np.isin(mine, POSTERIOR) & own, true)
    levels = sum(partner.get(v) == v for v in wanted)
    mean = [float(np.nanmean(x)) for x in (dices, nsd, signed)]
    return name, len(wanted), *mean, posterior, float(np.min(dices)), f"{levels}/{len(wanted)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/real_ct"))
    args = parser.parse_args()
    files = [str(args.folder / f"{name}_ct.nii.gz") for name in WITHHELD]
    command = [sys.executable, "-m", "spinect", "segment", *files, "-o", str(args.out)]
    subprocess.run([*command, "--resume"], check=True)
    header = ["CT", "vertebrae", "Dice", "NSD 1 mm", "signed mm", "posterior Dice", "least Dice"]
    rows = [score(args.folder, name, args.out) for name in WITHHELD]
    publish("real_ct", "Real CT", table([*header, "right level"], rows))


if __name__ == "__main__":
    main()
