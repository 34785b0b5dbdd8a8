"""As google-generativeai can send it: a part of OpenAPI, references written out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .shared import (
    NOT_EXPRESSIBLE,
    NOTES,
    Form,
    Json,
    UnfitError,
    is_recursive,
    kinds_of,
    names_all_required,
    opens_an_object,
    target_of,
)

# JSON schema's keyword and the package's
_GEMINI_KEYS = {"description": "description", "minItems": "min_items", "maxItems": "max_items"}
_FORMATS = {
    "number": [("format", "float"), ("format", "double")],
    "integer": [("format", "int32"), ("format", "int64")],
}
_GEMINI_LARGEST = 500  # parts, references written out: a larger schema goes into the prompt
_WITHOUT_LOSS = NOTES | {"type", "additionalProperties", "$defs", "definitions", "nullable"}


def gemini_form(schema: Mapping[str, Any]) -> Form:
    """The schema in the part of OpenAPI that google-generativeai can send, references written out."""
    try:
        if is_recursive(schema):
            raise UnfitError
        visitor = _Gemini(schema)
        return Form(visitor.visit(schema), not visitor.lost)
    except UnfitError:
        return NOT_EXPRESSIBLE


class _Gemini:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._parts = 0
        self.lost = False

    def visit(self, schema: Any) -> Json:
        self._parts += 1
        if self._parts > _GEMINI_LARGEST:
            raise UnfitError
        schema, nullable = self._one_kind(schema)
        kind = kinds_of(schema)[0]
        found: Json = {"type": kind.upper()}
        for key, value in schema.items():
            self._keep(found, kind, key, value)
        if (kind == "array" and "items" not in found) or (kind == "object" and not found.get("properties")):
            raise UnfitError
        if not names_all_required(found):
            raise UnfitError
        if nullable:
            found["nullable"] = True
        return found

    def _keep(self, found: Json, kind: str, key: str, value: Any) -> None:
        if key in _GEMINI_KEYS:
            found[_GEMINI_KEYS[key]] = value
        elif key == "properties":
            found[key] = {name: self.visit(each) for name, each in value.items()}
        elif key == "items":
            found[key] = self.visit(value)
        elif key == "required" or (key, value) in _FORMATS.get(kind, ()):
            found[key] = value
        elif kind == "string" and key in ("enum", "const"):
            found |= {"format": "enum", "enum": _without_null(value if key == "enum" else [value])}
        elif opens_an_object(key, value):
            raise UnfitError
        elif key not in _WITHOUT_LOSS:
            self.lost = True

    def _one_kind(self, schema: Any) -> tuple[Mapping[str, Any], bool]:
        """`(schema of one type, nullable)`: Gemini has a flag for a union with null, and no other unions."""
        schema, nullable = self._resolved(schema), False
        for union in ("anyOf", "oneOf"):
            if union in schema:
                nullable |= len(schema[union]) > 1
                schema = self._without_union(schema, union)
        kinds = kinds_of(schema)
        nullable |= "null" in kinds or schema.get("nullable") is True
        kinds = [kind for kind in kinds if kind != "null"]
        if len(kinds) != 1:
            raise UnfitError
        return {**schema, "type": kinds[0]}, nullable

    def _without_union(self, schema: Mapping[str, Any], union: str) -> Mapping[str, Any]:
        """The schema with the one option of its union, null left out, written into it."""
        options = [each for each in schema[union] if each != {"type": "null"}]
        if len(options) != 1:
            raise UnfitError
        rest = {key: value for key, value in schema.items() if key != union}
        return {**self._resolved(options[0]), **rest}

    def _resolved(self, schema: Any) -> Mapping[str, Any]:
        """With the references resolved; keywords beside a reference override its target's."""
        while isinstance(schema, Mapping) and "$ref" in schema:
            target = target_of(self._root, schema["$ref"])
            beside = {key: value for key, value in schema.items() if key != "$ref"}
            schema = {**target, **beside} if isinstance(target, Mapping) else None
        if not isinstance(schema, Mapping):
            raise UnfitError
        return schema


def _without_null(values: list[Any]) -> list[Any]:
    return [each for each in values if each is not None]
