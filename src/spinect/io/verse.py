"""VerSe centroid lists: [{"direction": ["P", "I", "R"]}, {"label": 20, "X": .., "Y": .., "Z": ..}].

Voxels of the image turned to `direction`; a label is subregion * 256 + vertebra, a plain vertebra
id means the body. TPTBox writes the same lists (its format "docker") with zoom and shape in the
header.

Source: the reader of TPTBox (poi_fun/save_load.py, Apache-2.0), opened for the format.
"""

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from spinect.errors import LandmarkError, SpinectWarning
from spinect.geometry import Grid
from spinect.geometry.landmarks import BODY_CENTRE, Key, Landmarks, key_name
from spinect.io.points import gather, key_of_label, subregion_id, vertebra_id, voxel_affine

_BASE: Final = 256


def is_list_of_centroids(content: Any) -> bool:
    """Whether parsed JSON is a header followed by {label, X, Y, Z}."""
    return (
        isinstance(content, list)
        and len(content) > 1
        and isinstance(content[0], dict)
        and "direction" in content[0]
        and all(isinstance(entry, dict) and "label" in entry for entry in content[1:])
    )


def parse_centroids(content: list[dict[str, Any]], path: Path, grid: Grid | None) -> Landmarks:
    """Landmarks of such a list; mm, RAS+.

    Points that are NaN were looked for and not found: left out with a warning.

    Args:
        grid: The image's; needed where the header does not describe it.
    Raises:
        LandmarkError: An unknown or repeated label, or no grid.
    """
    affine = voxel_affine(content[0], grid, path)
    found = gather(_entries(content[1:], path), path)
    return Landmarks({k: affine[:3, :3] @ p + affine[:3, 3] for k, p in found.items()})


def _entries(content: list[dict[str, Any]], path: Path) -> Iterator[tuple[Key, Any]]:
    missed = []
    for entry in content:
        key = _key(entry["label"])
        point = [entry["X"], entry["Y"], entry["Z"]]
        if any(value is None or math.isnan(float(value)) for value in point):
            missed.append(key_name(key))
        else:
            yield key, point
    if missed:
        warnings.warn(
            f"{path.name}: {len(missed)} landmarks have no position (NaN) and are left out: "
            f"{', '.join(missed)}",
            SpinectWarning,
            stacklevel=2,
        )


def _key(label: Any) -> Key:
    if isinstance(label, str) and not label.strip().isdecimal():
        return key_of_label(label)
    if float(label) != int(label):
        raise LandmarkError(f"label {label} is not a whole number")
    subregion, vertebra = divmod(int(label), _BASE)
    return vertebra_id(vertebra), subregion_id(subregion) if subregion else BODY_CENTRE
