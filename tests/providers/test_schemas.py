"""One JSON schema, as each wire takes it."""

from __future__ import annotations

from typing import Any

import pytest

from src.providers.schemas import closed, gemini_schema, is_strict

PERSON = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Person",
    "type": "object",
    "properties": {
        "title": {"type": "string", "description": "Dr, Prof"},
        "age": {"type": ["integer", "null"]},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 3},
        "home": {"$ref": "#/$defs/Place"},
    },
    "required": ["title"],
    "$defs": {"Place": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}},
}


def test_every_object_is_closed_and_what_is_said_of_it_stays() -> None:
    found = closed(PERSON)
    assert found["additionalProperties"] is False
    assert found["$defs"]["Place"]["additionalProperties"] is False
    assert "additionalProperties" not in found["properties"]["tags"]
    assert (
        closed({"type": "object", "properties": {}, "additionalProperties": True})["additionalProperties"]
        is True
    )
    assert "additionalProperties" not in PERSON


def test_strict_is_closed_with_every_property_required() -> None:
    place = PERSON["$defs"]["Place"]  # type: ignore[index]
    assert is_strict(closed(place))
    assert not is_strict(place)
    assert not is_strict(closed(PERSON))
    assert not is_strict({"anyOf": [closed(PERSON)]})
    assert is_strict({"type": "string"})


def test_gemini_gets_its_subset_with_references_resolved() -> None:
    schema, left_out = gemini_schema(PERSON)
    assert left_out == set()
    assert schema == {
        "type": "OBJECT",
        "properties": {
            "title": {"type": "STRING", "description": "Dr, Prof"},
            "age": {"type": "INTEGER", "nullable": True},
            "tags": {
                "type": "ARRAY",
                "items": {"type": "STRING", "format": "enum", "enum": ["a", "b"]},
                "min_items": 1,
                "max_items": 3,
            },
            "home": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}, "required": ["city"]},
        },
        "required": ["title"],
    }


@pytest.mark.parametrize(
    ("schema", "found", "left_out"),
    [
        ({"type": "string", "pattern": "x", "minLength": 2}, {"type": "STRING"}, {"pattern", "minLength"}),
        ({"type": "string", "format": "date-time"}, {"type": "STRING"}, {"format"}),
        ({"type": "number", "format": "double"}, {"type": "NUMBER", "format": "double"}, set()),
        ({"const": "x"}, {"type": "STRING", "format": "enum", "enum": ["x"]}, set()),
        ({"type": "integer", "enum": [1, 2]}, {"type": "INTEGER"}, {"enum"}),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, {"type": "INTEGER", "nullable": True}, set()),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"type": "INTEGER"}, {"anyOf"}),
        ({"type": ["integer", "string"]}, {"type": "INTEGER"}, {"type"}),
        ({"type": ["null"]}, {"type": "STRING", "nullable": True}, {"type"}),
        ({"$ref": "#/nowhere"}, {"type": "STRING"}, {"$ref"}),
        ({"items": {"type": "boolean"}}, {"type": "ARRAY", "items": {"type": "BOOLEAN"}}, set()),
        ({}, {"type": "STRING"}, set()),
    ],
)
def test_what_gemini_can_not_say_is_left_out_and_named(
    schema: dict[str, Any], found: dict[str, Any], left_out: set[str]
) -> None:
    assert gemini_schema(schema) == (found, left_out)


def test_a_schema_that_refers_to_itself_ends() -> None:
    tree = {"type": "object", "properties": {"child": {"$ref": "#"}}}
    _, left_out = gemini_schema(tree)
    assert left_out == {"$ref"}
    assert gemini_schema({"$ref": "#"})[1] == {"$ref"}
