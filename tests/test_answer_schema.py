"""Which schemas are taken in, and what of a model's answer is an answer."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from src.answer_schema import DEEPEST, Reading, check_schema, read_answer, read_answer_apart
from src.errors import InputError

COUNT: dict[str, Any] = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 1}, "s": {"type": "string"}},
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        COUNT,
        {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {"type": "string"}}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}},
        {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "string"}}},
        {"type": "object", "properties": {"child": {"$ref": "#"}}},
        {"type": "object", "properties": {"$ref": {"type": "string"}}},  # a property of that name
        {"enum": [{"$ref": "nowhere"}]},  # data
        {"format": "made-up", "x-note": 1},
    ],
)
def test_a_schema_of_any_draft_and_with_references_into_itself_is_taken(schema: dict[str, Any]) -> None:
    check_schema(schema)


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "strin"}, "is not a JSON schema: response_schema.type: 'strin'"),
        ({"properties": {"a": {"items": 5}}}, "response_schema.properties.a.items: 5 is not of type"),
        ({"required": "a"}, "response_schema.required: 'a' is not of type 'array'"),
        ({"type": "string", "pattern": "("}, "response_schema.pattern: '(' is not a 'regex'"),
        ({"$ref": "#/$defs/a"}, "refers to #/$defs/a, which is not in it"),
        ({"items": {"$ref": "http://127.0.0.1:9/a.json"}}, "only a $ref that starts with # is followed"),
        ({"$ref": "#"}, "refers to itself without end"),
        ({"anyOf": [{"allOf": [{"$ref": "#"}]}]}, "refers to itself without end"),
        ({"description": "x" * 300_000}, "is longer than 256 KiB"),
    ],
)
def test_an_unusable_schema_is_reported_with_its_path(schema: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError) as caught:
        check_schema(schema)
    assert caught.value.what.startswith("'response_schema' ")
    assert why in caught.value.what


@pytest.mark.parametrize("levels", [DEEPEST, 3_000])
def test_a_schema_without_end_to_its_nesting_is_refused(levels: int) -> None:
    deep: dict[str, Any] = {}
    for _ in range(levels):
        deep = {"items": deep}
    with pytest.raises(InputError, match="is nested too deeply"):
        check_schema(deep)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ('{"n": 1}', '{"n": 1}'),
        ('\n {"n": 1, "s": "ü"}\n', '{"n": 1, "s": "ü"}'),
        ('```json\n{"n": 2}\n```', '{"n": 2}'),
        ('Sure!\n\n```\n{"n": 2}\n```\nAnything else?', '{"n": 2}'),
        ('```json\n{"m": 2}\n```\nor rather\n```json\n{"n": 3}\n```', '{"n": 3}'),
        ('The answer is {"n": 4}, as asked.', '{"n": 4}'),
        ('{"n": 5} {"n": 6}', '{"n": 6}'),
    ],
)
def test_the_json_is_found_in_what_a_model_puts_around_it(answer: str, text: str) -> None:
    reading = read_answer(answer, COUNT)
    assert reading.text == text
    assert json.loads(reading.text)


@pytest.mark.parametrize(
    ("answer", "problem", "where"),
    [
        ('{"n": 0}', "$.n: 0 is less than the minimum of 1", "$.n breaks 'minimum'"),
        ('{"n": "secret"}', "'secret' is not of type 'integer'", "$.n breaks 'type'"),
        ('```json\n{"m": 1}\n```', "'n' is a required property", "$ breaks "),
        ('{"n": 1', "It is not JSON: Expecting ',' delimiter", "it is not JSON"),
        ('{"n": NaN}', "It is not JSON", "it is not JSON"),
        ("I would rather not.", "It is not JSON", "it is not JSON"),
        ("[" * 100_000, "It is not JSON", "it is not JSON"),
        ("", "It is not JSON", "it is not JSON"),
    ],
)
def test_a_mismatch_is_reported_in_full_to_the_model_and_by_its_path_in_messages(
    answer: str, problem: str, where: str
) -> None:
    reading = read_answer(answer, COUNT)
    assert reading.text is None
    assert problem in reading.problems
    assert reading.where.startswith(where)
    assert "secret" not in reading.where


CHOICE: dict[str, Any] = {
    "type": "object",
    "properties": {"choice": {"type": "string", "enum": ["spam", "ham"]}},
    "required": ["choice"],
}
HAM, SPAM = '{"choice":"ham"}', '{"choice":"spam"}'

ODD_ANSWERS: dict[str, tuple[str, str | None]] = {
    "thinking first": (f"<think>maybe {SPAM}; no.</think>\n{HAM}", HAM),
    "thinking last": (f"{HAM}\n<thinking>or {SPAM}?</thinking>", HAM),
    "thinking, then prose": (f"<reasoning>\n{SPAM}\n</reasoning>\nIt is {HAM}, I think.", HAM),
    "thinking with attributes": (f'<think budget="5">{SPAM}</think>{HAM}', HAM),
    "thinking in capitals": (f"<THINK>{SPAM}</THINK>{HAM}", HAM),
    "other names": (f"<seed:think>{SPAM}</seed:think>[THINK]{SPAM}[/THINK]◁think▷{SPAM}◁/think▷{HAM}", HAM),
    "thinking alone": (f"<think>{SPAM}</think>", None),
    "thinking that does not end": (f"<think>perhaps {SPAM}", None),
    "an answer, then thinking that does not end": (f"{HAM}\n<think>or {SPAM}", HAM),
    "thinking whose beginning is missing": (f"perhaps {SPAM}\n</think>\n{HAM}", HAM),
    "thinking within thinking": (f"<think>a <think>b</think> {SPAM}</think>{HAM}", HAM),
    "a fence of thinking": (f"```think\n{SPAM}\n```\n{HAM}", HAM),
    "a fence of reasoning, last": (f"```json\n{HAM}\n```\n```reasoning\n{SPAM}\n```", HAM),
    "a fence within thinking": (f"<think>\n```json\n{SPAM}\n```\n</think>\n```json\n{HAM}\n```", HAM),
    "tags in a string": (
        '{"choice":"ham","why":"<think>no"} and nothing else',
        '{"choice":"ham","why":"<think>no"}',
    ),
    "a fence in a string": (
        'So: {"choice":"ham","why":"```json\\n{}\\n```"}',
        '{"choice":"ham","why":"```json\\n{}\\n```"}',
    ),
    "two": (f"First {SPAM}. On second thoughts: {HAM}", HAM),
    "two, the last of which does not match": (f'{HAM} with {{"confidence": 0.9}}', HAM),
    "two fences": (f"```json\n{SPAM}\n```\nno:\n```json\n{HAM}\n```", HAM),
    "a fence, then prose with braces": (f"```json\n{HAM}\n```\nThe set {{a, b}} has [two] elements.", HAM),
    "a fence with a language": (f"```JSON5 title=x\n{HAM}\n```", HAM),
    "a fence in one line": (f"```json{HAM}```", HAM),
    "a fence of tildes": (f"~~~\n{HAM}\n~~~", HAM),
    "a fence that does not end": (f"```json\n{HAM}", HAM),
    "a fence of other code": (f"```python\nx = [1]\n```\n{HAM}", HAM),
    "in prose": (f"The answer is {HAM}.", HAM),
    "in brackets of prose": (f"[see: {HAM}]", HAM),
    "behind an interval": (f"On [0, 5) it is {HAM}", HAM),
    "with footnotes": (f"As [1] says, {HAM} [2].", HAM),
    "in double braces": ('{{"choice":"ham"}}', HAM),
    "in a list": (f"[{HAM}]", None),
    "in a list in prose": (f"Here: [{HAM}]", None),
    "as a list's second item": (f"[{SPAM}, {HAM}]", None),
    "cut off": ('Sure: {"choice":"ham","why":"be', None),
    "cut off around another": ('{"items": [{"choice":"spam"}, {"choice":"ham"}, {"ch', None),
    "a list that was cut off": ('Here: [{"choice":"spam"}, {"choice":"ham"}, {"ch', None),
    "broken around another": ('{"a": {"choice":"spam"},}', None),
    "broken, then whole": (f'{{"choice":"spam",}} {HAM}', HAM),
    "single quotes": ("{'choice': 'ham'}", None),
    "NaN beside it": ('{"choice":"ham","p":NaN}', None),
    "none": ("ham", None),
}


@pytest.mark.parametrize(("answer", "text"), ODD_ANSWERS.values(), ids=ODD_ANSWERS)
def test_the_answer_is_the_last_whole_json_outside_thinking_that_matches(
    answer: str, text: str | None
) -> None:
    assert read_answer(answer, CHOICE).text == text


@pytest.mark.parametrize(
    ("answer", "text"),
    [("```json\n42\n```", "42"), ("<think>41</think>\n```\n 42 \n```", "42"), ("so 42", None)],
)
def test_a_fence_may_hold_a_plain_value(answer: str, text: str | None) -> None:
    assert read_answer(answer, {"type": "integer"}).text == text


def test_the_model_gets_the_errors_of_the_last_json() -> None:
    reading = read_answer('{"choice": "eggs"} or {"choice": "bacon"}', CHOICE)
    assert "'bacon' is not one of ['spam', 'ham']" in reading.problems and "eggs" not in reading.problems


@pytest.mark.parametrize(
    "noise",
    ["[", "{", '{"', '[{"a": "', "{}", "[] ", '"\\"', "```\n", "<think>", "</think>", "[[1],", "``` x\n["],
)  # fmt: skip
def test_the_search_ends_whatever_a_model_writes(noise: str) -> None:
    began = time.process_time()
    read_answer("x" + noise * (300_000 // len(noise)), CHOICE)
    assert time.process_time() - began < 10


def test_a_long_list_of_problems_is_cut() -> None:
    schema = {"type": "array", "items": {"type": "string"}}
    reading = read_answer(json.dumps([["x" * 1_000]] * 50), schema)
    assert len(reading.problems.splitlines()) == 5
    assert len(reading.problems) < 2_000


def test_a_reference_that_goes_round_only_within_the_answer_ends_too() -> None:
    schema = {"properties": {"a": {"allOf": [{"$ref": "#/properties/a"}]}}}
    check_schema(schema)
    ends = {"it is nested too deeply", "the schema takes too long on it"}  # the latter on a busy machine
    assert read_answer('{"a": 1}', schema).where in ends


# ---------------------------------------------------------------- patterns

ENDLESS = "^(a|aa)+$"
NEARLY = "a" * 60 + "!"


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        ({"type": "string", "pattern": ENDLESS}, NEARLY),
        ({"items": {"pattern": ENDLESS}}, [NEARLY] * 100),
        ({"patternProperties": {ENDLESS: {"type": "integer"}}}, {NEARLY: 1}),
        ({"patternProperties": {ENDLESS: True}, "additionalProperties": False}, {NEARLY: 1}),
    ],
    ids=["a-string", "a-hundred-strings", "a-name", "an-additional-name"],
)
def test_a_pattern_without_end_does_not_hold_up_the_pool(schema: dict[str, Any], answer: Any) -> None:
    check_schema(schema)
    reading = read_answer(json.dumps(answer), schema)
    assert reading.text is None
    assert "takes too long" in reading.where


@pytest.mark.parametrize("draft", ["draft-07/schema#", "draft/2020-12/schema"])
@pytest.mark.parametrize(
    ("answer", "where"),
    [
        ({"n_1": 5, "name": "x-1"}, None),
        ({"n_1": "five"}, "$.n_1 breaks 'type'"),
        ({"name": "y-1"}, "$.name breaks 'pattern'"),
        ({"other": 1}, "$ breaks 'additionalProperties'"),
        ({"never": 1}, "$ breaks False"),
    ],
)
def test_patterns_of_values_and_of_names_are_kept(draft: str, answer: Any, where: str | None) -> None:
    schema = {
        "$schema": f"{'http' if '07' in draft else 'https'}://json-schema.org/{draft}",
        "properties": {"name": {"type": "string", "pattern": r"^x-\d+$"}, "never": False},
        "patternProperties": {r"^n_\d+$": {"type": "integer"}},
        "additionalProperties": False,
    }
    check_schema(schema)
    reading = read_answer(json.dumps(answer), schema)
    assert (reading.where or None) == where
    assert (reading.text is None) == (where is not None)


# ------------------------------------------------------------------ work without end


def branching(levels: int, branches: int, keyword: str = "allOf") -> dict[str, Any]:
    """Definitions that refer to each other so many times a level: written out, branches ** levels parts."""
    definitions: dict[str, Any] = {
        f"d{level}": {keyword: [{"$ref": f"#/$defs/d{level + 1}"}] * branches} for level in range(levels)
    }
    return {"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{levels}": {"type": "object"}}}


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
def test_a_schema_whose_references_grow_with_every_level_is_refused_at_once(keyword: str) -> None:
    for levels in (4, 5, 12, 40):
        schema = branching(levels, 10, keyword)
        began = time.monotonic()
        with pytest.raises(InputError, match="references when all are written out; at most 10,000 are"):
            check_schema(schema)
        assert time.monotonic() - began < 5
    check_schema(branching(3, 10, keyword))
    check_schema(branching(40, 1, keyword))


def test_many_definitions_that_share_others_are_fine() -> None:
    parts: dict[str, Any] = {f"p{i}": {"type": "object", "properties": {}} for i in range(300)}
    shared = {name: {"$ref": f"#/$defs/{name}"} for name in list(parts)[:20]}
    users = {f"u{i}": {"properties": shared} for i in range(200)}
    check_schema({"properties": {"a": {"$ref": "#/$defs/u7"}}, "$defs": {**parts, **users}})


def test_a_recursive_schema_that_branches_ends_in_time_and_off_the_loop() -> None:
    """Two ways through every level of the answer: 2 ** 60 steps. The event loop goes on meanwhile."""
    step = {"properties": {"x": {"$ref": "#"}}}
    schema = {"allOf": [step, step]}
    answer = '{"x":' * 60 + "1" + "}" * 60
    check_schema(schema)

    async def judged() -> tuple[Reading, int]:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.01)
                turns += 1

        turning = asyncio.create_task(turn())
        reading = await read_answer_apart(answer, schema)
        turning.cancel()
        return reading, turns

    reading, turns = asyncio.run(judged())
    assert reading.text is None and reading.where == "the schema takes too long on it"
    assert turns >= 5


@pytest.mark.parametrize(
    ("items", "unique"),
    [
        ([1, 1.0], False),
        ([1, True], True),
        ([0, False], True),
        ([{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}], False),
        ([[1], ["1"]], True),
        ([None, None], False),
        ([{"a": i} for i in range(30_000)], True),
    ],
    ids=lambda value: str(value)[:30],
)
def test_unique_items_are_judged_as_the_draft_has_it_however_many(items: list[Any], unique: bool) -> None:
    reading = read_answer(json.dumps(items), {"type": "array", "uniqueItems": True})
    assert (reading.text is not None) is unique
    if len(items) < 10:
        assert Draft202012Validator({"uniqueItems": True}).is_valid(items) is unique
