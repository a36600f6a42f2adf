"""How a diffusion config names processes in continuous time, and draws through them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from torch import Tensor

from spinect.diffusion.ode import Tolerance, sample_ode
from spinect.diffusion.process import VE, VP, Process, SubVP
from spinect.diffusion.stochastic import Corrector, Last, Predictor, sample_em, sample_pc
from spinect.errors import ConfigError
from spinect.methods.diffusion_config import DiffusionConfig
from spinect.protocols import Denoise, Randn

_DDPM_BETAS: Final = (1e-4, 0.02)  # of the first and the last time, arXiv 2006.11239
_Processes = dict[str, Callable[[DiffusionConfig], Process]]
_PROCESSES: Final[_Processes] = {
    "ve": lambda config: VE(config.sigma_min, config.sigma_max),
    "vp": lambda config: VP(config.beta_min, config.beta_max),
    "subvp": lambda config: SubVP(config.beta_min, config.beta_max),
}
# Those that a network of another schedule is sampled with, as it knows their noise levels: for
# karras the same range, for the linear DDPM its limit of many short steps.
_NEAREST: Final[_Processes] = {
    "karras": _PROCESSES["ve"],
    "ddpm_linear": lambda config: VP(*(config.timesteps * beta for beta in _DDPM_BETAS)),
}


def trained_process(config: DiffusionConfig) -> Process | None:
    """The process that the network learns; None for the schedules of single levels."""
    make = _PROCESSES.get(config.schedule)
    return None if make is None else make(config)


@dataclass(frozen=True)
class _Draw:
    """What every sampler through a process is told.

    Args:
        randn: Called once for the start, then once per step that adds noise.
        steps: Of the sampler; None for the config's.
    """

    config: DiffusionConfig
    denoise: Denoise
    process: Process
    randn: Randn
    steps: int | None

    def start(self, like: Tensor) -> Tensor:
        """Noise of the level of the first time, in the shape of `like`."""
        return self.process.prior * self.randn(like)

    def times(self, more: int = 0) -> Tensor:
        """As many times as steps, and so many more, falling."""
        return self.process.times((self.steps or self.config.steps) + more)

    @property
    def last(self) -> Last:
        """How it ends."""
        return "tweedie" if self.config.tweedie else "mean"


def draw_process(
    config: DiffusionConfig, denoise: Denoise, like: Tensor, steps: int | None, randn: Randn
) -> Tensor:
    """One draw through em, pc or ode, (B, C, *S) as `like`; randn is first called for the start.

    Raises:
        ConfigError: rk45 is told a number of steps, or needs more calls than it may make.
    """
    process = (_PROCESSES | _NEAREST)[config.schedule](config)
    return _DRAWS[config.sampler](_Draw(config, denoise, process, randn, steps), like)


def _em(draw: _Draw, like: Tensor) -> Tensor:
    x = draw.start(like)
    return sample_em(draw.denoise, x, draw.process, draw.times(1), last=draw.last, randn=draw.randn)


def _pc(draw: _Draw, like: Tensor) -> Tensor:
    config = draw.config
    first = config.order == "corrector_first"
    return sample_pc(
        draw.denoise,
        draw.start(like),
        draw.process,
        draw.times(),
        predictor=Predictor(config.predictor, config.variance),
        corrector=Corrector(config.snr, config.corrector_steps, first),
        last=draw.last,
        randn=draw.randn,
    )


def _ode(draw: _Draw, like: Tensor) -> Tensor:
    config = draw.config
    if config.solver == "rk45" and draw.steps is not None:
        raise ConfigError(
            f'{draw.steps} steps asked of the sampler "ode" with solver = "rk45", which chooses '
            "its own by rtol and atol: leave the steps out, or set solver to "
            '"heun", "rk4" or "euler"'
        )
    return sample_ode(
        draw.denoise,
        draw.start(like),
        draw.process,
        draw.times(1),
        solver=config.solver,
        tolerance=Tolerance(config.rtol, config.atol, config.max_calls),
        tweedie=config.tweedie,
    )


_DRAWS: Final[dict[str, Callable[[_Draw, Tensor], Tensor]]] = {"em": _em, "pc": _pc, "ode": _ode}
