"""Pictures of docs/phantom.md: a phantom in MR, CT and labels, beside a real SPIDER slice.

    SPINECT_REALDATA=FOLDER python benchmarks/phantom_pictures.py --seed 1000003
    python benchmarks/phantom_pictures.py --region pelvis --out docs/images/phantom_pelvis.png
    SPINECT_REALDATA=FOLDER python benchmarks/phantom_pictures.py --contrasts \\
        --out docs/images/contrasts.png [--beside VB1_03_mr VB3_02_mr ...]

The SPIDER slice (van der Graaf et al., CC BY 4.0) is left out when the folder is absent. The pelvis
is shown as its dataset holds it: T1w, T2w, and the CT on the grid of the T2w. `--contrasts` shows
the seven named contrasts of a scanned phantom, the two that training never draws, and
SPIDER or the scans that are named.
"""

import argparse
import os
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Picture
from scipy.ndimage import gaussian_filter

from spinect.geometry.resample import resample
from spinect.io import read
from spinect.phantom.anatomy import PELVIS, field_of_view_grid, make_subject, rasterise
from spinect.phantom.contrast import ct_hu, draw_ct, draw_mr, mr_signal, thick_shell
from spinect.phantom.maps import DISTANCE_STEP_MM, TissueMap
from spinect.phantom.pair import make_pair

mpl.use("Agg")
SPIDER = "mr_dev/spider_65_mr.nii.gz"
CONTRASTS = ("T1w", "T2w", "STIR", "water", "fat", "inphase", "opposed")
WITHHELD = ("PDw", "T2starw")  # never drawn in training
Image = NDArray[np.float32]


def scans(made: TissueMap) -> tuple[Image, Image]:
    """A T2-weighted MR and a CT of the map, before any scanner."""
    rng = np.random.default_rng(0)
    generator = torch.Generator().manual_seed(0)
    tissue = torch.from_numpy(np.asarray(made.tissue))[None]
    distance = torch.from_numpy(np.asarray(made.bone_distance, np.float32))[None]
    distance = distance * DISTANCE_STEP_MM
    thick = thick_shell(tissue, torch.from_numpy(np.asarray(made.subregions))[None])
    mr = [draw_mr("T2w", made.subject, rng)]
    water, fat = mr_signal(tissue, distance, mr, thick=thick, generator=generator)
    ct = ct_hu(tissue, distance, [draw_ct(made.subject, rng)], thick=thick, generator=generator)
    return (water + fat)[0].numpy(), ct[0].numpy()


def relief(mask: NDArray[np.bool_], axis: int) -> Image:
    """Bone seen along an array axis from its low end, lit from the upper left."""
    solid = np.moveaxis(gaussian_filter(mask.astype(np.float32), 0.7) > 0.5, axis, 0)
    hit = solid.any(0)
    depth = gaussian_filter(np.where(hit, solid.argmax(0), solid.shape[0] // 2).astype(float), 0.6)
    normal = np.stack([*np.gradient(depth), -np.ones_like(depth)])
    normal /= np.linalg.norm(normal, axis=0)
    light = np.array([-0.4, 0.5, -1.0]) / np.linalg.norm([-0.4, 0.5, -1.0])
    return np.where(hit, 0.15 + 0.85 * np.clip(np.tensordot(light, normal, 1), 0, 1), 0)


def show(axis: plt.Axes, image: Image, title: str, aspect: float = 1.0, **style: object) -> None:
    """One panel; the first array axis runs to the right."""
    axis.imshow(image.T, origin="lower", aspect=aspect, **({"cmap": "gray"} | style))
    axis.set_title(title, fontsize=9)
    axis.axis("off")


def sheet(made: TissueMap, spider: Path | None) -> plt.Figure:
    """All panels."""
    mr, ct = scans(made)
    centre = np.rint(made.grid.index(made.subject.centres[22])).astype(int)
    x, z = int(centre[0]), int(centre[2]) + 4
    figure, axes = plt.subplots(2, 4, figsize=(11, 7.4), layout="constrained")
    masks = {"cmap": "tab20", "interpolation": "nearest", "vmin": 40, "vmax": 62}
    tones = {"vmin": 0, "vmax": float(np.percentile(mr, 99))}
    bones = {"vmin": -200, "vmax": 900}
    labels = np.ma.masked_equal(np.asarray(made.subregions, float), 0)
    show(axes[0, 0], mr[x], "phantom, T2-weighted", **tones)
    show(axes[0, 1], ct[x], "phantom, CT", **bones)
    show(axes[0, 2], labels[x], "phantom, subregions", **masks)
    show(axes[1, 0], mr[:, :, z], "through L3", **tones)
    show(axes[1, 1], ct[:, :, z], "through L3", **bones)
    solid = np.asarray(made.bone_distance) < 0
    show(axes[1, 2], relief(solid, 1), "all bones, from behind")
    show(axes[1, 3], relief(np.asarray(made.vertebrae) > 0, 0), "vertebrae, from the side")
    if spider is None:
        axes[0, 3].axis("off")
    else:
        real = read(spider).canonical()
        plane = real.data[real.data.shape[0] // 2]
        spacing = real.grid.spacing
        show(axes[0, 3], plane, "SPIDER, real T2-weighted (CC BY 4.0)", spacing[2] / spacing[1],
             vmax=float(np.percentile(plane, 99.3)))  # fmt: skip
    return figure


def pelvis_sheet(seed: int) -> plt.Figure:
    """T1w, T2w and CT through heads and prostate, in the plane of the heads, and in the middle."""
    pelvis = make_subject(seed, PELVIS).pelvis
    assert pelvis is not None
    frame = np.array(pelvis.frame)
    pair = make_pair(seed, PELVIS)
    images = [pair.mr["T1w"], pair.mr["T2w"], resample(pair.truth_ct, pair.mr["T2w"].grid)]
    places = {
        "axial, femoral heads": (2, pelvis.head),
        "axial, prostate": (2, pelvis.at(1, 0, 40, -133)),
        "coronal": (1, pelvis.head),
        "sagittal": (0, (0.0, 0.0, 0.0)),
    }
    figure, axes = plt.subplots(3, 4, figsize=(11.5, 6.2), layout="constrained")
    for row, (name, image) in enumerate(zip(("T1w", "T2w", "CT"), images, strict=True)):
        volume = image.reoriented("LAS")  # the patient's right on the left of the picture
        tones = {"vmin": -200, "vmax": 500}
        if image.kind == "mr":
            tones = {"vmin": 0, "vmax": float(np.percentile(image.data, 99.5))}
        for column, (title, (axis, place)) in enumerate(places.items()):
            at = round(float(volume.grid.index(frame[:3, :3] @ place + frame[:3, 3])[axis]))
            first, second = (volume.grid.spacing[a] for a in range(3) if a != axis)
            show(axes[row, column], volume.data.take(at, axis), f"{name}, {title}",
                 second / first, **tones)  # fmt: skip
    return figure


def contrast_sheet(seed: int, real: list[Path]) -> plt.Figure:
    """The middle slices of one phantom in every named contrast, and of real scans."""
    made = make_pair(seed, "lumbar", contrasts=CONTRASTS + WITHHELD)
    images = [(f"phantom, {name}", made.mr[name]) for name in CONTRASTS]
    images += [(f"phantom, {name} (withheld)", made.mr[name]) for name in WITHHELD]
    images += [(scan.name.removesuffix("_mr.nii.gz").replace("spider", "SPIDER"), read(scan))
               for scan in real]  # fmt: skip
    rows = -(-len(images) // 5)
    figure, axes = plt.subplots(rows, 5, figsize=(12, 3.3 * rows), layout="compressed")
    for axis in axes.flat:
        axis.axis("off")
    for axis, (title, volume) in zip(axes.flat, images, strict=False):
        seen = volume.reoriented("RAS")
        plane = seen.data[seen.data.shape[0] // 2]
        spacing = seen.grid.spacing
        show(axis, plane, title, spacing[2] / spacing[1], vmax=float(np.percentile(plane, 99.3)))
    return figure


def main() -> None:
    """Write docs/images/phantom.png, or the picture of a pelvis."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1_000_003)
    parser.add_argument("--region", choices=["lumbar", PELVIS], default="lumbar")
    parser.add_argument("--out", type=Path, default=Path("docs/images/phantom.png"))
    parser.add_argument("--contrasts", action="store_true")
    parser.add_argument("--beside", nargs="*", default=None, help="names of scans in mr_dev")
    args = parser.parse_args()
    if args.contrasts:
        folder = os.environ.get("SPINECT_REALDATA")
        names = [f"mr_dev/{n}.nii.gz" for n in args.beside] if args.beside else [SPIDER]
        figure = contrast_sheet(args.seed, [Path(folder) / n for n in names] if folder else [])
    elif args.region == PELVIS:
        figure = pelvis_sheet(args.seed)
    else:
        folder = os.environ.get("SPINECT_REALDATA")
        spider = Path(folder) / SPIDER if folder else None
        subject = make_subject(args.seed, "lumbar")
        figure = sheet(rasterise(subject, field_of_view_grid(subject)), spider)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    buffer = BytesIO()
    pelvis = args.region == PELVIS  # grey alone needs fewer colours
    figure.savefig(buffer, dpi=72 if pelvis else 85, bbox_inches="tight")
    picture = Picture.open(buffer).convert("RGB").quantize(32 if pelvis else 96)
    picture.save(args.out, optimize=True)


if __name__ == "__main__":
    main()
