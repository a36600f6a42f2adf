"""The preview: MR, synthetic CT and masks over MR, in three planes through the spine."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from spinect.anatomy import COLOURS, VERTEBRAE
from spinect.report import spread
from spinect.report.overlay import paint
from spinect.report.scene import CT_WINDOW, EDGES, PIXEL_MM, PLANES, Plane, Scene, grey_window

NOTICE: Final = "Not a medical device. Not for diagnosis."
DARK: Final = "#0d1117"
TEXT: Final = "#e6edf3"
MUTED: Final = "#9aa7b4"
_WIDTH_IN: Final = 10.5
_BAR: Final = 0.42  # inches for the colour bar of the spread
_SPREAD: Final = "spread of the draws"
_LEFT: Final = 0.42  # inches for the names of the planes
_DIRECTIONS: Final[dict[Plane, tuple[str, str]]] = {
    "sagittal": ("L", "R"),
    "coronal": ("P", "A"),
    "axial": ("F", "H"),
}
_CELL: Final = 3.4  # inches: fewer columns make wider pictures, not a longer page
_TALLEST: Final[dict[Plane, float]] = {"sagittal": 1.35, "coronal": 1.05, "axial": 0.95}


def write_preview(scene: Scene, path: Path, title: str) -> None:
    """Write the preview picture, PNG, about 1600 pixels wide."""
    path.write_bytes(preview_png(scene, title))


def preview_png(
    scene: Scene, title: str, dpi: int = 150, planes: Sequence[Plane] = PLANES
) -> bytes:
    """The preview as PNG bytes: a row per plane, a column per picture, true proportions.

    The scene keeps it: file and page show the same picture, and drawing it takes a second.
    """
    key = f"preview {title} {dpi} {' '.join(planes)}"
    png: bytes = scene.kept(key, lambda: _preview(scene, title, dpi, planes))
    return png


def _preview(scene: Scene, title: str, dpi: int, planes: Sequence[Plane]) -> bytes:
    columns = _columns(scene)
    if scene.spread is not None:
        scene = replace(scene, spread=spread.pooled(scene.spread))
    focus = scene.focus()
    size = np.array(scene.box.shape) * PIXEL_MM
    wide = {"sagittal": size[1], "coronal": size[0], "axial": size[0]}
    high = {"sagittal": size[2], "coronal": size[2], "axial": size[1]}
    # One scale for all pictures of a row; rows are as high as their content needs.
    cell = (_WIDTH_IN - _LEFT - 0.1) / len(columns)
    unit = min(cell, _CELL)
    heights = [min(cell * high[p] / wide[p], _TALLEST[p] * unit) for p in planes]
    head, gap = 0.78, 0.12
    foot = 0.34 + _BAR * (scene.spread is not None)
    total = head + foot + sum(heights) + gap * (len(planes) - 1)
    figure = Figure(figsize=(_WIDTH_IN, total), dpi=dpi, facecolor=DARK)
    FigureCanvasAgg(figure)
    _headings(figure, title, list(columns), cell, total)
    window = grey_window(scene.image)
    top = total - head
    for plane, height in zip(planes, heights, strict=True):
        at = focus[{"sagittal": 0, "coronal": 1, "axial": 2}[plane]]
        for column, name in enumerate(columns):
            axes = figure.add_axes(
                (
                    (_LEFT + column * cell + 0.03) / _WIDTH_IN,
                    (top - height) / total,
                    (cell - 0.06) / _WIDTH_IN,
                    height / total,
                )
            )
            _panel(axes, scene, plane, at, columns[name], window)
        figure.text(
            0.24 / _WIDTH_IN, (top - height / 2) / total, f"{plane}   {side(plane, at)}",
            color=MUTED, size=9.5, ha="center", va="center", rotation=90,
        )  # fmt: skip
        top -= height + gap
    if scene.spread is not None:
        _spread_bar(figure, list(columns).index(_SPREAD), cell, total)
    figure.text(
        0.5, 0.15 / total, f"{NOTICE}  {_unit_notice(scene)}",
        color=MUTED, size=8.5, ha="center", va="center",
    )  # fmt: skip
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=DARK)
    return buffer.getvalue()


def _columns(scene: Scene) -> dict[str, str]:
    """Heading -> what the column shows."""
    given = scene.image.kind.upper()
    columns = {given: "image"}
    if scene.ct is not None:
        columns[f"synthetic {scene.ct.kind.upper()}"] = "ct"
    if scene.truth_ct is not None:
        columns["true CT"] = "truth"
    if scene.spread is not None:
        columns[_SPREAD] = "spread"
    if scene.vertebrae is not None:
        columns[f"masks over {given}"] = "masks"
    if scene.truth_vertebrae is not None:
        columns[f"true masks over {given}"] = "truth masks"
    return columns


def _unit_notice(scene: Scene) -> str:
    """What the values of the synthetic image are not."""
    if scene.makes_mr:
        return "A synthetic MR has no absolute unit."
    black, white = CT_WINDOW
    return f"Synthetic HU are not densitometry.  CT window {black:.0f} to {white:.0f} HU."


def _headings(figure: Figure, title: str, names: list[str], cell: float, total: float) -> None:
    figure.text(
        0.18 / _WIDTH_IN, 1 - 0.27 / total, title,
        color=TEXT, size=13, weight="bold", va="center",
    )  # fmt: skip
    figure.text(
        1 - 0.18 / _WIDTH_IN, 1 - 0.27 / total, "spinect", color=MUTED, size=11, va="center",
        ha="right",
    )  # fmt: skip
    for column, name in enumerate(names):
        x = (_LEFT + (column + 0.5) * cell) / _WIDTH_IN
        figure.text(x, 1 - 0.61 / total, name, color=TEXT, size=10.5, ha="center", va="center")


def _spread_bar(figure: Figure, column: int, cell: float, total: float) -> None:
    """The colour bar under its column, its legend beside it where more room is."""
    left = _LEFT + column * cell + 0.15
    box = (left / _WIDTH_IN, (0.34 + 0.26) / total, (cell - 0.3) / _WIDTH_IN, 0.09 / total)
    spread.draw_bar(figure.add_axes(box), MUTED)
    figure.text(
        (left - 0.15) / _WIDTH_IN, (0.34 + 0.3) / total, spread.LEGEND,
        color=MUTED, size=8.5, ha="right", va="center",
    )  # fmt: skip


def side(plane: Plane, at: float) -> str:
    """Where a plane lies in the MR's world: "R 12 mm" is 12 mm to the patient's right."""
    low, high = _DIRECTIONS[plane]
    side = "" if abs(at) < 0.5 else high if at > 0 else low
    return f"{side} {abs(at):.0f} mm".strip()


def _panel(
    axes: Any, scene: Scene, plane: Plane, at: float, what: str, window: tuple[float, float]
) -> None:
    axes.set_axis_off()
    axes.set_facecolor("black")
    style = {"interpolation": "bilinear", "aspect": "equal"}
    if what in ("ct", "truth", "spread") and not (what == "spread" and scene.ct is None):
        ct = scene.truth_ct if what == "truth" else scene.ct
        assert ct is not None
        low, high = grey_window(ct)
        axes.imshow(scene.cut(ct, plane, at), cmap="gray", vmin=low, vmax=high, **style)
    else:
        picture = scene.cut(scene.image, plane, at)
        axes.imshow(picture, cmap="gray", vmin=window[0], vmax=window[1], **style)
    if what == "spread":
        assert scene.spread is not None
        flat = scene.cut(scene.spread, plane, at)
        axes.imshow(spread.paint_spread(flat), interpolation="nearest", aspect="equal")
    if what in ("masks", "truth masks"):
        labels = scene.vertebrae if what == "masks" else scene.truth_vertebrae
        assert labels is not None
        flat = scene.cut(labels, plane, at)
        axes.imshow(paint(flat, 0.38), interpolation="nearest", aspect="equal")
        if what == "masks" and plane != "axial":
            _names(axes, scene, plane, flat)
    direction_letters(axes, plane)


def _names(axes: Any, scene: Scene, plane: Plane, flat: NDArray[Any]) -> None:
    """Level names on the bodies that this plane cuts."""
    shown = set(np.unique(flat).tolist())
    for vertebra, centre in scene.centres.items():
        if vertebra in shown:
            column, row = scene.pixel(plane, centre)
            axes.text(
                column, row, VERTEBRAE[vertebra], color="white", size=8, weight="bold",
                ha="center", va="center", path_effects=[_stroke(vertebra)], clip_on=True,
            )  # fmt: skip


def _stroke(vertebra: int) -> withStroke:
    red, green, blue = (c / 255 * 0.35 for c in COLOURS[vertebra])
    return withStroke(linewidth=2.5, foreground=(red, green, blue))


def direction_letters(axes: Any, plane: Plane) -> None:
    """Where the edges of a picture lie: A, P, R, L, H, F."""
    places = ((0.015, 0.5, "left", "center"), (0.985, 0.5, "right", "center"),
              (0.5, 0.985, "center", "top"), (0.5, 0.015, "center", "bottom"))  # fmt: skip
    for letter, (x, y, ha, va) in zip(EDGES[plane], places, strict=True):
        axes.text(
            x, y, letter, transform=axes.transAxes, ha=ha, va=va, color="#ffd166", size=9,
            weight="bold", path_effects=[withStroke(linewidth=2, foreground="black")],
        )  # fmt: skip
