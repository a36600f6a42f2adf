"""Plots over patients: paired boxes per metric, Bland-Altman of vertebra volumes."""

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from spinect.evaluation.stats.compare import patient_means
from spinect.evaluation.tables import Column, Tidy
from spinect.evaluation.tables.gather import gather

LINED: Final = 40  # patients: up to here lines join the values of one patient
DPI: Final = 150
INK: Final = "#1c2733"
ACCENT: Final = "#0b66a8"
_GREY: Final = "#8a97a5"
NO_RESULT: Final = "no result"  # note of what a missing result scores
_Z95: Final = 1.959964  # normal quantile of the 95 % limits of agreement


def blank(width: float, height: float, colour: str = "white") -> Figure:
    """A figure in inches that needs no display."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=colour)
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as PNG bytes: for lines and text."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=figure.get_facecolor())
    return buffer.getvalue()


def jpeg(figure: Figure) -> bytes:
    """The figure without its margins as JPEG bytes: for pictures, a tenth of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="jpeg", facecolor=figure.get_facecolor(), bbox_inches="tight",
                   pad_inches=0.04, pil_kwargs={"quality": 86})  # fmt: skip
    return buffer.getvalue()


def box_plot(rows: Sequence[Tidy], column: Column, methods: Sequence[str]) -> bytes | None:
    """Values of one metric: a box per method, a point per patient, joined while they are few.

    Patients without a defined value of a method have no point there; None where nobody has one.
    """
    found = gather(rows, column, methods)
    means = {m: patient_means(found[m].values) for m in methods if found[m].values}
    finite = {m: {p: v for p, v in own.items() if np.isfinite(v)} for m, own in means.items()}
    shown = {m: own for m, own in finite.items() if own}
    if not shown:
        return None
    names = list(shown)
    figure = blank(3.7, 0.85 + 0.42 * len(names))
    axes = figure.add_subplot()
    places = np.arange(len(names), dtype=float)
    axes.boxplot(
        [list(own.values()) for own in shown.values()],
        positions=places,
        orientation="horizontal",
        widths=0.55,
        showfliers=False,
        medianprops={"color": ACCENT, "linewidth": 1.8},
        boxprops={"color": _GREY},
        whiskerprops={"color": _GREY},
        capprops={"color": _GREY},
    )
    patients = sorted({patient for own in shown.values() for patient in own})
    if len(names) > 1 and len(patients) <= LINED:
        for patient in patients:
            line = [(own[patient], k) for k, own in enumerate(shown.values()) if patient in own]
            x, y = zip(*line, strict=True)
            axes.plot(x, y, color=_GREY, linewidth=0.5, alpha=0.6, zorder=1)
    for place, own in zip(places, shown.values(), strict=True):
        axes.plot(list(own.values()), np.full(len(own), place), ".", color=INK, markersize=5,
                  alpha=0.75, zorder=3)  # fmt: skip
    axes.set_yticks(places, [f"{short(m)}\nn = {len(own)}" for m, own in shown.items()], size=7.5)
    axes.invert_yaxis()
    if column.metric in ("bias", "signed_distance") or column.metric.endswith("_error"):
        axes.axvline(0, color=_GREY, linewidth=0.8)
    _finish(axes)
    axes.set_xlabel(column.heading, size=8.5, color=INK)
    figure.tight_layout(pad=0.5)
    return png(figure)


def short(name: str, most: int = 22) -> str:
    """A method's name that fits beside a plot."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _finish(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=7.5, colors=INK)
    axes.grid(axis="x", color="#e4e9ee", linewidth=0.7)
    axes.set_axisbelow(True)


@dataclass(frozen=True)
class Agreement:
    """Predicted against true values, several per patient.

    Attributes:
        bias: Mean difference, predicted minus true.
        low, high: 95 % limits of agreement, bias -+ 1.96 SD of a single difference.
        n, n_values: Patients and differences.
    """

    bias: float
    low: float
    high: float
    n: int
    n_values: int


def agreement(differences: Mapping[str, Sequence[float]]) -> Agreement | None:
    """Limits of agreement of differences that come several to a patient; None below 3 in all.

    The variance of one difference is that between patients plus that within, from a one-way
    analysis of variance with patients as groups: with m_i differences of n patients and
    m = (sum m_i - sum m_i^2 / sum m_i) / (n - 1), between = max(0, (MS_between - MS_within) / m).
    One patient, or one difference each, leaves the plain standard deviation.

    Source: Bland and Altman, J Biopharm Stat 17:571 (2007), section 3.
    """
    groups = [np.asarray(values, np.float64) for values in differences.values() if len(values)]
    pool = np.concatenate(groups) if groups else np.empty(0)
    if pool.size < 3:
        return None
    bias = float(pool.mean())
    variance = float(pool.var(ddof=1))
    counts = np.array([group.size for group in groups], np.float64)
    if len(groups) > 1 and pool.size > len(groups):
        within = sum(float(((g - g.mean()) ** 2).sum()) for g in groups) / (pool.size - len(groups))
        spread = sum(g.size * (float(g.mean()) - bias) ** 2 for g in groups) / (len(groups) - 1)
        m = (pool.size - float((counts**2).sum()) / pool.size) / (len(groups) - 1)
        variance = within + max(0.0, (spread - within) / m)
    half = _Z95 * float(np.sqrt(variance))
    return Agreement(bias, bias - half, bias + half, len(groups), pool.size)


def volume_plot(rows: Sequence[Tidy], method: str, region: str = "vertebra") -> bytes | None:
    """Bland-Altman plot of the volumes of single vertebrae at 1 mm, mL; None without any.

    A vertebra that was not found counts with a volume of 0, those of missing results do not.
    """
    truth = _items(rows, method, region, "volume_true")
    error = _items(rows, method, region, "volume_error")
    groups: dict[str, list[float]] = defaultdict(list)
    points: list[tuple[float, float]] = []
    for key, difference in error.items():
        if key in truth:
            groups[key[0]].append(difference / 1000)
            points.append((truth[key] / 1000 + difference / 2000, difference / 1000))
    found = agreement(groups)
    if found is None:
        return None
    figure = blank(3.7, 2.9)
    axes = figure.add_subplot()
    x, y = (np.array(values) for values in zip(*points, strict=True))
    axes.plot(x, y, ".", color=INK, markersize=5, alpha=0.6)
    for value, style, name in (
        (found.bias, "-", "mean"),
        (found.low, "--", "−1.96 SD"),
        (found.high, "--", "+1.96 SD"),
    ):
        axes.axhline(value, color=ACCENT, linestyle=style, linewidth=1.2)
        axes.annotate(
            f"{name} {value:+.1f}", (1, value), xycoords=("axes fraction", "data"),
            xytext=(-2, 2), textcoords="offset points", ha="right", va="bottom", size=7,
            color=ACCENT, bbox={"fc": "white", "alpha": 0.75, "ec": "none", "pad": 0.5},
        )  # fmt: skip
    _finish(axes)
    axes.set_xlabel("mean of predicted and true volume [mL]", size=8.5, color=INK)
    axes.set_ylabel("predicted − true [mL]", size=8.5, color=INK)
    axes.set_title(
        f"{short(method, 40)}: {found.n_values} vertebrae of {found.n} patients",
        size=8.5,
        color=INK,
    )
    figure.tight_layout(pad=0.5)
    return png(figure)


def _items(
    rows: Sequence[Tidy], method: str, region: str, metric: str
) -> dict[tuple[str, str, str], float]:
    """(patient, case, item) -> defined value of the strict protocol at 1 mm."""
    return {
        (r.patient, r.case, r.item): r.value
        for r in rows
        if (r.method, r.region, r.metric, r.space, r.protocol)
        == (method, region, metric, "iso", "strict")
        and r.item
        and r.note != NO_RESULT
        and np.isfinite(r.value)
    }
