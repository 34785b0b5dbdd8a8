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
    return bool(_labels(schema))


def longest_choice_bytes(schema: Mapping[str, Any] | None) -> int:
    """The UTF-8 bytes of the longest answer to a schema of `choice_schema`; 0 for any other schema."""
    return max((len(json.dumps({KEY: label}).encode()) for label in _labels(schema)), default=0)


def _labels(schema: Mapping[str, Any] | None) -> Sequence[str]:
    properties = None if schema is None else schema.get("properties")
    choice = properties.get(KEY) if isinstance(properties, Mapping) else None
    labels = choice.get("enum") if isinstance(choice, Mapping) else None
    return labels if isinstance(labels, list | tuple) and schema == choice_schema(labels) else ()


def bare_label(output: str) -> str:
    """The label of an answer; anything else, such as a truncated answer, as it is."""
    try:
        label = json.loads(output)[KEY]
    except (ValueError, TypeError, KeyError):
        return output
    return label if isinstance(label, str) else output
