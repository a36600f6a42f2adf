"""What a user may write under "method" when its name is "diffusion"."""

from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from spinect.diffusion.denoiser import Predicts
from spinect.diffusion.ode import SolverName
from spinect.diffusion.sample import SamplerName
from spinect.diffusion.stochastic import PredictorName, Variance
from spinect.methods.networks import DenoiserNetwork, NetworkConfig, SAUNetConfig
from spinect.protocols import Intensity

ProcessSamplerName = Literal["em", "pc", "ode"]  # Euler-Maruyama, predictor-corrector, the flow
Schedule = Literal["karras", "ddpm_cosine", "ddpm_linear", "ve", "vp", "subvp"]


class DiffusionConfig(BaseModel, frozen=True, extra="forbid"):
    """What a user may write under "method" when its name is "diffusion".

    Noise levels sigma and `data_std` are in units of the CT in [-1, 1].
    """

    ndim: Literal[2, 3] = 3
    in_channels: PositiveInt = 3  # channels of the condition
    predicts: Predicts = "edm"  # what the network puts out
    network: DenoiserNetwork = NetworkConfig()
    embedding: PositiveInt = Field(128, multiple_of=2)  # residual: length of the level's vector
    loss: Literal["l2", "l1"] = "l2"  # between what the network puts out and what it should
    learned_variance: bool = False  # eps: a second channel, trained by the variational bound
    schedule: Schedule = "karras"
    sigma_min: PositiveFloat = 0.002  # karras: last level before 0; ve: level at time 0
    sigma_max: PositiveFloat = 80.0  # karras, ve: first level
    rho: PositiveFloat = 7.0  # karras: crowding of the levels at the low end
    timesteps: PositiveInt = 1000  # ddpm: levels in training
    beta_min: PositiveFloat = 0.1  # vp, subvp: rate of noise at time 0
    beta_max: PositiveFloat = 20.0  # vp, subvp: rate of noise at time 1
    data_std: PositiveFloat = 0.5  # edm: standard deviation of clean CTs
    p_mean: float = -0.4  # karras: mean of ln(sigma) in training
    p_std: PositiveFloat = 1.0  # karras: standard deviation of ln(sigma) in training
    regress_share: float = Field(0.5, ge=0, le=1)  # of training: first level, noise left out
    sampler: SamplerName | ProcessSamplerName = "dpmpp_2m"
    steps: PositiveInt = 20  # sampler's steps; heun calls twice in each but the last
    variance: Variance = "small"  # ddpm, and pc with the ancestral predictor: of a step's noise
    predictor: PredictorName = "reverse_diffusion"  # pc
    corrector_steps: NonNegativeInt = 1  # pc: Langevin steps at each time
    snr: PositiveFloat = 0.16  # pc: of a Langevin step
    order: Literal["corrector_first", "predictor_first"] = "corrector_first"  # pc: at the start
    solver: SolverName = "rk45"  # ode: rk45 chooses its own steps, the others take `steps`
    rtol: PositiveFloat = 1e-5  # ode with rk45, of x_t
    atol: PositiveFloat = 1e-5  # ode with rk45, of x_t
    max_calls: PositiveInt = 2000  # ode with rk45
    tweedie: bool = False  # em, pc, ode: end with one estimate of the clean CT
    eta: NonNegativeFloat | None = Field(None, le=1)  # 0 = DDIM, 1 = DDPM; None: as the sampler
    clamp: bool = True  # the estimate of the clean CT to [-1, 1]
    dropped: Literal["none"] | Intensity = "none"  # scale of the MRs that data.dropout turned grey
    guidance: NonNegativeFloat = 1.0  # w of without + w (with - without) the MR; 1 = none

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.predicts == "eps" and self.regress_share > 0:
            raise ValueError('with predicts = "eps" there is no noise-free call: regress_share = 0')
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min {self.sigma_min} is not below sigma_max {self.sigma_max}")
        if self.eta and self.sampler not in ("ancestral", "graf2023"):
            raise ValueError(
                f'eta = {self.eta} needs sampler = "ancestral" or "graf2023", not "{self.sampler}"'
            )
        if self.learned_variance and self.predicts != "eps":
            raise ValueError(f'learned_variance needs predicts = "eps", not "{self.predicts}"')
        return self

    @model_validator(mode="after")
    def _has_times(self) -> Self:
        needs = {
            "network.kind = sa_unet": isinstance(self.network, SAUNetConfig),
            "learned_variance": self.learned_variance,
            "sampler = graf2023": self.sampler == "graf2023",
        }
        asking = [name for name, needed in needs.items() if needed]
        if asking and not self.schedule.startswith("ddpm"):
            raise ValueError(
                f"{asking[0]} needs the times of a DDPM: set schedule to ddpm_cosine or "
                f"ddpm_linear, not {self.schedule}"
            )
        if self.sampler == "graf2023" and self.predicts != "x0":
            raise ValueError(
                'the sampler "graf2023" repeats an error that was made with predicts = "x0" only, '
                f'not "{self.predicts}": take "ancestral"'
            )
        return self

    @model_validator(mode="after")
    def _has_a_process(self) -> Self:
        if self.beta_min >= self.beta_max:
            raise ValueError(f"beta_min {self.beta_min} is not below beta_max {self.beta_max}")
        continuous = self.sampler in ("em", "pc", "ode")
        if continuous and self.schedule == "ddpm_cosine":
            raise ValueError(
                f'the sampler "{self.sampler}" needs a process in continuous time, which '
                "ddpm_cosine has not: set schedule to ve, vp, subvp, karras or ddpm_linear, or "
                'sampler to "ddpm"'
            )
        if self.tweedie and not continuous:
            raise ValueError(
                f'tweedie needs sampler = "em", "pc" or "ode", not "{self.sampler}", which ends '
                "with the clean CT anyway"
            )
        if self.sampler == "ddpm" and self.schedule in ("karras", "ve", "subvp"):
            raise ValueError(
                'the sampler "ddpm" needs schedule = "ddpm_cosine", "ddpm_linear" or "vp", not '
                f'"{self.schedule}": take "ancestral" with eta = 1, or "pc"'
            )
        return self

    @property
    def sampler_options(self) -> dict[str, Any]:
        """What the samplers on noise levels take beside them."""
        if self.sampler == "ddpm":
            return {"variance": self.variance}
        return {} if self.eta is None else {"eta": self.eta}

    @model_validator(mode="after")
    def _can_be_guided(self) -> Self:
        if self.dropped == "none" and self.guidance != 1:
            raise ValueError(
                f"guidance = {self.guidance} needs a network that was trained with data.dropout: "
                'set dropped to "max" or "robust" as data.intensity, or guidance to 1'
            )
        if self.dropped == "robust" and self.in_channels < 3:
            raise ValueError(f'dropped = "robust" needs in_channels >= 3, not {self.in_channels}')
        return self
