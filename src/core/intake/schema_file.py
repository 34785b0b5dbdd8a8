"""The form of all answers of a file: a schema or a list of choices, for rows that name neither."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...answer_schema import check_schema
from ...errors import InputError
from .json_text import read_object


def read_schema(file: Path) -> Mapping[str, Any]:
    """The JSON schema in a file. Raises InputError where there is none."""
    schema = read_object(file, '{"type": "object"}')
    try:
        check_schema(schema)
    except InputError as error:
        raise InputError(f"{file}: {error.what}") from None
    return schema
