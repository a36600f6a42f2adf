"""From mask heads, a CT or a foreign program to named vertebrae with their subregions."""

from spinect.segmentation.command import segment_command
from spinect.segmentation.direct import agreement, segment_heads, with_confidence
from spinect.segmentation.embedded import segment_ct
from spinect.segmentation.result import Instances, Level, LevelSource, Segmentation
from spinect.segmentation.schemes import SCHEMES

__all__ = [
    "SCHEMES",
    "Instances",
    "Level",
    "LevelSource",
    "Segmentation",
    "agreement",
    "segment_command",
    "segment_ct",
    "segment_heads",
    "with_confidence",
]
