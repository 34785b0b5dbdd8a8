"""The form of all answers of a file: a schema or a list of choices, for rows that name neither."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...answer_schema import check_schema
from ...errors import InputError, unreadable
from .json_text import parse_object


def read_answer_shape(schema_file: Path | None, choices: Sequence[str]) -> dict[str, Any]:
    """The fields to add to each row. Raises InputError for a file without a schema, and for both at once."""
    if schema_file is None:
        return {"choices": list(choices)} if choices else {}
    if choices:
        raise InputError("both --response-schema and --choices are given; one of them is allowed")
    try:
        schema = parse_object(schema_file.read_text(encoding="utf-8-sig"))
        check_schema(schema)
    except OSError as error:
        raise InputError(f"{schema_file}: {unreadable(error)}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{schema_file}: not UTF-8 at byte {error.start + 1}") from error
    except InputError as error:
        raise InputError(f"{schema_file}: {error.what}") from None
    return {"response_schema": schema}
