"""What is measured: one row per metric, and the tidy value that every protocol returns."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

Better = Literal["higher", "lower", "zero", "neither"]


@dataclass(frozen=True)
class Measure:
    """A metric.

    Attributes:
        name: As in the tables' column `metric`.
        unit: "" for plain numbers.
        better: Which way is good; "zero" for signed errors, "neither" for facts about the case.
        low, high: Bounds of its values.
        summary: One line.
    """

    name: str
    unit: str
    better: Better
    low: float
    high: float
    summary: str


_INF = math.inf
MEASURES: Final[dict[str, Measure]] = {
    m.name: m
    for m in (
        # Image quality
        Measure("mae", "HU", "lower", 0, _INF, "mean absolute error inside the region"),
        Measure("mse", "HU^2", "lower", 0, _INF, "mean squared error inside the region"),
        Measure("bias", "HU", "zero", -_INF, _INF, "mean of synthetic minus true CT"),
        Measure("psnr", "dB", "higher", -_INF, _INF, "peak signal-to-noise ratio, stated range"),
        Measure("ssim", "", "higher", -1, 1, "structural similarity, mean over the region"),
        Measure("ms_ssim", "", "higher", -1, 1, "multi-scale structural similarity"),
        Measure("vifp", "", "higher", 0, _INF, "visual information fidelity, pixel domain"),
        Measure("l1", "", "lower", 0, _INF, "mean absolute difference of images in [0, 1]"),
        Measure("mse_unit", "", "lower", 0, 1, "mean squared difference of images in [0, 1]"),
        Measure("histogram", "HU", "lower", 0, _INF, "Wasserstein-1 distance of the HU histograms"),
        Measure("spectrum", "dB", "lower", 0, _INF, "RMS difference of the radial power spectra"),
        Measure("bone_dice", "", "higher", 0, 1, "Dice of the voxels above 200 HU"),
        Measure("oracle_floor", "HU", "neither", 0, _INF, "MAE of the best function of the tissue"),
        # Uncertainty of repeated samples
        Measure("spread", "HU", "neither", 0, _INF, "root of the mean variance over the samples"),
        Measure("spread_skill", "", "neither", 0, _INF, "spread over error, 1 when calibrated"),
        Measure("coverage", "", "neither", 0, 1, "share of true values within the interval"),
        Measure("coverage_error", "", "zero", -1, 1, "coverage minus the nominal one"),
        Measure("ause", "", "lower", 0, _INF, "area between sparsification curve and oracle"),
        Measure("error_spread_rho", "", "higher", -1, 1, "Spearman's, absolute error and spread"),
        Measure("gain", "dB", "neither", -_INF, _INF, "PSNR of the mean over that of a sample"),
        Measure("gain_expected", "dB", "neither", 0, 3.0103, "the same of calibrated samples"),
        # Segmentation
        Measure("dice", "", "higher", 0, 1, "2 |A and B| / (|A| + |B|)"),
        Measure("hd95", "mm", "lower", 0, _INF, "95th percentile of the surface distances"),
        Measure("assd", "mm", "lower", 0, _INF, "average symmetric surface distance"),
        Measure("nsd_1mm", "", "higher", 0, 1, "share of both surfaces within 1 mm"),
        Measure("nsd_2mm", "", "higher", 0, 1, "share of both surfaces within 2 mm"),
        Measure("signed_distance", "mm", "zero", -_INF, _INF, "median signed surface distance"),
        Measure("identified", "", "higher", 0, 1, "share of vertebrae matched at Dice > 0.5"),
        Measure("missed", "", "lower", 0, _INF, "true vertebrae without a partner"),
        Measure("spurious", "", "lower", 0, _INF, "predicted vertebrae that match nothing"),
        Measure("wrong_level", "", "lower", 0, _INF, "matched vertebrae of another name"),
        Measure("splits", "", "lower", 0, _INF, "true vertebrae that two instances share"),
        Measure("merges", "", "lower", 0, _INF, "instances that cover two true vertebrae"),
        Measure("pq", "", "higher", 0, 1, "panoptic quality"),
        Measure("sq", "", "higher", 0, 1, "mean overlap of the recognised vertebrae"),
        Measure("rq", "", "higher", 0, 1, "recognition quality, the F1 of the instances"),
        Measure("volume_true", "mm^3", "neither", 0, _INF, "volume of the truth"),
        Measure("volume_error", "mm^3", "zero", -_INF, _INF, "predicted minus true volume"),
        Measure("spinous_length_error", "mm", "zero", -_INF, _INF, "predicted minus true length"),
        Measure("canal_width_error", "mm", "zero", -_INF, _INF, "predicted minus true width"),
        # Registration
        Measure("tre", "mm", "lower", 0, _INF, "target registration error, mean over points"),
        Measure("tre_p95", "mm", "lower", 0, _INF, "its 95th percentile over points"),
        Measure("tre_max", "mm", "lower", 0, _INF, "its largest value"),
        Measure("level_agreement", "", "higher", 0, 1, "share of vertebrae of the same name"),
    )
}


@dataclass(frozen=True)
class Value:
    """One tidy value of one case; the caller knows method, case and patient.

    Attributes:
        region: What was compared, such as "near_bone", "vertebra" or "posterior".
        item: Part of the case, such as "L3" or "slice 12"; "" for the whole case.
        metric: Key of `MEASURES`.
        value: NaN where it is not defined; never for what is merely missing, which has its own
            worst value by docs/evaluation.md.
        note: Why it is NaN, or what was missing; "" for an ordinary value.
    """

    region: str
    item: str
    metric: str
    value: float
    note: str = ""

    def __post_init__(self) -> None:
        if self.metric not in MEASURES:
            raise KeyError(f"{self.metric!r} is not a metric: {', '.join(MEASURES)}")
        if math.isnan(self.value) and not self.note:
            raise ValueError(f"{self.metric} of {self.region} is not a number: say why in `note`")


def at(values: Iterable[Value], region: str, metric: str, item: str = "") -> float:
    """The value of one region, metric and item.

    Raises:
        KeyError: There is none.
    """
    for value in values:
        if (value.region, value.metric, value.item) == (region, metric, item):
            return value.value
    raise KeyError(f"no {metric} of {region} {item}".rstrip())
