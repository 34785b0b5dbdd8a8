"""JSON as it is written by hand, with what is wrong in words."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from ...errors import InputError
from .validation_messages import kind_of


def parse_json(text: str) -> Any:
    """JSON without NaN or Infinity. Raises InputError."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise InputError("not JSON that can be read: nested too deeply") from None
    except ValueError as error:
        raise InputError(f"not JSON that can be read: {error}") from None


def parse_object(text: str) -> dict[str, Any]:
    """One JSON object. Raises InputError."""
    value = parse_json(text)
    if not isinstance(value, dict):
        raise InputError(f'must be an object like {{"prompt": "..."}}, not {kind_of(value)}')
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise InputError(f"{name} is not a number that JSON knows")
