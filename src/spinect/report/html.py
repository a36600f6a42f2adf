"""The report: one HTML file that holds everything and asks nothing of the network."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from spinect.anatomy import COLOURS, VERTEBRA_IDS
from spinect.report.figures import NOTICE, preview_png, side
from spinect.report.overlay import paint
from spinect.report.scene import CT_WINDOW, Scene, grey_window
from spinect.report.spread import LEGEND, bar_png, paint_spread, pooled

_SLICES: Final = 13  # sagittal pictures behind the slider
_SPAN_MM: Final = 36.0  # they cover this much left-right, centred on the spine


@dataclass(frozen=True)
class Comparison:
    """One line of a comparison with the truth."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Page:
    """What stands on the page beside the pictures.

    Attributes:
        title: Name of the case.
        rows: Vertebra table, column -> value, head to feet; see vertebrae.tsv.
        warnings: One sentence each; they come first on the page.
        facts: Name -> value of the run (model, mode, seed, times).
        comparison: Against the truth, phantoms only.
    """

    title: str
    rows: Sequence[Mapping[str, object]] = ()
    warnings: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    comparison: Sequence[Comparison] = ()


# Column of vertebrae.tsv -> heading, digits. The page shows these; the file holds all.
_COLUMNS: Final[dict[str, tuple[str, int]]] = {
    "level_source": ("level from", 0),
    "level_p": ("level p", 2),
    "confidence": ("confidence", 2),
    "draws_found": ("draws with it", 2),
    "spread_hu": ("spread HU", 0),
    "volume_mm3": ("volume mL", 1),
    "synthetic_hu_mean": ("synthetic HU", 0),
    "height_anterior_mm": ("ant.", 1),
    "height_middle_mm": ("mid.", 1),
    "height_posterior_mm": ("post.", 1),
}
_CUTS: Final = {"cut_si": "head/feet", "cut_ap": "front/back", "cut_lr": "side"}


def write_html(scene: Scene, page: Page, path: Path) -> None:
    """Write the report; `path` becomes one self-contained UTF-8 file of about 1-2 MB."""
    environment = Environment(
        loader=PackageLoader("spinect.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("page.html.jinja").render(
        page=page,
        notice=NOTICE,
        given=scene.image.kind.upper(),
        made="MR" if scene.makes_mr else "CT",
        window=CT_WINDOW,
        preview=data_uri(preview_png(scene, page.title), "png"),
        slices=_slices(scene),
        bar=data_uri(bar_png(), "png") if scene.spread is not None else None,
        legend=LEGEND,
        columns=_used_columns(page.rows),
        rows=[_row(row, _used_columns(page.rows)) for row in page.rows],
    )
    path.write_text(text, encoding="utf-8")


def _used_columns(rows: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """Columns in which at least one vertebra has a value."""
    return {
        key: heading
        for key, (heading, _) in _COLUMNS.items()
        if any(_known(row.get(key)) for row in rows)
    }


def _known(value: object) -> bool:
    return value is not None and value != "" and not (isinstance(value, float) and value != value)


def _row(row: Mapping[str, object], columns: Mapping[str, str]) -> dict[str, Any]:
    name = str(row["name"])
    red, green, blue = COLOURS.get(VERTEBRA_IDS.get(name, 0), (128, 128, 128))
    cells = []
    for key in columns:
        value, digits = row.get(key), _COLUMNS[key][1]
        if not _known(value):
            cells.append("–")
        elif isinstance(value, int | float | np.number):
            scaled = float(value) / 1000 if key == "volume_mm3" else float(value)
            cells.append(f"{scaled:.{digits}f}")
        else:
            cells.append(str(value))
    cut = ", ".join(text for key, text in _CUTS.items() if row.get(key))
    guessed = row.get("level_source") == "guess"
    return {
        "name": name,
        "colour": f"rgb({red},{green},{blue})",
        "cells": cells,
        "cut": cut,
        "guess": guessed,
    }


def _slices(scene: Scene) -> list[dict[str, str]]:
    """Sagittal pictures through the spine, left to right: image and CT as JPEG, others as PNG."""
    centre = scene.focus()[0]
    x = scene.image.grid.corners()[:, 0]
    reach = min(_SPAN_MM / 2, centre - x.min(), x.max() - centre)
    window = grey_window(scene.image)
    apart = None if scene.spread is None else pooled(scene.spread)
    made = CT_WINDOW if scene.ct is None else grey_window(scene.ct)
    pictures = []
    for at in np.linspace(centre - reach, centre + reach, _SLICES if reach > 1 else 1):
        picture = {
            "at": side("sagittal", at),
            "image": jpeg_uri(scene.cut(scene.image, "sagittal", at), window),
        }
        if scene.ct is not None:
            picture["ct"] = jpeg_uri(scene.cut(scene.ct, "sagittal", at), made)
        if scene.vertebrae is not None:
            flat = scene.cut(scene.vertebrae, "sagittal", at)
            picture["masks"] = mask_uri(paint(flat, 0.4))
        if apart is not None:
            picture["spread"] = mask_uri(paint_spread(scene.cut(apart, "sagittal", at)))
        pictures.append(picture)
    return pictures


def jpeg_uri(picture: NDArray[Any], window: tuple[float, float]) -> str:
    """A grey picture, (rows, columns), between two values: data URI of a JPEG."""
    low, high = window
    grey = np.clip((np.asarray(picture, np.float32) - low) / (high - low), 0, 1)
    return _encode(Image.fromarray(np.round(grey * 255).astype(np.uint8)), "jpeg", quality=82)


def mask_uri(picture: NDArray[np.float32]) -> str:
    """An RGBA picture in 0-1, as from `paint`: data URI of a PNG."""
    image = Image.fromarray(np.round(picture * 255).astype(np.uint8))
    return _encode(image.quantize(64, method=Image.Quantize.FASTOCTREE), "png", optimize=True)


def _encode(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return data_uri(buffer.getvalue(), kind)


def data_uri(data: bytes, kind: str) -> str:
    """An encoded image as data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
