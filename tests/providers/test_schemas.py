"""One JSON schema, as each API format takes it: never a form that shuts out what the schema offers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from src.providers.schemas import NOT_EXPRESSIBLE, anthropic_form, closed, gemini_form, openai_form
from src.simulator.demands import anthropic_objection, gemini_objection, openai_objection

Json = dict[str, Any]

PLACE: Json = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
PERSON: Json = {
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
    "$defs": {"Place": PLACE},
}
FEATURE: Json = {  # properties that are called like keywords
    "type": "object",
    "properties": {"type": {"const": "Feature"}, "properties": PLACE},
    "required": ["type", "properties"],
}
TREE: Json = {"type": "object", "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}
DOUBLING: Json = {  # small as it is sent, 2 to the 40th parts when its references are written out
    **{"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "required": ["a"]},
    "$defs": {
        **{
            f"d{n}": {
                "type": "object",
                "properties": {"x": {"$ref": f"#/$defs/d{n + 1}"}, "y": {"$ref": f"#/$defs/d{n + 1}"}},
                "required": ["x", "y"],
            }
            for n in range(40)
        },
        "d40": {"type": "string"},
    },
}


def having(schema: Json) -> Json:
    """An object with one required property of that schema."""
    return {"type": "object", "properties": {"a": schema}, "required": ["a"]}


EVERY_KIND = {
    "person": PERSON,
    "feature": FEATURE,
    "tree": TREE,
    "doubling": DOUBLING,
    "bounds": having({"type": "integer", "minimum": 1, "maximum": 5}),
    "pattern": having({"type": "string", "pattern": "^x", "minLength": 2}),
    "union": having({"anyOf": [{"type": "integer"}, {"type": "string"}]}),
    "one of": having({"oneOf": [PLACE, {"type": "null"}]}),
    "all of": having({"allOf": [PLACE, having({"type": "string"})]}),
    "anything": having({}),
    "true": having(True),  # type: ignore[arg-type]
    "map": having({"type": "object", "additionalProperties": {"type": "string"}}),
    "free object": having({"type": "object"}),
    "free array": having({"type": "array"}),
    "tuple": having({"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}]}),
    "number enum": having({"enum": [1, 2]}),
    "array at the root": {"type": "array", "items": {"type": "string"}},
    "reference at the root": {"$ref": "#/$defs/Place", "$defs": {"Place": PLACE}},
    "no type at the root": {"properties": {"a": {"type": "string"}}},
    "required and unknown": {**PLACE, "required": ["city", "zip"]},
}


@pytest.mark.parametrize("name", EVERY_KIND)
def test_what_is_sent_meets_the_demands_of_each_provider(name: str) -> None:
    schema = EVERY_KIND[name]
    assert not anthropic_objection(anthropic_form(schema).schema or {})
    form = openai_form(schema).schema
    assert form is None or not openai_objection(form)
    gemini = gemini_form(schema).schema
    assert gemini is None or not gemini_objection(gemini)


@pytest.mark.parametrize("form", [anthropic_form, openai_form, gemini_form])
def test_the_users_schema_is_not_changed(form: Callable[[Json], object]) -> None:
    before = repr(EVERY_KIND)
    for schema in EVERY_KIND.values():
        form(schema)
    assert repr(EVERY_KIND) == before


def test_objects_are_closed_where_the_schema_leaves_it_open() -> None:
    found = closed(PERSON)
    assert found["additionalProperties"] is False
    assert found["$defs"]["Place"]["additionalProperties"] is False
    assert "additionalProperties" not in found["properties"]["tags"]
    assert closed({**PLACE, "additionalProperties": True})["additionalProperties"] is True
    feature = closed(FEATURE)
    assert set(feature["properties"]) == {"type", "properties"}
    assert feature["properties"]["properties"]["additionalProperties"] is False


# ---------------------------------------------------------------- anthropic


def test_anthropic_gets_all_but_bounds_and_notes() -> None:
    schema, complete = anthropic_form(PERSON)
    assert not complete, "maxItems has to go into the prompt"
    assert schema == {
        "type": "object",
        "title": "Person",
        "properties": {
            "title": {"type": "string", "description": "Dr, Prof"},
            "age": {"type": ["integer", "null"]},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1},
            "home": {"$ref": "#/$defs/Place"},
        },
        "required": ["title"],
        "$defs": {"Place": {**PLACE, "additionalProperties": False}},
        "additionalProperties": False,
    }
    assert anthropic_form(FEATURE).complete


@pytest.mark.parametrize(
    "name", ["tree", "all of", "anything", "true", "map", "free object", "free array", "tuple"]
)
def test_what_closed_objects_would_shut_out_is_not_sent_to_anthropic(name: str) -> None:
    assert anthropic_form(EVERY_KIND[name]) == NOT_EXPRESSIBLE


def test_more_optional_properties_than_anthropic_takes_go_into_the_prompt() -> None:
    many: Json = {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(25)}}
    assert anthropic_form(many) == NOT_EXPRESSIBLE
    assert anthropic_form({**many, "required": ["p0"]}).complete


# ---------------------------------------------------------------- openai


@pytest.mark.parametrize(
    ("name", "strict"),
    [
        ("feature", True),
        ("bounds", True),
        ("union", True),
        ("number enum", True),
        ("doubling", True),
        ("reference at the root", True),
        ("person", False),  # optional properties
        ("tree", False),
        ("pattern", False),  # minLength
        ("one of", False),
        ("all of", False),
        ("anything", False),
        ("map", False),
        ("no type at the root", False),
    ],
)
def test_openai_is_strict_where_the_schema_meets_its_demands(name: str, strict: bool) -> None:
    form = openai_form(EVERY_KIND[name]).schema
    assert form is not None
    assert form["strict"] is strict


def test_recursion_is_no_hindrance_to_strict_mode() -> None:
    node = {"$ref": "#/$defs/Node"}
    tree = having({"anyOf": [node, {"type": "null"}]})
    form = openai_form({**tree, "$defs": {"Node": having({"type": "array", "items": node})}}).schema
    assert form is not None
    assert form["strict"] is True


def test_a_schema_whose_root_is_no_object_goes_to_openai_as_text() -> None:
    assert openai_form(EVERY_KIND["array at the root"]) == NOT_EXPRESSIBLE
    assert openai_form({"anyOf": [PLACE, FEATURE]}) == NOT_EXPRESSIBLE


def test_deeper_than_strict_mode_goes_without_it() -> None:
    deep: Json = {"type": "string"}
    for _ in range(12):
        deep = having(deep)
    form = openai_form(deep).schema
    assert form is not None
    assert form["strict"] is False


# ---------------------------------------------------------------- gemini


def test_gemini_gets_its_subset_with_references_resolved() -> None:
    schema, complete = gemini_form(PERSON)
    assert complete
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
    ("schema", "found", "complete"),
    [
        ({"type": "string", "pattern": "x", "minLength": 2}, {"type": "STRING"}, False),
        ({"type": "string", "format": "date-time"}, {"type": "STRING"}, False),
        ({"type": "number", "format": "double"}, {"type": "NUMBER", "format": "double"}, True),
        ({"const": "x"}, {"type": "STRING", "format": "enum", "enum": ["x"]}, True),
        ({"const": 5}, {"type": "INTEGER"}, False),
        ({"enum": ["x", None]}, {"type": "STRING", "format": "enum", "enum": ["x"], "nullable": True}, True),
        ({"type": "integer", "enum": [1, 2]}, {"type": "INTEGER"}, False),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, {"type": "INTEGER", "nullable": True}, True),
        ({"items": {"type": "boolean"}}, {"type": "ARRAY", "items": {"type": "BOOLEAN"}}, True),
    ],
)
def test_what_gemini_can_not_say_is_left_for_words(schema: Json, found: Json, complete: bool) -> None:
    assert gemini_form(schema) == (found, complete)


@pytest.mark.parametrize(
    "name",
    ["tree", "doubling", "union", "all of", "anything", "true", "map", "free object", "free array", "tuple"],
)
def test_a_form_that_would_force_one_of_several_answers_is_not_sent_to_gemini(name: str) -> None:
    assert gemini_form(EVERY_KIND[name]) == NOT_EXPRESSIBLE
