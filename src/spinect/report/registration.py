"""The picture of a registration: does the CT's bone lie on the MR's, in three planes?

Four columns: the MR with the landmarks of both scans; the edges of the CT's bone over the MR; a
checkerboard of both; the CT as it now lies. A rotation about the spine's long axis, the error that
one landmark per vertebra leaves open, shows in the axial row.
"""

import io
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from scipy import ndimage

from spinect.anatomy import VERTEBRAE
from spinect.geometry import Volume
from spinect.geometry.landmarks import BODY_CENTRE, SPINOUS, Key, Landmarks
from spinect.registration import Registration
from spinect.report.figures import DARK, MUTED, NOTICE, TEXT, direction_letters, side
from spinect.report.scene import CT_WINDOW, PIXEL_MM, PLANES, Plane, Scene, grey_window

Float = NDArray[np.float64]

VERDICTS: Final = {"accept": "#3fb950", "review": "#e3b341", "reject": "#f85149"}
MR_COLOUR, CT_COLOUR, EDGE = "#39c5cf", "#ff7b72", "#ffd166"
BONE_HU: Final = 200.0  # where the edges of the CT's bone are drawn
NEAR_MM: Final = 12.0  # landmarks this near to a plane are drawn in it
SQUARE_MM: Final = 18.0  # of the checkerboard
AROUND_MM: Final = (45.0, 60.0, 30.0)  # shown around the landmarks: right-left, front-back, head
_WARM: Final = np.array([1.0, 0.86, 0.62])  # tells the CT's squares from the MR's
_WIDTH_IN: Final = 11.0
_LEFT: Final = 0.42  # inches for the names of the planes
_HEAD: Final = 1.52
_FOOT: Final = 0.62
_TALLEST: Final[dict[Plane, float]] = {"sagittal": 4.3, "coronal": 3.9, "axial": 2.5}


@dataclass(frozen=True, eq=False)
class Alignment:
    """What the picture shows; all in the MR's world.

    Attributes:
        mr: The MR. ct, valid: The registered CT and where it is known, on one grid.
        vertebrae, subregions: The CT's masks on that grid.
        mr_points, ct_points: Landmarks of both, the CT's moved by the registration.
        registration: For verdict, notes and rejected landmarks.
        facts: Its figures by name, as in the record; None is not shown.
    """

    mr: Volume
    ct: Volume
    valid: Volume
    vertebrae: Volume | None
    subregions: Volume | None
    mr_points: Landmarks | None
    ct_points: Landmarks | None
    registration: Registration
    facts: Mapping[str, Any]

    @property
    def common(self) -> tuple[Key, ...]:
        """Landmarks of both."""
        return tuple(self.registration.residual_mm)

    def point(self, key: Key) -> tuple[Float, Float]:
        """A common landmark in the MR and, moved, in the CT."""
        assert self.mr_points is not None
        assert self.ct_points is not None
        return self.mr_points[key], self.ct_points[key]


def write_registration(alignment: Alignment, path: Path, title: str) -> None:
    """Write the picture, PNG, about 1650 pixels wide."""
    path.write_bytes(registration_png(alignment, title))


def registration_png(alignment: Alignment, title: str, dpi: int = 150) -> bytes:
    """The picture as PNG bytes: a row per plane, one scale for all, true proportions."""
    scene = Scene(alignment.mr, alignment.ct, alignment.vertebrae, alignment.subregions)
    middle, level = _focus(alignment, scene)
    window = _window(alignment, scene)
    cell = (_WIDTH_IN - _LEFT - 0.1) / len(_COLUMNS)
    extent = {p: _limits(scene, p, window) for p in PLANES}
    scale = min(cell / max(abs(x[1] - x[0]) for x, _ in extent.values()),
                min(_TALLEST[p] / abs(y[0] - y[1]) for p, (_, y) in extent.items()))  # fmt: skip
    heights = {p: min(abs(y[0] - y[1]) * scale, _TALLEST[p]) for p, (_, y) in extent.items()}
    gap = 0.12
    total = _HEAD + _FOOT + sum(heights.values()) + gap * (len(PLANES) - 1)
    figure = Figure(figsize=(_WIDTH_IN, total), dpi=dpi, facecolor=DARK)
    FigureCanvasAgg(figure)
    _headings(figure, alignment, title, cell, total)
    top = total - _HEAD
    for plane in PLANES:
        at = float(middle[{"sagittal": 0, "coronal": 1, "axial": 2}[plane]])
        for column, draw in enumerate(_COLUMNS.values()):
            axes = figure.add_axes(
                (
                    (_LEFT + column * cell + 0.03) / _WIDTH_IN,
                    (top - heights[plane]) / total,
                    (cell - 0.06) / _WIDTH_IN,
                    heights[plane] / total,
                )
            )
            axes.set_axis_off()
            draw(axes, _View(alignment, scene, plane, at, level))
            axes.set_xlim(*extent[plane][0])
            axes.set_ylim(*extent[plane][1])
            direction_letters(axes, plane)
        name = f"{plane}   {side(plane, at)}" if plane != "axial" else f"axial   {level}".rstrip()
        figure.text(
            0.24 / _WIDTH_IN, (top - heights[plane] / 2) / total, name,
            color=MUTED, size=9.5, ha="center", va="center", rotation=90,
        )  # fmt: skip
        top -= heights[plane] + gap
    _legend(figure, total)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=DARK)
    return buffer.getvalue()


@dataclass(frozen=True, eq=False)
class _View:
    """One plane of an alignment."""

    alignment: Alignment
    scene: Scene
    plane: Plane
    at: float
    level: str  # vertebra of the axial plane

    def cut(self, volume: Volume) -> NDArray[Any]:
        return self.scene.cut(volume, self.plane, self.at)

    def mr(self) -> NDArray[np.float32]:
        """Grey of the MR, 0-1."""
        low, high = grey_window(self.alignment.mr)
        return np.clip((self.cut(self.alignment.mr) - low) / (high - low), 0, 1)

    def ct(self) -> NDArray[np.float32]:
        """Grey of the CT, 0-1."""
        low, high = CT_WINDOW
        return np.clip((self.cut(self.alignment.ct) - low) / (high - low), 0, 1)

    def near(self, key: Key, point: Float) -> bool:
        """Whether a landmark belongs into this plane."""
        if self.plane == "axial":
            return VERTEBRAE.get(key[0]) == self.level
        axis = 0 if self.plane == "sagittal" else 1
        return abs(float(point[axis]) - self.at) < NEAR_MM


def _grey(axes: Any, picture: NDArray[Any]) -> None:
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="bilinear", aspect="equal")


def _draw_landmarks(axes: Any, view: _View) -> None:
    """The MR; its landmarks as rings, the CT's as crosses, what is rejected crossed out in red."""
    _grey(axes, view.mr() * 0.85)
    one = view.alignment
    dark = [withStroke(linewidth=3, foreground="black")]
    for key in one.common:
        mine, other = one.point(key)
        if not view.near(key, mine):
            continue
        bad = key in one.registration.rejected
        (x0, y0), (x1, y1) = (view.scene.pixel(view.plane, p) for p in (mine, other))
        axes.plot([x0, x1], [y0, y1], color=VERDICTS["reject"] if bad else "white", lw=1.2,
                  path_effects=dark, clip_on=True)  # fmt: skip
        axes.plot(x0, y0, "o", ms=8, mfc="none", mec=MR_COLOUR, mew=1.6, path_effects=dark)
        axes.plot(x1, y1, "x", ms=6, mec=VERDICTS["reject"] if bad else CT_COLOUR, mew=1.8,
                  path_effects=dark)  # fmt: skip
        if key[1] in (BODY_CENTRE, 40):
            axes.annotate(
                VERTEBRAE.get(key[0], "?"), (x0, y0), (-9, 0), textcoords="offset points",
                color="white", size=8, weight="bold", ha="right", va="center",
                path_effects=dark, annotation_clip=True,
            )  # fmt: skip


def _draw_edges(axes: Any, view: _View) -> None:
    """Edges of the CT's bone over the MR; what the CT does not know is hatched."""
    _grey(axes, view.mr())
    hu = ndimage.gaussian_filter(view.cut(view.alignment.ct).astype(np.float32), 0.8)
    _contour(axes, hu, BONE_HU, EDGE, 0.9)
    _unknown(axes, view)


def _draw_checkerboard(axes: Any, view: _View) -> None:
    """Squares of the MR in grey and of the CT in a warm tone, by turns."""
    mr, ct = view.mr(), view.ct()
    rows, columns = np.indices(mr.shape)
    step = SQUARE_MM / PIXEL_MM
    odd = (rows // step + columns // step) % 2 == 1
    odd &= view.cut(view.alignment.valid) > 0
    picture = np.where(odd[..., None], ct[..., None] * _WARM, mr[..., None])
    axes.imshow(picture, interpolation="nearest", aspect="equal")


def _draw_ct(axes: Any, view: _View) -> None:
    """The CT as it now lies, with the MR's landmarks: they must sit in the same bones."""
    axes.imshow(view.ct()[..., None] * _WARM, interpolation="bilinear", aspect="equal")
    one = view.alignment
    for key in one.common:
        mine, _ = one.point(key)
        if view.near(key, mine):
            x, y = view.scene.pixel(view.plane, mine)
            axes.plot(x, y, "o", ms=7, mfc="none", mec=MR_COLOUR, mew=1.4)
    _unknown(axes, view)


_COLUMNS: Final[dict[str, Callable[[Any, _View], None]]] = {
    "MR, landmarks of both": _draw_landmarks,
    "CT bone edges over MR": _draw_edges,
    "checkerboard": _draw_checkerboard,
    "CT in the MR's space": _draw_ct,
}


def _contour(axes: Any, picture: NDArray[Any], level: float, colour: str, width: float) -> None:
    if picture.min() < level < picture.max():
        axes.contour(picture, levels=[level], colors=[colour], linewidths=width)


def _unknown(axes: Any, view: _View) -> None:
    """Hatch what the validity mask leaves out."""
    known = view.cut(view.alignment.valid).astype(float)
    if known.min() < 0.5:
        hatched = axes.contourf(known, levels=[-1, 0.5], colors="none", hatches=["////"])
        hatched.set_edgecolor("#8b949e")
        hatched.set_linewidth(0)


def _focus(one: Alignment, scene: Scene) -> tuple[Float, str]:
    """The point that all planes run through, and the vertebra of the axial one."""
    points = one.mr_points
    keys = [k for k in one.common if k[1] in (BODY_CENTRE, 40)]
    if points is None or not keys:
        return np.asarray(scene.focus()), ""
    bodies = np.array([points[k] for k in keys])
    middle = np.median(bodies, axis=0)
    key = keys[int(np.abs(bodies[:, 2] - middle[2]).argmin())]
    body = points[key]
    spinous = points.points.get((key[0], SPINOUS), body)
    middle[2] = body[2] + 0.4 * (spinous[2] - body[2])  # cuts the body and the process
    if not any(k[1] != key[1] for k in one.common if k[0] == key[0]):
        middle[2] = body[2]
    return middle, VERTEBRAE.get(key[0], "")


def _window(one: Alignment, scene: Scene) -> tuple[Float, Float]:
    """Corners of what is shown, mm: the surroundings of the landmarks, else the whole MR."""
    low = scene.box.world(np.zeros(3))
    high = scene.box.world(np.array(scene.box.shape) - 1)
    if one.mr_points is None or not one.common:
        return low, high
    points = one.mr_points.array(one.common)
    around = np.array(AROUND_MM)
    return np.maximum(low, points.min(0) - around), np.minimum(high, points.max(0) + around)


def _limits(
    scene: Scene, plane: Plane, window: tuple[Float, Float]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """x and y limits of a plane's pictures, pixels; y runs down."""
    (x0, y0), (x1, y1) = (scene.pixel(plane, corner) for corner in window)
    return (min(x0, x1), max(x0, x1)), (max(y0, y1), min(y0, y1))


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
    figure.text(at, 1 - 1.04 / total, figures_line(one.facts), color=TEXT, size=9.5, va="center")
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
    if facts.get("rigidity_mm"):
        shown.append(f"bone bends {facts['rigidity_mm']:.2f} mm")
    if facts.get("rejected"):
        shown.append(f"{len(facts['rejected'])} landmarks rejected")
    return "   |   ".join(shown)


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
