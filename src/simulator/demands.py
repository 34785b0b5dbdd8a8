"""What each provider demands of a JSON schema before it answers by it: the first thing wrong, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .shapes import Json

_MAPS = ("properties", "$defs", "definitions")
_LISTS = ("anyOf", "oneOf", "allOf")
_NOT_AT_ANTHROPIC = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
    "maxItems", "uniqueItems", "oneOf", "not", "if", "patternProperties", "prefixItems",
)  # fmt: skip
_NOT_IN_STRICT = (
    "allOf",
    "oneOf",
    "not",
    "if",
    "patternProperties",
    "prefixItems",
    "default",
    "minLength",
    "maxLength",
)
_NOT_AT_GEMINI = (
    "$schema",
    "$ref",
    "$defs",
    "definitions",
    "additionalProperties",
    "const",
    "exclusiveMinimum",
)
_GEMINI_TYPES = ("STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", 1, 2, 3, 4, 5, 6)


def anthropic_objection(schema: Json) -> str:
    """Closed objects, no recursion, no bounds."""
    where = "output_config.format.schema"
    for part in _parts(schema):
        for key in _NOT_AT_ANTHROPIC:
            if key in part:
                return f"{where}: For '{part.get('type')}' type, property '{key}' is not supported"
        if part.get("type") == "object" and part.get("additionalProperties") is not False:
            return f"{where}: For 'object' type, 'additionalProperties' must be explicitly set to false"
    if _goes_round(schema, schema, frozenset(["#"]), set()):
        return f"{where}: Circular reference detected in schema definitions"
    return ""


def openai_objection(form: Json) -> str:
    """An object at the root; and for strict mode closed objects with every property required."""
    start = f"Invalid schema for response_format '{form.get('name')}': "
    return _openai_objection(start, form.get("schema") or {}, strict=bool(form.get("strict")))


def openai_tool_objection(function: Json) -> str:
    """The same of a tool's parameters, and items in every array; no parameters at all are fine."""
    schema = function.get("parameters")
    start = f"Invalid schema for function '{function.get('name')}': "
    if schema is None:
        return ""
    if not isinstance(schema, dict):
        return f"{start}{schema!r} is not of type 'object', 'boolean'."
    if objection := _openai_objection(start, schema, strict=bool(function.get("strict"))):
        return objection
    if any(part.get("type") == "array" and "items" not in part for part in _parts(schema)):
        return f"{start}In context=(), array schema missing items."
    return ""


def _openai_objection(start: str, schema: Json, *, strict: bool) -> str:
    if schema.get("type") != "object":
        found = schema.get("type")
        return f"{start}schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{found}\"'."
    for part in _parts(schema) if strict else ():
        if part.get("type") == "object" and part.get("additionalProperties") is not False:
            return f"{start}In context=(), 'additionalProperties' is required to be supplied and to be false."
        if set(part.get("properties", ())) - set(part.get("required", ())):
            return f"{start}In context=(), 'required' is required to include every key in properties."
        for key in _NOT_IN_STRICT:
            if key in part:
                return f"{start}In context=(), '{key}' is not permitted."
    return ""


def gemini_objection(schema: Json) -> str:
    """A type everywhere, properties in every object, items in every array."""
    return _gemini_objection(schema, "* GenerateContentRequest.generation_config.response_schema")


def gemini_function_objection(parameters: Any, where: str) -> str:
    """The same of a function's parameters; none at all are fine."""
    if parameters is None:
        return ""
    if not isinstance(parameters, dict):
        return f"Invalid value at '{where.removeprefix('* GenerateContentRequest.')}'"
    for part in _parts(parameters):
        for name in _NOT_AT_GEMINI:
            if name in part:
                path = where.removeprefix("* GenerateContentRequest.")
                return (
                    f"Invalid JSON payload received. Unknown name \"{name}\" at '{path}': Cannot find field."
                )
    return _gemini_objection(parameters, where)


def _gemini_objection(schema: Json, where: str) -> str:
    for part in _parts(schema):
        kind = part.get("type")
        if kind not in _GEMINI_TYPES and str(kind).upper() not in _GEMINI_TYPES:
            return f"{where}.type: must be specified\n"
        if kind in ("OBJECT", "object", 6) and not part.get("properties"):
            return f"{where}.properties: should be non-empty for OBJECT type\n"
        if kind in ("ARRAY", "array", 5) and "items" not in part:
            return f"{where}.items: missing field.\n"
        if set(part.get("required", ())) - set(part.get("properties", ())):
            return f"{where}.required[0]: property is not defined\n"
    return ""


def _parts(schema: Any) -> Iterator[Json]:
    """The schema and all in it."""
    if not isinstance(schema, dict):
        return
    yield schema
    for key, value in schema.items():
        inner: list[Any] = []
        if key in _MAPS and isinstance(value, dict):
            inner = list(value.values())
        elif key in _LISTS and isinstance(value, list):
            inner = value
        elif key == "items":
            inner = [value]
        for each in inner:
            yield from _parts(each)


def _goes_round(part: Any, root: Json, path: frozenset[str], done: set[str]) -> bool:
    """Whether a reference leads back to where it was followed from. `done`: those that don't."""
    for each in _parts(part):
        reference = each.get("$ref")
        if reference is None or reference in done:
            continue
        if reference in path:
            return True
        found: Any = root
        for step in reference.removeprefix("#").split("/")[1:]:
            found = found.get(step) if isinstance(found, dict) else None
        if _goes_round(found, root, path | {reference}, done):
            return True
        done.add(reference)
    return False
