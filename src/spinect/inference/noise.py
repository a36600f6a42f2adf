"""One seeded noise field for a volume, any box of which can be computed alone.

A value depends on (seed, draw, step, position) and on nothing else: not on tiles, batches, memory
or on what was drawn before. So overlapping tiles see the same noise, and runs repeat.
"""

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spinect.errors import ConfigError

BLOCK: Final = 32  # voxels per side of the blocks that have a random stream of their own
_MASK: Final = (1 << 64) - 1


@dataclass(frozen=True)
class NoiseField:
    """Unit normal noise on the integer lattice.

    Attributes:
        seed: 0 <= seed < 2**64.
    """

    seed: int

    def __post_init__(self) -> None:
        if not 0 <= self.seed <= _MASK:
            raise ConfigError(f"a seed lies in [0, 2**64), not {self.seed}")

    def box(
        self,
        start: tuple[int, int, int],
        shape: tuple[int, int, int],
        *,
        draw: int = 0,
        step: int = 0,
    ) -> NDArray[np.float32]:
        """Noise of a box.

        Args:
            start: Voxel index of the first corner; negative ones are allowed.
            shape: Voxels per axis.
            draw: Which of the volume's independent samples, 0 <= draw < 2**32.
            step: Which field of that sample, 0 <= step < 2**32.
        Returns:
            `shape` float32, mean 0 and variance 1.
        """
        out = np.empty(shape, np.float32)
        stop = [s + n for s, n in zip(start, shape, strict=True)]
        blocks = [range(s // BLOCK, (e - 1) // BLOCK + 1) for s, e in zip(start, stop, strict=True)]
        for block in itertools.product(*blocks):
            corner = [b * BLOCK for b in block]
            low = [max(c, s) for c, s in zip(corner, start, strict=True)]
            high = [min(c + BLOCK, e) for c, e in zip(corner, stop, strict=True)]
            target = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
            source = tuple(slice(a - c, b - c) for a, b, c in zip(low, high, corner, strict=True))
            out[target] = self._block(block, draw, step)[source]
        return out

    def _block(self, block: tuple[int, ...], draw: int, step: int) -> NDArray[np.float32]:
        """A whole block: Philox counts from the block's place, Box and Muller make it normal.

        Raw Philox output is the same in every numpy version, which `standard_normal` is not.
        """
        counter = np.array([0, *(b & _MASK for b in block)], np.uint64)
        key = np.array([self.seed, (draw << 32) | step], np.uint64)
        raw = np.random.Philox(counter=counter, key=key).random_raw(BLOCK**3 // 2)
        # 32 bits each: log needs (0, 1], the angle [0, 1)
        radius = np.sqrt(-2 * np.log(((raw >> 32) + 1) * 2.0**-32))
        angle = (raw & 0xFFFFFFFF) * (2 * np.pi * 2.0**-32)
        normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
        return normal.astype(np.float32).reshape(BLOCK, BLOCK, BLOCK)
