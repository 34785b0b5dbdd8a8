"""Shared by the three forms: the value that is sent, and how a schema is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Json = dict[str, Any]

# Leaving these out changes nothing about valid answers.
NOTES = frozenset(
    [
        "$schema",
        "$id",
        "$comment",
        "$anchor",
        "default",
        "examples",
        "title",
        "deprecated",
        "readOnly",
        "writeOnly",
    ]
)
MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
PRIMITIVE = (str, int, float, bool, type(None))


class Form(NamedTuple):
    """The schema to send. `schema` None: not expressible. `complete`: nothing was left out."""

    schema: Json | None
    complete: bool


NOT_EXPRESSIBLE = Form(None, complete=False)


class UnfitError(Exception):
    """The API format can't express it."""


def kinds_of(schema: Mapping[str, Any]) -> list[str]:
    """The types that a value may have, by `type`, else by what the schema speaks of."""
    kind = schema.get("type")
    if isinstance(kind, str):
        return [kind]
    if isinstance(kind, list):
        return kind
    if "enum" in schema or "const" in schema:
        return sorted({_kind_of(each) for each in schema.get("enum", [schema.get("const")])})
    if "properties" in schema:
        return ["object"]
    return ["array"] if "items" in schema else []


def opens_an_object(key: str, value: Any) -> bool:
    """Whether a keyword lets an object have properties that are not listed, or adds two schemas up."""
    return key in ("allOf", "patternProperties") or (key == "additionalProperties" and value is not False)


def names_all_required(schema: Mapping[str, Any]) -> bool:
    """Whether every required property is described: of a closed object no other can come."""
    return set(schema.get("required", ())) <= set(schema.get("properties", ()))


def _kind_of(value: Any) -> str:
    names = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
    return names.get(type(value), "null")


def target_of(root: Any, reference: str) -> Any:
    """The target of a `$ref` into `root`; None if there is none."""
    found = root
    for part in reference.removeprefix("#").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if reference.startswith("#") else None


def is_recursive(schema: Mapping[str, Any]) -> bool:
    """Whether a reference leads back into the schema that contains it."""
    done: set[str] = set()

    def leads_back(part: Any, path: tuple[str, ...]) -> bool:
        for reference in _references(part):
            if reference in path:
                return True
            if reference not in done and leads_back(target_of(schema, reference), (*path, reference)):
                return True
            done.add(reference)
        return False

    return leads_back(schema, ("#",))


def _references(part: Any) -> Iterator[str]:
    """The references in a schema, not followed."""
    if not isinstance(part, Mapping):
        return
    if isinstance(part.get("$ref"), str):
        yield part["$ref"]
    for key, value in part.items():
        if key in MAPS and isinstance(value, Mapping):
            inner: list[Any] = list(value.values())
        elif key in _LISTS and isinstance(value, list):
            inner = value
        else:
            inner = [value] if key in _SINGLE else []
        for each in inner:
            yield from _references(each)
