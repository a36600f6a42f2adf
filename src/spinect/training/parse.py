"""Files that a user writes, read and checked: YAML, `a.b=c` overrides, one-line complaints."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from spinect.errors import ConfigError

M = TypeVar("M", bound=BaseModel)


def read_mapping(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The fields of a YAML config, with `a.b=c` overrides, not yet checked.

    Raises:
        ConfigError: The file cannot be read or is no mapping, or an override is not `a.b=c`.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: a config is a mapping of fields, not {type(raw).__name__}")
    for override in overrides:
        _override(raw, override)
    return raw


def parse(model: type[M], raw: Mapping[str, Any], origin: str) -> M:
    """A checked model from plain values; `origin` stands at the head of every error.

    Raises:
        ConfigError: Fields that are unknown, missing or out of range, each with its whole path.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{origin}: {_explain(error, model)}") from error


def resolve_path(text: str) -> Path:
    """A data root: $VARIABLES filled in, relative to the working directory.

    Raises:
        ConfigError: A variable is not set.
    """
    filled = os.path.expandvars(text)
    unset = re.findall(r"\$\{?(\w+)", filled)
    if unset:
        raise ConfigError(f"{text}: the environment variable {unset[0]} is not set; set it")
    return Path(filled).expanduser()


def set_field(raw: dict[str, Any], key: str, value: Any, origin: str) -> None:
    """Set the field `a.b` of nested dicts, in place.

    Args:
        origin: Stands at the head of the error.
    Raises:
        ConfigError: `a` is a value, not a group of fields.
    """
    *parents, last = key.split(".")
    place = raw
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise ConfigError(f"{origin}: {parent} is a value, not a group of fields")
    place[last] = value


def _override(raw: dict[str, Any], override: str) -> None:
    """Set one `a.b=c` in nested dicts; the value is read as YAML."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override!r}: write it as field.subfield=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: the value is not YAML") from error
    set_field(raw, key.strip(), value, f"--set {override!r}")


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    """All complaints of pydantic on one line, each with the path of its field."""
    told = []
    names = {name for one in _models(model) for name in one.model_fields}
    tagged = {name for name, field in model.model_fields.items() if field.discriminator}
    for item in error.errors():
        steps = [str(step) for step in item["loc"]]
        if len(steps) > 1 and steps[0] in tagged:
            del steps[1]  # the tag of the union is not a field that the user wrote
        where = ".".join(steps) or model.__name__
        if item["type"] == "extra_forbidden":
            near = get_close_matches(steps[-1], names, 1)
            told.append(f"{where}: unknown field" + (f"; did you mean {near[0]}?" if near else ""))
        elif item["type"] == "missing":
            told.append(f"{where}: is missing")
        else:
            found = "" if isinstance(item["input"], dict) else f" (found {item['input']!r})"
            message = item["msg"].removeprefix("Value error, ")
            told.append(f"{where}: {message[:1].lower()}{message[1:]}{found}")
    return "; ".join(told)


def _models(kind: Any) -> Iterator[type[BaseModel]]:
    """A model and all that its fields hold; kind is a type or an annotation."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
        for field in kind.model_fields.values():
            yield from _models(field.annotation)
    for part in get_args(kind):
        yield from _models(part)
