"""Files in and out: reading with every doubt spoken aloud, writing whole or not at all."""

from spinect.io.checks import check_ct, check_mr, detect_stack, field_of_view
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

__all__ = [
    "atomic",
    "check_ct",
    "check_mr",
    "detect_stack",
    "field_of_view",
    "read",
    "read_poi",
    "write_dseg_table",
    "write_json",
    "write_poi",
    "write_table",
    "write_text",
    "write_volume",
]
