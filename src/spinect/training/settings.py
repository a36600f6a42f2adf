"""What a user may write under "trainer" and "validation" in a training config."""

from typing import Literal

from pydantic import (
    BaseModel,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from spinect.errors import ConfigError
from spinect.protocols import Mode
from spinect.training.metric import Metric

Schedule = Literal["cosine", "cosine-clock", "linear", "linear-clock", "constant"]


class TrainerConfig(BaseModel, frozen=True, extra="forbid"):
    """How the weights are moved."""

    max_steps: PositiveInt | None = None  # optimiser updates
    max_minutes: PositiveFloat | None = None  # of training, over all starts of this run
    clock: Literal["wall", "cpu"] = "wall"  # of max_minutes; "cpu": this process, all its threads
    piece_minutes: PositiveFloat | None = None  # of this start, wall; then checkpoint and leave
    accumulate: PositiveInt = 1  # micro-batches per update
    lr: PositiveFloat = 1e-3
    part_lr: dict[str, PositiveFloat] = {}  # for parts that differ from `lr`
    betas: tuple[float, float] = (0.9, 0.999)
    # By steps, or by minutes ("-clock"). "linear": constant for the first half, then a straight
    # line to `lr_end`.
    schedule: Schedule = "cosine"
    lr_end: float = Field(default=0.0, ge=0, le=1)  # share of lr at the end; not with "constant"
    warmup: NonNegativeInt = 500  # updates of linear rise
    weight_decay: NonNegativeFloat = 1e-2  # on tensors of rank 2 and more
    clip: NonNegativeFloat = 1.0  # gradient norm per part; 0 = off
    ema: float = Field(default=0.999, ge=0, lt=1)
    freeze_norm: float = Field(default=0.6, ge=0, le=1)  # share done from which batch norm is fixed
    precision: Literal["bf16", "fp32"] = "bf16"  # of the forward pass; weights stay fp32
    deterministic: bool = False  # refuse operations whose result may differ from run to run
    channels_last: bool = True
    checkpoint_minutes: NonNegativeFloat = 5.0  # 0 = after every update
    log_every: PositiveInt = 50  # updates per row of log.csv
    preview_every: NonNegativeInt = 500  # updates per picture; 0 = none
    threads: PositiveInt | None = None  # of the training process; None = torch's choice
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: PositiveInt = 1
    strategy: Literal["auto", "ddp"] = "auto"

    @model_validator(mode="after")
    def _has_an_end(self) -> "TrainerConfig":
        if self.schedule.endswith("-clock") and self.max_minutes is None:
            raise ValueError(f"schedule {self.schedule} needs max_minutes")
        if self.schedule in ("cosine", "linear") and self.max_steps is None:
            raise ValueError(f"schedule {self.schedule} needs max_steps")
        if self.schedule == "constant" and self.lr_end > 0:
            raise ValueError(
                f"schedule constant does not end at lr_end {self.lr_end:g}: leave lr_end out, or "
                "take cosine or linear"
            )
        if self.max_steps is None and self.max_minutes is None:
            raise ValueError("give max_steps or max_minutes, or training never ends")
        return self


class ValidationConfig(BaseModel, frozen=True, extra="forbid"):
    """Whole volumes of other patients, translated and measured while training runs."""

    folder: str | None = None  # dataset folder, $VARIABLES allowed; None = the training data's
    split: str = "validation"  # column `split` of participants.tsv
    contrast: str | None = None  # suffix of the MR; None = the training's, T2w for phantoms
    subjects: PositiveInt | None = None  # the first so many, by name; None = all
    every: PositiveInt | None = None  # updates
    minutes: PositiveFloat | None = None  # of training since the last one, by trainer.clock
    mode: Mode | None = None  # as `spinect run --mode`; None = the first one that the bundle offers
    steps: PositiveInt | None = None  # network calls per tile when sampling; None = the method's
    metric: str = "mae_near_bone"  # METRIC_REGION of docs/evaluation.md, or dice_volume

    @field_validator("metric")
    @classmethod
    def _is_a_metric(cls, name: str) -> str:
        try:
            Metric.parse(name)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return name

    @model_validator(mode="after")
    def _is_ever_due(self) -> "ValidationConfig":
        if self.every is None and self.minutes is None:
            raise ValueError("give every (updates) or minutes, or validation is never due")
        return self
