"""Cards of bundles: a folder with a network's tensors, its card, and a README.

::

    NAME/
      model.safetensors   tensors only, float16 unless said otherwise; never a pickle
      bundle.yaml         the Card: method, preprocessing, training, metrics, licence, sha256
      README.md           the same for people, written from the card

Cards are read without torch, so that a list of models costs milliseconds; ``spinect.bundle``
saves and loads the tensors.
"""

import hashlib
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from pydantic import (
    BaseModel,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from spinect.errors import BundleError

TENSORS, CARD, README = "model.safetensors", "bundle.yaml", "README.md"
SEARCH_VARIABLE = "SPINECT_MODELS"  # folders that hold bundles, separated as in PATH
DType = Literal["float16", "bfloat16", "float32"]
# What a network sees: "robust3" two robust scalings and the field of view, "max" [0, max] on
# [-1, 1], "hu" the window of a CT that segmenters see, "hu_range" a CT on [-1, 1] from `hu_low` to
# `hu_high`; "_ramps" adds the position in the volume along R, A, S, from 0 to 1, and
# "_ramps_rip" along R, I, P: the axes of networks that were trained elsewhere.
Channels = Literal[
    "robust3", "hu", "hu_range", "max",
    "robust3_ramps", "hu_range_ramps", "max_ramps", "max_ramps_rip",
]  # fmt: skip
# The grid that a network works on: cubes, or slices as they were measured. Its axes are R, A, S, or
# S, R, A for slices that are axial.
Raster = Literal["iso", "slices"]
Axes = Literal["RAS", "SRA"]


class Preprocessing(BaseModel, frozen=True, extra="forbid"):
    """How a volume becomes the network's input, and how its output becomes a volume."""

    spacing_mm: float = Field(default=1.0, gt=0)  # isotropic, or in plane
    raster: Raster = "iso"  # "slices": the left-right voxel size of the scan is kept
    axes: Axes = "RAS"  # of the grid; 2D networks see slices across the first one
    hu_low: float = -1024.0  # HU at -1 of a CT, made or seen
    hu_high: float = 2000.0  # HU at +1
    neighbours: NonNegativeInt = 0  # slices on each side of its own that a 2D network sees
    tile: tuple[PositiveInt, PositiveInt, PositiveInt] = (96, 96, 96)  # voxels; 2D nets: 1 slice
    overlap: float = Field(default=0.25, ge=0, lt=1)  # share of the tile
    flip_average: bool = True  # mean with the left-right mirrored prediction


class FeatureFacts(BaseModel, frozen=True, extra="forbid"):
    """The frozen network that a loss compared images by."""

    name: str  # of its bundle
    sha256: str  # of its model.safetensors
    taps: tuple[int, ...]  # levels of its encoder


class TrainingFacts(BaseModel, frozen=True, extra="forbid"):
    """Where the weights come from; nothing here names a machine or a person."""

    data: dict[str, Any] = {}  # fingerprint: pools with their weights, counts and hashes
    command: str = ""
    seed: int = 0
    steps: int = Field(default=0, ge=0)  # optimiser updates
    patches: int = Field(default=0, ge=0)
    hours: NonNegativeFloat = 0.0
    features: FeatureFacts | None = None
    checkpoint: Literal["last", "best"] = "last"  # of the run; `steps` is its update
    validation: dict[str, Any] = {}  # of the best one: metric, value, and what it was measured on


class Card(BaseModel, frozen=True, extra="forbid"):
    """Everything about a bundle but its tensors."""

    version: Literal[1] = 1  # of this schema
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    summary: str = ""
    method: str  # name in methods.registry
    config: dict[str, Any] = {}  # its arguments, as registry.build takes them
    modes: tuple[Literal["regress", "sample", "mc"], ...] = ("regress",)
    inputs: Literal["mr", "ct"] = "mr"
    # The image that it makes, if it makes one: ct, or the suffix of an MR, such as T2w, which has
    # no absolute unit: 0 and 1000 are the 1st and 99th percentile of a scan.
    makes: str = Field(default="ct", pattern=r"^[A-Za-z0-9]+$")
    channels: Channels = "robust3"  # recipe of the input channels
    preprocessing: Preprocessing = Preprocessing()
    training: TrainingFacts = TrainingFacts()
    metrics: dict[str, Any] = {}
    licence: str = "Apache-2.0"
    citation: str = ""
    limits: tuple[str, ...] = ()
    dtype: DType = "float16"  # of the stored tensors
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")  # of model.safetensors

    @property
    def image_kind(self) -> Literal["mr", "ct"]:
        """Kind of the volume that it makes."""
        return "ct" if self.makes == "ct" else "mr"

    @model_validator(mode="after")
    def _makes_the_other_one(self) -> "Card":
        if self.image_kind == "mr" and self.inputs != "ct":
            raise ValueError(f"it makes an MR ({self.makes}) of inputs {self.inputs}: set ct")
        return self


def list_bundles() -> list[Card]:
    """Cards of the shipped bundles and of those below SPINECT_MODELS, sorted by name."""
    return sorted((read_card(folder) for folder in _folders()), key=lambda card: card.name)


def find_bundle(name_or_path: str | Path) -> Path:
    """The folder of a bundle.

    A plain name is looked up among the known bundles first; anything with a path separator, and
    any Path, is a folder.

    Raises:
        BundleError: Nothing, or more than one bundle, answers to it.
    """
    asked = os.fspath(name_or_path)
    plain = isinstance(name_or_path, str) and Path(asked).name == asked
    if plain:
        found = [folder for folder in _folders() if read_card(folder).name == asked]
        if len(found) == 1:
            return found[0]
        if found:
            places = ", ".join(map(str, found))
            raise BundleError(f"model {asked!r} exists {len(found)} times: {places}. Give a path")
    folder = Path(asked).expanduser()
    if (folder / CARD).is_file():
        return folder
    known = ", ".join(card.name for card in list_bundles()) or "none"
    kind = "model" if plain else "bundle folder"
    raise BundleError(
        f"no {kind} {asked!r}; known models: {known}. Give one of them, or a folder with "
        f"{CARD}, or set {SEARCH_VARIABLE} to the folder that holds it"
    )


def read_card(folder: Path) -> Card:
    """The card of the bundle in `folder`.

    Raises:
        BundleError: The card is missing, not YAML, or does not fit the schema.
    """
    path = folder / CARD
    try:
        return Card.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise BundleError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BundleError(f"{path}: {where}: {first['msg'].lower()}") from error


def verify(name_or_path: str | Path) -> str:
    """Check the tensors against the card; returns their sha256.

    Raises:
        BundleError: The file is missing, or its hash is not the card's.
    """
    folder = find_bundle(name_or_path)
    card = read_card(folder)
    path = folder / TENSORS
    if not path.is_file():
        raise BundleError(f"{path} is missing; fetch or export the bundle again")
    found = file_sha256(path)
    if found != card.sha256:
        raise BundleError(
            f"{path}: sha256 is {found}, the card says {card.sha256 or 'nothing'}: the file is "
            "damaged or was replaced; fetch or export the bundle again"
        )
    return found


_RASTERS: Final = {"iso": "isotropic", "slices": "in slices as measured"}


def model_card(card: Card) -> str:
    """The README of a bundle, from its card alone."""
    p, t = card.preprocessing, card.training
    rows = {
        "method": f"`{card.method}`",
        "input": f"{card.inputs} (channels `{card.channels}`{_slices(p.neighbours)})",
        "output": _output(card),
        "modes": ", ".join(card.modes),
        "grid": f"{p.spacing_mm:g} mm {_RASTERS[p.raster]}, {p.axes}, "
        f"tile {' x '.join(map(str, p.tile))}, "
        f"overlap {p.overlap:.0%}, left-right average {'on' if p.flip_average else 'off'}",
        "intensity": f"[{p.hu_low:g}, {p.hu_high:g}] HU on [-1, 1]"
        + ("; of the MR 0 to 1500 of its own unit" if card.image_kind == "mr" else ""),
        "training": f"{t.steps} updates, {t.patches} patches, {t.hours:.1f} h, seed {t.seed}",
        "checkpoint": _checkpoint(t),
        "command": f"`{t.command}`" if t.command else "not recorded",
        "tensors": f"{card.dtype}, sha256 `{card.sha256}`",
        "licence": card.licence,
    }
    if t.features is not None:
        levels = ", ".join(map(str, t.features.taps))
        rows["feature loss"] = (
            f"frozen `{t.features.name}`, encoder levels {levels}, sha256 `{t.features.sha256}`"
        )
    lines = [f"# {card.name}", "", card.summary, "", "| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in rows.items()]
    sections = {"Training data": t.data, "Metrics": card.metrics}
    for title, facts in sections.items():
        lines += ["", f"## {title}", ""]
        lines += [f"- {key}: {_plain(value)}" for key, value in facts.items()] or ["Not recorded."]
    lines += ["", "## Limits", ""]
    lines += [f"- {limit}" for limit in (*card.limits, "Not a medical device; not for diagnosis.")]
    if card.citation:
        lines += ["", "## Citation", "", card.citation]
    return "\n".join(lines) + "\n"


def _slices(neighbours: int) -> str:
    """What a 2.5D network sees beside the slice itself."""
    return f", of the slice and {neighbours} on each side" if neighbours else ""


def _output(card: Card) -> str:
    """What comes out, and in which unit."""
    if card.image_kind == "mr":
        return (
            f"synthetic {card.makes} in relative intensity: 0 and 1000 are the 1st and 99th "
            "percentile of a scan, no value has a meaning of its own"
        )
    return "synthetic CT in HU" if card.inputs == "mr" else "masks"


def _checkpoint(training: TrainingFacts) -> str:
    """Which weights of the run these are, and by which measure."""
    seen = training.validation
    if training.checkpoint == "last" or not seen:
        return f"the last, after update {training.steps}"
    figure = f"{seen['metric']} {seen['value']:g} {seen['unit']}".strip()
    return (
        f"the best by {figure}, after update {training.steps}; chosen on {seen['series']} series "
        f"of {seen['subjects']} subjects of split {seen['split']}: on these it flatters"
    )


def _plain(value: object) -> str:
    """A value, or the pairs of a mapping, in words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items())
    return str(value)


def _folders() -> list[Path]:
    """Folders of all known bundles: shipped, then those below SPINECT_MODELS."""
    roots = [Path(str(resources.files("spinect.weights")))]
    extra = os.environ.get(SEARCH_VARIABLE, "")
    for root in filter(None, extra.split(os.pathsep)):
        if not Path(root).is_dir():
            raise BundleError(f"{SEARCH_VARIABLE} names {root}, which is not a folder")
        roots.append(Path(root))
    return [card.parent for root in roots for card in sorted(root.glob(f"*/{CARD}"))]


def file_sha256(path: Path) -> str:
    """Hash of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
