"""A request in the form of its API: the body, and what was left out of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from .prompts import Json

_NONE: Mapping[str, str] = MappingProxyType({})


class Rendered(NamedTuple):
    """A request as it is sent. `warnings` name what the API can't take; `headers` are added to the SDK's."""

    body: Json
    warnings: tuple[str, ...] = ()
    headers: Mapping[str, str] = _NONE
