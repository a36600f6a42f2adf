"""What the segmenters hand over: instances, then named vertebrae with their subregions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spinect.geometry import Volume

LevelSource = Literal["sacrum", "C2", "rib", "user", "guess"]


@dataclass(frozen=True, eq=False)
class Instances:
    """Vertebrae told apart, not yet named.

    Attributes:
        labels: (X, Y, Z) uint8, 1..n from head to feet, 0 elsewhere; the sacrum is not in it.
        centres: (n, 3) body centres, voxel index, in the order of the labels.
        sacrum: (X, Y, Z) bool.
        warnings: What the reader must know, one line each.
    """

    labels: NDArray[np.uint8]
    centres: NDArray[np.float64]
    sacrum: NDArray[np.bool_]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Level:
    """The name of one instance.

    Attributes:
        vertebra: Vertebra id of `anatomy.VERTEBRAE`.
        p: Probability of this name given the chain, 0-1.
        source: What anchors the chain.
    """

    vertebra: int
    p: float
    source: LevelSource


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Vertebra and subregion masks on the grid that they were made on.

    Attributes:
        vertebrae: Label map of vertebra ids. subregions: Label map of subregion ids.
        rows: vertebrae.tsv, head to feet.
        warnings: What the reader must know, one line each.
    """

    vertebrae: Volume
    subregions: Volume
    rows: tuple[Mapping[str, object], ...] = ()
    warnings: tuple[str, ...] = ()
