"""All figures of one mask against another, and what they are when a mask is empty."""

from typing import Final

import numpy as np

from spinect.errors import GeometryError, LabelError
from spinect.evaluation.measures import Value
from spinect.evaluation.overlap import Mask, dice
from spinect.evaluation.surface import Float, surface_distances
from spinect.geometry import Volume

OVERLAPS: Final = ("dice", "nsd_1mm", "nsd_2mm")  # 0 where nothing was predicted
DISTANCES: Final = ("hd95", "assd", "signed_distance")  # not defined where nothing was predicted
VOLUMES: Final = ("volume_true", "volume_error")


def check_masks(prediction: tuple[Volume, Volume], truth: tuple[Volume, Volume]) -> None:
    """Refuse maps that cannot be scored against each other.

    Args:
        prediction, truth: Vertebrae and subregions.
    Raises:
        LabelError: One is no label map.
        GeometryError: They do not lie on one grid.
    """
    grid = truth[0].grid
    for volume in (*prediction, *truth):
        if volume.kind != "labels" or volume.data.dtype.kind not in "iu":
            raise LabelError(
                f"masks are label maps of integers, not a volume of kind {volume.kind!r} and type "
                f"{volume.data.dtype}: read it as labels"
            )
        if not grid.matches(volume.grid):
            raise GeometryError(
                f"masks are scored on one grid, not {volume.grid} against the truth's {grid}, "
                f"corners {grid.gap(volume.grid):.2f} mm apart: bring the prediction there first, "
                "resample(prediction, truth.grid)"
            )


def mask_values(
    region: str, item: str, prediction: Mask, truth: Mask, spacing: Float
) -> list[Value]:
    """Dice, surface figures and volumes of a mask.

    An empty prediction or an empty truth: Dice and NSD are 0, distances are not numbers, the
    volume error is what is missing or too much. Both empty: only the volumes are numbers.

    Args:
        prediction, truth: Boolean arrays of one shape.
        spacing: (3,) mm per voxel along each array axis.
    """
    voxel = float(np.prod(spacing))
    true, pred = int(np.count_nonzero(truth)), int(np.count_nonzero(prediction))
    volumes = {"volume_true": true * voxel, "volume_error": (pred - true) * voxel}
    near = surface_distances(prediction, truth, spacing)
    if near is not None:
        figures = {
            "dice": dice(prediction, truth),
            "nsd_1mm": near.nsd(1.0),
            "nsd_2mm": near.nsd(2.0),
            "hd95": near.hausdorff(),
            "assd": near.average(),
            "signed_distance": near.median_signed(),
        }
        return [Value(region, item, name, x) for name, x in {**figures, **volumes}.items()]
    empty = {(True, True): "both are empty", (False, True): "nothing was predicted"}
    note = empty.get((true == 0, pred == 0), "the truth is empty")
    overlap = float("nan") if true == pred == 0 else 0.0
    values = [Value(region, item, name, overlap, note) for name in OVERLAPS]
    values += [Value(region, item, name, float("nan"), note) for name in DISTANCES]
    return values + [Value(region, item, name, x, note) for name, x in volumes.items()]


def unknown(region: str, item: str, why: str) -> list[Value]:
    """The same figures where the truth says nothing about a region; none of them is a number."""
    names = (*OVERLAPS, *DISTANCES, *VOLUMES)
    return [Value(region, item, name, float("nan"), why) for name in names]


def mean_values(values: list[Value], region: str, metrics: tuple[str, ...]) -> list[Value]:
    """Means over the items of a region, as values of the whole case.

    Items that are not numbers are left out and counted in the note; a mean of none is no number.
    """
    means = []
    for metric in metrics:
        mine = [v.value for v in values if (v.region, v.metric) == (region, metric) and v.item]
        numbers = [x for x in mine if not np.isnan(x)]
        lacking = len(mine) - len(numbers)
        note = f"{lacking} of {len(mine)} items are not numbers" if lacking else ""
        mean = float(np.mean(numbers)) if numbers else float("nan")
        means.append(Value(region, "", metric, mean, note if mine else "no item to average"))
    return means
