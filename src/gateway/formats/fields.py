"""The fields of a body by what becomes of them on another API than the one that was called.

translated   in every API, in other words
only_form    they change what is asked for, and no other API has them: n, logprobs
hints        all others, unknown ones too: user, metadata, store
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from ...messages import ContentPart, Text

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_HIGHEST = "high"
JSON_OBJECT: Mapping[str, Any] = {"type": "object", "additionalProperties": True}  # any object


def effort_of(written: str | None) -> str | None:
    """The neutral effort: those above the highest that all APIs know become that one."""
    return _HIGHEST if written in ("xhigh", "max") else written


def hints_in(
    body: Mapping[str, Any], known: Collection[str], usual: Mapping[str, Any], more: Iterable[str] = ()
) -> tuple[str, ...]:
    """The fields of a body that are not `known`, without those that say what is `usual` anyway."""
    found = [
        name
        for name, value in body.items()
        if name not in known and value is not None and value != usual.get(name)
    ]
    return tuple(dict.fromkeys([*found, *more]))


def only_in(body: Mapping[str, Any], tests: Mapping[str, Callable[[Any], object]]) -> list[str]:
    """The fields of a body whose value passes their test."""
    return [name for name, is_used in tests.items() if body.get(name) is not None and is_used(body[name])]


def content_of(parts: Sequence[ContentPart]) -> str | tuple[ContentPart, ...]:
    """The content of a message: a text where it is no more than that."""
    if not parts:
        return ""
    first = parts[0]
    if len(parts) == 1 and isinstance(first, Text) and not first.cache:
        return first.text
    return tuple(parts)
