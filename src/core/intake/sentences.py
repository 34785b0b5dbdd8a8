"""What is wrong with a row, in sentences for people."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from .fields import MessageFields, TaskFields

SHOWN_CHARS = 40  # how much of a wrong value a message repeats

_KINDS: dict[str, str] = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}


def sentence(error: ValidationError) -> str:
    """The first problem as one line: which key, what is allowed, what was found."""
    first = error.errors()[0]
    kind, given, limits = first["type"], first["input"], first.get("ctx", {})
    where = _path(first["loc"])
    if kind == "value_error":
        return str(limits["error"])
    if kind == "extra_forbidden":
        return _unknown_key(first["loc"])
    if kind == "missing":
        return f"{where} is missing"
    return f"{where} must be {_allowed(kind, limits, first['msg'])}, not {_found(kind, given)}"


def _allowed(kind: str, limits: Mapping[str, Any], otherwise: str) -> str:
    if kind in _KINDS:
        return _KINDS[kind]
    bounds = {
        "greater_than": "above {gt:g}",
        "greater_than_equal": "at least {ge:g}",
        "less_than_equal": "at most {le:g}",
        "string_too_short": "at least {min_length} character",
        "string_too_long": "at most {max_length} characters",
        "too_short": "at least {min_length} long",
        "finite_number": "a finite number",
        "literal_error": "one of {expected}",
    }
    return bounds[kind].format(**limits) if kind in bounds else otherwise


def _found(kind: str, given: Any) -> str:
    if kind in _KINDS:
        return kind_of(given)
    if kind in {"string_too_short", "too_short"}:
        return "empty"
    return str(len(given)) if kind == "string_too_long" else shown(given)


def _unknown_key(loc: tuple[int | str, ...]) -> str:
    shape = MessageFields if loc[0] == "messages" else TaskFields
    key, known = str(loc[-1]), list(shape.model_fields)
    near = nearest(key, known)
    inside = f" in {_path(loc[:-1])}" if len(loc) > 1 else ""
    hint = f"did you mean {near!r}?" if near else f"known: {', '.join(known)}"
    return f"unknown key {shown(key)}{inside}; {hint}"


def _path(loc: tuple[int | str, ...]) -> str:
    """`('messages', 0, 'role')` is `'messages[0].role'`."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return f"'{text}'"


def kind_of(value: Any) -> str:
    names: dict[type, str] = {
        str: "text",
        bool: "true or false",
        list: "a list",
        dict: "an object",
        type(None): "null",
    }
    return names.get(type(value)) or f"the number {shown(value)}"


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 3] + "..."


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant, or nothing."""
    plain = word.lower().replace("-", "_")
    matches = difflib.get_close_matches(plain, list(known), n=1)
    return matches[0] if matches else ""
