"""What every image protocol asks of its two volumes."""

import numpy as np

from spinect.errors import GeometryError, ImageError
from spinect.evaluation.measures import Value
from spinect.evaluation.surface import Mask
from spinect.geometry import Volume
from spinect.geometry.volume import Kind

EMPTY = "the region is empty"


def check_pair(prediction: Volume, truth: Volume, kind: Kind = "ct") -> None:
    """Refuse what cannot be compared voxel by voxel.

    Args:
        kind: What both must be.
    Raises:
        GeometryError: The volumes lie on different grids.
        ImageError: One is of another kind, or holds values that are not finite.
    """
    wanted = "a CT in HU" if kind == "ct" else "an MR"
    for name, volume in (("prediction", prediction), ("truth", truth)):
        if volume.kind != kind:
            raise ImageError(f"the {name} must be {wanted}, not a volume of kind {volume.kind}")
        if not np.isfinite(volume.data).all():
            bad = int(np.sum(~np.isfinite(volume.data)))
            raise ImageError(
                f"{bad} of {volume.data.size} voxels of the {name} are not finite: no error is "
                "defined there. Repair the volume, or leave the voxels out before it is made"
            )
    if not prediction.grid.matches(truth.grid):
        raise GeometryError(
            f"the prediction has {prediction.grid}, the truth {truth.grid}, corners "
            f"{prediction.grid.gap(truth.grid):.2f} mm apart. Resample the prediction onto the "
            "grid of the truth first: resample(prediction, truth.grid)"
        )


def check_mask(name: str, mask: Mask, truth: Volume) -> None:
    """Refuse a mask that is not boolean or has another shape.

    Raises:
        GeometryError: The shape differs.
        ImageError: The mask is not boolean.
    """
    if mask.shape != truth.data.shape:
        raise GeometryError(
            f"the region {name} has shape {mask.shape}, the volumes {truth.data.shape}: "
            "make it on the grid of the truth"
        )
    if mask.dtype != np.bool_:
        raise ImageError(f"the region {name} must be a boolean mask, not {mask.dtype}")


def tidy(region: str, metric: str, value: float, why: str, item: str = "") -> Value:
    """A value; `why` becomes its note only where it is not a number."""
    return Value(region, item, metric, value, why if np.isnan(value) else "")
