"""The probability flow of a diffusion process, solved by Runge-Kutta methods.

The adaptive solver keeps a time, a step and an error of its own for each sample of the batch, so
a draw does not depend on its batch; the slope of samples that have arrived is asked for still.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import torch
from torch import Tensor

from spinect.diffusion.process import Process, wide
from spinect.errors import ConfigError
from spinect.protocols import Denoise, Randn

Slope = Callable[[Tensor, Tensor], Tensor]  # (x (B, ...), t () or (B,)) -> dx/dt
SolverName = Literal["rk45", "rk4", "heun", "euler"]
_SAFETY, _LEAST, _MOST = 0.9, 0.2, 10.0  # of the change of a step
_ORDER = 5


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method: rows of stages, weights of the step."""

    rows: tuple[tuple[float, ...], ...]  # of the stages after the first
    weights: tuple[float, ...]

    def stages(self, slope: Slope, x: Tensor, t: Tensor, h: Tensor, first: Tensor) -> list[Tensor]:
        """Slopes of all stages; `first` is slope(x, t), h () or (B,) may be negative."""
        found = [first]
        for row in self.rows:
            found.append(slope(x + wide(h, x) * _mix(row, found), t + sum(row) * h))
        return found


EULER: Final = Tableau((), (1.0,))
HEUN: Final = Tableau(((1.0,),), (1 / 2, 1 / 2))
RK4: Final = Tableau(((1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6))
# Dormand and Prince, J. Comput. Appl. Math. 6:19 (1980); its last stage is the step
# itself, and the first stage of the next one.
_FIFTH: Final = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
DORMAND_PRINCE: Final = Tableau(
    (
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        _FIFTH,
    ),
    (*_FIFTH, 0.0),
)
_FOURTH: Final = (5179 / 57600, 0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)
_ERROR: Final = tuple(a - b for a, b in zip(DORMAND_PRINCE.weights, _FOURTH, strict=True))
FIXED: Final[dict[SolverName, Tableau]] = {"euler": EULER, "heun": HEUN, "rk4": RK4}


@dataclass(frozen=True)
class Tolerance:
    """How exact the adaptive solver is.

    Attributes:
        relative, absolute: Of each voxel; the root mean square over a sample counts.
        max_calls: Of the slope, all together.
    """

    relative: float = 1e-5
    absolute: float = 1e-5
    max_calls: int = 2000


@torch.no_grad()
def sample_ode(
    denoise: Denoise,
    x: Tensor,
    process: Process,
    times: Tensor,
    *,
    solver: SolverName = "rk45",
    tolerance: Tolerance = Tolerance(),
    tweedie: bool = False,
    randn: Randn = torch.randn_like,  # noqa: ARG001
) -> Tensor:
    """x at times[-1] from x at times[0] along the probability flow; rising times lead back.

    The state is float64, the denoiser is called in the type of x. "rk45" takes of `times` the ends
    alone and calls the denoiser with sigma (B,), the others step from time to time with sigma ().

    Args:
        tweedie: Whether to call the denoiser once more at the end, for the clean image.
    Raises:
        ConfigError: The solver needs more calls than it may make.

    Source: Song et al., arXiv 2011.13456.
    """

    def typed(state: Tensor, sigma: Tensor) -> Tensor:
        return denoise(state.to(x.dtype), sigma)

    def slope(state: Tensor, t: Tensor) -> Tensor:
        return process.slope(typed, state, t)

    if solver == "rk45":
        state = solve(slope, x.double(), (float(times[0]), float(times[-1])), tolerance)
    else:
        state = steps(slope, x.double(), times, FIXED[solver])
    return (process.clean(typed, state, times[-1]) if tweedie else state).to(x.dtype)


def steps(slope: Slope, x: Tensor, times: Tensor, tableau: Tableau) -> Tensor:
    """Fixed steps from each of the (N + 1,) times to the next."""
    for now, then in pairwise(times):
        found = tableau.stages(slope, x, now, then - now, slope(x, now))
        x = x + (then - now) * _mix(tableau.weights, found)
    return x


def solve(slope: Slope, x: Tensor, ends: tuple[float, float], tolerance: Tolerance) -> Tensor:
    """Dormand-Prince 5(4) with error control per sample, from the first end to the second.

    Raises:
        ConfigError: More calls of the slope than `tolerance` allows.

    Source: Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I (1993).
    """
    start, end = (torch.full((len(x),), e, dtype=torch.float64, device=x.device) for e in ends)
    t, way = start, (end - start).sign()
    first = slope(x, t)
    h, calls = _first_step(slope, x, t, (first, end - start), tolerance), 2
    while bool((t != end).any()):
        if calls + len(DORMAND_PRINCE.rows) > tolerance.max_calls:
            raise ConfigError(_too_long(t, end, tolerance))
        h = torch.minimum(h, (end - t).abs())
        landing = h >= (end - t).abs()
        found = DORMAND_PRINCE.stages(slope, x, t, way * h, first)
        calls += len(DORMAND_PRINCE.rows)
        ahead = x + wide(way * h, x) * _mix(DORMAND_PRINCE.weights, found)
        error = _size(wide(h, x) * _mix(_ERROR, found), x, ahead, tolerance)
        good = (error <= 1) & (t != end)
        x = torch.where(wide(good, x).bool(), ahead, x)
        first = torch.where(wide(good, x).bool(), found[-1], first)
        t = torch.where(good, torch.where(landing, end, t + way * h), t)
        change = (_SAFETY * error.clamp(min=1e-10) ** (-1 / _ORDER)).nan_to_num(_LEAST)
        h = h * torch.where(good, change.clamp(_LEAST, _MOST), change.clamp(_LEAST, 1.0))
    return x


def _first_step(
    slope: Slope, x: Tensor, t: Tensor, known: tuple[Tensor, Tensor], tolerance: Tolerance
) -> Tensor:
    """(B,) lengths of the first step, from one more call; Hairer et al. 1993."""
    first, whole = known
    size, rate = _size(x, x, x, tolerance), _size(first, x, x, tolerance)
    small = torch.where(
        (size < 1e-5) | (rate < 1e-5), torch.full_like(size, 1e-6), size / rate / 100
    )
    small = torch.minimum(small, whole.abs())
    moved = x + wide(whole.sign() * small, x) * first
    bend = _size(slope(moved, t + whole.sign() * small) - first, x, x, tolerance) / small
    most = torch.maximum(rate, bend)
    step = torch.where(most <= 1e-15, (small / 1000).clamp(min=1e-6), (0.01 / most) ** (1 / _ORDER))
    return torch.minimum(torch.minimum(100 * small, step), whole.abs())


def _size(error: Tensor, x: Tensor, ahead: Tensor, tolerance: Tolerance) -> Tensor:
    """Root mean square of an error in units of what is tolerated, (B,)."""
    allowed = tolerance.absolute + tolerance.relative * torch.maximum(x.abs(), ahead.abs())
    return (error / allowed).flatten(1).square().mean(dim=1).sqrt()


def _mix(weights: tuple[float, ...], found: list[Tensor]) -> Tensor:
    """Sum of slopes by weight; the last ones may have none."""
    total = weights[0] * found[0]
    for weight, slope in zip(weights[1:], found[1:], strict=False):
        total = total + weight * slope
    return total


def _too_long(t: Tensor, end: Tensor, tolerance: Tolerance) -> str:
    late = int((t != end).sum())
    return (
        f"the probability flow needs more than {tolerance.max_calls} calls at rtol = "
        f"{tolerance.relative:g} and atol = {tolerance.absolute:g}: {late} of {len(t)} samples "
        f"have not arrived, the farthest {float((t - end).abs().max()):.3g} of the time away. "
        "Raise rtol, atol or max_calls; not finite numbers from the network never arrive"
    )
