"""What the real APIs refuse is refused: the message and the field that it names."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.gateway.formats.base import FormatError
from src.gateway.formats.embeddings import VECTORS
from src.messages import Text

from .samples import FORMATS, TOOLS, body_for

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
USER = {"role": "user", "content": "Tides?"}
USE = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}


def messages(*given: Any) -> dict[str, Any]:
    return {"messages": [USER, *given]}


def items(*given: Any) -> dict[str, Any]:
    return {"input": [USER, *given]}


def tool(**function: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": function}]}


CHAT: list[tuple[dict[str, Any], str, str]] = [
    ({"model": None}, "model", "Missing required parameter: 'model'"),
    ({"model": 3}, "model", "expected a string, but got an integer"),
    ({"messages": None}, "messages", "Missing required parameter: 'messages'"),
    ({"messages": []}, "messages", "empty array"),
    ({"messages": "hi"}, "messages", "expected an array of objects, but got a string"),
    ({"messages": [USER, "hi"]}, "messages[1]", "expected an object, but got a string"),
    (messages({"role": "bot", "content": "x"}), "messages[1].role", "Invalid value: 'bot'"),
    (messages({"content": "x"}), "messages[1].role", "Missing required parameter"),
    (messages({"role": "function", "name": "f", "content": "x"}), "messages[1].role", "use 'tools'"),
    (messages({"role": "user"}), "messages[1].content", "expected a string, got null"),
    (messages({"role": "user", "content": []}), "messages[1].content", "empty array"),
    (messages({"role": "user", "content": 3}), "messages[1].content", "expected a string"),
    (
        messages({"role": "user", "content": [{"type": "picture"}]}),
        "messages[1].content[0].type",
        "Invalid value: 'picture'",
    ),
    (
        messages({"role": "user", "content": [{"type": "text", "text": 3}]}),
        "messages[1].content[0].text",
        "expected a string, but got an integer",
    ),
    (
        messages({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "ftp://x"}}]}),
        "messages[1].content[0].image_url",
        "Expected a valid URL",
    ),
    (
        messages({"role": "user", "content": [{"type": "image_url", "image_url": "https://x"}]}),
        "messages[1].content[0].image_url",
        "expected an object",
    ),
    (
        messages({"role": "user", "content": [{"type": "file", "file": {"file_data": "abc"}}]}),
        "messages[1].content[0].file.file_data",
        "Invalid file data",
    ),
    (messages({"role": "assistant", "content": None}), "messages[1].content", "got null"),
    (
        messages({"role": "assistant", "content": None, "tool_calls": [{**CALL, "id": None}]}),
        "messages[1].tool_calls[0].id",
        "Missing required",
    ),
    (
        messages({"role": "assistant", "content": None, "tool_calls": [{**CALL, "id": "x" * 41}]}),
        "messages[1].tool_calls[0].id",
        "maximum length 40",
    ),
    (
        messages({"role": "assistant", "content": None, "tool_calls": [CALL]}, USER),
        "messages",
        "did not have response messages: c1",
    ),
    (messages({"role": "tool", "tool_call_id": "c1", "content": "1"}), "messages[1].role", "preceeding"),
    (
        messages(
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c2", "content": "1"},
        ),
        "messages[2].tool_call_id",
        "'c2' not found",
    ),
    ({"functions": [{"name": "f"}]}, "functions", "use 'tools' instead"),
    ({"function_call": "auto"}, "function_call", "use 'tool_choice' instead"),
    (tool(name="a b"), "tools[0].function.name", "does not match pattern"),
    (tool(name="a" * 65), "tools[0].function.name", "maximum length 64"),
    (tool(), "tools[0].function.name", "Missing required parameter: 'tools[0].function.name'"),
    (tool(name="f", parameters={"type": "array"}), "tools[0].function.parameters", "got 'type: array'"),
    ({"tools": []}, "tools", "empty array"),
    ({"tools": [{"type": "x"}]}, "tools[0].type", "Invalid value: 'x'"),
    ({"tool_choice": "auto"}, "tool_choice", "only allowed when 'tools' are specified"),
    ({"parallel_tool_calls": True}, "parallel_tool_calls", "only allowed when 'tools' are specified"),
    ({**tool(name="f"), "tool_choice": "any"}, "tool_choice", "Invalid value: 'any'"),
    (
        {**tool(name="f"), "tool_choice": {"type": "function", "function": {"name": "g"}}},
        "tool_choice",
        "Tool choice 'g' not found",
    ),
    ({"max_tokens": 0}, "max_tokens", "Expected a value >= 1, but got 0"),
    ({"max_completion_tokens": "5"}, "max_completion_tokens", "expected an integer, but got a string"),
    ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens", "at the same time"),
    ({"temperature": 2.5}, "temperature", "Expected a value <= 2, but got 2.5"),
    ({"temperature": True}, "temperature", "expected a number, but got a boolean"),
    ({"top_p": -1}, "top_p", "Expected a value >= 0"),
    ({"seed": 1.5}, "seed", "expected an integer, but got a decimal number"),
    ({"n": 0}, "n", "Expected a value >= 1"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "maximum length 4"),
    ({"stop": [1]}, "stop[0]", "expected a string"),
    ({"stream": "yes"}, "stream", "expected a boolean"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "only allowed when 'stream'"),
    ({"reasoning_effort": "much"}, "reasoning_effort", "Invalid value: 'much'"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "Invalid value: 'xml'"),
    ({"response_format": {}}, "response_format.type", "Missing required"),
    (
        {"response_format": {"type": "json_schema"}},
        "response_format.json_schema",
        "Missing required parameter: 'response_format.json_schema'",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {}}},
        "response_format.json_schema.name",
        "Missing required",
    ),
]

RESPONSES: list[tuple[dict[str, Any], str, str]] = [
    (
        items({"role": "user", "content": [{"type": "input_file", "file_url": "file:///x"}]}),
        "input[1].content[0].file_url",
        "Expected a valid URL",
    ),
    ({"model": ""}, "model", "Missing required parameter: 'model'"),
    ({"input": None}, "input", "Missing required parameter: 'input'"),
    ({"input": []}, "input", "Missing required parameter: 'input'"),
    ({"previous_response_id": "resp_1"}, "previous_response_id", "'previous_response_id' is not supported"),
    ({"conversation": "conv_1"}, "conversation", "'conversation' is not supported"),
    ({"background": True}, "background", "'background' is not supported"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type", "The tool 'web_search' runs at OpenAI"),
    ({"tools": [{"type": "mcp", "server_label": "x"}]}, "tools[0].type", "The tool 'mcp'"),
    ({"tools": [{"type": "function"}]}, "tools[0].name", "Missing required parameter: 'tools[0].name'"),
    ({"tool_choice": "required"}, "tool_choice", "must be specified with 'tools'"),
    ({"tool_choice": {"type": "web_search"}}, "tool_choice.type", "Invalid value: 'web_search'"),
    ({"max_output_tokens": 15}, "max_output_tokens", "Expected a value >= 16, but got 15"),
    ({"temperature": 3}, "temperature", "Expected a value <= 2"),
    ({"reasoning": {"effort": "some"}}, "reasoning.effort", "Invalid value: 'some'"),
    ({"reasoning": "high"}, "reasoning", "expected an object"),
    ({"text": {"format": {"type": "xml"}}}, "text.format.type", "Invalid value: 'xml'"),
    ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema", "Missing required"),
    ({"include": "logprobs"}, "include", "expected an array of strings"),
    (items({"type": "item_reference", "id": "msg_1"}), "input[1].type", "send the items themselves"),
    (items({"role": "bot", "content": "x"}), "input[1].role", "Invalid value: 'bot'"),
    (
        items({"role": "user", "content": [{"type": "text", "text": "x"}]}),
        "input[1].content[0].type",
        "'text'",
    ),
    (items({"role": "user"}), "input[1].content", "Missing required"),
    (items({"type": "function_call", "call_id": "c", "name": "f"}), "input[1].arguments", "Missing required"),
    (
        items({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}),
        "input",
        "No tool output found for function call c.",
    ),
    (
        items({"type": "function_call_output", "call_id": "c", "output": "1"}),
        "input[1].call_id",
        "No tool call found",
    ),
    (items({"type": "reasoning", "id": "rs_1"}), "input[1].summary", "Missing required"),
]

ANTHROPIC: list[tuple[dict[str, Any], str, str]] = [
    (
        messages(
            {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "ftp://x"}}]}
        ),
        "messages.1.content.0.image.source.url.url",
        "Only HTTPS URLs are supported",
    ),
    ({"model": None}, "model", "model: Field required"),
    ({"max_tokens": None}, "max_tokens", "max_tokens: Field required"),
    ({"max_tokens": 0}, "max_tokens", "max_tokens: Input should be greater than or equal to 1"),
    ({"max_tokens": "5"}, "max_tokens", "max_tokens: Input should be a valid integer"),
    ({"messages": None}, "messages", "messages: Field required"),
    ({"messages": []}, "messages", "at least one message is required"),
    ({"messages": [{"role": "assistant", "content": "x"}]}, "messages", 'first message must use the "user"'),
    (messages({"role": "system", "content": [{"type": "image"}]}), "messages.1.content.0", "tag 'image'"),
    (messages({"role": "system", "content": 3}), "messages.1.content", "valid list"),
    (
        messages({"role": "tool", "content": "x"}),
        "messages.1.role",
        "messages.1.role: Input should be one of",
    ),
    (messages({"role": "user"}), "messages.1.content", "messages.1.content: Field required"),
    (messages({"role": "user", "content": 3}), "messages.1.content", "valid string or list"),
    (messages({"role": "user", "content": ["x"]}), "messages.1.content.0", "valid dictionary"),
    (messages({"role": "user", "content": [{}]}), "messages.1.content.0.type", "Field required"),
    (messages({"role": "user", "content": [USE]}), "messages.1.content.0", "Input tag 'tool_use'"),
    (
        messages({"role": "user", "content": [{"type": "text", "text": ""}]}),
        "messages",
        "text content blocks must be non-empty",
    ),
    (
        messages({"role": "user", "content": [{"type": "image"}]}),
        "messages.1.content.0.image.source",
        "Field required",
    ),
    (
        messages({"role": "user", "content": [{"type": "image", "source": {"type": "text", "data": "x"}}]}),
        "messages.1.content.0.image.source",
        "Input tag 'text'",
    ),
    (
        messages({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}),
        "messages.1.content.0",
        "unexpected `tool_use_id`",
    ),
    (messages({"role": "assistant", "content": [USE]}), "messages.1", "without `tool_result` blocks"),
    (messages({"role": "assistant", "content": [USE]}, USER), "messages.1", "`tool_use` ids were found"),
    (messages({"role": "assistant", "content": [USE, USE]}), "messages", "`tool_use` ids must be unique"),
    (
        messages({"role": "assistant", "content": [{"type": "thinking", "thinking": "x"}]}),
        "messages.1.content.0.thinking.signature",
        "Field required",
    ),
    ({"system": 3}, "system", "system: Input should be a valid list"),
    ({"system": [{"type": "image"}]}, "system.0", "Input tag 'image'"),
    ({"temperature": 1.5}, "temperature", "temperature: Input should be less than or equal to 1"),
    ({"temperature": "x"}, "temperature", "temperature: Input should be a valid number"),
    ({"stop_sequences": "END"}, "stop_sequences", "Input should be a valid list"),
    ({"stream": 1}, "stream", "stream: Input should be a valid boolean"),
    ({"thinking": {"type": "much"}}, "thinking.type", "Input should be one of 'enabled'"),
    ({"thinking": {"type": "enabled"}}, "thinking.enabled.budget_tokens", "Field required"),
    (
        {"thinking": {"type": "enabled", "budget_tokens": 10}},
        "thinking.enabled.budget_tokens",
        "greater than or equal to 1024",
    ),
    ({"thinking": {"type": "enabled", "budget_tokens": 4000}}, "max_tokens", "`max_tokens` must be greater"),
    ({"output_config": {"effort": "none"}}, "output_config.effort", "one of 'low'"),
    ({"tool_choice": {"type": "auto"}}, "tool_choice", "only be specified while providing tools"),
    (
        {"tools": TOOLS["anthropic"], "tool_choice": {"type": "tool", "name": "g"}},
        "tool_choice",
        "Tool 'g' not found",
    ),
    ({"tools": [{"name": "f"}]}, "tools.0.custom.input_schema", "Field required"),
    ({"tools": [{"name": "f", "input_schema": {}}]}, "tools.0.custom.input_schema.type", "Field required"),
    ({"tools": TOOLS["anthropic"] * 2}, "tools", "Tool names must be unique"),
    ({"tools": [{"name": "a b", "input_schema": {"type": "object"}}]}, "tools.0.custom.name", "pattern"),
]

CASES = [
    *(("openai", *case) for case in CHAT),
    *(("responses", *case) for case in RESPONSES),
    *(("anthropic", *case) for case in ANTHROPIC),
]


@pytest.mark.parametrize(("form", "given", "param", "message"), CASES)
def test_what_the_api_refuses_is_refused(form: str, given: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        FORMATS[form].read(body_for(form, **given), {})
    problem = caught.value.problem
    assert problem.param == param
    assert message in problem.message
    assert FORMATS[form].status(problem) == 400


EMBEDDINGS: list[tuple[Any, str, str]] = [
    ({"input": "x"}, "model", "Missing required"),
    ({"model": "m"}, "input", "Missing required"),
    ({"model": "m", "input": 3}, "input", "expected a string"),
    ({"model": "m", "input": ""}, "input", "empty string"),
    ({"model": "m", "input": []}, "input", "expected 1 to 2048 inputs, but got 0"),
    ({"model": "m", "input": ["x"] * 2049}, "input", "but got 2049"),
    ({"model": "m", "input": ["x", 3]}, "input", "expected strings"),
    ({"model": "m", "input": ["x", [3]]}, "input", "expected strings"),
    ({"model": "m", "input": "x", "dimensions": 0}, "dimensions", ">= 1"),
    ({"model": "m", "input": "x", "encoding_format": "hex"}, "encoding_format", "Invalid value"),
]


@pytest.mark.parametrize(("body", "param", "message"), EMBEDDINGS)
def test_bad_embeddings_are_refused(body: Any, param: str, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        VECTORS.read(body, {})
    assert caught.value.problem.param == param


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ("abc", ("abc",)),
        (["abc", "de"], ("abc", "de")),
        ([1, 2, 3], ("1 2 3",)),
        ([[1, 2], [3]], ("1 2", "3")),
    ],
)
def test_embeddings_take_texts_or_tokens(given: Any, texts: tuple[str, ...]) -> None:
    found = VECTORS.read({"model": "m", "input": given, "user": "u"}, {})
    assert tuple(part.text for part in found.messages[0].parts if isinstance(part, Text)) == texts
    assert found.native.body["user"] == "u"


NAMES = [
    *("type", "role", "content", "text", "id", "name", "input", "tool_calls", "function", "source", "url"),
    *(
        "tool_use_id",
        "call_id",
        "arguments",
        "image_url",
        "output",
        "summary",
        "budget_tokens",
        "tools",
        "mode",
    ),
]
WORDS = [
    *("user", "assistant", "text", "function", "tool_use", "message", "allowed_tools", "thinking", "base64"),
    *("tool_result", "function_call", "function_call_output", "reasoning", "image_url", "json_schema"),
]
VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.just(10**400) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(NAMES) | st.text(max_size=3), inner | st.sampled_from(WORDS), max_size=4
        )
    ),
    max_leaves=12,
)
FIELDS = {
    "openai": [
        "messages",
        "tools",
        "tool_choice",
        "stop",
        "response_format",
        "stream_options",
        "n",
        "seed",
        "top_p",
    ],
    "responses": ["input", "tools", "tool_choice", "text", "reasoning", "include", "instructions"],
    "anthropic": [
        "messages",
        "tools",
        "tool_choice",
        "system",
        "thinking",
        "output_config",
        "stop_sequences",
    ],
}


@pytest.mark.parametrize("form", FORMATS)
@given(data=st.data())
def test_any_json_is_read_or_refused(form: str, data: st.DataObject) -> None:
    given = data.draw(st.dictionaries(st.sampled_from(FIELDS[form]), VALUES, max_size=3))
    body = body_for(form, **given)
    before = json.dumps(body)
    try:
        FORMATS[form].read(body, {})
    except FormatError as error:
        assert error.problem.message
    assert json.dumps(body) == before, "the caller's body is never changed"
