"""What a user may ask of a run, checked once; the same model serves the command line and Python."""

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Final, Literal, Self

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from spinect.anatomy import ORDER, VERTEBRA_IDS
from spinect.errors import ConfigError
from spinect.evaluation.uncertainty import interval_ranks

# What --outputs chooses from; run.json is always written, it marks a case as complete.
OUTPUTS: Final[dict[str, str]] = {
    "ct": "synthetic CT in HU on the grid of the MR",
    "std": "spread of the samples in HU, with --mode mc only",
    "interval": "two order statistics of the samples, --mode mc; not in all",
    "medoid": "the sample that is closest to the others, --mode mc; not in all",
    "votes": "masks of every sample put to the vote, --mode mc; not in all",
    "vertebrae": "vertebra mask on the grid of the MR",
    "subregions": "subregion mask on the grid of the MR",
    "iso": "1 mm isotropic twins of the chosen images and masks",
    "table": "one row per vertebra",
    "preview": "picture: MR, synthetic CT, masks over MR in three planes",
    "html": "self-contained report",
}

# Of these a run keeps its samples on disk, or segments each of them: they are asked for by name,
# and refused where they cannot be. The others fall away where there is nothing to write.
EXTRAS: Final = ("interval", "medoid", "votes")
STANDARD: Final = tuple(name for name in OUTPUTS if name not in EXTRAS)

# Options that steer how a run is done but not what comes out; they stay out of the hash.
_HOW: Final = {"device", "max_memory", "overwrite", "resume", "timeout"}
_UNITS: Final = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class RunOptions(BaseModel, frozen=True, extra="forbid"):
    """Options of `spinect run`, with their defaults."""

    kind: Literal["mr", "ct"] = "mr"  # of the inputs; a CT is only segmented, unless:
    makes: str = "ct"  # what the model makes; a CT may become an MR of this suffix, such as T2w
    model: str = "mr2ct"  # shipped bundle or a bundle's folder
    mode: Literal["regress", "sample", "mc"] = "regress"
    samples: PositiveInt = 10  # draws with mode "mc"
    interval: float = 0.8  # least nominal coverage of the output "interval"
    steps: PositiveInt | None = None  # network calls per sample; None = the bundle's own number
    seed: int = Field(default=0, ge=0)
    region: Literal["all", "spine"] = "all"  # what is translated; the rest is as outside the image
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    max_memory: PositiveInt = 6 * 2**30  # bytes
    segmenter: str = "embedded"  # embedded, direct, none or command:"..."
    scheme: Literal["totalsegmentator", "verse", "spineps"] = "totalsegmentator"
    lowest: str | None = None  # name of the lowest vertebra in the image, such as "L5"
    highest: str | None = None
    volume: int | None = Field(default=None, ge=0)  # index in a 4D file
    sacrum: Literal["full", "single"] = "full"
    outputs: tuple[str, ...] = STANDARD
    overwrite: bool = False
    resume: bool = False
    force: bool = False  # take a file as MR although it looks like a CT or a label map
    timeout: PositiveFloat | None = None  # seconds per case

    @model_validator(mode="after")
    def _fits(self) -> Self:
        kind, _, template = self.segmenter.partition(":")
        if kind == "command":
            if "{input}" not in template or "{output}" not in template:
                raise ValueError(
                    f"the segmenter command must name {{input}} and {{output}}, not {template!r}"
                )
        elif self.segmenter not in ("embedded", "direct", "none"):
            raise ValueError(
                f"segmenter {self.segmenter!r} is not embedded, direct, none or "
                'command:"PROGRAM {input} {output}"'
            )
        for which in ("lowest", "highest"):
            name = getattr(self, which)
            if name is not None and name not in VERTEBRA_IDS:
                raise ValueError(f"{which} {name!r} is not a vertebra; write one such as T12 or L5")
        if self.lowest and self.highest:
            low, high = (ORDER.index(VERTEBRA_IDS[v]) for v in (self.lowest, self.highest))
            if low < high:
                raise ValueError(f"lowest {self.lowest} lies above highest {self.highest}")
        if unknown := sorted(set(self.outputs) - set(OUTPUTS)):
            raise ValueError(f"outputs {unknown} are not among {', '.join(OUTPUTS)}")
        self._fits_draws()
        if self.makes != "ct" and (self.kind, self.segmenter) not in (
            ("ct", "none"), ("ct", "embedded"),
        ):  # fmt: skip
            raise ValueError(
                f"a model that makes {self.makes} takes a CT, and its segmenter is none, or "
                f"embedded for masks of that CT; not kind {self.kind} with {self.segmenter}"
            )
        if not self.translates and self.segmenter in ("direct", "none"):
            raise ValueError(
                f"segmenter {self.segmenter} needs an MR; a CT takes embedded or command"
            )
        if not self.translates and self.region != "all":
            raise ValueError(
                f"region {self.region} is of what is translated, and a CT is only segmented: "
                "leave it out"
            )
        if self.overwrite and self.resume:
            raise ValueError("overwrite and resume exclude each other: choose one")
        return self

    def _fits_draws(self) -> None:
        """Outputs that need more than one draw."""
        extras = [name for name in self.outputs if name in EXTRAS]
        if extras and (self.kind == "ct" or self.mode != "mc"):
            given = "a CT" if self.kind == "ct" else f"mode {self.mode}"
            raise ValueError(
                f"outputs {', '.join(extras)} need --mode mc on an MR: {given} has no spread"
            )
        if "interval" in extras:
            interval_ranks(self.samples, self.interval)
        if "votes" in extras and self.segmenter in ("direct", "none"):
            raise ValueError(
                f"votes need masks of every draw, and segmenter {self.segmenter} makes none of a "
                "CT: use embedded or command"
            )

    @property
    def translates(self) -> bool:
        """Whether an image is made of the input, or masks only."""
        return self.kind == "mr" or self.makes != "ct"

    @classmethod
    def checked(cls, **values: object) -> Self:
        """Build from loose values; a value that does not fit raises a one-line ConfigError."""
        try:
            return cls.model_validate(values)
        except ValidationError as problem:
            parts = []
            for error in problem.errors():
                where = ".".join(map(str, error["loc"]))
                text = error["msg"].removeprefix("Value error, ")
                parts.append(f"{where}: {text}, not {error['input']!r}" if where else text)
            raise ConfigError("; ".join(parts)) from None

    def content(self) -> dict[str, object]:
        """The options that decide what comes out, JSON-ready."""
        unused = set() if "interval" in self.outputs else {"interval"}
        unused |= {"makes"} if self.makes == "ct" else set()
        unused |= {"region"} if self.region == "all" else set()
        return self.model_dump(mode="json", exclude=_HOW | unused)

    def content_hash(self) -> str:
        """sha256 of `content`; equal hash, equal input and equal models mean equal outputs."""
        text = json.dumps(self.content(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def parse_size(text: str) -> int:
    """ "6G" -> bytes; units K, M, G, T are powers of 1024, a bare number counts bytes."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    if not match:
        raise ConfigError(f"{text!r} is not a size; write one such as 6G or 800M")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def parse_outputs(text: str) -> tuple[str, ...]:
    """ "ct,iso" -> names in the order of `OUTPUTS`; "all" stands for `STANDARD`: "all,votes"."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    if "all" in names:
        names = [*STANDARD, *(name for name in names if name != "all")]
    if unknown := sorted(set(names) - set(OUTPUTS)):
        raise ConfigError(f"outputs {unknown} are not among all, {', '.join(OUTPUTS)}")
    if not names:
        raise ConfigError(f"no output is named; choose from all, {', '.join(OUTPUTS)}")
    return tuple(name for name in OUTPUTS if name in names)


def human_size(count: float) -> str:
    """Bytes for people: 1.5 GB (powers of 1024)."""
    for unit in ("B", "kB", "MB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.1f} GB"


def human_time(seconds: float) -> str:
    """Seconds for people: 42 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def listed(names: Iterable[object], most: int = 3) -> str:
    """The first few of many names in one line: "a, b, c and 7 more"."""
    held = [str(name) for name in names]
    more = f" and {len(held) - most} more" if len(held) > most else ""
    return ", ".join(held[:most]) + more
