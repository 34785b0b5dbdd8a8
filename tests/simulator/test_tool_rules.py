"""What each API refuses in tools and in conversations with them, and what it takes."""

from __future__ import annotations

from typing import Any

import pytest

from src.simulator.config import API_FORMATS

from .histories import SCHEMAS, Poster, assistant, calls, choice, request, results, tools, user

ONE = ("call_1", "get_time", {"zone": "UTC"})
TWO = ("call_2", "get_weather", {"city": "Oslo", "days": 1, "unit": "celsius"})
DONE_1, DONE_2 = ("call_1", "get_time", "12:00"), ("call_2", "get_weather", "sun")


def turns_of(api: str) -> dict[str, list[dict[str, Any]]]:
    """Conversations that every API takes."""
    hi = user(api, "Hi")
    return {
        "one call": [hi, calls(api, ONE), *results(api, DONE_1)],
        "and on": [hi, calls(api, ONE), *results(api, DONE_1), assistant(api, "Noon."), user(api, "Thanks")],
        "parallel": [hi, calls(api, ONE, TWO), *results(api, DONE_1, DONE_2)],
        "parallel, results the other way round": [
            hi,
            calls(api, ONE, TWO),
            *results(api, DONE_2, DONE_1),
        ],
        "one after the other": [
            hi,
            calls(api, ONE),
            *results(api, DONE_1),
            calls(api, TWO),
            *results(api, DONE_2),
        ],
    }


@pytest.mark.parametrize("name", turns_of("openai"))
@pytest.mark.parametrize("api", API_FORMATS)
async def test_a_conversation_that_keeps_the_rules_is_taken(poster: Poster, api: str, name: str) -> None:
    status, answer = await poster.post(api, request(api, turns_of(api)[name], tools=tools(api)))
    assert status == 200, answer


def bad_turns(api: str) -> dict[str, tuple[list[dict[str, Any]], str]]:
    hi = user(api, "Hi")
    missing = {
        "anthropic": "`tool_use` ids were found without `tool_result` blocks immediately after: call_",
        "openai": "must be followed by tool messages responding to each 'tool_call_id'. The following",
        "gemini": "number of function response parts is equal to the number of function call parts",
    }[api]
    orphan = {
        "anthropic": "unexpected `tool_use_id` found in `tool_result` blocks: call_1",
        "openai": "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'",
        "gemini": "function response turn comes immediately after a function call turn",
    }[api]
    return {
        "no result": ([hi, calls(api, ONE), user(api, "And?")], missing),
        "no result at the end": ([hi, calls(api, ONE)], missing),
        "one of two results": ([hi, calls(api, ONE, TWO), *results(api, DONE_1)], missing),
        "a result without a call": ([hi, *results(api, DONE_1)], orphan),
        "a late result": (
            [hi, calls(api, ONE), *results(api, DONE_1), assistant(api, "So."), *results(api, DONE_1)],
            orphan,
        ),
    }


@pytest.mark.parametrize("name", bad_turns("openai"))
@pytest.mark.parametrize("api", API_FORMATS)
async def test_calls_and_results_come_in_pairs(poster: Poster, api: str, name: str) -> None:
    turns, message = bad_turns(api)[name]
    status, answer = await poster.post(api, request(api, turns, tools=tools(api)))
    assert (status, message in answer["error"]["message"]) == (400, True), answer


HI = [{"role": "user", "content": "Hi"}]
HI_GEMINI = [user("gemini", "Hi")]
CALLED = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def openai(message: str, turns: Any = HI, **more: Any) -> Any:
    return pytest.param("openai", request("openai", turns, **more), message, id=f"openai: {message[:40]}")


def anthropic(message: str, turns: Any = HI, **more: Any) -> Any:
    return pytest.param(
        "anthropic", request("anthropic", turns, **more), message, id=f"anthropic: {message[:40]}"
    )


def gemini(message: str, turns: Any = HI_GEMINI, **more: Any) -> Any:
    return pytest.param("gemini", request("gemini", turns, **more), message, id=f"gemini: {message[:40]}")


def of(api: str, name: str = "f", schema: Any = None) -> Any:
    return tools(api, {name: SCHEMAS["get_time"] if schema is None else schema})


def claude_says(*blocks: Any) -> Any:
    return [*HI, {"role": "assistant", "content": list(blocks)}]


def gpt_called(**more: Any) -> Any:
    return [*HI, {"role": "assistant", "content": None, "tool_calls": [{**CALLED, **more}]}]


@pytest.mark.parametrize(
    ("api", "body", "message"),
    [
        openai("Unrecognized request argument supplied: temprature", temprature=1),
        openai("Invalid 'tools': empty array", tools=[]),
        openai("'tool_choice' is only allowed when 'tools' are specified", tool_choice="auto"),
        openai("'parallel_tool_calls' is only allowed", parallel_tool_calls=True),
        openai("string does not match pattern", tools=of("openai", "a b")),
        openai("maximum length 64, but got a string with length 65", tools=of("openai", "f" * 65)),
        openai("Expected an array with maximum length 128", tools=of("openai") * 129),
        openai("Supported values are: 'function' and 'custom'", tools=[{"type": "retrieval"}]),
        openai("Missing required parameter: 'tools[0].function.name'", tools=[{"type": "function"}]),
        openai("got 'type: \"string\"'", tools=of("openai", schema={"type": "string"})),
        openai(
            "array schema missing items",
            tools=of("openai", schema={"type": "object", "properties": {"a": {"type": "array"}}}),
        ),
        openai("Tool choice 'g' not found in 'tools'", tools=of("openai"), **choice("openai", "g")),
        openai("Invalid value for 'tool_choice'", tools=of("openai"), tool_choice="perhaps"),
        openai("expected a string, got null", [{"role": "user", "content": None}]),
        openai("'messages[0].content': empty array", [{"role": "user", "content": []}]),
        openai("Supported values are: 'text'", [{"role": "system", "content": [{"type": "image_url"}]}]),
        openai("tool_calls': empty array", [*HI, {"role": "assistant", "content": "x", "tool_calls": []}]),
        openai("maximum length 40", gpt_called(id="c" * 41)),
        openai("expected a string.", gpt_called(function={"name": "f", "arguments": {}})),
        openai("'messages[1].tool_calls[0].function.name': string", gpt_called(function={"name": "f f"})),
        openai("Missing required parameter: 'messages[1].tool_calls[0].type'", gpt_called(type=None)),
        openai("must have a 'tool_call_id'", [*gpt_called(), {"role": "tool", "content": "x"}]),
        openai(
            "'tool_call_id' of 'd' not found",
            [*gpt_called(), {"role": "tool", "tool_call_id": "d", "content": ""}],
        ),
        anthropic("tool_choice may only be specified while providing tools", tool_choice={"type": "auto"}),
        anthropic("tools.0.custom.name: String should match pattern", tools=of("anthropic", "a.b")),
        anthropic("tools.0.custom.name: String should match", tools=of("anthropic", "f" * 129)),
        anthropic("tools.0.custom.input_schema: Field required", tools=[{"name": "f"}]),
        anthropic("tools.0.custom.name: Field required", tools=[{"input_schema": {"type": "object"}}]),
        anthropic(
            "input_schema.type: Input should be 'object'", tools=of("anthropic", schema={"type": "array"})
        ),
        anthropic("input_schema.type: Field required", tools=of("anthropic", schema={})),
        anthropic(
            "does not support oneOf, allOf, or anyOf at the top level",
            tools=of("anthropic", schema={"type": "object", "anyOf": []}),
        ),
        anthropic("Tool names must be unique", tools=of("anthropic") * 2),
        anthropic("custom.parameters: Extra inputs", tools=[{**of("anthropic")[0], "parameters": {}}]),
        anthropic("Tool 'g' not found in provided tools", tools=of("anthropic"), **choice("anthropic", "g")),
        anthropic("tool_choice: Input tag 'must'", tools=of("anthropic"), tool_choice={"type": "must"}),
        anthropic("must define tools", [HI[0], calls("anthropic", ONE), *results("anthropic", DONE_1)]),
        anthropic('Unexpected role "system"', [{"role": "system", "content": "Be kind."}, *HI]),
        anthropic('first message must use the "user" role', [{"role": "assistant", "content": "x"}]),
        anthropic("messages.0: all messages must have non-empty content", [{"role": "user", "content": []}]),
        anthropic("text content blocks must be non-empty", [{"role": "user", "content": ""}]),
        anthropic("must contain non-whitespace text", [{"role": "user", "content": " \n"}]),
        anthropic("cannot end with trailing whitespace", [*HI, {"role": "assistant", "content": "So "}]),
        anthropic("Input tag 'tool_result' found", claude_says({"type": "tool_result"})),
        anthropic(
            "tool_use.id: String should match pattern",
            claude_says({"type": "tool_use", "id": "a.b", "name": "f", "input": {}}),
            tools=of("anthropic"),
        ),
        anthropic(
            "tool_use.input: Input should be a valid dictionary",
            claude_says({"type": "tool_use", "id": "a", "name": "f", "input": "{}"}),
            tools=of("anthropic"),
        ),
        anthropic(
            "ids must be unique",
            [*HI, calls("anthropic", ONE, ONE), *results("anthropic", DONE_1)],
            tools=of("anthropic"),
        ),
        anthropic(
            "each tool_use must have a single result",
            [*HI, calls("anthropic", ONE), *results("anthropic", DONE_1, DONE_1)],
            tools=of("anthropic"),
        ),
        anthropic(
            "without `tool_result` blocks immediately after",
            [
                *HI,
                calls("anthropic", ONE),
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Here:"},
                        results("anthropic", DONE_1)[0]["content"][0],
                    ],
                },
            ],
            tools=of("anthropic"),
        ),
        anthropic("system.0.type", system=[{"type": "image", "source": {}}]),
        anthropic(
            "A maximum of 4 blocks with cache_control",
            [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}] * 5,
                }
            ],
        ),
        anthropic("temprature: Extra inputs are not permitted", temprature=1),
        gemini("Invalid function name", tools=of("gemini", "1f")),
        gemini("Invalid function name", tools=of("gemini", "f" * 65)),
        gemini("should be non-empty for OBJECT type", tools=of("gemini", schema={"type": "object"})),
        gemini(
            'Unknown name "additionalProperties"',
            tools=of("gemini", schema={**SCHEMAS["get_time"], "additionalProperties": False}),
        ),
        gemini(
            "items: missing field",
            tools=of("gemini", schema={"type": "object", "properties": {"a": {"type": "array"}}}),
        ),
        gemini("Duplicate function declaration", tools=of("gemini") * 2),
        gemini("is set without function_declarations", **choice("gemini", "any")),
        gemini("is not a declared function", tools=of("gemini"), **choice("gemini", "g")),
        gemini(
            "should only be set when mode is ANY",
            tools=of("gemini"),
            toolConfig={"functionCallingConfig": {"mode": "AUTO", "allowedFunctionNames": ["f"]}},
        ),
        gemini("contents.parts must not be empty", [{"role": "user", "parts": []}]),
        gemini("must have one initialized field", [{"role": "user", "parts": [{"text": ""}]}]),
        gemini("must have one initialized field", [{"role": "user", "parts": [{"thought": True}]}]),
        gemini("is already set", [{"role": "user", "parts": [{"text": "x", "functionCall": {"name": "f"}}]}]),
        gemini("Please use a valid role", [{"role": "system", "parts": [{"text": "x"}]}]),
        gemini("Name cannot be empty", [{"role": "model", "parts": [{"functionCall": {"args": {}}}]}]),
        gemini(
            "google.protobuf.Struct",
            [
                *HI_GEMINI,
                calls("gemini", ONE),
                {"role": "user", "parts": [{"functionResponse": {"name": "get_time", "response": "12"}}]},
            ],
        ),
        gemini("function call turn comes immediately after a user turn", [calls("gemini", ONE)]),
        gemini('Unknown name "messages"', messages=[]),
    ],
)
async def test_a_mistake_is_a_400_in_the_words_of_its_api(
    poster: Poster,
    api: str,
    body: dict[str, Any],
    message: str,
) -> None:
    status, answer = await poster.post(api, body)
    assert (status, message in answer["error"]["message"]) == (400, True), answer


async def test_openai_names_the_parameter_and_a_code(poster: Poster) -> None:
    _, answer = await poster.post("openai", request("openai", HI, tools=of("openai", "a b")))
    assert (answer["error"]["param"], answer["error"]["code"]) == ("tools[0].function.name", "invalid_value")
    _, answer = await poster.post("openai", request("openai", gpt_called()))
    assert (answer["error"]["param"], answer["error"]["code"]) == ("messages", None)


@pytest.mark.parametrize(
    ("api", "turns"),
    [
        ("openai", [{"role": "user", "content": ""}]),
        ("openai", [*HI, {"role": "system", "content": "late"}, *HI]),
        ("openai", [{"role": "assistant", "content": "I begin."}]),
        ("anthropic", [*HI, *HI]),
        ("anthropic", [*HI, {"role": "assistant", "content": "The answer is"}]),
        ("anthropic", [*HI, {"role": "assistant", "content": []}]),
        ("gemini", [*HI_GEMINI, *HI_GEMINI]),
        ("gemini", [{"parts": [{"text": "without a role"}]}]),
    ],
)
async def test_what_looks_odd_but_is_taken(poster: Poster, api: str, turns: Any) -> None:
    status, answer = await poster.post(api, request(api, turns))
    assert status == 200, answer
