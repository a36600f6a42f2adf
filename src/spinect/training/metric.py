"""The figures of a validation, and which of two is better."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from spinect.errors import ConfigError
from spinect.evaluation.measures import MEASURES, Measure, Value, at
from spinect.evaluation.protocols.strict_image import WHOLE
from spinect.evaluation.regions import REGIONS

IMAGE: Final = ("mae", "mse", "bias", "psnr", "histogram", "spectrum", "ssim", "ms_ssim", "vifp")
DICE: Final = "dice_volume"  # of all vertebrae together, whatever their names


@dataclass(frozen=True)
class Metric:
    """A metric of one region, such as "mae_near_bone".

    Attributes:
        measure: Its row in `MEASURES`.
        region: Of `regions_of`, or "volume".
    """

    measure: Measure
    region: str

    @classmethod
    def parse(cls, name: str) -> "Metric":
        """A metric by its name.

        Raises:
            ConfigError: No such metric or region.
        """
        if name == DICE:
            return cls(MEASURES["dice"], "volume")
        for region in REGIONS:
            kind = name.removesuffix(f"_{region}")
            if kind in IMAGE and kind != name and (kind != "ms_ssim" or region in WHOLE):
                return cls(MEASURES[kind], region)
        raise ConfigError(
            f"metric {name!r} is not one of {', '.join(IMAGE)}, with one of _{', _'.join(REGIONS)} "
            f"(ms_ssim: _{', _'.join(WHOLE)}), and not {DICE}"
        )

    @property
    def name(self) -> str:
        """As a user writes it."""
        return f"{self.measure.name}_{self.region}"

    def in_unit(self, unit: str) -> "Metric":
        """The same metric of images whose unit is not HU."""
        own = self.measure.unit.replace("HU", unit)
        return replace(self, measure=replace(self.measure, unit=own))

    def of(self, values: Iterable[Value]) -> float:
        """Its value among those of one case."""
        return at(values, self.region, self.measure.name)

    def better(self, value: float, than: float | None) -> bool:
        """Whether `value` beats `than`; anything beats None, and NaN beats nothing."""
        if math.isnan(value) or than is None:
            return not math.isnan(value)
        if self.measure.better == "higher":
            return value > than
        if self.measure.better == "zero":
            return abs(value) < abs(than)
        return value < than
