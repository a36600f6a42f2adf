"""Mean and spread of many samples without keeping them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinect.errors import ConfigError

Float32 = NDArray[np.float32]


class RunningMoments:
    """Mean and sample standard deviation of arrays that arrive one by one.

    Welford, Technometrics 4:419 (1962): deviations are taken from the running mean, so float32
    keeps its digits however far the values lie from zero.

    Args:
        mean, squares: Float32 arrays of one shape that are written to; they may lie on disk.
    """

    def __init__(self, mean: NDArray[Any], squares: NDArray[Any]) -> None:
        self.count = 0
        self._mean, self._squares = mean, squares
        mean[...] = 0
        squares[...] = 0

    def add(self, values: Float32) -> None:
        """Take one more array."""
        self.count += 1
        for mean, squares, value in zip(self._mean, self._squares, values, strict=True):
            delta = value - mean
            mean += delta / self.count
            squares += delta * (value - mean)

    def finish(self) -> tuple[Float32, Float32]:
        """Mean and standard deviation with divisor n - 1.

        Raises:
            ConfigError: Fewer than two arrays.
        """
        if self.count < 2:
            raise ConfigError(f"a spread needs at least 2 samples, not {self.count}")
        for squares in self._squares:
            np.divide(squares, self.count - 1, out=squares)
            np.sqrt(squares, out=squares)
        return self._mean, self._squares
