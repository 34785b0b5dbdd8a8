"""The form of all answers of a file: a schema or a list of choices, for rows that name neither."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...answer_schema import check_schema
from ...errors import InputError, not_utf_8, unreadable
from .json_text import parse_object


def read_schema(file: Path) -> Mapping[str, Any]:
    """The JSON schema in a file. Raises InputError where there is none."""
    try:
        schema = parse_object(file.read_text(encoding="utf-8-sig"), '{"type": "object"}')
        check_schema(schema)
    except OSError as error:
        raise InputError(f"{file}: {unreadable(error)}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: {not_utf_8(error)}") from error
    except InputError as error:
        raise InputError(f"{file}: {error.what}") from None
    return schema
