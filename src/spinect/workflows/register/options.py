"""What a user may ask of a registration, checked once for the command line and for Python."""

import hashlib
import json
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from spinect.errors import ConfigError

# Options that steer how a registration is done but not what comes out; they stay out of the hash.
_HOW: Final = {"overwrite", "resume"}


class RegisterOptions(BaseModel, frozen=True, extra="forbid"):
    """Options of `spinect register`, with their defaults."""

    points: Literal["0", "1", "2", "all"] = "2"  # landmarks per vertebra
    model: Literal["rigid", "polyrigid"] | None = None  # None: rigid for 0 points, else polyrigid
    frame: Literal["header", "centre"] = "header"  # where 0 points put the CT
    interpolation: Literal["bspline", "linear"] = "bspline"
    robust_share: float = Field(default=0.2, ge=0, lt=0.5)  # of landmarks that may be left out
    overwrite: bool = False
    resume: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.points == "0" and self.model == "polyrigid":
            raise ValueError("0 points leave nothing that moves vertebrae: take model rigid")
        if self.frame == "centre" and self.points != "0":
            raise ValueError("frame centre is for 0 points only: landmarks place the CT otherwise")
        if self.overwrite and self.resume:
            raise ValueError("overwrite and resume contradict each other: give one of them")
        return self

    @classmethod
    def checked(cls, **fields: Any) -> Self:
        """The options, or a ConfigError that names the field.

        Raises:
            ConfigError: An unknown field, a value that is not offered, or fields that contradict.
        """
        try:
            return cls(**fields)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            told = first["msg"].removeprefix("Value error, ")
            raise ConfigError(f"{where}: {told}" if where else told) from None

    @property
    def motion(self) -> Literal["rigid", "polyrigid"]:
        """The model, resolved."""
        return self.model or ("rigid" if self.points == "0" else "polyrigid")

    @property
    def deciding(self) -> dict[str, Any]:
        """Every option that decides what comes out."""
        return self.model_dump(exclude=_HOW) | {"model": self.motion}

    @property
    def sha256(self) -> str:
        """Of `deciding`."""
        return hashlib.sha256(json.dumps(self.deciding, sort_keys=True).encode()).hexdigest()
