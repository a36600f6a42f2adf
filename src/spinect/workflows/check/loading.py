"""One file opened for the check: what it holds, or why it cannot be opened, and what was said."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinect.errors import SpinectError, SpinectWarning
from spinect.geometry import Grid
from spinect.io.bids import Item
from spinect.io.read import read_array


@dataclass(frozen=True, eq=False)
class Opened:
    """An image file as it stands.

    Attributes:
        item: What its name says.
        file: Path relative to the dataset folder.
        data: Voxels, whatever they are; None where the file cannot be read.
        grid: Where they lie; None with `data`.
        said: Warnings of the reader.
        failure: Its error.
    """

    item: Item
    file: str
    data: NDArray[Any] | None = None
    grid: Grid | None = None
    said: tuple[str, ...] = ()
    failure: str = ""


def open_item(folder: Path, item: Item) -> Opened:
    """Read a file without judging its contents; nothing is raised for a bad one."""
    file = str(item.path.relative_to(folder))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            data, affine = read_array(item.path)
        except SpinectError as error:
            return Opened(item, file, failure=str(error))
    said = tuple(str(w.message) for w in caught if issubclass(w.category, SpinectWarning))
    shape = (int(data.shape[0]), int(data.shape[1]), int(data.shape[2]))
    return Opened(item, file, np.asarray(data), Grid(shape, affine), said)
