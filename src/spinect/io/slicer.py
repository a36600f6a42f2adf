"""Landmarks as 3D Slicer point lists (`*.mrk.json`).

One point list in the LPS+ world; points are called "L1-50", described "L1/vertebral body".

Source: https://slicer.readthedocs.io/en/latest/developer_guide/modules/markups.html.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from spinect.anatomy import VERTEBRAE
from spinect.errors import LandmarkError, OutputError, SpinectWarning
from spinect.geometry.landmarks import Key, Landmarks, key_name
from spinect.io.points import gather, key_of_label
from spinect.io.records import write_json

SUFFIX: Final = ".mrk.json"
_SCHEMA: Final = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/"
    "Schema/markups-schema-v1.0.3.json#"
)
_RAS: Final = {"LPS": np.array([-1.0, -1.0, 1.0]), "RAS": np.ones(3)}
_KEY_ID: Final = re.compile(r"\d+-\d+")  # how TPTBox fills "id"; Slicer itself counts 1, 2, ...


def write_slicer(
    landmarks: Landmarks, path: str | Path, info: Mapping[str, Any] | None = None
) -> Path:
    """Write landmarks as one point list.

    Args:
        path: Ends in .mrk.json, for Slicer knows the format by that.
        info: More fields beside "markups"; Slicer passes over what it does not know.
    Raises:
        OutputError: Another suffix, or not writable.
    """
    path = Path(path)
    if not path.name.lower().endswith(SUFFIX):
        raise OutputError(f"{path}: 3D Slicer knows point lists by the suffix {SUFFIX}: use it")
    points = [
        {
            "id": str(number),
            "label": f"{VERTEBRAE.get(key[0], key[0])}-{key[1]}",
            "description": key_name(key),
            "associatedNodeID": "",
            "position": (point * _RAS["LPS"]).tolist(),
            "orientation": [-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0],
            "selected": True,
            "locked": False,
            "visibility": True,
            "positionStatus": "defined",
        }
        for number, (key, point) in enumerate(landmarks.points.items(), start=1)
    ]
    markup = {
        "type": "Fiducial",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": False,
        "labelFormat": "%N-%d",
        "lastUsedControlPointNumber": len(points),
        "controlPoints": points,
    }
    return write_json({"@schema": _SCHEMA, **(info or {}), "markups": [markup]}, path)


def parse_markups(content: dict[str, Any], path: Path) -> Landmarks:
    """Landmarks of a Slicer file's parsed JSON; mm, RAS+.

    All its point lists together. A name is a vertebra, alone (its body) or with a subregion:
    "L1", "L1-50", "L1 body", "L1 spinous". Points without a position, and lines, curves and
    regions, are left out with a warning.

    Raises:
        LandmarkError: An unknown or repeated name, an unknown world or unit, or no point list.
    """
    lists = [markup for markup in content["markups"] if markup.get("type") == "Fiducial"]
    others = len(content["markups"]) - len(lists)
    if not lists:
        raise LandmarkError(f"{path}: no point list among {others} markups: set points in Slicer")
    if others:
        _leave_out(f"{path.name}: {others} markups that are no point lists are left out")
    return Landmarks(gather((pair for one in lists for pair in _entries(one, path)), path))


def _entries(markup: dict[str, Any], path: Path) -> Iterator[tuple[Key, Any]]:
    world = markup.get("coordinateSystem", "LPS")
    unit = markup.get("coordinateUnits", "mm")
    if world not in _RAS or unit not in ("mm", ["mm", "mm", "mm"]):
        raise LandmarkError(
            f"{path}: points in {unit!r} of the world {world!r}, not in mm of LPS or RAS: "
            "save the point list again in Slicer"
        )
    for point in markup.get("controlPoints", []):
        name = str(point.get("label") or point.get("id") or "without a name")
        if point.get("positionStatus", "defined") != "defined" or point.get("position") is None:
            _leave_out(f"{path.name}: point {name} was never placed and is left out")
            continue
        values = [float(value) for value in point["position"]]
        yield _key(point), [a * b for a, b in zip(values, _RAS[world].tolist(), strict=True)]


def _key(point: dict[str, Any]) -> Key:
    """From the label; where it names no vertebra, from an id such as "20-50"."""
    label, number = str(point.get("label", "")), str(point.get("id", ""))
    try:
        return key_of_label(label)
    except LandmarkError:
        if _KEY_ID.fullmatch(number):
            return key_of_label(number)
        raise


def _leave_out(text: str) -> None:
    warnings.warn(text, SpinectWarning, stacklevel=4)
