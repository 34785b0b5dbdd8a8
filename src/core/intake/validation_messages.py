"""Messages for people about invalid rows."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ...errors import hint

SHOWN_CHARS = 40  # of an invalid value that a message repeats
PATH_CHARS = 100  # of the path to it
SLIP = 0.85  # similarity of a misspelt word: `promt` has 0.91, `title` for `tier` 0.67

Path = tuple[int | str, ...]

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


def validation_message(error: ValidationError, shape: type[BaseModel], at: Path = ()) -> str:
    """The first problem in one line: the key of `shape`, what is allowed, what was found.

    `at`: where the shape stands in the row.
    """
    first = _first(error.errors())
    kind, given, limits = first["type"], first["input"], first.get("ctx", {})
    where = path_text((*at, *first["loc"]))
    if kind == "value_error":
        return str(limits["error"])
    if kind == "extra_forbidden":
        return _unknown_key(first["loc"], shape, at)
    if kind == "missing":
        return f"{where} is missing"
    return f"{where} must be {_allowed(kind, limits, first['msg'])}, not {_found(kind, given)}"


def _first(errors: Sequence[ErrorDetails]) -> ErrorDetails:
    """The problem to show. An unknown key is probably the one that is missing, misspelt."""
    unknown = (each for each in errors if each["type"] == "extra_forbidden")
    return next(unknown, errors[0]) if errors[0]["type"] == "missing" else errors[0]


def _allowed(kind: str, limits: Mapping[str, Any], otherwise: str) -> str:
    if kind in _KINDS:
        return _KINDS[kind]
    bounds = {
        "greater_than": "above {gt}",
        "greater_than_equal": "at least {ge}",
        "less_than_equal": "at most {le}",
        "string_too_short": "at least {min_length} character",
        "string_too_long": "at most {max_length} characters",
        "too_short": "at least {min_length} long",
        "finite_number": "a finite number",
        "literal_error": "one of {expected}" if " or " in limits.get("expected", "") else "{expected}",
    }
    written = {name: _number_text(limit) for name, limit in limits.items()}
    return bounds[kind].format(**written) if kind in bounds else otherwise


def _number_text(limit: Any) -> str:
    if isinstance(limit, float):
        return f"{limit:,.10g}"
    return f"{limit:,}" if isinstance(limit, int) else str(limit)


def _found(kind: str, given: Any) -> str:
    if kind in _KINDS:
        return kind_of(given)
    if kind in {"string_too_short", "too_short"}:
        return "empty"
    return str(len(given)) if kind == "string_too_long" else shown(given)


def _unknown_key(loc: Path, shape: type[BaseModel], at: Path) -> str:
    key, known = str(loc[-1]), list(_shape_at(loc[:-1], shape).model_fields)
    inside = f" in {path_text((*at, *loc[:-1]))}" if len(at) + len(loc) > 1 else ""
    return f"unknown key {shown(key)}{inside}; {hint(key, known)}"


def _shape_at(loc: Path, shape: type[BaseModel]) -> type[BaseModel]:
    """The model at `loc`: for `("messages", 0)` of a task that of a message."""
    for name in loc:
        if isinstance(name, str):
            shape = _model_in(shape.model_fields[name].annotation) or shape
    return shape


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation such as `list[Model] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(each) for each in get_args(annotation))
    return next((each for each in found if each is not None), None)


def path_text(loc: Path) -> str:
    """`'messages[0].role'` for `('messages', 0, 'role')`, in one line of bounded length."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    if not text.isprintable():
        text = ascii(text)[1:-1]
    return f"'{text if len(text) <= PATH_CHARS else text[: PATH_CHARS - 3] + '...'}'"


def kind_of(value: Any) -> str:
    """The type of a JSON value in words."""
    names: dict[type, str] = {
        str: "text",
        bool: "true or false",
        list: "a list",
        dict: "an object",
        type(None): "null",
    }
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"the number {shown(value)}"
    return names.get(type(value)) or f"of type {type(value).__name__}"


def shown(value: Any) -> str:
    """The value as Python writes it, shortened."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 3] + "..."


def near_key(word: str, known: Iterable[str]) -> str:
    """The known word that `word` probably misspells; empty if there is none."""
    plain = re.sub(r"[^a-z0-9]+", "_", word.lower())
    matches = difflib.get_close_matches(plain, list(known), n=1, cutoff=SLIP)
    return matches[0] if matches else ""
