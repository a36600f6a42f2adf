"""Mean and spread of many samples without keeping them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinect.errors import ConfigError

Float32 = NDArray[np.float32]


class RunningMoments:
    """Mean and sample standard deviation of arrays that arrive one by one.

    Welford, Technometrics 4:419 (1962): deviations are taken from the running mean, so digits
    are kept however far the values lie from zero.

    Args:
        mean, squares: Float64 arrays of one shape, all 0, that are written to; they may lie on
            disk.
    """

    def __init__(self, mean: NDArray[Any], squares: NDArray[Any]) -> None:
        self.count = 0
        self._mean, self._squares = mean, squares

    @property
    def constant(self) -> bool:
        """Whether no two arrays differed so far."""
        return not any(squares.any() for squares in self._squares)

    def add(self, values: Float32) -> None:
        """Take one more array."""
        self.count += 1
        for mean, squares, value in zip(self._mean, self._squares, values, strict=True):
            delta = value - mean
            mean += delta / self.count
            squares += delta * (value - mean)

    def finish(self, mean: NDArray[Any], std: NDArray[Any]) -> None:
        """Write mean and standard deviation with divisor n - 1 to arrays of any float type.

        Raises:
            ConfigError: Fewer than two arrays.
        """
        if self.count < 2:
            raise ConfigError(f"a spread needs at least 2 samples, not {self.count}")
        mean[...] = self._mean
        for out, squares in zip(std, self._squares, strict=True):
            out[...] = np.sqrt(squares / (self.count - 1))
