"""Transforms between two scans as files: our JSON, and ITK's .tfm and .h5 that 3D Slicer opens.

In the files as in the package a transform takes points of the fixed image's world into the moving
image's: that is what resampling the moving image onto the fixed one needs. ITK stores it the same
way, in an LPS+ world. 3D Slicer loads such a file as "transform from parent", so the moving image
put under it comes to lie on the fixed one: no need to invert anything.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from spinect.anatomy import VERTEBRA_IDS, VERTEBRAE
from spinect.errors import GeometryError, InputError, OutputError
from spinect.geometry import Grid
from spinect.geometry.transform import invert
from spinect.io.records import atomic, write_json

Float = NDArray[np.float64]

_FLIP: Final = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS+ <-> LPS+, its own inverse
_RIGID_SUFFIXES: Final = (".tfm", ".txt", ".h5")
_LAST_ROW: Final = (0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Transforms:
    """Rigid maps between two scans of one subject, (4, 4), mm, RAS+, target_from_source.

    Attributes:
        source, target: Names of the two images, such as "T2w" and "ct".
        whole: The global one.
        vertebrae: By vertebra id; empty where the whole moved as one.
    """

    source: str
    target: str
    whole: Float
    vertebrae: Mapping[int, Float]


def write_transforms(
    transforms: Transforms, path: str | Path, info: Mapping[str, Any] | None = None
) -> Path:
    """Write our JSON: from, to, unit, world, global, vertebrae by name.

    Args:
        info: More fields at the end.
    Raises:
        OutputError: Not writable.
    """
    content = {
        "from": transforms.source,
        "to": transforms.target,
        "unit": "mm",
        "world": "RAS+",
        "global": transforms.whole,
        "vertebrae": {VERTEBRAE[v]: matrix for v, matrix in transforms.vertebrae.items()},
    }
    return write_json(content | dict(info or {}), path)


def read_transforms(path: str | Path) -> Transforms:
    """Read our JSON.

    Raises:
        InputError: No such file, not JSON, or another content.
        GeometryError: A matrix that is not a rigid map.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file: check the path") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not JSON ({error}): give a *_transforms.json") from error
    fields = ("from", "to", "unit", "world", "global", "vertebrae")
    if not isinstance(content, dict) or (missing := [f for f in fields if f not in content]):
        lacks = ", ".join(missing) if isinstance(content, dict) else "every field"
        raise InputError(f"{path}: not a file of transforms, it lacks {lacks}")
    if (content["unit"], content["world"]) != ("mm", "RAS+"):
        raise InputError(
            f"{path}: transforms in {content['unit']} of {content['world']}, not in mm of RAS+"
        )
    named = content["vertebrae"]
    if unknown := [name for name in named if name not in VERTEBRA_IDS]:
        raise InputError(f"{path}: {', '.join(unknown)} are no vertebrae: names are such as L1")
    return Transforms(
        source=str(content["from"]),
        target=str(content["to"]),
        whole=_rigid(content["global"], "global", path),
        vertebrae={VERTEBRA_IDS[n]: _rigid(matrix, n, path) for n, matrix in named.items()},
    )


def _rigid(matrix: Any, name: str, path: Path) -> Float:
    try:
        held = np.array(matrix, np.float64)
    except (TypeError, ValueError):
        held = np.zeros(0)
    if held.shape != (4, 4) or not np.isfinite(held).all() or tuple(held[3]) != _LAST_ROW:
        raise GeometryError(f"{path}: {name} is not a 4x4 matrix of finite numbers ending 0 0 0 1")
    try:
        invert(held)
    except GeometryError as error:
        raise GeometryError(f"{path}: {name}: {error}") from error
    return held


def write_itk_rigid(moving_from_fixed: Float, path: str | Path) -> Path:
    """Write a rigid map for ITK and 3D Slicer: .tfm (text) or .h5.

    Args:
        moving_from_fixed: (4, 4), mm, RAS+; ct_from_mr where the CT goes onto the MR.
    Raises:
        GeometryError: Not rigid.
        OutputError: Another suffix, or not writable.
    """
    path = Path(path)
    if not path.name.lower().endswith(_RIGID_SUFFIXES):
        raise OutputError(f"{path}: ITK writes transforms as {', '.join(_RIGID_SUFFIXES)}")
    invert(moving_from_fixed)  # refuses what is not rigid
    lps = _FLIP @ moving_from_fixed @ _FLIP
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(lps[:3, :3].ravel().tolist())
    transform.SetTranslation(lps[:3, 3].tolist())
    with atomic(path) as part:
        sitk.WriteTransform(transform, str(part))
    return path


def read_itk_rigid(path: str | Path) -> Float:
    """The rigid map in an ITK transform file, (4, 4), mm, RAS+: moving_from_fixed.

    Raises:
        InputError: No such file, or no transform.
        GeometryError: Not a rigid map.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file: check the path")
    try:
        transform = sitk.ReadTransform(str(path))
    except RuntimeError as error:
        raise InputError(f"{path}: not an ITK transform: give a .tfm, .txt or .h5") from error
    if transform.GetDimension() != 3 or not transform.IsLinear():
        raise GeometryError(f"{path}: {transform.GetName()} is not a rigid map in 3D")
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    lps = np.eye(4)
    lps[:3, 3] = origin
    for axis in range(3):
        step = [0.0, 0.0, 0.0]
        step[axis] = 1.0
        lps[:3, axis] = np.array(transform.TransformPoint(step)) - origin
    return _rigid(_FLIP @ lps @ _FLIP, "the transform", path)


def write_itk_field(displacement: NDArray[np.floating], grid: Grid, path: str | Path) -> Path:
    """Write a displacement field for ITK and 3D Slicer as .h5.

    Args:
        displacement: (X, Y, Z, 3) mm, RAS+: what is to be added to a point of the fixed image's
            world to come to the moving image's.
        grid: Where the displacements are known; outside there is none.
    Raises:
        GeometryError: Another shape, numbers that are not finite, or a sheared grid.
        OutputError: Another suffix, or not writable.
    """
    path = Path(path)
    if not path.name.lower().endswith(".h5"):
        raise OutputError(f"{path}: displacement fields are written as .h5")
    if displacement.shape != (*grid.shape, 3) or not np.isfinite(displacement).all():
        raise GeometryError(
            f"{path}: a field of shape {displacement.shape} with "
            f"{int((~np.isfinite(displacement)).sum())} numbers that are not finite does not fit "
            f"the grid {grid}"
        )
    off = float(np.abs(grid.direction.T @ grid.direction - np.eye(3)).max())
    if off > 1e-6:
        raise GeometryError(f"{path}: the grid's axes are off a right angle by {off:.2g}: {grid}")
    lps = np.asarray(displacement, np.float64) * (-1.0, -1.0, 1.0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(lps.transpose(2, 1, 0, 3)), isVector=True)
    image.SetSpacing(grid.spacing.tolist())
    image.SetOrigin((_FLIP @ grid.affine)[:3, 3].tolist())
    image.SetDirection((_FLIP[:3, :3] @ grid.direction).ravel().tolist())
    with atomic(path, lps.nbytes) as part:
        sitk.WriteTransform(sitk.DisplacementFieldTransform(image), str(part))
    return path
