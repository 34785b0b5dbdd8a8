"""Small valid instances of JSON schemas."""

from __future__ import annotations

from typing import Any

from .shapes import Json

_GEMINI_TYPES = {1: "string", 2: "number", 3: "integer", 4: "boolean", 5: "array", 6: "object"}
_MAX_DEPTH = 12


def example(schema: Json, words: str) -> Any:
    """A small valid instance of a JSON schema; $ref, anyOf and Gemini's numbered types included."""
    return _instance(schema, words, schema, 0)


def _instance(schema: Any, words: str, root: Json, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return None
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    inner = _resolve(schema["$ref"], root) if "$ref" in schema else _first_choice(schema)
    if inner is not None:
        return _instance(inner, words, root, depth + 1)
    kind = _kind(schema)
    if kind == "object":
        wanted = _wanted_properties(schema, all_of_them=depth < 4)
        return {name: _instance(each, words, root, depth + 1) for name, each in wanted.items()}
    if kind == "array":
        item = _instance(schema.get("items", {"type": "string"}), words, root, depth + 1)
        return [item] * max(1, int(schema.get("minItems") or 1))
    return _scalar(kind, schema, words)


def _wanted_properties(schema: Json, *, all_of_them: bool) -> Json:
    """The properties of an object that an example has: deep down only those it must have."""
    properties = schema.get("properties") or {}
    required = schema.get("required", ())
    return {name: each for name, each in properties.items() if all_of_them or name in required}


def _first_choice(schema: Json) -> Any:
    """The first schema of a union, None where there is none."""
    return next((schema[name][0] for name in ("anyOf", "oneOf", "allOf") if schema.get(name)), None)


def _kind(schema: Json) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((k for k in kind if k != "null"), "null")
    if isinstance(kind, int):
        return _GEMINI_TYPES.get(kind, "string")
    if isinstance(kind, str):
        return kind.lower()
    return "object" if "properties" in schema else "string"


def _scalar(kind: str, schema: Json, words: str) -> Any:
    if kind in ("integer", "number"):
        value = schema.get("minimum", schema.get("exclusiveMinimum", 0) + ("exclusiveMinimum" in schema))
        return int(value) if kind == "integer" else float(value)
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    shortest, longest = int(schema.get("minLength") or 0), schema.get("maxLength")
    text = words if len(words) >= shortest else words.ljust(shortest, ".")
    return text if longest is None else text[: int(longest)]


def _resolve(reference: str, root: Json) -> Any:
    found: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        if step:
            found = found.get(step) if isinstance(found, dict) else None
    return found
