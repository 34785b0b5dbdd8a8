"""Definitions of tools, as far as the APIs agree on them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..messages import Tool
from .prompts import Json

_UNIONS = ("oneOf", "allOf", "anyOf", "enum", "not")  # refused at the root by OpenAI and Anthropic
_MAPS = ("properties", "$defs", "definitions", "patternProperties")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SCHEMAS = ("items", "additionalProperties", "not")


def parameters_of(tool: Tool) -> tuple[Json, str]:
    """`(schema of an object, description)`.

    What no API takes at the root of a schema is said in the description instead.
    """
    schema: Json = dict(tool.parameters or {})
    unions = {name: schema.pop(name) for name in _UNIONS if name in schema}
    description = tool.description
    if unions:
        words = f"The arguments also match this JSON schema: {json.dumps(unions, ensure_ascii=False)}"
        description = f"{description}\n\n{words}" if description else words
    schema["type"] = "object"
    schema.setdefault("properties", {})
    return schema, description


def with_items(schema: Any) -> Any:
    """The schema with `items` in every array, without which OpenAI refuses it."""
    if not isinstance(schema, Mapping):
        return schema
    found: Json = {key: _within(key, value) for key, value in schema.items()}
    kind = schema.get("type")
    if kind == "array" or (isinstance(kind, list) and "array" in kind):
        found.setdefault("items", {})
    return found


def _within(key: str, value: Any) -> Any:
    """The value of a keyword, with `items` in the schemas in it."""
    if key in _MAPS and isinstance(value, Mapping):
        return {name: with_items(each) for name, each in value.items()}
    if key in _LISTS and isinstance(value, list):
        return [with_items(each) for each in value]
    return with_items(value) if key in _SCHEMAS else value
