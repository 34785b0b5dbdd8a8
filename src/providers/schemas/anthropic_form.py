"""As Anthropic takes it: closed objects, no recursion, no bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .shared import (
    NOT_EXPRESSIBLE,
    NOTES,
    PRIMITIVE,
    Form,
    Json,
    UnfitError,
    is_recursive,
    kinds_of,
    names_all_required,
    opens_an_object,
)

_FORMATS = frozenset(
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"]
)
_KEPT = frozenset(["type", "$ref", "description", "title", "required"])
_MOST_OPTIONAL, _MOST_UNIONS = 24, 16  # properties of one request that are optional, or of several types


def anthropic_form(schema: Mapping[str, Any]) -> Form:
    """The schema with all objects closed and without the bounds that Anthropic does not take."""
    try:
        if is_recursive(schema):
            raise UnfitError
        visitor = _Anthropic()
        found = visitor.visit(schema)
    except UnfitError:
        return NOT_EXPRESSIBLE
    if visitor.optional > _MOST_OPTIONAL or visitor.unions > _MOST_UNIONS:
        return NOT_EXPRESSIBLE
    return Form(found, not visitor.lost)


class _Anthropic:
    def __init__(self) -> None:
        self.lost = False
        self.optional = self.unions = 0

    def visit(self, schema: Any) -> Json:
        if not isinstance(schema, Mapping):
            raise UnfitError  # true and false: anything and nothing
        found: Json = {}
        for key, value in schema.items():
            self._keep(found, key, value)
        if "$ref" in found:
            beside = {"$defs", "definitions"}
            self.lost |= any(key not in beside | {"$ref"} | NOTES for key in found)
            return {key: value for key, value in found.items() if key in beside | {"$ref"}}
        if not found.keys() & {"type", "enum", "const", "anyOf"}:
            raise UnfitError
        self._close(found, schema)
        return found

    def _keep(self, found: Json, key: str, value: Any) -> None:
        if key in ("properties", "$defs", "definitions"):
            found[key] = {name: self.visit(each) for name, each in value.items()}
        elif key in ("anyOf", "oneOf"):
            self.unions += 1
            found["anyOf"] = [self.visit(each) for each in value]
        elif key == "items":
            found[key] = self.visit(value)
        elif key in _KEPT or self._is_kept(key, value):
            found[key] = value
        elif opens_an_object(key, value):
            raise UnfitError
        elif key not in NOTES and key != "additionalProperties":
            self.lost = True

    @staticmethod
    def _is_kept(key: str, value: Any) -> bool:
        if key == "const" or key == "enum":
            if all(isinstance(each, PRIMITIVE) for each in (value if key == "enum" else [value])):
                return True
            raise UnfitError
        return (key == "format" and value in _FORMATS) or (key == "minItems" and value in (0, 1))

    def _close(self, found: Json, schema: Mapping[str, Any]) -> None:
        kinds = kinds_of(schema)
        self.unions += len(kinds) > 1
        if "array" in kinds and "items" not in found:
            raise UnfitError
        if "object" in kinds or "properties" in found:
            if "properties" not in found and schema.get("additionalProperties") is not False:
                raise UnfitError
            if not names_all_required(found):
                raise UnfitError
            found["additionalProperties"] = False
            self.optional += len(set(found.get("properties", ())) - set(found.get("required", ())))
