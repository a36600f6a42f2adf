"""Whether the spread of a Monte-Carlo run can be trusted, region by region."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from spinect.errors import ConfigError, GeometryError
from spinect.evaluation import uncertainty as unc
from spinect.evaluation.measures import Value
from spinect.evaluation.protocols.pair import EMPTY, check_mask, check_pair, tidy
from spinect.evaluation.surface import Mask
from spinect.geometry import Volume

EXACT: Final = "the mean has no error in the region"
FLAT: Final = "error or spread is the same in every voxel of the region"
COUNTS: Final = (2, 5, 10, 20)  # means of so many draws, as far as there are


@dataclass(frozen=True, eq=False)
class Sampled:
    """What a Monte-Carlo run left, on one grid.

    Attributes:
        mean: Mean of the samples, kind "ct".
        std: Standard deviation, divisor K - 1, HU.
        samples: K, at least 2.
        lower, upper: Ends of the interval, kind "ct"; None where none was asked for.
        nominal: Its nominal coverage.
        draws: (K, X, Y, Z), HU; None where they were not kept.
    """

    mean: Volume
    std: Volume
    samples: int
    lower: Volume | None = None
    upper: Volume | None = None
    nominal: float | None = None
    draws: unc.Array | None = None

    def __post_init__(self) -> None:
        if len({self.lower is None, self.upper is None, self.nominal is None}) > 1:
            raise ConfigError("lower, upper and nominal coverage of an interval belong together")
        if self.samples < 2:
            raise ConfigError(f"a spread needs at least 2 samples, not {self.samples}")
        for volume in (self.std, self.lower, self.upper):
            if volume is not None and not volume.grid.matches(self.mean.grid):
                raise GeometryError(
                    f"the mean has {self.mean.grid}, what belongs to it {volume.grid}"
                )
        shape = None if self.draws is None else self.draws.shape
        if shape not in (None, (self.samples, *self.mean.data.shape)):
            raise GeometryError(
                f"draws of shape {shape} are not {self.samples} times {self.mean.data.shape}"
            )


def monte_carlo(sampled: Sampled, truth: Volume, regions: Mapping[str, Mask]) -> list[Value]:
    """Calibration, order and gain in every region of one case.

    Args:
        truth: A CT on the grid of the samples.
        regions: Name -> boolean mask, as from `tissue_masks` or `regions_of`.
    Returns:
        Values with item ""; gain, its expectation and spread-skill of means of 2, 5, 10, 20 and K
        draws with item "K=2" and so on, where the draws are there. NaN with a note for an empty
        region, and where a ratio has no denominator.
    Raises:
        GeometryError: The volumes or masks lie on different grids.
        ImageError: A volume is not a finite CT, or a mask is not boolean.
    """
    check_pair(sampled.mean, truth)
    values = []
    for name, mask in regions.items():
        check_mask(name, mask, truth)
        values += _single(sampled, truth, name, mask) + _averaged(sampled, truth, name, mask)
    return values


def _single(sampled: Sampled, truth: Volume, region: str, mask: Mask) -> list[Value]:
    """What mean, spread and interval tell."""
    names = ["spread", "spread_skill", "ause", "error_spread_rho"]
    names += [] if sampled.nominal is None else ["coverage", "coverage_error"]
    if not mask.any():
        return [Value(region, "", name, math.nan, EMPTY) for name in names]
    images = sampled.mean.data, sampled.std.data, truth.data
    found = [
        (unc.spread(sampled.std.data, mask), ""),
        (unc.spread_skill(*images, sampled.samples, mask), EXACT),
        (unc.sparsification(*images, mask).ause, EXACT),
        (unc.error_spread_correlation(*images, mask), FLAT),
    ]
    if sampled.lower is not None and sampled.upper is not None and sampled.nominal is not None:
        share = unc.coverage(sampled.lower.data, sampled.upper.data, truth.data, mask)
        found += [(share, ""), (share - sampled.nominal, "")]
    return [tidy(region, name, *value) for name, value in zip(names, found, strict=True)]


def _averaged(sampled: Sampled, truth: Volume, region: str, mask: Mask) -> list[Value]:
    """What averaging ever more draws brings."""
    values: list[Value] = []
    if sampled.draws is None:
        return values
    for k in sorted({k for k in COUNTS if k < sampled.samples} | {sampled.samples}):
        item, gain, ratio, why = f"K={k}", math.nan, math.nan, EMPTY
        if mask.any():
            found, why = unc.averaging(sampled.draws, truth.data, k, mask), EXACT
            gain, ratio = found.gain, found.spread_skill
        values.append(tidy(region, "gain", gain, why, item))
        values.append(Value(region, item, "gain_expected", unc.expected_gain(k)))
        values.append(tidy(region, "spread_skill", ratio, why, item))
    return values
