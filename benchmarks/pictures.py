"""Pictures of README and docs/limits.md: sagittal slices of SPIDER scans after `spinect run`.

    python benchmarks/pictures.py DIR [--results runs/real_mr]

DIR holds the scans; --results what benchmarks/real_mr.py wrote for them. SPIDER: van der Graaf et
al., CC BY 4.0; scans of other sources are not shown, since their licences do not allow it here.
"""

import argparse
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from spinect.io import read
from spinect.report import Scene
from spinect.report.figures import preview_png

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SHOWN = {"preview-spider": ["spider_81_mr"], "limits-spider": ["spider_209_mr", "spider_50_mr"]}
QUALITY = 88  # of the JPEG


def row(folder: Path, results: Path, stem: str) -> Image.Image:
    """One case: MR, synthetic CT, masks over the MR, in the sagittal plane through the spine."""
    kinds = [f"desc-{k}_dseg" for k in ("vertebrae", "subregions")]
    vertebrae, subregions = (read(results / f"{stem}_{k}.nii.gz", "labels") for k in kinds)
    scene = Scene(
        read(folder / f"{stem}.nii.gz", "mr"),
        read(results / f"{stem}_space-iso_desc-synth_ct.nii.gz", "ct"),
        vertebrae,
        subregions,
    )
    png = preview_png(scene, stem.removesuffix("_mr"), dpi=110, planes=("sagittal",))
    return Image.open(BytesIO(png)).convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--results", type=Path, default=Path("runs/real_mr"))
    args = parser.parse_args()
    for name, stems in SHOWN.items():
        rows = [np.asarray(row(args.folder, args.results, stem)) for stem in stems]
        picture = Image.fromarray(np.concatenate(rows))
        picture.save(IMAGES / f"{name}.jpg", quality=QUALITY, optimize=True)
        print(IMAGES / f"{name}.jpg")


if __name__ == "__main__":
    main()
