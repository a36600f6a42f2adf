"""What a user may ask of an evaluation, checked once for the command line and for Python."""

from typing import Any, Final, Literal, Self

from pydantic import BaseModel, Field, PositiveInt, ValidationError

from spinect.errors import ConfigError

Protocol = Literal["strict", "graf2023", "synthrad"]
Renderer = Literal["pyvista", "matplotlib", "none"]
PROTOCOLS: Final[tuple[Protocol, ...]] = ("strict", "graf2023", "synthrad")


class EvaluateOptions(BaseModel, frozen=True, extra="forbid"):
    """Options of `spinect evaluate`, with their defaults."""

    protocols: tuple[Protocol, ...] = Field(default=PROTOCOLS, min_length=1)
    judge: str | None = None  # segmenter bundle, a name or a folder, that scores synthetic CTs
    reference: str | None = None  # method that the others are tested against
    split: Literal["train", "validation", "test", "all"] = "test"  # side that is scored
    contrasts: tuple[str, ...] = ()  # suffixes such as "T2w"; none means all
    one_series: bool = False  # one series of each patient is expected, not every one
    renderer: Renderer | None = None  # of surfaces; None: pyvista if installed, else matplotlib
    workers: PositiveInt = 1  # cases at a time, each in its own process above 1
    resume: bool = False
    overwrite: bool = False

    @classmethod
    def checked(cls, **fields: Any) -> Self:
        """The options, or a ConfigError that names the field.

        Raises:
            ConfigError: An unknown field, a value that is not offered, or fields that contradict.
        """
        try:
            options = cls(**fields)
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        if options.overwrite and options.resume:
            raise ConfigError("overwrite and resume contradict each other: give one of them")
        return options
