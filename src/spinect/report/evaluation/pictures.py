"""Pictures of one case: the error map and the layers of the slider."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from spinect.report.evaluation.plots import blank, jpeg
from spinect.report.figures import direction_letters, side
from spinect.report.html import jpeg_uri, mask_uri
from spinect.report.overlay import paint
from spinect.report.scene import CT_WINDOW, Scene, grey_window

ERROR_HU: Final = 300.0  # the colours end here, the same for every case and method
OUTLINE: Final = 0.5  # between background and vertebra


def plane(scene: Scene) -> float:
    """The sagittal plane, mm, that most true bodies are met in: the same for every method."""
    if scene.truth_vertebrae is None:
        return float(scene.focus()[0])
    return float(replace(scene, vertebrae=scene.truth_vertebrae, subregions=None).focus()[0])


def error_map(scene: Scene) -> bytes | None:
    """Synthetic minus true CT in the sagittal plane through the spine, with true outlines; JPEG.

    None where one of the CTs is missing.
    """
    if scene.ct is None or scene.truth_ct is None:
        return None
    at = plane(scene)
    mine, true = (scene.cut(volume, "sagittal", at) for volume in (scene.ct, scene.truth_ct))
    rows, columns = mine.shape
    height = 4.2
    figure = blank(height * columns / rows + 1.15, height)
    axes = figure.add_subplot()
    shown = axes.imshow(
        mine.astype(np.float32) - true, cmap="RdBu_r", vmin=-ERROR_HU, vmax=ERROR_HU,
        interpolation="bilinear",
    )  # fmt: skip
    if scene.truth_vertebrae is not None:
        bone = scene.cut(scene.truth_vertebrae, "sagittal", at) > 0
        if bone.any():
            axes.contour(bone, levels=[OUTLINE], colors="#222", linewidths=0.5)
    axes.set_axis_off()
    direction_letters(axes, "sagittal")
    axes.set_title(f"synthetic − true, {side('sagittal', at)}", size=8)
    bar = figure.colorbar(shown, ax=axes, shrink=0.7, pad=0.03, aspect=28, extend="both")
    bar.ax.tick_params(labelsize=7)
    bar.set_label("HU", size=7)
    return jpeg(figure)


def layers(scene: Scene) -> Mapping[str, str]:
    """Name -> data URI of what the slider blends, in the sagittal plane through the spine.

    "MR" always; "synthetic CT", "true CT", "masks", "true masks" where they exist.
    """
    at = plane(scene)
    found = {"MR": jpeg_uri(scene.cut(scene.image, "sagittal", at), grey_window(scene.image))}
    for name, ct in (("synthetic CT", scene.ct), ("true CT", scene.truth_ct)):
        if ct is not None:
            found[name] = jpeg_uri(scene.cut(ct, "sagittal", at), CT_WINDOW)
    for name, labels in (("masks", scene.vertebrae), ("true masks", scene.truth_vertebrae)):
        if labels is not None:
            found[name] = mask_uri(paint(scene.cut(labels, "sagittal", at), 0.4))
    return found
