"""The spread of Monte-Carlo draws as transparent colour over a grey picture."""

import io
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage

from spinect.evaluation.regions import SOFT_HU
from spinect.geometry import Volume
from spinect.report.scene import CT_WINDOW
from spinect.segmentation.spread import MUSCLE_HU

POOL_MM: Final = 3.0
# Draws that toss a coin between two tissues spread by half their difference. Colour begins where
# the two may be muscle and bone (200 HU), and is full where they may be muscle and what the CT
# window shows white; below, two draws show the same tissue, and the anatomy stays bare.
SPREAD_HU: Final = ((SOFT_HU[1] - MUSCLE_HU) / 2, (CT_WINDOW[1] - MUSCLE_HU) / 2)
MAP: Final = "plasma"
_FIRST: Final = 0.25  # of the map: its darker colours would be lost on a dark picture
_OPACITY: Final = (0.25, 0.8)  # at the ends of SPREAD_HU
LEGEND: Final = (
    f"spread of the draws, HU, pooled over {POOL_MM:.0f} mm; below {SPREAD_HU[0]:.0f} HU not shown"
)


def pooled(std: Volume) -> Volume:
    """Root of the mean variance over cubes of about POOL_MM.

    The spread of ten draws errs by 1 / sqrt(2 (K - 1)) = 24 % in a voxel; the cube's errs less,
    by as many of its voxels as err independently.
    """
    size = [max(2 * round((POOL_MM / s - 1) / 2) + 1, 1) for s in std.grid.spacing]
    square = np.square(std.data, dtype=np.float32)
    mean = ndimage.uniform_filter(square, size, mode="nearest")
    return std.with_data(np.sqrt(np.maximum(mean, 0)))  # running sums may end just below 0


def paint_spread(picture: NDArray[Any]) -> NDArray[np.float32]:
    """RGBA picture of a spread in HU: (rows, columns) -> (rows, columns, 4) in 0-1."""
    low, high = SPREAD_HU
    share = np.clip((np.asarray(picture, np.float32) - low) / (high - low), 0, 1)
    colour = np.asarray(mpl.colormaps[MAP](_FIRST + (1 - _FIRST) * share), np.float32)
    colour[..., 3] = _OPACITY[0] + (_OPACITY[1] - _OPACITY[0]) * share
    colour[np.asarray(picture) < low, 3] = 0
    return colour


def draw_bar(axes: Any, colour: str) -> None:
    """A horizontal colour bar with its values in HU, on axes of its own."""
    low, high = SPREAD_HU
    row = paint_spread(np.linspace(low, high, 256)[None])
    row[..., 3] = 1  # the colours themselves; over a picture they are mixed with its grey
    axes.imshow(row, aspect="auto", extent=(low, high, 0, 1))
    axes.set_yticks([])
    axes.set_xticks([low, 200, 300, high], labels=[f"{low:.0f}", "200", "300", f"{high:.0f}+"])
    axes.tick_params(colors=colour, labelsize=8, length=2, pad=2)
    for side in axes.spines.values():
        side.set_visible(False)


def bar_png() -> bytes:
    """The colour bar for a page, PNG on a transparent ground."""
    figure = Figure(figsize=(2.6, 0.36), dpi=130)
    FigureCanvasAgg(figure)
    draw_bar(figure.add_axes((0.06, 0.55, 0.86, 0.4)), "#7f8c99")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", transparent=True)
    return buffer.getvalue()
