"""Landmarks as TPTBox point-of-interest files (`*_poi.json`).

A file is a list of two: a header and the points, {"L1": {"50": [x, y, z]}}. Written in the
"POI_GLOBAL" form, mm in nibabel's RAS+ world. Read as well: ITK's LPS+ world, and the older
forms in voxels of a grid that the header describes (zoom, rotation, origin) or the caller gives.

Source: the reader and writer of TPTBox (poi_fun/save_load.py, Apache-2.0), opened for its format.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from spinect.anatomy import VERTEBRAE
from spinect.errors import LandmarkError
from spinect.geometry import Grid
from spinect.geometry.landmarks import Key, Landmarks
from spinect.io.points import Float, gather, load_json, subregion_id, vertebra_id, voxel_affine
from spinect.io.records import write_json
from spinect.io.verse import is_list_of_centroids, parse_centroids

_OLD: Final = {"direction": ["R", "P", "I"], "zoom": [1, 1, 1]}  # of files without a header


def write_poi(
    landmarks: Landmarks, path: str | Path, info: Mapping[str, Any] | None = None
) -> Path:
    """Write landmarks in mm, RAS+ (format "POI_GLOBAL", coordinate system "nib").

    Args:
        info: More fields of the header; TPTBox keeps what it does not know.
    """
    header = {
        "coordinate_system": "nib",
        "format": "POI_GLOBAL",
        "level_one_info": "Vertebra_Instance",
        "level_two_info": "Location",
    }
    points: dict[str, dict[str, list[float]]] = {}
    for (vertebra, subregion), point in landmarks.points.items():
        name = VERTEBRAE.get(vertebra, str(vertebra)).replace("coccyx", "COCC")
        points.setdefault(name, {})[str(subregion)] = point.tolist()
    return write_json([header | dict(info or {}), points], path)


def read_poi(path: str | Path, grid: Grid | None = None) -> Landmarks:
    """Read landmarks; mm, RAS+.

    Args:
        grid: The image that a file in voxels belongs to, for files that do not describe it;
            its axes may run another way than the file's.
    Raises:
        InputError: No such file, or not JSON.
        LandmarkError: Not a POI file, unknown or repeated names, or voxels without a grid.
    """
    path = Path(path)
    return parse_poi(load_json(path), path, grid)


def parse_poi(content: Any, path: Path, grid: Grid | None) -> Landmarks:
    """Landmarks of a POI file's parsed JSON; as `read_poi`."""
    if not isinstance(content, list) or not content or not isinstance(content[0], dict):
        raise LandmarkError(
            f"{path}: not a TPTBox POI file, it holds a {type(content).__name__} without a "
            "header: give a *_poi.json"
        )
    with understood(path):
        if is_list_of_centroids(content):
            return parse_centroids(content, path, grid)
        old = "vert_label" in content[0]
        affine = voxel_affine(_OLD, grid, path) if old else _affine(content[0], grid, path)
        found = gather(_old(content) if old else _nested(content[1:]), path)
    return Landmarks({k: affine[:3, :3] @ p + affine[:3, 3] for k, p in found.items()})


@contextmanager
def understood(path: Path) -> Iterator[None]:
    """Name the file in whatever goes wrong with its content."""
    try:
        yield
    except LandmarkError as error:
        if str(error).startswith(str(path)):
            raise
        raise LandmarkError(f"{path}: {error}") from error
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise LandmarkError(
            f"{path}: a point or the header cannot be understood ({error!r}): "
            "points are {vertebra: {subregion: [x, y, z]}}"
        ) from error


def _nested(rest: list[Any]) -> Iterator[tuple[Key, Any]]:
    """{vertebra: {subregion: [x, y, z]}}."""
    for part in rest:
        for one, held in part.items():
            for two, point in held.items():
                yield (vertebra_id(one), subregion_id(two)), point


def _old(content: list[Any]) -> Iterator[tuple[Key, Any]]:
    """[{"vert_label": "20", "50": "(281.0, 185.0, 274.0)"}]: voxels of 1 mm, R, P, I."""
    for part in content:
        vertebra = vertebra_id(part["vert_label"])
        for name, text in part.items():
            if name != "vert_label":
                values = [float(number) for number in str(text).strip("()[] ").split(",")]
                yield (vertebra, subregion_id(name)), values


def _affine(header: dict[str, Any], grid: Grid | None, path: Path) -> Float:
    """(4, 4) from the file's coordinates to mm, RAS+."""
    if header.get("format") not in ("POI_GLOBAL", "POINT_LIST"):
        return voxel_affine(header, grid, path)
    world = header.get("coordinate_system", "nib")
    if world not in ("nib", "itk"):
        raise LandmarkError(f"{path}: coordinate system {world!r} is neither nib nor itk")
    return np.diag([-1.0, -1.0, 1.0, 1.0]) if world == "itk" else np.eye(4)
