"""A series on the grid that training works on: made once, kept by content, mapped into memory.

What is kept lies under ``derivatives/spinect/NAME/KEY``. The key is the sha256 of every file's
content and of the settings, so that a changed file, or another setting, makes other arrays; those
of an older content are removed. The folder appears by one rename, complete or not at all.
"""

import hashlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from spinect.card import Axes, Raster, file_sha256
from spinect.data.intensity import inside_field_of_view, mr_channels, unit_of_max
from spinect.data.series import Series
from spinect.data.stream import Triple
from spinect.data.synthesise import bone_distance
from spinect.data.targets import Spacing
from spinect.errors import GeometryError
from spinect.geometry import Grid, Volume
from spinect.geometry.resample import resample
from spinect.io import read, write_json
from spinect.phantom.maps import DISTANCE_STEP_MM
from spinect.protocols import Intensity

LOG = logging.getLogger(__name__)
ARRAYS = ("channels", "hu", "vertebrae", "subregions", "distance", "bone", "valid")
BONE_HU = 200.0  # what is bone where no mask says so
_FORMAT = "3"  # of the arrays; those of an older one are made again

Arrays = dict[str, NDArray[Any]]


def working_grid(native: Grid, raster: Raster, spacing_mm: float, axes: Axes = "RAS") -> Grid:
    """The grid that a network works on, in training and in inference alike.

    Args:
        native: Of the scan.
        raster, spacing_mm, axes: As in `Working`.
    """
    grid = native.reoriented(axes)
    across = spacing_mm if raster == "iso" else float(grid.spacing[0])
    return grid.with_spacing((across, spacing_mm, spacing_mm))


@dataclass(frozen=True)
class Working:
    """The settings that prepared arrays depend on.

    Attributes:
        raster: "iso": cubes of `spacing_mm`; "slices": `spacing_mm` in the plane of the last two
            axes, the voxel size of the scan along the first one kept.
        intensity: Of the MR: "robust" is the pair of channels of `mr_channels`, "max" is [0, max].
        axes: Those that the grid's are closest to; "SRA" for axial slices.
    """

    raster: Raster = "iso"
    intensity: Intensity = "robust"
    spacing_mm: float = 1.0
    axes: Axes = "RAS"

    def grid(self, native: Grid) -> Grid:
        """Of the arrays of a series whose MR lies on `native`."""
        return working_grid(native, self.raster, self.spacing_mm, self.axes)


@dataclass(frozen=True, eq=False)
class Case:
    """A prepared series; arrays that are kept stay on disk until a patch is read.

    Attributes:
        name: Of the series.
        arrays: channels (C + 1, *S) float16, the last one 1 inside the field of view; hu int16,
            vertebrae, subregions and valid uint8, distance int8 (DISTANCE_STEP_MM), bone (N, 3)
            voxels of labelled bone. Without masks distance is that to a CT above BONE_HU.
        centres: Vertebra id -> centre of its body, voxels.
        spacing: mm. masks: Whether there are vertebrae.
    """

    name: str
    arrays: Arrays
    centres: dict[int, NDArray[np.float64]]
    spacing: Spacing
    masks: bool = True

    @property
    def shape(self) -> Triple:
        """Voxels along the axes of the working grid."""
        first, second, third = self.arrays["hu"].shape
        return first, second, third

    @classmethod
    def load(cls, name: str, folder: Path) -> "Case":
        """What `prepare_series` keeps."""
        meta = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        arrays = {k: np.load(folder / f"{k}.npy", mmap_mode="r") for k in ARRAYS}
        first, second, third = meta["spacing_mm"]
        centres = {int(k): np.array(c) for k, c in meta["centres"].items()}
        return cls(name, arrays, centres, (first, second, third), meta.get("masks", True))


def prepare_series(folder: Path, series: Series, working: Working | None = None) -> Path:
    """The folder of a series's arrays; made when its files or the settings have changed.

    Args:
        folder: The dataset.
    Raises:
        InputError: An unusable file.
        GeometryError: MR and truth do not share a grid.
    """
    working = working or Working()
    settings = hashlib.sha256(f"{_FORMAT} {working!r}".encode()).hexdigest()[:8]
    key = f"{settings}-{_content(series, folder)}"
    home = folder / "derivatives" / "spinect" / series.name
    out = home / key
    if (out / "case.json").is_file():
        return out
    case = build_case(series, working)
    part = home / f".{secrets.token_hex(4)}.part"
    part.mkdir(parents=True)
    try:
        for label, array in case.arrays.items():
            np.save(part / f"{label}.npy", array)
        facts = {"settings": vars(working), "spacing_mm": case.spacing, "masks": case.masks}
        write_json(facts | {"centres": {str(k): c.tolist() for k, c in case.centres.items()}},
                   part / "case.json")  # fmt: skip
        try:
            os.rename(part, out)  # noqa: PTH104  the same folder may appear meanwhile
        except OSError:
            if not (out / "case.json").is_file():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    for old in home.glob(f"{settings}-*"):
        if old != out:
            shutil.rmtree(old, ignore_errors=True)
    return out


def build_case(series: Series, working: Working) -> Case:
    """Read a series and bring it to its working grid; raises as `prepare_series`."""
    LOG.info("preparing %s", series.name)
    native = read(series.mr, "mr")
    grid = working.grid(native.grid)
    mr = resample(native, grid)
    own = {}
    for part, path in series.parts.items():
        volume = read(path, "ct" if part == "ct" else "labels")
        if not series.own_grid and not volume.grid.matches(native.grid):
            raise GeometryError(
                f"{path} lies on {volume.grid}, {series.mr.name} on {native.grid}: "
                "resample it onto the MR, or name it space-iso"
            )
        own[part] = resample(volume, grid)
    first, second, third = (float(mm) for mm in grid.spacing)
    spacing = (first, second, third)
    # The largest value as measured, not that of a resampling: inference finds the same.
    arrays = _arrays(mr, own, working.intensity, float(native.data.max()), spacing)
    return Case(series.name, arrays, _centres(arrays), spacing, "vertebrae" in own)


def _content(series: Series, folder: Path) -> str:
    """Sixteen digits for the names and the content of all files of a series."""
    facts = [f"{p.relative_to(folder).as_posix()} {file_sha256(p)}" for p in series.files]
    return hashlib.sha256("\n".join([str(series.own_grid), *facts]).encode()).hexdigest()[:16]


def _arrays(
    mr: Volume, own: Mapping[str, Volume], scale: Intensity, most: float, spacing: Spacing
) -> Arrays:
    image = torch.from_numpy(np.ascontiguousarray(mr.data, np.float32))[None, None]
    inside = inside_field_of_view(image)
    if scale == "robust":
        channels = mr_channels(image, inside, spacing)[0]
    else:
        channels = torch.cat([unit_of_max(image, most), inside], 1)[0]
    ct = own["ct"].data
    nothing = np.zeros(ct.shape, np.uint8)
    vertebrae = own["vertebrae"].data.astype(np.uint8) if "vertebrae" in own else nothing
    subregions = own["subregions"].data.astype(np.uint8) if "subregions" in own else nothing
    valid = own["valid"].data.astype(np.uint8) if "valid" in own else nothing + np.uint8(1)
    return {
        "channels": channels.half().numpy(),
        "hu": np.round(ct).clip(-1024, 3071).astype(np.int16),
        "vertebrae": vertebrae,
        "subregions": subregions,
        "distance": _distance(vertebrae > 0 if "vertebrae" in own else ct > BONE_HU, spacing),
        "bone": np.argwhere(vertebrae > 0)[::7].astype(np.int16),
        "valid": valid,
    }


def _distance(bone: NDArray[np.bool_], spacing: Spacing) -> NDArray[np.int8]:
    """Distance to bone, as `bone_distance`; without its smoothing where voxels are no cubes."""
    if np.allclose(spacing, 1.0) or not bone.any():
        return bone_distance(bone)
    far = ndimage.distance_transform_edt(~bone, spacing)
    far -= ndimage.distance_transform_edt(bone, spacing)
    return np.asarray(np.round(far / DISTANCE_STEP_MM).clip(-127, 127).astype(np.int8))


def _centres(arrays: Arrays) -> dict[int, NDArray[np.float64]]:
    """Vertebra id -> centre of its body in voxels; only where the subregions show the body."""
    body = np.isin(arrays["subregions"], (49, 50))
    ids = np.unique(arrays["vertebrae"][body])
    return {int(v): np.argwhere(body & (arrays["vertebrae"] == v)).mean(0) for v in ids if v}
