"""What a user may write in a loop's config: one YAML file, checked before anything runs."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, model_validator

from spinect.training.parse import parse, read_mapping
from spinect.workflows.register import RegisterOptions

# More rounds go on with the same loop; every other field makes it another one.
_HOW: Final = {"rounds"}


class _Part(BaseModel, frozen=True, extra="forbid"):
    """A group of fields."""


class SeedsConfig(_Part, frozen=True, extra="forbid"):
    """The series that a person, or an earlier program, marked."""

    contrast: str = "T2w"  # suffix of the MR
    landmarks: str | None = None  # folder of *_poi.json named after the MR; None = beside the MR


class RegisterConfig(_Part, frozen=True, extra="forbid"):
    """How each pair is registered; as `spinect register`."""

    points: Literal["1", "2", "all"] = "2"  # landmarks per vertebra
    model: Literal["rigid", "polyrigid"] = "polyrigid"
    interpolation: Literal["bspline", "linear"] = "bspline"
    robust_share: float = Field(default=0.2, ge=0, lt=0.5)  # of landmarks that may be left out

    def options(self) -> RegisterOptions:
        """The same for `register_pair`; what is up to date is kept."""
        return RegisterOptions.checked(**self.model_dump(), resume=True)


class MatchConfig(_Part, frozen=True, extra="forbid"):
    """How the levels of a segmented MR are told: by the nearest body of the CT."""

    # Where the scans lie before registration: as an accepted series of the same patient, session
    # and CT lies; as the headers say; image centres together. names: the segmenter is believed,
    # unless an accepted series contradicts every name.
    frame: Literal["accepted", "header", "centre", "names"] = "accepted"
    max_mm: PositiveFloat = 15.0  # between two bodies of one name; half a level


class AcceptConfig(_Part, frozen=True, extra="forbid"):
    """What a registration must reach. Assumed: two markings 2 mm apart per axis leave 4.5 mm."""

    mean_mm: PositiveFloat = 6.0  # over the landmarks used
    p95_mm: PositiveFloat = 12.0
    vertebrae: PositiveInt = 3  # with a landmark that was used
    review: bool = False  # take the verdict "review" as well


class LoopConfig(_Part, frozen=True, extra="forbid"):
    """One loop."""

    dataset: str  # folder; $VARIABLES allowed; nothing is written there
    train: str  # training config with data.source: dataset
    seeds: SeedsConfig = SeedsConfig()
    targets: str = "T1w"  # contrast of the series that get their landmarks from the model
    least_pairs: PositiveInt = 3  # targets in training from which a model learns from them
    rounds: PositiveInt = 3  # at most
    segmenter: str = "embedded"  # or command:"PROGRAM {input} {output}"
    scheme: Literal["totalsegmentator", "verse", "spineps"] = "totalsegmentator"  # of a command
    normalise_spinous: bool = False  # as the CT's landmarks were made
    register_by: RegisterConfig = Field(default=RegisterConfig(), alias="register")
    match: MatchConfig = MatchConfig()
    accept: AcceptConfig = AcceptConfig()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        kind, _, template = self.segmenter.partition(":")
        if kind == "command":
            if "{input}" not in template or "{output}" not in template:
                raise ValueError("the segmenter command must name {input} and {output}")
        elif self.segmenter != "embedded":
            raise ValueError("segmenter is embedded or command:..., because it segments a CT file")
        if self.match.frame == "accepted" and self.targets == self.seeds.contrast:
            raise ValueError(
                "match.frame accepted needs a series of another contrast that is accepted first: "
                "with one contrast take header, centre or names"
            )
        return self

    def fingerprint(self, training: str) -> str:
        """sha256 of all that decides what comes out.

        Args:
            training: The resolved training config as text.
        """
        held = self.model_dump(mode="json", exclude=_HOW) | {"training": training}
        return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()


def load_loop(path: Path, overrides: Sequence[str] = ()) -> LoopConfig:
    """Read a YAML config and apply `a.b=c` overrides.

    Raises:
        ConfigError: The file cannot be read, or a field is unknown, missing or out of range.
    """
    return parse_loop(read_mapping(path, overrides), str(path))


def parse_loop(raw: dict[str, Any], origin: str = "config") -> LoopConfig:
    """A LoopConfig from plain values; `origin` stands at the head of every error."""
    return parse(LoopConfig, raw, origin)
