"""What stands in a cell, as the value that the key of a task takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ...errors import InputError
from .json_text import parse_json
from .validation_messages import shown

_WHOLE = re.compile(r"[+-]?\d+(\.0+)?")


def value_of(key: str, cell: str) -> Any:
    """Raises InputError for a cell that does not fit the key."""
    return _READ.get(key, _text)(key, cell)


def _text(_key: str, cell: str) -> str:
    return cell


def _word(_key: str, cell: str) -> str:
    return cell.strip()


def _whole(key: str, cell: str) -> int:
    """`512.0` is how some programs write a whole number beside empty cells."""
    if not _WHOLE.fullmatch(cell.strip()) or len(cell) > 30:
        raise InputError(f"{key!r} must be a whole number, not {shown(cell)}")
    return int(cell.strip().partition(".")[0])


def _number(key: str, cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise InputError(f"{key!r} must be a number such as 0.5, not {shown(cell)}") from None


def _json(key: str, cell: str) -> Any:
    try:
        return parse_json(cell)
    except InputError as error:
        raise InputError(f"{key!r}: {error.what}") from None


def _list(key: str, cell: str) -> Any:
    """A JSON list, or words with commas between them."""
    if cell.lstrip().startswith("["):
        return _json(key, cell)
    return [word.strip() for word in cell.split(",") if word.strip()]


def _stop(key: str, cell: str) -> Any:
    """A comma may well be what to stop at."""
    return _json(key, cell) if cell.lstrip().startswith("[") else [cell]


_READ: dict[str, Callable[[str, str], Any]] = {
    **dict.fromkeys(["id", "task_type", "tier"], _word),
    **dict.fromkeys(["max_tokens", "priority"], _whole),
    **dict.fromkeys(["temperature", "deadline_s"], _number),
    **dict.fromkeys(["models", "providers", "choices"], _list),
    **dict.fromkeys(["messages", "metadata", "response_schema"], _json),
    "stop": _stop,
}
