"""Answers that are one of several labels: their schema, and the bare label."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

KEY = "choice"


def choice_schema(labels: Sequence[str]) -> dict[str, Any]:
    """The schema of `{"choice": LABEL}`: no provider accepts a string as the root of a schema."""
    choice = {"type": "string", "enum": list(labels)}
    return {"type": "object", "properties": {KEY: choice}, "required": [KEY]}


def is_choice(schema: Mapping[str, Any] | None) -> bool:
    """Whether `choice_schema` made this schema."""
    if schema is None:
        return False
    labels = schema.get("properties", {}).get(KEY, {}).get("enum") if "properties" in schema else None
    return isinstance(labels, list | tuple) and schema == choice_schema(labels)


def bare_label(output: str) -> str:
    """The label of an answer; anything else, such as a truncated answer, as it is."""
    try:
        label = json.loads(output)[KEY]
    except (ValueError, TypeError, KeyError):
        return output
    return label if isinstance(label, str) else output
