"""What the readers of landmark files share: names, voxel frames, and that no point gets lost."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from spinect.anatomy import SUBREGIONS, VERTEBRA_IDS, VERTEBRAE
from spinect.errors import InputError, LandmarkError
from spinect.geometry import Grid
from spinect.geometry.landmarks import BODY_CENTRE, WHOLE, Key, key_name

Float = NDArray[np.float64]

_MANY: Final = 64 << 20  # bytes; a spine has some hundred points, not a million
_VERTEBRAE: Final = (
    {name.lower(): number for name, number in VERTEBRA_IDS.items()}
    | {f"th{i}": 7 + i for i in range(1, 13)}
    | {"cocc": 27, "sacrum": 26}
)
# TPTBox's names (its enumeration Location) and what people type; lower case, words apart.
_SUBREGIONS: Final = {name: number for number, name in SUBREGIONS.items()} | {
    "whole": WHOLE,
    "vertebra full": WHOLE,
    "arcus vertebrae": 41,
    "arch": 41,
    "spinosus process": 42,
    "spinous": 42,
    "procspin": 42,
    "costal process left": 43,
    "costal process right": 44,
    "transverse left": 43,
    "transverse right": 44,
    "superior articular left": 45,
    "superior articular right": 46,
    "inferior articular left": 47,
    "inferior articular right": 48,
    "vertebra corpus border": 49,
    "body": BODY_CENTRE,
    "corpus": BODY_CENTRE,
    "vertebra corpus": BODY_CENTRE,
    "dens axis": 51,
    "vertebral body endplate superior": 52,
    "vertebral body endplate inferior": 53,
    "vertebra disc superior": 58,
    "vertebra disc inferior": 59,
    "cord": 60,
    "canal": 61,
    "endplate": 62,
    "rib left": 63,
    "rib right": 64,
    "disc": 100,
    "vertebra disc": 100,
}
_LABEL: Final = re.compile(r"\s*([A-Za-z]+\d*|\d+)(?:[\s_:/.-]+(.*))?", re.DOTALL)


def load_json(path: Path) -> Any:
    """The content of a JSON file; a name that stands twice in one object is an error.

    Raises:
        InputError: No such file, no text, not JSON, or far too large.
        LandmarkError: A name that stands twice.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        held = dict(pairs)
        if len(held) < len(pairs):
            names = [name for name, _ in pairs]
            twice = sorted({name for name in names if names.count(name) > 1})
            raise LandmarkError(f"{path}: {', '.join(twice)} stands there twice: keep one of them")
        return held

    try:
        if path.stat().st_size > _MANY:
            raise InputError(f"{path}: {path.stat().st_size} bytes are no file of landmarks")
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=once)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file: check the path") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: a folder: give one file of landmarks") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}): give a TPTBox *_poi.json") from error


def vertebra_id(name: str | int) -> int:
    """The id of a vertebra given as name ("L1", "Th12", "COCC") or number.

    Raises:
        LandmarkError: No vertebra.
    """
    text = str(name).strip().lower()
    if text in _VERTEBRAE:
        return _VERTEBRAE[text]
    if text.isdecimal() and int(text) in VERTEBRAE:
        return int(text)
    raise LandmarkError(
        f"{str(name)!r} is not a vertebra: use C1-C7, T1-T13, L1-L6, S1-S5, coccyx, or their "
        "ids 1-32"
    )


def subregion_id(name: str | int) -> int:
    """The id of a subregion given as name ("body", "Spinosus_Process") or number.

    Raises:
        LandmarkError: No subregion.
    """
    text = " ".join(re.split(r"[\s_-]+", str(name).strip().lower()))
    if text in _SUBREGIONS:
        return _SUBREGIONS[text]
    if text.isdecimal() and int(text) >= WHOLE:
        return int(text)
    raise LandmarkError(
        f"{str(name)!r} is not a subregion: use body, spinous, arcus or an id from 40, such as 50"
    )


def key_of_label(label: str) -> Key:
    """The key of a point called such as "L1" (its body), "L1-50", "20-50" or "L1 spinous".

    Raises:
        LandmarkError: Another name.
    """
    match = _LABEL.fullmatch(label)
    if match is None:
        raise LandmarkError(
            f"{label!r} does not begin with a vertebra: call points L1, L1-50, L1 body, L1 spinous"
        )
    rest = (match[2] or "").strip()
    return vertebra_id(match[1]), subregion_id(rest) if rest else BODY_CENTRE


def gather(entries: Iterable[tuple[Key, Any]], path: Path) -> dict[Key, Float]:
    """Points by key.

    Args:
        entries: Key and the three coordinates as the file gives them.
    Raises:
        LandmarkError: A name that comes twice, or anything but three finite numbers.
    """
    found: dict[Key, Float] = {}
    for key, values in entries:
        try:
            point = np.array(values, np.float64)
        except (TypeError, ValueError):
            point = np.full(3, np.nan)
        if point.shape != (3,) or not np.isfinite(point).all():
            raise LandmarkError(
                f"{path}: landmark {key_name(key)} must be three finite numbers, not "
                f"{str(values)[:80]}: mend it or take it out"
            )
        if key in found:
            raise LandmarkError(
                f"{path}: landmark {key_name(key)} stands there twice, at "
                f"{found[key].tolist()} and {point.tolist()}: keep one of them"
            )
        found[key] = point
    return found


def voxel_affine(header: dict[str, Any], grid: Grid | None, path: Path) -> Float:
    """(4, 4) from the voxel coordinates of a file to mm, RAS+.

    Args:
        header: As TPTBox and VerSe write it: direction, zoom, rotation, origin, shape; what is
            missing or null comes from `grid`.
        grid: The image's; its axes may run another way than the file's.
    Raises:
        LandmarkError: The file does not describe its grid and none is given, or its shape is
            another one.
    """
    if all(header.get(field) is not None for field in ("zoom", "rotation", "origin")):
        affine = np.eye(4)
        affine[:3, :3] = np.array(header["rotation"], float) * np.array(header["zoom"], float)
        affine[:3, 3] = header["origin"]
        return affine
    if grid is None:
        raise LandmarkError(
            f"{path}: points are voxels of a grid that the file does not describe "
            f"(header {sorted(header)}): give the image's grid too, read_landmarks(path, grid)"
        )
    own = grid.reoriented("".join(header["direction"]))
    zoom = own.spacing if header.get("zoom") is None else np.array(header["zoom"], float)
    shape = header.get("shape")
    # TPTBox rounds shapes, so one voxel of difference is none; zooms are checked through it.
    if shape is not None and (np.abs(own.extent - np.array(shape) * zoom) > 1.5 * zoom).any():
        raise LandmarkError(
            f"{path}: points of an image of {'x'.join(map(str, shape))} voxels, the image given "
            f"has {own}: give the image that the points were set in"
        )
    return np.asarray(own.affine @ np.diag([*(zoom / own.spacing), 1.0]))
