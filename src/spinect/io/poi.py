"""Landmarks as TPTBox point-of-interest files (`*_poi.json`).

A file is a list of two: a header and the points, {"L1": {"50": [x, y, z]}}. Written in the
"POI_GLOBAL" form, mm in nibabel's RAS+ world. Read as well: ITK's LPS+ world, and the older
forms in voxels of a grid that the header describes (zoom, rotation, origin) or the caller gives.

Source: the reader and writer of TPTBox (poi_fun/save_load.py, Apache-2.0), opened for its format.
"""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from spinect.anatomy import VERTEBRA_IDS, VERTEBRAE
from spinect.errors import InputError, LandmarkError
from spinect.geometry import Grid
from spinect.geometry.landmarks import Key, Landmarks
from spinect.io.records import write_json

_BASE: Final = 256  # old lists: label = subregion * 256 + vertebra
_BODY: Final = 50  # what an old label without a subregion means
_NAMES: Final = {
    "Vertebra_Full": 40,
    "Arcus_Vertebrae": 41,
    "Spinosus_Process": 42,
    "Costal_Process_Left": 43,
    "Costal_Process_Right": 44,
    "Superior_Articular_Left": 45,
    "Superior_Articular_Right": 46,
    "Inferior_Articular_Left": 47,
    "Inferior_Articular_Right": 48,
    "Vertebra_Corpus_border": 49,
    "Vertebra_Corpus": 50,
    "Spinal_Cord": 60,
    "Spinal_Canal": 61,
    "Vertebra_Disc": 100,
}


def write_poi(landmarks: Landmarks, path: str | Path) -> Path:
    """Write landmarks in mm, RAS+ (format "POI_GLOBAL", coordinate system "nib")."""
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
    return write_json([header, points], path)


def read_poi(path: str | Path, grid: Grid | None = None) -> Landmarks:
    """Read landmarks; mm, RAS+.

    Args:
        grid: The image that a file in voxels belongs to, for files that do not describe it;
            its axes may run another way than the file's.
    Raises:
        InputError: No such file, or not JSON.
        LandmarkError: Not a POI file, unknown names, or voxels without a grid.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file: check the path") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not JSON ({error}): give a TPTBox *_poi.json") from error
    if not isinstance(content, list) or not content or not isinstance(content[0], dict):
        raise LandmarkError(
            f"{path}: not a TPTBox POI file, it holds a {type(content).__name__} without a "
            "header: give a *_poi.json"
        )
    header, rest = content[0], content[1:]
    try:
        found = _listed(rest) if "X" in str(rest[:1]) else _nested(rest)
        affine = _affine(header, grid, path)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise LandmarkError(
            f"{path}: a point or the header cannot be understood ({error!r}): "
            "points are {vertebra: {subregion: [x, y, z]}}"
        ) from error
    return Landmarks({k: affine[:3, :3] @ p + affine[:3, 3] for k, p in found.items()})


def _nested(rest: list[Any]) -> dict[Key, NDArray[np.float64]]:
    """{vertebra: {subregion: [x, y, z]}}."""
    return {
        (_vertebra(one), _subregion(two)): np.array(point, float)
        for part in rest
        for one, held in part.items()
        for two, point in held.items()
    }


def _listed(rest: list[Any]) -> dict[Key, NDArray[np.float64]]:
    """[{label, X, Y, Z}]; points that are NaN were not found."""
    found = {}
    for entry in rest:
        subregion, vertebra = divmod(int(entry["label"]), _BASE)
        point = np.array([entry["X"], entry["Y"], entry["Z"]], float)
        if not np.isnan(point).any():
            found[vertebra, subregion or _BODY] = point
    return found


def _vertebra(name: str) -> int:
    known = VERTEBRA_IDS | {"COCC": 27, "Cocc": 27}
    return known[name] if name in known else int(name)


def _subregion(name: str) -> int:
    return _NAMES[name] if name in _NAMES else int(name)


def _affine(header: dict[str, Any], grid: Grid | None, path: Path) -> NDArray[np.float64]:
    """(4, 4) from the file's coordinates to mm, RAS+."""
    if header.get("format") in ("POI_GLOBAL", "POINT_LIST"):
        itk = header.get("coordinate_system", "nib") == "itk"
        return np.diag([-1.0, -1.0, 1.0, 1.0]) if itk else np.eye(4)
    if all(header.get(field) is not None for field in ("zoom", "rotation", "origin")):
        affine = np.eye(4)
        affine[:3, :3] = np.array(header["rotation"], float) * np.array(header["zoom"], float)
        affine[:3, 3] = header["origin"]
        return affine
    if grid is None:
        raise LandmarkError(
            f"{path}: points are voxels of a grid that the file does not describe "
            f"(header {sorted(header)}): give the image's grid too, read_poi(path, grid)"
        )
    own = grid.reoriented("".join(header["direction"]))
    if header.get("zoom") is None:
        return own.affine
    scale = np.diag([*(np.array(header["zoom"], float) / own.spacing), 1.0])
    return np.asarray(own.affine @ scale)
