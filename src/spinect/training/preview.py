"""Pictures of what a network makes of one patch while it learns."""

import math
from pathlib import Path

import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from spinect.anatomy import CLASSES
from spinect.protocols import HEADS, IMAGE, Batch, Method
from spinect.training.adapter import MethodAdapter
from spinect.training.aside import averaged
from spinect.training.optim import draw_seed

_IMAGES = ("synthetic", "truth", "image of others")  # on [-1, 1], CT or MR
Panel = tuple[str, NDArray[np.float32]]

# One colour per class of anatomy.CLASSES; unknown voxels are grey.
_COLOURS = ListedColormap(
    [
        *("#000000", "#8c6d31", "#e6c229", "#f17105", "#d11149", "#6610f2"),
        *("#1a8fe3", "#2ec4b6", "#7fb069", "#b8d8d8", "#777777"),
    ]
)


@torch.no_grad()
def save_preview(
    adapter: MethodAdapter, batch: Batch, path: Path, seed: int, rows: int = 2
) -> None:
    """Write a PNG: one row per patch of `batch`, one panel per input, prediction and truth.

    The averaged weights make it; volumes are cut in the middle of their left-right axis.
    """
    condition = batch.condition[:rows]
    with averaged(adapter.method, adapter.ema), adapter.autocast():
        heads = _predict(adapter.typed_method, condition, seed)
    shown = [_panels(batch, heads, row) for row in range(len(condition))]
    columns = max(map(len, shown))
    figure = Figure(figsize=(2.4 * columns, 2.6 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), columns, squeeze=False)
    for axes, panels in zip(grid, shown, strict=True):
        for place in axes:
            place.set_axis_off()
        for place, (title, image) in zip(axes, panels, strict=False):
            place.set_title(title, fontsize=8)
            if "classes" in title:
                place.imshow(image.T, origin="lower", cmap=_COLOURS, vmin=-0.5, vmax=10.5)
            else:
                low, high = min(0.0, float(image.min())), max(1.0, float(image.max()))
                if title in _IMAGES:
                    low, high = -1.0, 1.0
                place.imshow(image.T, origin="lower", cmap="gray", vmin=low, vmax=high)
    figure.savefig(path, dpi=100)


def _predict(method: Method, condition: Tensor, seed: int) -> dict[str, Tensor]:
    """Heads by name: one call where the method offers it, else a sample with seeded noise."""
    if "regress" in method.modes:
        output = method.predict(condition).float()
        parts = torch.split(output, [HEADS[head] for head in method.heads], dim=1)
        return dict(zip(method.heads, parts, strict=True))

    def randn(like: Tensor) -> Tensor:
        noise = torch.randn(like.shape, generator=generator)
        return noise.to(like.device, like.dtype)

    generator = torch.Generator().manual_seed(draw_seed(seed, 1))
    like = condition[:, :1].float()
    made = method.sample(lambda x, s: method.denoise(x, s, condition), like, None, randn)
    return {IMAGE: made.float()}


def _panels(batch: Batch, heads: dict[str, Tensor], row: int) -> list[Panel]:
    """(title, 2D image with axes (A, S)) of one patch."""
    images: list[tuple[str, Tensor | None]] = [("condition", batch.condition[row, 0])]
    if IMAGE in heads:
        images += [("synthetic", heads[IMAGE][row, 0])]
    other = "truth" if batch.target_inside is None else "image of others"
    images += [(other, batch.target[row, 0] if batch.target is not None else None)]
    if "classes" in heads:
        images += [("classes", heads["classes"][row].argmax(0))]
        known = None if batch.classes is None else batch.classes[row].clamp(max=len(CLASSES))
        images += [("classes truth", known)]
    if "centre" in heads:
        images += [("centre", heads["centre"][row, 0].sigmoid())]
    cut = [(title, _middle(image)) for title, image in images if image is not None]
    return [(title, image.astype(np.float32)) for title, image in cut]


def _middle(image: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = image.float().cpu().numpy()
    return array[math.floor(array.shape[0] / 2)] if array.ndim == 3 else array
