"""Strict JSON: no NaN, no duplicate keys."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from ...errors import InputError, not_utf_8, unreadable
from ...small_files import read_small
from .validation_messages import kind_of, shown


def parse_json(text: str) -> Any:
    """Parse JSON. Raises InputError, for NaN, Infinity and a duplicate key too."""
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise InputError("unreadable JSON: nested too deeply") from None
    except ValueError:  # of Python's limit for numbers
        raise InputError("unreadable JSON: a number has too many digits") from None


def parse_object(text: str, like: str = '{"prompt": "..."}') -> dict[str, Any]:
    """One JSON object. Raises InputError, whose message shows what it may be `like`."""
    value = parse_json(text)
    if not isinstance(value, dict):
        raise InputError(f"must be an object like {like}, not {kind_of(value)}")
    return value


def read_object(file: Path, like: str) -> dict[str, Any]:
    """The JSON object in a file. Raises InputError with the file's name."""
    try:
        return parse_object(read_small(file).decode("utf-8-sig"), like)
    except OSError as error:
        raise InputError(f"{file}: {unreadable(error)}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: {not_utf_8(error)}") from error
    except InputError as error:
        raise InputError(f"{file}: {error.what}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise InputError(f"{name} is not a JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a duplicate key: parsers read it differently (RFC 8259, section 4)."""
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        key = next(key for key, number in counts.items() if number > 1)
        raise InputError(f"duplicate key {shown(key)}")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)
