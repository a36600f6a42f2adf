"""One tile through a method; whole volumes go through the volume driver instead."""

from typing import Literal

import torch
from torch import Tensor

from spinect.errors import BundleError, ConfigError
from spinect.protocols import Method, Randn


@torch.no_grad()
def translate(
    method: Method,
    condition: Tensor,
    randn: Randn = torch.randn_like,
    mode: Literal["regress", "sample"] = "regress",
    steps: int | None = None,
) -> Tensor:
    """What a method makes of one tile.

    Args:
        method: The method, in evaluation mode.
        condition: (B, in_channels, *S), sizes multiples of `method.divisor`.
        randn: Source of noise; only "sample" draws from it.
        mode: "regress" is one call, "sample" one draw.
        steps: Steps of the sampler; None for the method's own number.
    Returns:
        regress: (B, sum of HEADS, *S), as `method.predict`; sample: (B, 1, *S).
    Raises:
        BundleError: The method does not offer the mode.
    """
    if mode not in method.modes:
        raise BundleError(f'mode "{mode}" is not offered; there are: {", ".join(method.modes)}')
    if mode == "regress":
        return method.predict(condition)
    like = condition.new_empty(condition.shape[0], 1, *condition.shape[2:])
    return method.sample(lambda x, s: method.denoise(x, s, condition), like, steps, randn)


def monte_carlo(
    method: Method,
    condition: Tensor,
    randn: Randn = torch.randn_like,
    samples: int = 10,
    steps: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (ddof 1) of several draws, both (B, 1, *S) in units of the CT.

    Raises:
        ConfigError: Fewer than 2 samples.
        BundleError: The method does not sample.
    """
    if samples < 2:
        raise ConfigError(f"{samples} samples have no standard deviation; take 2 or more")
    draws = [translate(method, condition, randn, "sample", steps) for _ in range(samples)]
    spread, mean = torch.std_mean(torch.stack(draws), dim=0, correction=1)
    return mean, spread
