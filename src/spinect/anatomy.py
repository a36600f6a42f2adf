"""Vertebra and subregion ids, names and order, and the classes that the networks predict.

The numbering is the one of the VerSe / SPINEPS family: 1-7 C1-C7, 8-19 T1-T12, 28 T13,
20-25 L1-L6, 26 S1, 29-32 S2-S5, 27 coccyx; subregions 41-50, cord 60, canal 61, disc 100.
"""

import colorsys
from typing import Final

import numpy as np
from numpy.typing import NDArray

_CERVICAL = {i: f"C{i}" for i in range(1, 8)}
_THORACIC = {7 + i: f"T{i}" for i in range(1, 13)} | {28: "T13"}
_LUMBAR = {19 + i: f"L{i}" for i in range(1, 7)}
_SACRAL = {26: "S1", 29: "S2", 30: "S3", 31: "S4", 32: "S5", 27: "coccyx"}

VERTEBRAE: Final[dict[int, str]] = _CERVICAL | _THORACIC | _LUMBAR | _SACRAL
VERTEBRA_IDS: Final[dict[str, int]] = {name: number for number, name in VERTEBRAE.items()}

# Head to feet. T13 and L6 stand where they occur in transitional spines.
ORDER: Final[tuple[int, ...]] = (*range(1, 20), 28, *range(20, 27), 29, 30, 31, 32, 27)
SACRUM: Final[frozenset[int]] = frozenset(_SACRAL)
PRESACRAL: Final[tuple[int, ...]] = tuple(v for v in ORDER if v not in SACRUM)

SUBREGIONS: Final[dict[int, str]] = {
    41: "arcus",
    42: "spinous process",
    43: "transverse process left",
    44: "transverse process right",
    45: "superior articular process left",
    46: "superior articular process right",
    47: "inferior articular process left",
    48: "inferior articular process right",
    49: "vertebral body border",
    50: "vertebral body",
    60: "spinal cord",
    61: "spinal canal",
    100: "intervertebral disc",
}
POSTERIOR: Final[tuple[int, ...]] = tuple(range(41, 49))
BODY: Final[tuple[int, ...]] = (49, 50)

_GOLDEN: Final = 0.381966  # share of the colour wheel between neighbours: far apart, never equal


def _colour(place: int) -> tuple[int, int, int]:
    hue, lightness = (0.55 + place * _GOLDEN) % 1, (0.58, 0.66, 0.52)[place % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


# Red, green, blue (0-255) of every id: vertebrae head to feet, then subregions.
COLOURS: Final[dict[int, tuple[int, int, int]]] = {
    number: _colour(place) for place, number in enumerate((*ORDER, *SUBREGIONS))
}

# What the mask heads of the networks predict, in channel order. Left and right are one class
# so that a mirrored image has mirrored classes; the sides are told apart afterwards.
CLASSES: Final[tuple[str, ...]] = (
    "background",
    "sacrum",
    "body",
    "arcus",
    "spinous",
    "transverse",
    "superior articular",
    "inferior articular",
    "disc",
    "canal",
)
CLASS: Final[dict[str, int]] = {name: index for index, name in enumerate(CLASSES)}
VERTEBRA_CLASSES: Final[tuple[int, ...]] = (2, 3, 4, 5, 6, 7)
POSTERIOR_CLASSES: Final[tuple[int, ...]] = (3, 4, 5, 6, 7)

# Partial knowledge in a training target: losses sum the probabilities of what is allowed.
CLASS_UNKNOWN: Final = 255  # nothing is known here
CLASS_VERTEBRA: Final = 254  # one of VERTEBRA_CLASSES, subregion not labelled
CLASS_NOT_VERTEBRA: Final = 253  # anything but VERTEBRA_CLASSES


def classes_from_labels(
    vertebrae: NDArray[np.integer], subregions: NDArray[np.integer]
) -> NDArray[np.uint8]:
    """Network classes of a labelled volume.

    Args:
        vertebrae: Vertebra ids, any shape; 0 is background.
        subregions: Subregion ids of the same shape; 0 is background.
    Returns:
        Index into ``CLASSES`` per voxel. A vertebra voxel without a subregion becomes
        ``CLASS_VERTEBRA``; every sacral voxel is "sacrum".
    """
    table = np.zeros(256, np.uint8)
    table[41], table[42], table[43:45], table[45:47], table[47:49] = 3, 4, 5, 6, 7
    table[49:51], table[60:62], table[100] = 2, 9, 8
    classes = table[np.asarray(subregions, np.uint8)]
    sacral = np.isin(vertebrae, list(SACRUM))
    unnamed = (np.asarray(vertebrae) > 0) & ~sacral & ~np.isin(classes, VERTEBRA_CLASSES)
    classes[sacral] = CLASS["sacrum"]
    classes[unnamed] = CLASS_VERTEBRA
    return np.asarray(classes, np.uint8)
