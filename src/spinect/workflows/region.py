"""Which part of an image a run translates, and what it says about that."""

import math
import warnings
from typing import Any

from spinect.bundle import Bundle
from spinect.errors import SpinectWarning
from spinect.geometry import Grid, Volume
from spinect.inference import Translation
from spinect.inference.heads import MASK_HEADS
from spinect.inference.region import box_on, region_mask
from spinect.segmentation.region import MARGIN_MM, find_spine
from spinect.workflows.engine import Region
from spinect.workflows.record import RegionRecord
from spinect.workflows.steps import SEGMENTER, TRANSLATOR


def finder_of(translator: Bundle) -> str | None:
    """The shipped model that looks for the spine; None where the translator can do it itself."""
    card, method = translator.card, translator.method
    settings = card.preprocessing
    own = "regress" in card.modes and all(head in method.heads for head in MASK_HEADS)
    if own and method.ndim == 3 and (settings.raster, settings.axes) == ("iso", "RAS"):
        return None
    return TRANSLATOR if card.inputs == "mr" else SEGMENTER


def look(image: Volume, finder: Bundle, **compute: Any) -> Grid | None:
    """The box around the spine; None, and a warning, where there is none to be seen."""
    found = find_spine(image, finder, **compute)
    if found is None:
        warnings.warn(
            f"region spine: model {finder.card.name} saw no vertebra, so everything is translated",
            SpinectWarning,
            stacklevel=2,
        )
    return found


def record_region(made: Translation, image: Volume, finder: Bundle) -> Region:
    """The masks of what was translated, and the record."""
    share = 1.0
    if made.region is not None:
        box = box_on(made.region, made.grid)
        share = math.prod(part.stop - part.start for part in box) / math.prod(made.grid.shape)
    return Region(
        region_mask(made.region, made.grid, image.grid),
        region_mask(made.region, made.grid, made.grid),
        RegionRecord(
            asked="spine",
            found=made.region is not None,
            model=finder.card.name,
            margin_mm=MARGIN_MM,
            share=round(share, 4),
        ),
    )
