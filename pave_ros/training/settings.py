"""Settings as YAML gives them, as the dataclasses that hold them; what does not fit is refused by its name."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

Settings = TypeVar("Settings")
Bounds = Sequence[tuple[Sequence[str], float, float]]  # names of settings, the least and the most that they may be


class ConfigError(ValueError):
    """A setting that is unknown, missing or of the wrong kind; the message names it."""


_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2
_SHORT.maxstring = _SHORT.maxother = 100


def shown(value: object) -> str:
    """A value as an error shows it, cut where it is long: with aliases a few lines of YAML make gigabytes."""
    return _SHORT.repr(value)


def filled(kind: type[Settings], values: Any, what: str) -> Settings:
    """A dataclass with these values, of the types that its fields have: lists become tuples, text numbers where it says
    one, since 1e-4 without a dot is text in YAML, and ``~`` in paths the home directory.

    Args:
        kind: the dataclass.
        values: by the names of its fields; those with a default may be left out.
        what: they are the settings of.

    Raises:
        ConfigError: they do not fit.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{what}: has to hold settings by name, not {shown(values)}")
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := [str(name) for name in values if name not in known]:
        raise ConfigError(f"{what}: unknown setting {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}")
    for name, field in known.items():
        if name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(f"{what}: setting {name!r} is missing")
    try:
        made = TypeAdapter(with_config(ConfigDict(allow_inf_nan=False))(kind)).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        if isinstance(reason := first.get("ctx", {}).get("error"), ValueError):  # the dataclass's own
            raise ConfigError(f"{what}: {reason}") from None
        place = ".".join(map(str, first["loc"]))
        message = first["msg"][:1].lower() + first["msg"][1:]
        raise ConfigError(f"{what}: {place}: {message}, not {shown(first['input'])}") from None
    paths = {name: value for name in known if isinstance(value := getattr(made, name), Path)}
    return replace(made, **{name: path.expanduser() for name, path in paths.items()})  # type: ignore[type-var]


def check_bounds(settings: Any, bounds: Bounds) -> None:
    """ConfigError names the first setting that does not lie between its bounds."""
    for names, low, high in bounds:
        for name in names:
            if not low <= getattr(settings, name) <= high:
                reach = f"at least {low}" if math.isinf(high) else f"from {low} to {high}"
                raise ConfigError(f"{name} has to be {reach}, not {getattr(settings, name)}")


def check_ranges(settings: Any, *names: str) -> None:
    """ConfigError names the first setting that is no range (low, high) of factors."""
    for name in names:
        low, high = getattr(settings, name)
        if not 0 < low <= high:
            raise ConfigError(f"{name} has to be a range above 0, not {[low, high]}")
