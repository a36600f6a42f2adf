"""Curves and pictures of lyu2022.py."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from PIL import Image

from lyu2022_claims import Found
from lyu2022_runs import BUDGET, COUNTS, Experiment, Way
from lyu2022_slices import draw
from spinect.evaluation.uncertainty import expected_gain
from spinect.workflows.compare.engine import variant

mpl.use("Agg")
import matplotlib.pyplot as plt

WINDOW = (-300.0, 1000.0)  # HU
DRAWS = 10


def curves(ladder: Mapping[str, Sequence[Found]], still: Mapping[str, Found], out: Path) -> None:
    """Quality of single draws against network calls and against seconds."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    styles = {"ddpm": "o-", "ddim": "s-", "em": "o--", "pc": "^--", "ode heun": "D--",
              "ode rk45": "*"}  # fmt: skip
    rows = list(dict.fromkeys(name.split("-")[0] for name in ladder))
    for name, steps in ladder.items():
        row, _, sampler = name.partition("-")
        look = {"color": f"C{rows.index(row)}", "ms": 4, "lw": 1, "label": name}
        calls, seconds, psnr, ssim = (
            [np.mean([one[key] for one in found]) for found in steps]
            for key in ("calls", "seconds", "psnr", "ssim")
        )
        for axis, x, y in zip(axes, (calls, calls, seconds), (psnr, ssim, psnr), strict=True):
            axis.plot(x, y, styles.get(sampler, "x-"), **look)
    for row, found in still.items():
        for axis, key in zip(axes, ("psnr", "ssim", "psnr"), strict=True):
            axis.axhline(np.mean([one[key] for one in found]), color="0.6", lw=0.8)
            axis.annotate(row, (1, np.mean([one[key] for one in found])),
                          xycoords=("axes fraction", "data"), fontsize=7, ha="right")  # fmt: skip
    names = ("network calls per slice", "network calls per slice", "seconds per slice, one core")
    for axis, x, y in zip(axes, names, ("PSNR, dB", "SSIM", "PSNR, dB"), strict=True):
        axis.set(xscale="log", xlabel=x, ylabel=y)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    figure.suptitle("One draw per slice, phantom data", fontsize=10)
    figure.savefig(out, dpi=110)
    plt.close(figure)


def averaging(sets: Mapping[str, Found], out: Path) -> None:
    """What averaging gains over one draw, against theory."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for name, found in sets.items():
        counts = [k for k in COUNTS if f"K={k}" in found[0]]
        for axis, key in zip(axes, ("psnr", "ssim"), strict=True):
            gain = [
                np.mean([one[f"K={k}"][key] - one["K=1"][key] for one in found]) for k in counts
            ]
            axis.plot(counts, gain, "o-", ms=4, lw=1, label=name)
    axes[0].plot(COUNTS, [expected_gain(k) for k in COUNTS], "k:", label="exact draws")
    for axis, name in zip(axes, ("PSNR gain, dB", "SSIM gain"), strict=True):
        axis.set(xlabel="draws averaged, K", ylabel=name)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    figure.savefig(out, dpi=110)
    plt.close(figure)


def gallery(whole: Experiment, ways: Sequence[Way], out: Path) -> None:
    """MR, CT, the models without noise, and a draw, the mean and the spread of each sampler."""
    still = [row for row in ("cnn", "gan") if row in whole.bundles]
    seen = whole.first(ways[0].row)
    middle = len(seen.truth) // 2
    figure, axes = plt.subplots(
        len(ways) + 1, 4, figsize=(10, 2.6 * (len(ways) + 1)), layout="constrained"
    )
    top: list[tuple[str, Any, Any]] = [
        ("MR", seen.mr[middle], None),
        ("CT", seen.truth[middle], WINDOW),
    ]
    for row in still:
        hu = draw(whole.bundles[row], whole.first(row), None, 0, "regress")[0]
        top.append((row, hu[middle], WINDOW))
    _row(axes[0], top)
    for line, way in zip(axes[1:], ways, strict=True):
        bundle, own = variant(whole.bundles[way.row], way.fields), whole.first(way.row)
        made = np.stack([draw(bundle, own, way.steps(BUDGET), s)[0][middle] for s in range(DRAWS)])
        mean, std = made.mean(axis=0), made.std(axis=0, ddof=1)
        _row(line, [
            (f"{way.name}, one draw", made[0], WINDOW),
            (f"mean of {DRAWS}", mean, WINDOW),
            ("spread, 0 to 300 HU", std, (0.0, 300.0)),
            ("error of the mean, -300 to 300 HU", mean - own.truth[middle], (-300.0, 300.0)),
        ])  # fmt: skip
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=80)
    plt.close(figure)
    Image.open(buffer).convert("RGB").save(out, quality=85, optimize=True)


def _row(axes: Any, shown: Sequence[tuple[str, Any, Any]]) -> None:
    """Head or front up, the front or the right of the patient on the left."""
    for axis in axes:
        axis.axis("off")
    for axis, (title, image, window) in zip(axes, shown, strict=False):
        low, high = window or (float(image.min()), float(np.quantile(image, 0.995)))
        colours = "magma" if title.startswith("spread") else "gray"
        colours = "coolwarm" if title.startswith("error") else colours
        axis.imshow(np.rot90(image)[:, ::-1], cmap=colours, vmin=low, vmax=high)
        axis.set_title(title, fontsize=8)
