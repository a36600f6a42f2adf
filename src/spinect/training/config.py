"""What a user may write in a training config: one YAML file, checked before anything runs."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from spinect.card import Channels, DType, Preprocessing, Raster
from spinect.data.elastic import Elastic
from spinect.data.intensity import HuRange
from spinect.data.options import DatasetOptions, Plane
from spinect.data.stream import Direction
from spinect.errors import ConfigError
from spinect.training.parse import parse, read_mapping
from spinect.training.presets import with_export, with_preset
from spinect.training.settings import TrainerConfig, ValidationConfig

Share = Annotated[float, Field(ge=0, le=1)]
# Voxels along R, A, S, of 1 mm unless a dataset says otherwise; two of them are slices for 2D
# methods: sagittal ones along A, S, or by `plane` axial ones along R, A.
Patch = Annotated[tuple[PositiveInt, ...], Field(min_length=2, max_length=3)]


class _Patches(BaseModel, frozen=True, extra="forbid"):
    """What all sources of patches have in common."""

    task: Literal["translate", "segment"] = "translate"  # MR and its CT, or CT and its masks
    direction: Direction = "mr_to_ct"  # of task translate: what goes in, and what is made of it
    neighbours: NonNegativeInt = 0  # 2D: slices to each side that the network sees, too
    paired: bool = True  # false: half of the patients give the MR, the other half the CT
    patch: Patch = (96, 96, 96)
    plane: Plane = "sagittal"  # of 2D slices
    scans: PositiveInt = 1  # scans in one micro-batch, each of a contrast of its own
    patches_per_scan: PositiveInt = 2  # patches of each of them
    workers: NonNegativeInt = 1  # loader processes; 0 = inside the training process
    niceness: NonNegativeInt = 5  # added to the workers' scheduling priority

    @property
    def inputs(self) -> Literal["mr", "ct"]:
        """Kind of the image that goes in."""
        return "ct" if self.task == "segment" or self.direction == "ct_to_mr" else "mr"

    @property
    def patches_per_item(self) -> int:
        """Size of one micro-batch."""
        return self.scans * self.patches_per_scan

    @model_validator(mode="after")
    def _masks_are_paired(self) -> Self:
        if self.task == "segment" and not self.paired:
            raise ValueError("task segment learns the masks of its own CT: set paired to true")
        return self

    @model_validator(mode="after")
    def _plane_of_slices(self) -> Self:
        if self.plane == "axial" and (len(self.patch) == 3 or self.task == "segment"):
            raise ValueError(
                "plane axial is for translation slice by slice: give the patch two numbers and "
                "leave task out, or plane"
            )
        return self

    @model_validator(mode="after")
    def _neighbours_of_slices(self) -> Self:
        if self.neighbours and len(self.patch) == 3:
            raise ValueError(
                f"neighbours {self.neighbours} are slices beside a slice, but the patch has three "
                "axes: set neighbours to 0, or give the patch two numbers"
            )
        return self


class _Simulated(_Patches, frozen=True, extra="forbid"):
    """What sources have in common whose MR is simulated."""

    contrast: Literal["T1w", "T2w"] | None = None  # of every MR; None = one drawn for each scan

    @model_validator(mode="after")
    def _makes_one_contrast(self) -> Self:
        if self.direction == "ct_to_mr" and self.task == "segment":
            raise ValueError("direction ct_to_mr makes an MR, task segment masks: leave one out")
        if self.direction == "ct_to_mr" and self.contrast is None:
            raise ValueError(
                "direction ct_to_mr makes an MR of one contrast, but contrast is not set, and "
                "each scan would have another one: set contrast to T1w or T2w"
            )
        return self

    @property
    def channels(self) -> Channels:
        """Recipe of the condition's channels, as a bundle's card names it."""
        if self.task == "segment":
            return "hu"
        return "robust3" if self.direction == "mr_to_ct" else "hu_range"


class PhantomData(_Simulated, frozen=True, extra="forbid"):
    """Phantoms that are built when training first starts; contrast and scanner on the fly."""

    source: Literal["phantom"]
    subjects: PositiveInt  # seconds each, once; kept in `folder`
    seed: NonNegativeInt = 0  # of the first subject; below 1,000,000
    region: Literal["lumbar", "thoracic", "cervical", "whole", "pelvis", "mixed"] = "mixed"
    folder: str = "runs/phantoms"  # $VARIABLES allowed


class PoolData(_Simulated, frozen=True, extra="forbid"):
    """Patches whose contrast and scanner are drawn on the fly from pools of geometry."""

    source: Literal["pool"]
    pools: dict[str, PositiveFloat]  # folder -> weight; $VARIABLES allowed


class DatasetData(_Patches, frozen=True, extra="forbid"):
    """Patches from a dataset folder: MR, CT and masks of the same patients."""

    source: Literal["dataset"]
    folder: str  # $VARIABLES allowed
    split: str = "train"  # column `split` of participants.tsv; whole patients
    contrast: str = "T2w"  # suffix of the MR
    pose: Literal["auto", "registered", "truth"] = "auto"  # auto: registered where it is there
    preset: Literal["default", "graf2023"] = "default"  # what stands for fields not written here
    raster: Raster = "iso"  # cubes of `spacing_mm`, or slices where they were measured
    spacing_mm: PositiveFloat = 1.0  # of the voxels; with raster slices in plane
    intensity: Literal["robust", "max"] = "robust"  # the robust pair of channels, or [0, max]
    place: Literal["bone", "anywhere"] = "bone"  # of patches; "anywhere" in 2D: of whole slices
    min_pixels: NonNegativeInt = 0  # 2D: of vertebrae; slices that show less are left out
    copies: PositiveInt = 1  # of each series: all but the last one deformed, each in its own way
    elastic: Elastic = Elastic()  # how copies are deformed
    rotate_deg: NonNegativeFloat = 10.0  # SD of the turn about each axis, new in every patch
    scale: NonNegativeFloat = 0.08  # SD of the log of the zoom along each axis
    elastic_mm: NonNegativeFloat = 2.0  # SD of the smooth displacement
    flip: bool = True  # mirror left and right in half of the patches
    mirror: tuple[Share, Share] = (0.0, 0.0)  # of patches: front to back, head to feet
    border: Literal["outside", "mirror"] = "outside"  # what pads a volume smaller than the patch
    interpolation: Literal["linear", "cubic"] = "linear"  # of MR and CT
    jitter: Share = 0.0  # of the MR's brightness and contrast, 0.2 = 0.8 to 1.2 times
    dropout: Share = 0.0  # of patches whose MR becomes mid grey, for guidance
    ramps: bool = False  # three further channels: the position in the whole volume, 0 to 1
    augment: Literal["auto", "on", "off"] = "auto"  # auto: off in the splits validation and test
    cache: bool = True  # keep the series on their raster under derivatives/spinect of the dataset

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, raw: Any) -> Any:
        return with_preset(raw) if isinstance(raw, dict) else raw

    @model_validator(mode="after")
    def _fits_together(self) -> "DatasetData":
        try:
            self.options(HuRange())
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def channels(self) -> Channels:
        """Recipe of the condition's channels, as a bundle's card names it."""
        if self.task == "segment":
            return "hu"
        if self.direction == "ct_to_mr":
            return "hu_range_ramps" if self.ramps else "hu_range"
        if self.ramps:
            return "robust3_ramps" if self.intensity == "robust" else "max_ramps"
        return "robust3" if self.intensity == "robust" else "max"

    def options(self, hu_range: HuRange) -> DatasetOptions:
        """What `DatasetPatches` takes.

        Raises:
            ConfigError: Fields that contradict each other.
        """
        names = {field.name for field in fields(DatasetOptions)} - {"patch", "hu_range"}
        first, second, third = self.patch if len(self.patch) == 3 else (1, *self.patch)
        taken = {name: getattr(self, name) for name in names}
        return DatasetOptions(**taken, patch=(first, second, third), hu_range=hu_range)


class FeaturesConfig(BaseModel, frozen=True, extra="forbid"):
    """The frozen network whose features a method's loss compares."""

    bundle: str  # a segmenter of CT on this training's grid, by name or folder; never the judge
    taps: tuple[NonNegativeInt, ...] | None = None  # levels of its encoder, 0 = finest; None = all


class ExportConfig(BaseModel, frozen=True, extra="forbid"):
    """What the card of the exported bundle says beyond what the run knows by itself."""

    name: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9._-]*$")  # None = run's name
    summary: str = ""
    command: str = ""  # that makes this run
    modes: tuple[Literal["regress", "sample", "mc"], ...] = ("regress",)
    inputs: Literal["mr", "ct"] = "mr"
    channels: Channels = "robust3"
    preprocessing: Preprocessing = Preprocessing()
    licence: str = "Apache-2.0"
    citation: str = ""
    limits: tuple[str, ...] = ()
    dtype: DType = "float16"


class RunConfig(BaseModel, frozen=True, extra="forbid"):
    """One training run."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    seed: NonNegativeInt = 0
    method: dict[str, Any]  # "name" in methods.registry, and that method's own fields
    data: Annotated[PhantomData | PoolData | DatasetData, Field(discriminator="source")]
    trainer: TrainerConfig
    validation: ValidationConfig | None = None  # None = off
    start_from: str | None = None  # bundle whose weights the training starts from
    start_partly: bool = False  # tensors that the bundle lacks or has in another shape stay random
    features: FeaturesConfig | None = None  # for methods whose loss gives features a weight
    export: ExportConfig = ExportConfig()

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, raw: Any) -> Any:
        return with_export(raw) if isinstance(raw, dict) else raw

    @model_validator(mode="after")
    def _bundle_gets_what_was_learnt(self) -> "RunConfig":
        seen, known = self.data, self.export.channels
        free = not isinstance(seen, DatasetData) and seen.direction == "mr_to_ct"
        free = free or (seen.task == "segment" and known == "robust3")  # as older configs left it
        if known != seen.channels and not free:
            raise ValueError(
                f"training sees the channels {seen.channels}, but the bundle would say "
                f"{known}: set export.channels to {seen.channels}"
            )
        if seen.task == "translate" and self.export.inputs != seen.inputs:
            raise ValueError(
                f"direction {seen.direction} takes {seen.inputs} in, but the bundle would say "
                f"{self.export.inputs}: leave export.inputs out"
            )
        told = self.export.preprocessing.neighbours
        if told != seen.neighbours:
            raise ValueError(
                f"training sees {seen.neighbours} neighbours of a slice, but the bundle would say "
                f"{told}: leave neighbours out of export.preprocessing"
            )
        return self

    @model_validator(mode="after")
    def _guided_by_what_was_dropped(self) -> "RunConfig":
        data, told = self.data, self.method.get("dropped", "none")
        dropping = isinstance(data, DatasetData) and data.dropout > 0
        done = data.intensity if isinstance(data, DatasetData) and dropping else "none"
        if told not in ("none", done):
            raise ValueError(
                f"method.dropped is {told}, but training drops {done}: set data.dropout above 0 "
                "and method.dropped as data.intensity, or method.dropped to none"
            )
        return self

    @model_validator(mode="after")
    def _bundle_works_where_it_learnt(self) -> "RunConfig":
        learnt, told = self.data, self.export.preprocessing
        raster, spacing = (
            (learnt.raster, learnt.spacing_mm) if isinstance(learnt, DatasetData) else ("iso", 1.0)
        )
        if (told.raster, told.spacing_mm) != (raster, spacing):
            raise ValueError(
                f"training works on the raster {raster} of {spacing:g} mm, but the bundle would "
                f"say {told.raster} of {told.spacing_mm:g} mm: leave raster and spacing_mm out of "
                "export.preprocessing"
            )
        axes = "SRA" if learnt.plane == "axial" else "RAS"
        if told.axes != axes:
            raise ValueError(
                f"training sees {learnt.plane} slices, axes {axes}, but the bundle would say "
                f"{told.axes}: leave axes out of export.preprocessing"
            )
        return self

    @model_validator(mode="after")
    def _names_its_method(self) -> "RunConfig":
        if not isinstance(self.method.get("name"), str):
            raise ValueError('method needs a "name", such as "regression"')
        return self

    @property
    def method_fields(self) -> dict[str, Any]:
        """What `registry.build` takes beside the name."""
        return {key: value for key, value in self.method.items() if key != "name"}


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML config and apply `a.b=c` overrides, which pass through the same checks.

    Raises:
        ConfigError: The file cannot be read, or a field is unknown, missing or out of range; the
            message gives the file and the field's whole path.
    """
    return parse_config(read_mapping(path, overrides), str(path))


def parse_config(raw: Mapping[str, Any], origin: str = "config") -> RunConfig:
    """A RunConfig from plain values; `origin` stands at the head of every error."""
    return parse(RunConfig, raw, origin)


def dump_config(config: RunConfig) -> str:
    """The resolved config as YAML; `parse_config` reads it back to an equal value."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
