"""The values of one column: which patients stand behind a method's cell, and what is missing."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from spinect.errors import InputError
from spinect.evaluation.measures import MEASURES
from spinect.evaluation.tables.tidy import Tidy

_DIGITS: Final = {"HU": 1, "HU^2": 0, "dB": 2, "mm": 2, "mm^3": 0, "": 3}
_ARROWS: Final = {"higher": " ↑", "lower": " ↓", "zero": " →0", "neither": ""}


@dataclass(frozen=True)
class Column:
    """What one column shows.

    Attributes:
        metric, region, protocol, space: Which rows.
        items: False takes the values of whole cases (item ""), True those of their vertebrae or
            slices.
        pooled: False: mean over patients, each the mean of its values. True: mean over all values,
            as Graf et al. 2023 do; the interval still resamples patients.
        title: Heading; "" makes it of metric and region.
        digits: After the point; None goes by the unit.
    """

    metric: str
    region: str
    protocol: str = "strict"
    space: str = "iso"
    items: bool = False
    pooled: bool = False
    title: str = ""
    digits: int | None = None

    def __post_init__(self) -> None:
        if self.metric not in MEASURES:
            raise InputError(f"{self.metric!r} is not a metric: {', '.join(MEASURES)}")

    @property
    def name(self) -> str:
        """Title without unit and arrow."""
        return self.title or f"{self.metric} {self.region}"

    @property
    def heading(self) -> str:
        """Title, unit and which way is good: ↑, ↓ or →0."""
        measure = MEASURES[self.metric]
        unit = f" [{measure.unit}]" if measure.unit else ""
        return f"{self.name}{unit}{_ARROWS[measure.better]}"

    def shown(self, value: float) -> str:
        """The value as it is printed; a negative zero loses its sign."""
        if np.isnan(value):
            return "n/a"
        if np.isinf(value):
            return "∞" if value > 0 else "-∞"
        unit = MEASURES[self.metric].unit
        digits = _DIGITS[unit] if self.digits is None else self.digits
        return f"{round(value, digits) + 0.0:.{digits}f}"

    def takes(self, row: Tidy) -> bool:
        """Whether a row belongs into this column."""
        return (
            (row.metric, row.region) == (self.metric, self.region)
            and (row.protocol, row.space) == (self.protocol, self.space)
            and bool(row.item) == self.items
        )


@dataclass
class Gathered:
    """All values of one method in one column.

    Attributes:
        values: Patient -> its defined values.
        undefined: Why values are NaN -> how often; these are in no mean.
        remarks: Notes of values that are in the mean, such as what was missing -> how often.
    """

    values: dict[str, list[float]] = field(default_factory=dict)
    undefined: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)

    @property
    def pool(self) -> list[float]:
        """All values, in the order of the patients' names."""
        return [value for name in sorted(self.values) for value in self.values[name]]


def gather(rows: Sequence[Tidy], column: Column, methods: Sequence[str]) -> dict[str, Gathered]:
    """Method -> its values; a method without any has an empty entry.

    Raises:
        InputError: The same value twice, one case under two patients, or no row for this column.
    """
    found = {name: Gathered() for name in methods}
    seen: set[tuple[str, str, str]] = set()
    owner: dict[str, str] = {}
    taken = [row for row in rows if row.method in found and column.takes(row)]
    if not taken and rows:
        raise InputError(
            f"no row is {column.metric} of {column.region}, protocol {column.protocol}, space "
            f"{column.space}, {'parts' if column.items else 'whole cases'}: check the column"
        )
    for row in taken:
        key = (row.method, row.case, row.item)
        if key in seen:
            raise InputError(
                f"{row.method} has {column.name} of {row.case} {row.item} twice: "
                "the tidy rows were joined with themselves"
            )
        seen.add(key)
        if owner.setdefault(row.case, row.patient) != row.patient:
            raise InputError(
                f"case {row.case} belongs to patient {owner[row.case]} and to {row.patient}"
            )
        own = found[row.method]
        if np.isnan(row.value):
            own.undefined[row.note] += 1
        else:
            own.values.setdefault(row.patient, []).append(row.value)
            own.remarks.update([row.note] if row.note else [])
    return found
