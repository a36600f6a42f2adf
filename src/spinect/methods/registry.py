"""The one list of methods: by name, with the config that a user may write for each.

method = build("regression", {"ndim": 3, "in_channels": 3})
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from spinect.errors import ConfigError
from spinect.protocols import Method, Mode


class MethodClass(Protocol):
    """What a registered class tells about itself before it is built."""

    summary: str  # one line
    offers: tuple[Mode, ...]  # modes of `translate`
    dims: tuple[int, ...]  # 2, 3 or both
    citation: str  # the publication it follows

    def __call__(self, config: Any) -> Method:
        """The method with networks as the config says, freshly initialised."""
        ...


@dataclass(frozen=True)
class _Entry:
    config: type[BaseModel]
    make: MethodClass


_ENTRIES: dict[str, _Entry] = {}
C = TypeVar("C", bound=MethodClass)


def register(name: str, config: type[BaseModel]) -> Callable[[C], C]:
    """Class decorator that enters a method under `name` with its pydantic config model."""

    def enter(made: C) -> C:
        if name in _ENTRIES:
            raise ConfigError(f"two methods are named {name!r}; give one of them another name")
        _ENTRIES[name] = _Entry(config, made)
        return made

    return enter


def names() -> tuple[str, ...]:
    """Names of all methods, sorted."""
    return tuple(sorted(_ENTRIES))


def config_model(name: str) -> type[BaseModel]:
    """The pydantic model of what may stand under "method" in a config.

    Raises:
        ConfigError: No method has that name.
    """
    if name not in _ENTRIES:
        raise ConfigError(f"no method is named {name!r}; there are: {', '.join(names())}")
    return _ENTRIES[name].config


def build(name: str, config: Mapping[str, Any]) -> Method:
    """A freshly initialised method.

    Args:
        name: One of `names()`.
        config: Fields of its config model; what is left out takes the default.
    Raises:
        ConfigError: An unknown name, an unknown key or a value that does not fit.
    """
    model = config_model(name)
    try:
        checked = model.model_validate(dict(config))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise ConfigError(
            f"method {name!r}: {where} = {first['input']!r}: {first['msg']}; "
            f"fields: {', '.join(model.model_fields)}"
        ) from error
    return _ENTRIES[name].make(checked)


def describe() -> list[dict[str, Any]]:
    """One row per method, sorted by name: name, summary, modes, ndim, citation."""
    return [
        {
            "name": name,
            "summary": _ENTRIES[name].make.summary,
            "modes": list(_ENTRIES[name].make.offers),
            "ndim": list(_ENTRIES[name].make.dims),
            "citation": _ENTRIES[name].make.citation,
        }
        for name in names()
    ]
