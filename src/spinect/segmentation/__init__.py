"""From mask heads, a CT or a foreign program to named vertebrae with their subregions."""

from spinect.segmentation.command import segment_command
from spinect.segmentation.direct import agreement, name_vertebrae, segment_heads, with_confidence
from spinect.segmentation.embedded import segment_ct
from spinect.segmentation.region import find_spine
from spinect.segmentation.result import Instances, Level, LevelSource, Segmentation
from spinect.segmentation.schemes import SCHEMES
from spinect.segmentation.spread import with_spread
from spinect.segmentation.votes import Votes, vote, with_votes

__all__ = [
    "SCHEMES",
    "Instances",
    "Level",
    "LevelSource",
    "Segmentation",
    "Votes",
    "agreement",
    "find_spine",
    "name_vertebrae",
    "segment_command",
    "segment_ct",
    "segment_heads",
    "vote",
    "with_confidence",
    "with_spread",
    "with_votes",
]
