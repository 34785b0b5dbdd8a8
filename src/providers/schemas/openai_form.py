"""As OpenAI takes it: an object, in strict mode where the schema meets its demands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .shared import (
    MAPS,
    NOT_EXPRESSIBLE,
    NOTES,
    Form,
    Json,
    UnfitError,
    kinds_of,
    names_all_required,
    target_of,
)

_STRICT_KEYS = frozenset(
    ("type", "enum", "const", "description", "title", "required", "minItems", "maxItems", "pattern", "format")
).union(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"))
_STRICT_DEEPEST, _STRICT_PROPERTIES, _STRICT_ENUMS = 10, 5_000, 1_000


def openai_form(schema: Mapping[str, Any]) -> Form:
    """The `json_schema` of a `response_format`: strict where the schema meets strict mode's demands."""
    schema = _rooted(schema)
    if schema.get("type") != "object":
        return NOT_EXPRESSIBLE
    try:
        strict, sent = True, _Strict().visit(schema, 0)
    except UnfitError:
        strict, sent = False, closed(schema)
    return Form({"name": "answer", "strict": strict, "schema": sent}, complete=True)


def closed(schema: Any) -> Any:
    """The schema with its objects closed where it says nothing of other properties."""
    if not isinstance(schema, Mapping):
        return schema
    found: Json = dict(schema)
    for key, value in schema.items():
        if key in MAPS and isinstance(value, Mapping):
            found[key] = {name: closed(each) for name, each in value.items()}
        elif key in ("anyOf", "oneOf", "prefixItems") and isinstance(value, list):
            found[key] = [closed(each) for each in value]
        elif key in ("items", "additionalProperties"):
            found[key] = closed(value)
    if _may_be_closed(schema):
        found.setdefault("additionalProperties", False)
    return found


def _may_be_closed(schema: Mapping[str, Any]) -> bool:
    """Whether nothing that the schema wants would be shut out."""
    is_plain = "properties" in schema and not schema.keys() & {"allOf", "patternProperties"}
    return is_plain and "object" in kinds_of(schema) and names_all_required(schema)


class _Strict:
    def __init__(self) -> None:
        self._properties = self._enums = 0

    def visit(self, schema: Any, depth: int) -> Json:
        if not isinstance(schema, Mapping) or depth > _STRICT_DEEPEST:
            raise UnfitError
        if "$ref" in schema and schema.keys() - {"$ref", *NOTES}:
            raise UnfitError  # strict mode allows nothing beside a reference
        found: Json = {}
        for key, value in schema.items():
            self._keep(found, key, value, depth)
        self._check(found)
        return found

    def _keep(self, found: Json, key: str, value: Any, depth: int) -> None:
        if key in ("properties", "$defs", "definitions"):
            inner = depth + (key == "properties")
            found[key] = {name: self.visit(each, inner) for name, each in value.items()}
        elif key == "anyOf" and depth:
            found[key] = [self.visit(each, depth) for each in value]
        elif key == "items":
            found[key] = self.visit(value, depth + 1)
        elif key in _STRICT_KEYS or key == "$ref":
            found[key] = value
        elif key not in NOTES and not (key == "additionalProperties" and value is False):
            raise UnfitError

    def _check(self, found: Json) -> None:
        if not found.keys() & {"type", "$ref", "anyOf", "enum", "const"}:
            raise UnfitError
        if "object" in kinds_of(found):
            if (
                set(found.get("properties", ())) != set(found.get("required", ()))
                or "properties" not in found
            ):
                raise UnfitError
            found["additionalProperties"] = False
        self._properties += len(found.get("properties", ()))
        self._enums += len(found.get("enum", ()))
        if self._properties > _STRICT_PROPERTIES or self._enums > _STRICT_ENUMS:
            raise UnfitError


def _rooted(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A root that is only a reference, written out: no API format takes one as it is."""
    seen = 0
    while isinstance(schema.get("$ref"), str) and seen < _STRICT_DEEPEST:
        target = target_of(schema, schema["$ref"])
        if not isinstance(target, Mapping):
            return schema
        kept = {key: value for key, value in schema.items() if key != "$ref"}
        schema, seen = {**kept, **target}, seen + 1
    if "type" not in schema and "properties" in schema:
        return {"type": "object", **schema}
    return schema
