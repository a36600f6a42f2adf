"""Label maps as transparent colour over grey pictures."""

import numpy as np
from numpy.typing import NDArray

from spinect.anatomy import COLOURS


def paint(labels: NDArray[np.integer], opacity: float) -> NDArray[np.float32]:
    """RGBA picture of a 2D label map: (rows, columns) ids -> (rows, columns, 4) in 0-1.

    Outlines are opaque and the inside has `opacity`, so that the anatomy stays visible.
    """
    last = max(COLOURS)
    table = np.zeros((last + 1, 4), np.float32)
    for number, colour in COLOURS.items():
        table[number] = [*(c / 255 for c in colour), opacity]
    picture: NDArray[np.float32] = table[np.clip(labels, 0, last)]
    padded = np.pad(labels, 1, mode="edge")
    inner = padded[1:-1, 1:-1]
    edge = np.zeros(labels.shape, bool)
    for rows, columns in ((0, 1), (2, 1), (1, 0), (1, 2)):
        shifted = padded[rows : rows + labels.shape[0], columns : columns + labels.shape[1]]
        edge |= shifted != inner
    picture[edge & (labels > 0), 3] = 1.0
    return picture
