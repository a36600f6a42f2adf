"""Reading landmarks of whatever format, told by what the file holds and not by its name."""

from pathlib import Path
from typing import Final

from spinect.errors import InputError, LandmarkError
from spinect.geometry import Grid
from spinect.geometry.landmarks import BODY_CENTRE, Landmarks, key_name
from spinect.io.blobs import read_blobs
from spinect.io.poi import parse_poi, understood
from spinect.io.points import load_json
from spinect.io.read import SUFFIXES
from spinect.io.slicer import parse_markups

_FORMS: Final = (
    "TPTBox *_poi.json, VerSe centroid list, 3D Slicer *.mrk.json, or a label mask with one blob "
    "for each vertebra"
)


def read_landmarks(
    path: str | Path, grid: Grid | None = None, *, subregion: int = BODY_CENTRE
) -> Landmarks:
    """Read landmarks; mm, RAS+.

    Args:
        path: TPTBox POI, VerSe centroid list, 3D Slicer point list, or a mask of blobs.
        grid: The image's. Completes files in voxels that do not describe their grid, and every
            point must lie inside it.
        subregion: What the blobs of a mask stand for; files with names ignore it.
    Returns:
        At least one point.
    Raises:
        InputError: No such file, or none of these formats.
        LandmarkError: Unknown or repeated names, positions that are missing or outside the image,
            voxels without a grid, or no point at all.
    """
    path = Path(path)
    found = _read(path, grid, subregion)
    if not len(found):
        raise LandmarkError(f"{path}: not a single landmark in it: give a file with points")
    off = found.outside(grid) if grid is not None else ()
    if grid is not None and off:
        first = off[0]
        raise LandmarkError(
            f"{path}: {len(off)} of {len(found)} landmarks lie outside the image ({grid}): "
            f"{', '.join(map(key_name, off))}, the first at {found[first].round(1).tolist()} mm "
            f"which is voxel {grid.index(found[first]).round(1).tolist()}: do they belong to it?"
        )
    return found


def _read(path: Path, grid: Grid | None, subregion: int) -> Landmarks:
    if not _is_json(path):
        if path.is_file() and not path.name.lower().endswith(SUFFIXES):
            raise InputError(f"{path}: neither JSON nor an image: give a {_FORMS}")
        return read_blobs(path, subregion)
    content = load_json(path)
    if isinstance(content, dict) and isinstance(content.get("markups"), list):
        with understood(path):
            return parse_markups(content, path)
    if isinstance(content, dict):
        raise LandmarkError(
            f"{path}: JSON with {', '.join(list(content)[:5]) or 'nothing'} holds no landmarks "
            f"that are known: give a {_FORMS}"
        )
    return parse_poi(content, path, grid)


def _is_json(path: Path) -> bool:
    """Whether a file begins as a JSON object or list does."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(64)
    return start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[")
