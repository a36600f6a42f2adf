"""The picture of a registration: does the CT's bone lie on the MR's, in three planes?

Four columns: the MR with the landmarks of both scans; the edges of the CT's bone over the MR; a
checkerboard of both; the CT as it now lies. A rotation about the spine's long axis, the error that
one landmark per vertebra leaves open, shows in the axial planes.
"""

import io
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from scipy import ndimage

from spinect.anatomy import VERTEBRAE
from spinect.geometry.landmarks import BODY_CENTRE, WHOLE
from spinect.report.alignment import BONE_HU, PIXEL_MM, Alignment, View, views_of
from spinect.report.figures import DARK, MUTED, NOTICE, TEXT, direction_letters

VERDICTS: Final = {"accept": "#3fb950", "review": "#e3b341", "reject": "#f85149"}
MR_COLOUR, CT_COLOUR, EDGE = "#39c5cf", "#ff7b72", "#ffd166"
SQUARE_MM: Final = 18.0  # of the checkerboard
_WARM: Final = np.array([1.0, 0.86, 0.62])  # tells the CT's squares from the MR's
_WIDTH_IN: Final = 11.0
_LEFT: Final = 0.42  # inches for the names of the planes
_HEAD: Final = 1.52
_FOOT: Final = 0.62
_GAP: Final = 0.12
_TALLEST: Final = 4.3  # inches of a sagittal or coronal picture


def write_registration(alignment: Alignment, path: Path, title: str) -> None:
    """Write the picture, PNG, about 1650 pixels wide."""
    path.write_bytes(registration_png(alignment, title))


def registration_png(alignment: Alignment, title: str, dpi: int = 150) -> bytes:
    """The picture as PNG bytes: sagittal above; coronal with two axial planes below."""
    views = views_of(alignment)
    cell = (_WIDTH_IN - _LEFT - 0.1) / len(_COLUMNS)
    high = views[0].size[1]
    scale = min((cell - 0.06) / views[0].size[0], _TALLEST / high, 0.52 * cell / views[1].size[0])
    tall = high * scale
    total = _HEAD + _FOOT + 2 * tall + _GAP
    figure = Figure(figsize=(_WIDTH_IN, total), dpi=dpi, facecolor=DARK)
    FigureCanvasAgg(figure)
    _headings(figure, alignment, title, cell, total)
    boxes = _boxes(views, cell, tall, scale)
    for column, draw in enumerate(_COLUMNS.values()):
        for view, (x, y, w, h) in zip(views, boxes, strict=True):
            left = _LEFT + column * cell + x
            axes = figure.add_axes(
                (left / _WIDTH_IN, (total - _HEAD - y - h) / total, w / _WIDTH_IN, h / total)
            )
            axes.set_axis_off()
            draw(axes, view)
            axes.set_xlim(*view.limits[0])
            axes.set_ylim(*view.limits[1])
            direction_letters(axes, view.plane)
            if view.level:
                axes.text(0.03, 0.97, view.level, transform=axes.transAxes, color="white", size=8,
                          weight="bold", va="top", path_effects=_dark())  # fmt: skip
    for row, name in enumerate(("sagittal, along the bodies", "coronal, along the bodies; axial")):
        figure.text(
            0.24 / _WIDTH_IN, (total - _HEAD - row * (tall + _GAP) - tall / 2) / total, name,
            color=MUTED, size=9.5, ha="center", va="center", rotation=90,
        )  # fmt: skip
    _legend(figure, total)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=DARK)
    return buffer.getvalue()


def _boxes(
    views: list[View], cell: float, tall: float, scale: float
) -> list[tuple[float, float, float, float]]:
    """Left, top, width and height of each view's picture within its column, inches."""
    wide = views[0].size[0] * scale
    coronal = views[1].size[0] * scale
    free = cell - coronal - 0.12
    below = tall + _GAP
    boxes = [((cell - wide) / 2, 0.0, wide, tall), (0.03, below, coronal, tall)]
    each = (tall - _GAP) / 2
    for number, view in enumerate(views[2:]):
        zoom = min(free / view.size[0], each / view.size[1])
        w, h = view.size[0] * zoom, view.size[1] * zoom
        x = coronal + 0.09 + (free - w) / 2
        boxes.append((x, below + number * (each + _GAP) + (each - h) / 2, w, h))
    return boxes


def _grey(axes: Any, picture: NDArray[Any]) -> None:
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="bilinear", aspect="equal")


def _draw_landmarks(axes: Any, view: View) -> None:
    """The MR; its landmarks as rings, the CT's as crosses, what is rejected crossed out in red."""
    _grey(axes, view.mr() * 0.85)
    one = view.alignment
    dark = _dark()
    for key in one.common:
        mine, other = one.point(key)
        if not view.near(key, mine):
            continue
        bad = key in one.registration.rejected
        (x0, y0), (x1, y1) = view.pixel(mine), view.pixel(other)
        axes.plot([x0, x1], [y0, y1], color=VERDICTS["reject"] if bad else "white", lw=1.2,
                  path_effects=dark, clip_on=True)  # fmt: skip
        axes.plot(x0, y0, "o", ms=8, mfc="none", mec=MR_COLOUR, mew=1.6, path_effects=dark)
        axes.plot(x1, y1, "x", ms=6, mec=VERDICTS["reject"] if bad else CT_COLOUR, mew=1.8,
                  path_effects=dark)  # fmt: skip
        if key[1] in (BODY_CENTRE, WHOLE) and view.plane != "axial":
            axes.annotate(
                VERTEBRAE.get(key[0], "?"), (x0, y0), (-9, 0), textcoords="offset points",
                color="white", size=8, weight="bold", ha="right", va="center",
                path_effects=dark, annotation_clip=True,
            )  # fmt: skip


def _draw_edges(axes: Any, view: View) -> None:
    """Edges of the CT's bone over the MR; what the CT does not know is hatched."""
    _grey(axes, view.mr())
    solid = ndimage.gaussian_filter(view.bone().astype(np.float32), 0.9)
    if solid.min() < 0.5 < solid.max():
        axes.contour(solid, levels=[0.5], colors=[EDGE], linewidths=1.0)
    _unknown(axes, view)


def _draw_checkerboard(axes: Any, view: View) -> None:
    """Squares of the MR in grey and of the CT in a warm tone, by turns."""
    mr, ct = view.mr(), view.ct()
    rows, columns = np.indices(mr.shape)
    step = SQUARE_MM / PIXEL_MM
    odd = (rows // step + columns // step) % 2 == 1
    odd &= view.cut(view.alignment.valid) > 0
    picture = np.where(odd[..., None], ct[..., None] * _WARM, mr[..., None])
    axes.imshow(picture, interpolation="nearest", aspect="equal")


def _draw_ct(axes: Any, view: View) -> None:
    """The CT as it now lies, with the MR's landmarks: they must sit in the same bones."""
    axes.imshow(view.ct()[..., None] * _WARM, interpolation="bilinear", aspect="equal")
    one = view.alignment
    for key in one.common:
        mine, _ = one.point(key)
        if view.near(key, mine):
            x, y = view.pixel(mine)
            axes.plot(x, y, "o", ms=7, mfc="none", mec=MR_COLOUR, mew=1.4)
    _unknown(axes, view)


_COLUMNS: Final[dict[str, Callable[[Any, View], None]]] = {
    "MR, landmarks of both": _draw_landmarks,
    "CT bone edges over MR": _draw_edges,
    "checkerboard": _draw_checkerboard,
    "CT in the MR's space": _draw_ct,
}


def _unknown(axes: Any, view: View) -> None:
    """Hatch what the validity mask leaves out."""
    known = view.cut(view.alignment.valid).astype(float)
    if known.min() < 0.5:
        hatched = axes.contourf(known, levels=[-1, 0.5], colors="none", hatches=["////"])
        hatched.set_edgecolor("#8b949e")
        hatched.set_linewidth(0)


def _dark() -> list[withStroke]:
    """A dark rim, for signs and letters over bright tissue."""
    return [withStroke(linewidth=3, foreground="black")]


def _headings(figure: Figure, one: Alignment, title: str, cell: float, total: float) -> None:
    """Verdict, reason, figures, and the names of the columns."""
    verdict = one.registration.verdict
    at = 0.18 / _WIDTH_IN
    figure.text(at, 1 - 0.28 / total, verdict.upper(), color=DARK, size=13, weight="bold",
                va="center", bbox={"boxstyle": "round,pad=0.35", "fc": VERDICTS[verdict],
                                   "ec": "none"})  # fmt: skip
    figure.text(1.28 / _WIDTH_IN, 1 - 0.28 / total, title, color=TEXT, size=13, weight="bold",
                va="center")  # fmt: skip
    figure.text(1 - at, 1 - 0.28 / total, "spinect", color=MUTED, size=11, va="center", ha="right")
    reason = textwrap.shorten(one.registration.reason, 260, placeholder=" ...")
    figure.text(at, 1 - 0.56 / total, textwrap.fill(reason, 138), color=VERDICTS[verdict], size=10,
                va="top")  # fmt: skip
    figures = textwrap.fill(figures_line(one.facts), 150)
    figure.text(at, 1 - 0.94 / total, figures, color=TEXT, size=9.5, va="top")
    for column, name in enumerate(_COLUMNS):
        x = (_LEFT + (column + 0.5) * cell) / _WIDTH_IN
        figure.text(x, 1 - (_HEAD - 0.14) / total, name, color=TEXT, size=10.5, ha="center",
                    va="center")  # fmt: skip


def figures_line(facts: Mapping[str, Any]) -> str:
    """The figures of a registration in one line."""
    shown = []
    if facts.get("mean_mm") is not None:
        shown.append(
            f"{facts['landmarks']} landmarks, apart by {facts['mean_mm']:.1f} mm on average, "
            f"95 % below {facts['p95_mm']:.1f}, at most {facts['max_mm']:.1f}"
        )
    if facts.get("loo_mm") is not None:
        shown.append(f"left-out vertebra {facts['loo_mm']:.1f} mm")
    if facts.get("axial_error_deg") is not None:
        shown.append(f"axial rotation ±{facts['axial_error_deg']:.1f}°")
    if (facts.get("rigidity_mm") or 0) >= 0.01:
        shown.append(f"bone bends {facts['rigidity_mm']:.2f} mm")
    if facts.get("rejected"):
        count = len(facts["rejected"])
        shown.append(f"{count} landmark{'s' if count > 1 else ''} rejected")
    return "  |  ".join(shown)


def _legend(figure: Figure, total: float) -> None:
    """Signs and colours, and the notice."""
    signs = (("o", MR_COLOUR, "landmark of the MR"), ("x", CT_COLOUR, "of the CT, moved"),
             ("x", VERDICTS["reject"], "rejected as an outlier"),
             ("_", EDGE, f"CT at {BONE_HU:g} HU"), ("s", "#ffdb9e", "CT squares"),
             ("$////$", "#8b949e", "CT unknown"))  # fmt: skip
    axes = figure.add_axes((0, 0.28 / total, 1, 0.28 / total))
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    for column, (sign, colour, text) in enumerate(signs):
        x = 0.04 + column * 0.16
        filled = colour if sign in ("s", "$////$") else "none"
        axes.plot(x, 0.5, marker=sign, ls="", ms=8, mec=colour, mfc=filled, mew=1.6)
        axes.text(x + 0.013, 0.5, text, color=TEXT, size=9, va="center")
    figure.text(0.5, 0.15 / total, NOTICE, color=MUTED, size=8.5, ha="center", va="center")
