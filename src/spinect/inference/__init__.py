"""From a volume to what a network says about it, tile by tile, on any machine."""

from spinect.inference.draws import Interval, Medoid
from spinect.inference.heads import OFFSET_STEP_MM, MaskHeads
from spinect.inference.noise import NoiseField
from spinect.inference.probe import Probe, Sight, Turn, probe
from spinect.inference.translate import (
    MODES,
    Translation,
    predict_masks,
    to_native,
    translate,
)

__all__ = [
    "MODES",
    "OFFSET_STEP_MM",
    "Interval",
    "MaskHeads",
    "Medoid",
    "NoiseField",
    "Probe",
    "Sight",
    "Translation",
    "Turn",
    "predict_masks",
    "probe",
    "to_native",
    "translate",
]
