"""One row per measured value, and how such rows are kept."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, Final

from spinect.errors import ConfigError, InputError
from spinect.evaluation.measures import MEASURES, Value


@dataclass(frozen=True)
class Tidy:
    """A value with all that says where it is from.

    Attributes:
        method: What made the result, such as "regression".
        protocol: "strict", "graf2023" or "synthrad".
        space: Grid it was measured on: "native" or "iso".
        patient: Unit of every interval and test.
        case: One scan of a patient, such as "sub-7_T2w".
        region, item, metric, value, note: As in `spinect.evaluation.measures.Value`.
    """

    method: str
    protocol: str
    space: str
    patient: str
    case: str
    region: str
    item: str
    metric: str
    value: float
    note: str = ""

    def __post_init__(self) -> None:
        if self.metric not in MEASURES:
            raise InputError(f"{self.metric!r} is not a metric: {', '.join(MEASURES)}")
        if math.isnan(self.value) and not self.note:
            raise InputError(f"{self.metric} of {self.case} is not a number: say why in `note`")


COLUMNS: Final = tuple(one.name for one in fields(Tidy))


def tidy(
    values: Iterable[Value], *, method: str, protocol: str, space: str, patient: str, case: str
) -> list[Tidy]:
    """The values of one case, named in full."""
    return [
        Tidy(method, protocol, space, patient, case, *astuple(value))  # region, item, ... note
        for value in values
    ]


def write_tidy(rows: Sequence[Tidy], path: Path) -> None:
    """Write rows as .csv (UTF-8, full precision, "nan" and "inf" in words) or .parquet.

    Raises:
        ConfigError: Another suffix, or Parquet without pyarrow.
    """
    name = _suffix(path)
    partial = path.with_name(f".{path.name}.partial")
    if name == ".csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(astuple(row) for row in rows)
        partial.write_text(text.getvalue(), encoding="utf-8", newline="")
    else:
        arrow, parquet = _arrow()
        types = [(one, arrow.float64() if one == "value" else arrow.string()) for one in COLUMNS]
        columns = {one: [getattr(row, one) for row in rows] for one in COLUMNS}
        table = arrow.table(columns, schema=arrow.schema(types))
        parquet.write_table(table, partial, compression="zstd")
    partial.replace(path)


def read_tidy(path: Path) -> list[Tidy]:
    """Read what `write_tidy` wrote.

    Raises:
        ConfigError: Another suffix, or Parquet without pyarrow.
        InputError: Other columns, or a value that is not a number.
    """
    if _suffix(path) == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            header, *lines = list(csv.reader(file)) or [[]]
        _check_columns(header, path)
        short = next((k for k, line in enumerate(lines, 2) if len(line) != len(COLUMNS)), 0)
        if short:
            raise InputError(f"{path}: line {short} has not {len(COLUMNS)} fields")
        records = [dict(zip(COLUMNS, line, strict=True)) for line in lines]
    else:
        _, parquet = _arrow()
        table = parquet.read_table(path)
        _check_columns(table.column_names, path)
        records = table.to_pylist()
    return [_row(record, path) for record in records]


def _row(record: dict[str, Any], path: Path) -> Tidy:
    try:
        value = float(record["value"])
    except ValueError:
        raise InputError(f"{path}: the value {record['value']!r} is not a number") from None
    return Tidy(**{**record, "value": value})


def _check_columns(found: Sequence[str], path: Path) -> None:
    if tuple(found) != COLUMNS:
        raise InputError(
            f"{path} has the columns {', '.join(found)}; tidy rows have {', '.join(COLUMNS)}"
        )


def _suffix(path: Path) -> str:
    if path.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"tidy rows are kept as .csv or .parquet, not as {path.name}")
    return path.suffix


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as missing:
        raise ConfigError(
            "Parquet needs pyarrow: pip install 'spinect[stats]', or write a .csv"
        ) from missing
    return pyarrow, parquet
