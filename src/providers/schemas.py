"""A JSON schema for an answer, as each wire takes it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]
_DEEPEST = 32  # a schema that refers to itself ends here

# What google-generativeai can send: JSON schema's keyword, and the package's.
_GEMINI_KEYS = {
    "description": "description",
    "nullable": "nullable",
    "required": "required",
    "minItems": "min_items",
    "maxItems": "max_items",
}
_GEMINI_FORMATS = {"number": ("float", "double"), "integer": ("int32", "int64"), "string": ("enum",)}
# Left out without a word, because nothing of the answer's shape is lost with it.
_NOT_MEANT = frozenset(
    [
        "type",
        "$ref",
        "$schema",
        "$defs",
        "$id",
        "definitions",
        "title",
        "default",
        "examples",
        "additionalProperties",
    ]
)


def closed(schema: Any) -> Any:
    """The schema with all objects closed, as Anthropic and OpenAI want it: no properties but the named."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), Mapping) and schema.get("type", "object") == "object":
        found.setdefault("additionalProperties", False)
    return found


def is_strict(schema: Any) -> bool:
    """Whether OpenAI takes the schema as strict: objects closed, and every property required."""
    if isinstance(schema, list):
        return all(is_strict(item) for item in schema)
    if not isinstance(schema, Mapping):
        return True
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        required = schema.get("required") or ()
        if set(properties) != set(required) or schema.get("additionalProperties") is not False:
            return False
    return all(is_strict(value) for value in schema.values())


def gemini_schema(schema: Mapping[str, Any]) -> tuple[Json, set[str]]:
    """`(schema, keywords left out)` in the subset of OpenAPI that google-generativeai can send."""
    left_out: set[str] = set()
    return _gemini(schema, schema, left_out, 0), left_out


def _gemini(schema: Any, root: Mapping[str, Any], left_out: set[str], depth: int) -> Json:
    schema, nullable = _without_null(_resolved(schema, root, left_out, depth), left_out)
    kind = str(schema.get("type") or _kind_of(schema))
    found: Json = {"type": kind.upper()}
    for key, value in schema.items():
        if key in _GEMINI_KEYS:
            found[_GEMINI_KEYS[key]] = value
        elif key == "properties":
            found[key] = {name: _gemini(item, root, left_out, depth + 1) for name, item in value.items()}
        elif key == "items":
            found[key] = _gemini(value, root, left_out, depth + 1)
        elif key in ("enum", "const") and kind == "string":
            found |= {"format": "enum", "enum": value if key == "enum" else [value]}
        elif key == "format" and value in _GEMINI_FORMATS.get(kind, ()):
            found[key] = value
        elif key not in _NOT_MEANT:
            left_out.add(key)
    if nullable:
        found["nullable"] = True
    return found


def _resolved(schema: Any, root: Mapping[str, Any], left_out: set[str], depth: int) -> Mapping[str, Any]:
    """What a `$ref` into this schema stands for; nothing for one that leads nowhere or round and round."""
    found: Any = schema
    steps = 0
    while isinstance(found, Mapping) and "$ref" in found:
        steps += 1
        path = str(found["$ref"]).removeprefix("#").strip("/").split("/")
        found = root
        for part in path:
            found = found.get(part) if isinstance(found, Mapping) else None
        if steps + depth > _DEEPEST:
            found = None
    if isinstance(found, Mapping) and depth <= _DEEPEST:
        return found
    left_out.add("$ref")
    return {}


def _without_null(schema: Mapping[str, Any], left_out: set[str]) -> tuple[Mapping[str, Any], bool]:
    """`(schema, nullable)`: Gemini has a flag for a union with null. Of any other union it gets the first."""
    for union in ("anyOf", "oneOf"):
        if isinstance(schema.get(union), list):
            options = [option for option in schema[union] if option != {"type": "null"}]
            rest = {key: value for key, value in schema.items() if key != union}
            if len(options) != 1:
                left_out.add(union)
            first = options[0] if options and isinstance(options[0], Mapping) else {}
            return {**first, **rest}, len(options) < len(schema[union])
    kind = schema.get("type")
    if not isinstance(kind, list):
        return schema, False
    kinds = [one for one in kind if one != "null"]
    if len(kinds) != 1:
        left_out.add("type")
    return {**schema, "type": kinds[0] if kinds else "string"}, "null" in kind


def _kind_of(schema: Mapping[str, Any]) -> str:
    """The type of a schema that names none."""
    if "properties" in schema:
        return "object"
    return "array" if "items" in schema else "string"
