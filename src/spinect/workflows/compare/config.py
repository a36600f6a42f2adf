"""What a user may write in an experiment: one YAML file, checked before anything runs."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from spinect.protocols import Mode
from spinect.training.parse import parse, read_mapping

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
# "truth": the CT where it lies in truth; 0, 1, 2, all: landmarks per vertebra, one rigid motion;
# polyrigid-*: one rigid motion per vertebra.
Level = Literal["truth", "0", "1", "2", "all", "polyrigid-1", "polyrigid-2", "polyrigid-all"]
TableName = Literal[
    "image_quality", "dice", "posterior_dice", "registration", "misalignment", "dimensions",
    "sampling", "samplers",
]  # fmt: skip
TABLES: Final[tuple[TableName, ...]] = TableName.__args__  # type: ignore[attr-defined]
FIRST_TEST: Final = 1_000_000  # seed
# What the experiment decides for every row, so that no row differs from the others in it.
_RESERVED: Final = (
    "seed", "name", "data.source", "data.folder", "data.split", "data.contrast", "data.pose",
    "trainer.max_minutes", "trainer.clock", "trainer.piece_minutes", "trainer.threads",
    "start_from",
)  # fmt: skip


def _is_reserved(key: str) -> bool:
    return any(key == one or one.startswith(f"{key}.") for one in _RESERVED)


PhantomContrast = Literal[
    "T1w", "T2w", "STIR", "water", "fat", "inphase", "opposed", "PDw", "T2starw"
]


class _Part(BaseModel, frozen=True, extra="forbid"):
    """A group of fields."""


class PhantomSource(_Part, frozen=True, extra="forbid"):
    """Phantoms that are made for the experiment; subject i has the seed of its split plus i."""

    source: Literal["phantom"]
    train: PositiveInt  # subjects
    test: PositiveInt  # subjects
    train_seed: NonNegativeInt = 0  # below 1,000,000
    test_seed: int = Field(default=FIRST_TEST, ge=FIRST_TEST, lt=2 * FIRST_TEST)
    region: Literal["lumbar", "thoracic", "cervical", "whole", "pelvis"] = "lumbar"
    contrasts: tuple[PhantomContrast, ...] = Field(("T2w",), min_length=1)
    slice_mm: PositiveInt = 4  # of the sagittal MR; those of a pelvis are axial and fixed
    motion: Literal["none", "rigid", "articulated"] = "articulated"  # between the MR and its CT
    landmark_noise_mm: NonNegativeFloat = 2.0  # SD per axis, on the landmarks of both scans

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.train_seed + self.train > FIRST_TEST:
            raise ValueError(f"seeds from {FIRST_TEST:,} on are for testing: lower train_seed")
        if self.test_seed + self.test > 2 * FIRST_TEST:
            raise ValueError(f"test seeds end at {2 * FIRST_TEST - 1:,}: lower test_seed")
        return self

    @model_validator(mode="after")
    def _fits_region(self) -> Self:
        if self.region != "pelvis":
            return self
        if self.motion == "articulated":
            raise ValueError("a pelvis is one piece: set motion to none or rigid")
        if "slice_mm" in self.model_fields_set:
            raise ValueError(
                "slice_mm is of sagittal slices, those of a pelvis are axial: leave it out"
            )
        return self

    @property
    def slices(self) -> int | None:
        """Distance of slices that phantoms are made with; None where the region fixes it."""
        return None if self.region == "pelvis" else self.slice_mm


class FolderSource(_Part, frozen=True, extra="forbid"):
    """A dataset folder with the splits train and test, and truth of the test subjects."""

    source: Literal["folder"]
    folder: str  # $VARIABLES allowed; nothing is written there
    contrasts: tuple[str, ...] = Field(("T2w",), min_length=1)


class Budget(_Part, frozen=True, extra="forbid"):
    """What every training gets, and what it must reach."""

    minutes: PositiveFloat
    clock: Literal["wall", "cpu"] = "cpu"  # of the minutes; "cpu" is fair on a busy machine
    least_updates: PositiveInt  # fewer are "not converged"
    threads: PositiveInt = 2


class Inference(_Part, frozen=True, extra="forbid"):
    """How a row's weights are used; None: as the bundle says."""

    mode: Mode = "regress"
    steps: PositiveInt | None = None
    samples: PositiveInt = 10  # draws of mode mc
    # Fields of the method's config that may differ from the trained ones:
    sampler: str | None = None
    eta: float | None = Field(default=None, ge=0, le=1)
    guidance: float | None = None
    variance: str | None = None
    predictor: str | None = None
    corrector_steps: NonNegativeInt | None = None
    snr: PositiveFloat | None = None
    order: str | None = None
    solver: str | None = None
    rtol: PositiveFloat | None = None
    atol: PositiveFloat | None = None
    tweedie: bool | None = None
    outputs: tuple[Literal["std", "interval", "medoid", "votes"], ...] = ()  # too; of mode mc

    @model_validator(mode="after")
    def _drawn(self) -> Self:
        if self.outputs and self.mode != "mc":
            raise ValueError(f"outputs {', '.join(self.outputs)} need mode mc, not {self.mode}")
        return self

    @property
    def method_fields(self) -> dict[str, Any]:
        """Those fields of the method's config that are given."""
        return self.model_dump(exclude={"mode", "steps", "samples", "outputs"}, exclude_none=True)


class Row(_Part, frozen=True, extra="forbid"):
    """One line of the tables."""

    name: Name
    preset: str | None = None  # training config: a path, or a name such as modern/regression_3d
    bundle: str | None = None  # instead: a bundle that was trained elsewhere, by name or folder
    weights_of: Name | None = None  # instead: a row whose weights this one uses
    registration: Level = "2"  # of the training pairs
    shift_mm: NonNegativeFloat = 0.0  # of each pair beside its registration, in a random direction
    turn_deg: NonNegativeFloat = 0.0  # of each pair, about the head-feet axis, either way
    contrast: str | None = None  # None: the first one of the data
    seeds: tuple[NonNegativeInt, ...] = Field((0,), min_length=1)  # of training, one training each
    set: dict[str, Any] = {}  # a.b: value, fields of the preset
    baseline: bool = False  # what every other row must beat
    inference: Inference = Inference()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        given = [n for n in ("preset", "bundle", "weights_of") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(
                f"row {self.name} needs one of preset, bundle and weights_of, not "
                f"{' and '.join(given) or 'none'}"
            )
        if self.preset is None and (
            self.set or self.baseline or len(self.seeds) > 1 or self.misaligned
        ):
            raise ValueError(
                f"row {self.name} trains nothing: set, seeds, baseline, shift_mm and turn_deg go "
                "with preset"
            )
        if self.misaligned and self.registration in ("truth", "0"):
            raise ValueError(
                f"row {self.name}: shift_mm and turn_deg move landmarks, and registration "
                f"{self.registration} uses none: choose 1, 2 or all"
            )
        for key in self.set:
            if _is_reserved(key):
                raise ValueError(f"row {self.name}: {key} is the same for all rows, see budget")
        return self

    @property
    def misaligned(self) -> bool:
        """Whether its training pairs are off on purpose."""
        return bool(self.shift_mm or self.turn_deg)


class Experiment(_Part, frozen=True, extra="forbid"):
    """Rows on the same data, split and budget."""

    name: Name
    seed: NonNegativeInt = 0  # of landmark noise and of sampling
    data: PhantomSource | FolderSource = Field(discriminator="source")
    budget: Budget
    slices: dict[str, Any] = {"patch": [256, 256], "raster": "slices"}  # "data" of 2D presets
    volumes: dict[str, Any] = {"patch": [96, 96, 96]}  # "data" of 3D presets
    trainer: dict[str, Any] = {}  # "trainer" of every preset
    judge: str | None = None  # segmenter bundle; None: the shipped segmenter is the only one
    mirror_average: bool = True  # of the shipped segmenter; without, it takes half the time
    segment: bool = True  # the synthetic CTs, with the shipped segmenter
    rows: tuple[Row, ...] = Field(min_length=1)
    tables: tuple[TableName, ...] = TABLES

    @model_validator(mode="after")
    def _fits(self) -> Self:
        named = Counter(row.name for row in self.rows)
        if twice := [name for name, times in named.items() if times > 1]:
            raise ValueError(f"two rows are named {twice[0]}: give one of them another name")
        for key in self.trainer:
            if _is_reserved(f"trainer.{key}"):
                raise ValueError(f"trainer.{key} is told by budget: leave it out")
        trained = {row.name for row in self.rows if row.weights_of is None}
        for row in self.rows:
            if row.weights_of is not None and row.weights_of not in trained:
                raise ValueError(
                    f"row {row.name}: weights_of {row.weights_of} is no row with weights"
                )
            if row.misaligned and self.data.source != "phantom":
                raise ValueError(f"row {row.name}: shift_mm and turn_deg are for phantoms only")
            if row.contrast is not None and row.contrast not in self.data.contrasts:
                raise ValueError(
                    f"row {row.name}: contrast {row.contrast} is not among those of the data, "
                    f"{', '.join(self.data.contrasts)}"
                )
        if not any(row.baseline for row in self.rows):
            raise ValueError("no row is a baseline: mark constant HU and the lookup as baseline")
        return self

    def contrast_of(self, row: Row) -> str:
        """The MR that a row sees."""
        return row.contrast or self.data.contrasts[0]

    def weights(self, row: Row) -> Row:
        """The row whose training a row uses; itself where it trains."""
        if row.weights_of is None:
            return row
        return next(other for other in self.rows if other.name == row.weights_of)


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read a YAML experiment and apply `a.b=c` overrides.

    Raises:
        ConfigError: The file cannot be read, or a field is unknown, missing or out of range.
    """
    return parse_experiment(read_mapping(path, overrides), str(path))


def parse_experiment(raw: dict[str, Any], origin: str = "experiment") -> Experiment:
    """An Experiment from plain values; `origin` stands at the head of every error."""
    return parse(Experiment, raw, origin)
