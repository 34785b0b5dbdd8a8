"""Converts the text of a cell to the type of a task's field."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ...errors import InputError
from .json_text import parse_json
from .validation_messages import shown

_WHOLE = re.compile(r"[+-]?\d+(\.0+)?")


def value_of(key: str, cell: str) -> Any:
    """The cell as a value for the field `key`. Raises InputError where it does not fit."""
    return _READ.get(key, _text)(key, cell)


def _text(_key: str, cell: str) -> str:
    return cell


def _word(_key: str, cell: str) -> str:
    return cell.strip()


def _whole(key: str, cell: str) -> int:
    """Some programs write whole numbers as `512.0` in a column with empty cells."""
    if not _WHOLE.fullmatch(cell.strip()) or len(cell) > 30:
        raise InputError(f"{key!r} must be a whole number, not {shown(cell)}")
    return int(cell.strip().partition(".")[0])


def _number(key: str, cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise InputError(f"{key!r} must be a number such as 0.5, not {shown(cell)}") from None


def _true_or_false(key: str, cell: str) -> bool:
    """Spreadsheets write `TRUE`."""
    found = {"true": True, "false": False}.get(cell.strip().lower())
    if found is None:
        raise InputError(f"{key!r} must be true or false, not {shown(cell)}")
    return found


def _word_or_json(key: str, cell: str) -> Any:
    return _json(key, cell) if cell.lstrip().startswith("{") else cell.strip()


def _json(key: str, cell: str) -> Any:
    try:
        return parse_json(cell)
    except InputError as error:
        raise InputError(f"{key!r}: {error.what}") from None


def _list(key: str, cell: str) -> Any:
    """A JSON list, or words separated by commas."""
    if cell.lstrip().startswith("["):
        return _json(key, cell)
    return [word.strip() for word in cell.split(",") if word.strip()]


def _stop(key: str, cell: str) -> Any:
    """A JSON list, or one stop sequence: a comma may be part of it."""
    return _json(key, cell) if cell.lstrip().startswith("[") else [cell]


_READ: dict[str, Callable[[str, str], Any]] = {
    **dict.fromkeys(["id", "task_type", "tier", "reasoning_effort", "service_tier", "deadline"], _word),
    **dict.fromkeys(["max_tokens", "priority", "seed"], _whole),
    **dict.fromkeys(["temperature", "top_p"], _number),
    **dict.fromkeys(["models", "providers", "choices"], _list),
    **dict.fromkeys(["messages", "metadata", "response_schema", "tools"], _json),
    "stop": _stop,
    "tool_choice": _word_or_json,
    "parallel_tool_calls": _true_or_false,
}
