"""Files in and out: reading with every doubt spoken aloud, writing whole or not at all."""

from spinect.io.checks import check_ct, check_mr, detect_stack, field_of_view
from spinect.io.landmarks import read_landmarks
from spinect.io.poi import read_poi, write_poi
from spinect.io.read import read
from spinect.io.records import (
    atomic,
    write_dseg_table,
    write_json,
    write_table,
    write_text,
    write_volume,
)
from spinect.io.slicer import write_slicer
from spinect.io.transforms import (
    Transforms,
    read_itk_rigid,
    read_transforms,
    write_itk_field,
    write_itk_rigid,
    write_transforms,
)

__all__ = [
    "Transforms",
    "atomic",
    "check_ct",
    "check_mr",
    "detect_stack",
    "field_of_view",
    "read",
    "read_itk_rigid",
    "read_landmarks",
    "read_poi",
    "read_transforms",
    "write_dseg_table",
    "write_itk_field",
    "write_itk_rigid",
    "write_json",
    "write_poi",
    "write_slicer",
    "write_table",
    "write_text",
    "write_transforms",
    "write_volume",
]
