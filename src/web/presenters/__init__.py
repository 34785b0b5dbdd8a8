"""Views: frozen values made from the store, the same for a page and for JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Any

from ...records import NANOS_PER_USD


def as_json(value: Any) -> Any:
    """Plain JSON values. Fields `*_nanos` become `*_usd`, tuples become lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _object((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
    if isinstance(value, Mapping):
        return _object((_key(key), inner) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return [as_json(inner) for inner in value]
    return str(value) if isinstance(value, Enum) else value


def _key(key: Any) -> str:
    return str(key.value) if isinstance(key, Enum) else str(key)


def _object(pairs: Any) -> dict[str, Any]:
    found = {}
    for name, value in pairs:
        if name.endswith("_nanos"):
            found[name.removesuffix("_nanos") + "_usd"] = None if value is None else value / NANOS_PER_USD
        else:
            found[name] = as_json(value)
    return found
