"""Writes the files of one registered pair onto a workbench."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spinect.anatomy import SUBREGIONS, VERTEBRAE
from spinect.geometry import Volume
from spinect.geometry.landmarks import WHOLE, Landmarks
from spinect.geometry.transform import apply, invert
from spinect.io import (
    Transforms,
    write_dseg_table,
    write_itk_field,
    write_itk_rigid,
    write_poi,
    write_table,
    write_transforms,
    write_volume,
)
from spinect.registration import Field, Registration
from spinect.workflows.register import names as n
from spinect.workflows.register.loading import Inputs
from spinect.workflows.register.volumes import Registered, on_grid

FIELD_MM = 2.0  # of the displacement file; inside bone the motion is linear and loses nothing


def write_volumes(made: Registered, stem: Path, like: Path) -> None:
    """CT, validity and masks; `stem` is their path without the last part of the name.

    Args:
        like: The MR, whose coordinate code is kept.
    """
    source = like if like.name.lower().endswith((".nii", ".nii.gz")) else None
    volumes: Mapping[str, Volume | None] = {
        n.CT: made.ct,
        n.VALID: made.valid,
        n.VERTEBRAE: made.vertebrae,
        n.SUBREGIONS: made.subregions,
    }
    for end, volume in volumes.items():
        if volume is None:
            continue
        path = stem.with_name(stem.name + end)
        write_volume(volume, path, like=source)
        if "dseg" in end:
            table = path.with_name(path.name.removesuffix(".nii.gz") + ".tsv")
            write_dseg_table(table, np.unique(volume.data).tolist())


def write_maps(
    registration: Registration, field: Field | None, bench: Path, names: n.Names
) -> None:
    """The transforms: ours, the global one for ITK, and the field where vertebrae move apart.

    Args:
        field: At 1 mm; written at `FIELD_MM`.
    """
    base = bench / names.transforms
    maps = Transforms(names.space, "ct", registration.ct_from_mr, registration.vertebrae)
    write_transforms(maps, base.with_name(base.name + "_transforms.json"))
    write_itk_rigid(registration.ct_from_mr, base.with_name(base.name + "_xfm.tfm"))
    if field is not None:
        coarse = on_grid(field, field.grid.with_spacing(FIELD_MM))
        write_itk_field(coarse.displacement, coarse.grid, base.with_name(base.name + "_xfm.h5"))


def in_mr(registration: Registration, ct: Landmarks) -> Landmarks:
    """The CT's landmarks in the MR's world, each by the motion of its own vertebra."""
    return Landmarks({k: apply(invert(registration.of(k[0])), p) for k, p in ct.points.items()})


def write_points(registration: Registration, inputs: Inputs, stem: Path) -> None:
    """Landmarks of both scans in the MR's world, and what remains between them."""
    mr, ct = inputs.mr_points, inputs.ct_points
    if mr is None or ct is None:
        return
    moved = in_mr(registration, ct)
    keys = list(registration.residual_mm)
    for end, points in ((n.MR_POINTS, mr), (n.CT_POINTS, moved)):
        used = Landmarks({k: points[k] for k in keys if k not in registration.rejected})
        write_poi(used, stem.with_name(stem.name + end))
    rows = [_row(registration, key, (mr, moved)) for key in keys]
    write_table(rows, stem.with_name(stem.name + n.RESIDUALS), COLUMNS)


COLUMNS = ("vertebra", "subregion", "name", "residual_mm", "used", "mr_x_mm", "mr_y_mm", "mr_z_mm",
           "ct_x_mm", "ct_y_mm", "ct_z_mm")  # fmt: skip


def _row(
    registration: Registration, key: tuple[int, int], points: tuple[Landmarks, Landmarks]
) -> dict[str, Any]:
    """One landmark; both positions in the MR's world."""
    row: dict[str, Any] = {
        "vertebra": VERTEBRAE.get(key[0], str(key[0])),
        "subregion": key[1],
        "name": "whole" if key[1] == WHOLE else SUBREGIONS.get(key[1]),
        "residual_mm": round(registration.residual_mm[key], 3),
        "used": key not in registration.rejected,
    }
    for scan, marks in zip(("mr", "ct"), points, strict=True):
        row |= {
            f"{scan}_{a}_mm": round(float(v), 3) for a, v in zip("xyz", marks[key], strict=True)
        }
    return row
