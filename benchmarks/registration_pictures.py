"""Pictures of docs/registration.md: one articulated lumbar phantom, registered in several ways.

    python benchmarks/registration_pictures.py [--seed 1000004]

The landmarks of both scans carry noise of SD 1 mm per axis, as a careful person clicks, and the CT
lies in a frame of its own, turned by 8 degrees.
"""

import argparse
import io
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from scipy import ndimage

from spinect.geometry import Volume
from spinect.geometry.landmarks import Landmarks
from spinect.geometry.transform import rigid
from spinect.io import write_poi, write_volume
from spinect.phantom.pair import Pair as Phantom
from spinect.phantom.pair import make_pair
from spinect.registration.points import relabelled
from spinect.report.alignment import View, views_of
from spinect.report.figures import DARK, TEXT
from spinect.report.registration import EDGE
from spinect.workflows.register import Pair, RegisterOptions
from spinect.workflows.register import pair as workflow

NOISE_MM = 1.0
ELSEWHERE = rigid((0.07, 0.05, 0.12), (14.0, -9.0, 22.0))  # the CT's scanner has a frame of its own
WAYS: dict[str, dict[str, Any]] = {
    "0 points": {"points": "0", "frame": "centre"},
    "1 point": {"points": "1", "model": "rigid"},
    "2 points, rigid": {"points": "2", "model": "rigid"},
    "2 points, polyrigid": {"points": "2", "model": "polyrigid"},
    "all points, polyrigid": {"points": "all", "model": "polyrigid"},
}
WIDTH = 1400  # pixels
MOST = 250_000  # bytes of a picture


def noisy(points: Landmarks, rng: np.random.Generator) -> Landmarks:
    """The same landmarks, T11 to S1, clicked with noise."""
    lumbar = {k: p for k, p in points.points.items() if k[0] in (18, 19, *range(20, 25), 26)}
    return Landmarks({k: p + rng.normal(0, NOISE_MM, 3) for k, p in lumbar.items()})


def write(phantom: Phantom, folder: Path, rng: np.random.Generator) -> Pair:
    """The phantom's files as a clinic would have them."""
    write_volume(phantom.mr["T2w"], folder / "sub-1_T2w.nii.gz")
    for volume, name in ((phantom.ct, "ct"), (phantom.ct_vertebrae, "desc-vertebrae_dseg")):
        moved = Volume(volume.data, ELSEWHERE @ volume.affine, volume.kind)
        write_volume(moved, folder / f"sub-1_{name}.nii.gz")
    write_poi(noisy(phantom.mr_landmarks, rng), folder / "mr.json")
    points = noisy(phantom.ct_landmarks, rng).moved(ELSEWHERE)
    write_poi(points, folder / "ct.json")
    write_poi(relabelled(points, 1), folder / "shifted.json")
    return Pair(
        mr=folder / "sub-1_T2w.nii.gz",
        ct=folder / "sub-1_ct.nii.gz",
        folder=folder / "out",
        mr_landmarks=folder / "mr.json",
        ct_landmarks=folder / "ct.json",
        ct_vertebrae=folder / "sub-1_desc-vertebrae_dseg.nii.gz",
    )


def register(pair: Pair, way: dict[str, Any]) -> tuple[Any, bytes]:
    """What the workflow would draw, and the picture that it drew."""
    kept: list[Any] = []
    draw = workflow.write_registration

    def keep(alignment: Any, path: Path, title: str) -> None:
        kept.append(alignment)
        draw(alignment, path, title)

    workflow.write_registration = keep
    try:
        workflow.register_pair(pair, RegisterOptions(**way))
    finally:
        workflow.write_registration = draw
    return kept[0], pair.record.with_suffix(".png").read_bytes()


def panel(figure: Figure, box: tuple[float, float, float, float], view: View) -> None:
    """The edges of the CT's bone over the MR."""
    axes = figure.add_axes(box)
    axes.set_axis_off()
    axes.imshow(view.mr(), cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
    solid = ndimage.gaussian_filter(view.bone().astype(np.float32), 0.9)
    if solid.min() < 0.5 < solid.max():
        axes.contour(solid, levels=[0.5], colors=[EDGE], linewidths=1.1)


def comparison(results: dict[str, Any]) -> bytes:
    """A column for each way: sagittal, and axial through one vertebra."""
    first = views_of(results["2 points, rigid"])  # the same planes for all
    views = {n: [replace(v, alignment=one) for v in first] for n, one in results.items()}
    wide = 14.0 / len(views)
    tall = wide * first[0].size[1] / first[0].size[0]
    flat = wide * first[3].size[1] / first[3].size[0]
    total = tall + flat + 0.5
    figure = Figure(figsize=(14, total), dpi=100, facecolor=DARK)
    FigureCanvasAgg(figure)
    share = 1 / len(views)
    for column, (name, (sagittal, _, _, axial)) in enumerate(views.items()):
        left = column * share + 0.003
        panel(figure, (left, (flat + 0.05) / total, share - 0.006, tall / total), sagittal)
        panel(figure, (left, 0, share - 0.006, flat / total), axial)
        figure.text(left + share / 2, 1 - 0.24 / total, name, color=TEXT, size=13, ha="center",
                    va="center")  # fmt: skip
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=DARK)
    return buffer.getvalue()


def save(png: bytes, path: Path) -> None:
    """As JPEG of at most `MOST` bytes."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)))
    for quality in range(88, 30, -4):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= MOST:
            break
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    print(f"{path}: {buffer.tell() / 1000:.0f} kB, quality {quality}")


def main() -> None:
    """Write docs/images/registration_*.jpg."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1_000_004)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    args = parser.parse_args()
    phantom = make_pair(args.seed, "lumbar", ("T2w",), "articulated")
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        pair = write(phantom, Path(folder), np.random.default_rng(args.seed))
        for name, way in WAYS.items():
            results[name], png = register(pair, way)
            facts = results[name].facts
            print(name, facts["verdict"], facts["mean_mm"], facts["reason"])
        save(png, args.out / "registration_picture.jpg")
        wrong = Pair(**(vars(pair) | {"ct_landmarks": Path(folder) / "shifted.json",
                                      "ct_vertebrae": None}))  # fmt: skip
        shown, png = register(wrong, WAYS["all points, polyrigid"])
        print("one level off:", shown.facts["verdict"], shown.facts["reason"])
        save(png, args.out / "registration_rejected.jpg")
    save(comparison(results), args.out / "registration_points.jpg")


if __name__ == "__main__":
    main()
