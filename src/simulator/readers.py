"""Reads single values of the configuration. An error names the place and what is allowed there."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable
from typing import Any


class ConfigError(ValueError):
    """An error in the configuration: where, what, and what is allowed."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}")


def nearest(name: str, known: Iterable[str]) -> str:
    """ "did you mean X?" where something is close, else the list of what is known."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"


def read_object(value: Any, where: str, known: Iterable[str] | None = None) -> dict[str, Any]:
    """An object whose keys are all among `known`. Raises ConfigError."""
    if not isinstance(value, dict):
        raise ConfigError(where, f"expected an object, got {json.dumps(value)}")
    for name in value:
        if known is not None and name not in known:
            raise ConfigError(where, f"unknown key {name!r}, {nearest(name, known)}")
    return value


def read_number(value: Any, where: str, low: float, high: float = math.inf, *, above: bool = False) -> float:
    """A number from `low` to `high`; `above`: `low` itself is excluded. Raises ConfigError."""
    is_number = not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
    if not is_number or value < low or (above and value == low):
        wanted = f"above {low:g}" if above else f"of at least {low:g}"
        raise ConfigError(where, f"expected a number {wanted}, got {shown(value)}")
    if value > high:
        raise ConfigError(where, f"expected a number of at most {high:g}, got {shown(value)}")
    return float(value)


def shown(value: Any) -> str:
    """A value as errors quote it."""
    return json.dumps(value)[:80]


def read_whole(value: Any, where: str, low: int, high: float = math.inf) -> int:
    """A whole number from `low` to `high`. Raises ConfigError."""
    if not isinstance(value, int):
        raise ConfigError(where, f"expected a whole number, got {shown(value)}")
    return int(read_number(value, where, low, high))


def read_flag(value: Any, where: str) -> bool:
    """True or false. Raises ConfigError."""
    if not isinstance(value, bool):
        raise ConfigError(where, f"expected true or false, got {shown(value)}")
    return value


def read_names(value: Any, where: str) -> tuple[str, ...]:
    """A list of names. Raises ConfigError."""
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise ConfigError(where, f"expected a list of names, got {shown(value)}")
    return tuple(value)
