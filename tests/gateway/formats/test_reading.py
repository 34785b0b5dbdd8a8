"""Requests become neutral: the fields that are translated, those of one API, and hints."""

from __future__ import annotations

import json
from typing import Any

import pytest

from src.gateway.formats.base import CallerRequest
from src.gateway.formats.messages import MESSAGES
from src.messages import Document, Image, Message, Reasoning, Text, Tool, ToolCall, ToolResult

from .next_turn import plain
from .samples import FORMATS, TOOLS, WEATHER, body_for

PNG = "iVBORw0KGgo="
PDF = "JVBERi0xLjQK"


def read(form: str, **more: Any) -> CallerRequest:
    return FORMATS[form].read(body_for(form, **more), {})


@pytest.mark.parametrize("form", FORMATS)
def test_a_small_request_is_a_text_and_its_body(form: str) -> None:
    body = body_for(form, some_new_field={"a": 1})
    found = FORMATS[form].read(body, {"anthropic-beta": "tools-1", "authorization": "Bearer no"})
    assert found.messages == (Message("user", "Tides?"),)
    assert (found.form, found.model, found.stream) == (form, "auto", False)
    assert found.native.form == form
    assert found.native.body is body, "nothing is copied, and nothing is changed"
    assert found.native.headers == ({"anthropic-beta": "tools-1"} if form == "anthropic" else {})
    assert found.only_form == ()
    assert found.hints == ("some_new_field",)


TRANSLATED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("openai", {"max_tokens": 7}, {"max_tokens": 7}),
    ("openai", {"max_completion_tokens": 7}, {"max_tokens": 7}),
    ("openai", {"temperature": 2, "top_p": 0.5, "seed": 3}, {"temperature": 2.0, "top_p": 0.5, "seed": 3}),
    ("openai", {"stop": "END"}, {"stop": ("END",)}),
    ("openai", {"stop": ["A", "B"]}, {"stop": ("A", "B")}),
    ("openai", {"reasoning_effort": "minimal"}, {"reasoning_effort": "minimal"}),
    ("openai", {"reasoning_effort": "xhigh"}, {"reasoning_effort": "high"}),
    ("openai", {"stream": True, "stream_options": {"include_usage": True}}, {"include_usage": True}),
    ("openai", {"response_format": {"type": "text"}}, {"response_schema": None}),
    (
        "openai",
        {"response_format": {"type": "json_object"}},
        {"response_schema": {"type": "object", "additionalProperties": True}},
    ),
    (
        "openai",
        {"response_format": {"type": "json_schema", "json_schema": {"name": "w", "schema": WEATHER}}},
        {"response_schema": WEATHER},
    ),
    ("openai", {"tools": TOOLS["openai"]}, {"tools": (Tool("get_weather", "", WEATHER),), "tool_choice": ""}),
    (
        "openai",
        {"tools": TOOLS["openai"], "tool_choice": "required", "parallel_tool_calls": False},
        {"tool_choice": "required", "parallel_tool_calls": False},
    ),
    (
        "openai",
        {
            "tools": TOOLS["openai"],
            "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
        },
        {"tool_choice": "get_weather"},
    ),
    (
        "openai",
        {
            "tools": [*TOOLS["openai"], {"type": "function", "function": {"name": "b"}}],
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": "get_weather"}}],
                },
            },
        },
        {"tools": (Tool("get_weather", "", WEATHER),), "tool_choice": "required"},
    ),
    ("responses", {"max_output_tokens": 16}, {"max_tokens": 16}),
    ("responses", {"temperature": 1, "top_p": 1}, {"temperature": 1.0, "top_p": 1.0}),
    ("responses", {"reasoning": {"effort": "low"}}, {"reasoning_effort": "low"}),
    ("responses", {"text": {"format": {"type": "text"}}}, {"response_schema": None}),
    (
        "responses",
        {"text": {"format": {"type": "json_schema", "name": "w", "schema": WEATHER, "strict": True}}},
        {"response_schema": WEATHER},
    ),
    (
        "responses",
        {"tools": TOOLS["responses"], "tool_choice": {"type": "function", "name": "get_weather"}},
        {"tools": (Tool("get_weather", "", WEATHER, False),), "tool_choice": "get_weather"},
    ),
    (
        "responses",
        {
            "tools": [*TOOLS["responses"], {"type": "function", "name": "b"}],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "b"}],
            },
        },
        {"tools": (Tool("b"),), "tool_choice": "auto"},
    ),
    ("responses", {"parallel_tool_calls": True, "tool_choice": "auto"}, {"tool_choice": ""}),
    ("anthropic", {"max_tokens": 5}, {"max_tokens": 5}),
    ("anthropic", {"stop_sequences": ["A"], "top_p": 0.5}, {"stop": ("A",), "top_p": 0.5}),
    ("anthropic", {"output_config": {"effort": "max"}}, {"reasoning_effort": "high"}),
    ("anthropic", {"thinking": {"type": "disabled"}}, {"reasoning_effort": None}),
    ("anthropic", {"thinking": {"type": "enabled", "budget_tokens": 2000}}, {"reasoning_effort": "low"}),
    (
        "anthropic",
        {"output_config": {"format": {"type": "json_schema", "schema": WEATHER}}},
        {"response_schema": WEATHER},
    ),
    (
        "anthropic",
        {"tools": TOOLS["anthropic"], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
        {
            "tools": (Tool("get_weather", "", WEATHER),),
            "tool_choice": "required",
            "parallel_tool_calls": False,
        },
    ),
    (
        "anthropic",
        {"tools": TOOLS["anthropic"], "tool_choice": {"type": "tool", "name": "get_weather"}},
        {"tool_choice": "get_weather", "parallel_tool_calls": None},
    ),
]


@pytest.mark.parametrize(("form", "given", "expected"), TRANSLATED)
def test_a_field_is_translated(form: str, given: dict[str, Any], expected: dict[str, Any]) -> None:
    found = read(form, **given)
    assert {name: getattr(found, name) for name in expected} == expected
    assert (found.only_form, found.hints) == ((), ())


ONLY: list[tuple[str, dict[str, Any], str]] = [
    ("openai", {"n": 2}, "n"),
    ("openai", {"logprobs": True, "top_logprobs": 2}, "logprobs top_logprobs"),
    ("openai", {"logit_bias": {"1": 5}}, "logit_bias"),
    ("openai", {"modalities": ["text", "audio"], "audio": {"voice": "a"}}, "audio modalities"),
    ("openai", {"prediction": {"type": "content", "content": "x"}}, "prediction"),
    ("openai", {"web_search_options": {}}, "web_search_options"),
    ("openai", {"tools": [{"type": "custom", "custom": {"name": "a"}}]}, "tools[0].custom"),
    ("responses", {"top_logprobs": 3}, "top_logprobs"),
    ("responses", {"include": ["message.output_text.logprobs"]}, "include: message.output_text.logprobs"),
    ("responses", {"tools": [{"type": "custom", "name": "a"}]}, "tools[0].custom"),
    ("responses", {"tools": [{"type": "local_shell"}]}, "tools[0].local_shell"),
    ("responses", {"prompt": {"id": "p"}, "input": None}, "prompt"),
    ("anthropic", {"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
    ("anthropic", {"container": "c"}, "container"),
    (
        "anthropic",
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        "tools.0.web_search_20250305",
    ),
]


@pytest.mark.parametrize(("form", "given", "names"), ONLY)
def test_a_field_that_only_its_api_has_is_named(form: str, given: dict[str, Any], names: str) -> None:
    found = read(form, **given)
    assert sorted(found.only_form) == sorted([names] if names.startswith("include") else names.split())
    assert found.hints == ()


HINTS: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    (
        "openai",
        {"user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "flex", "verbosity": "low"},
        ("user", "metadata", "store", "service_tier", "verbosity"),
    ),
    (
        "openai",
        {"safety_identifier": "s", "prompt_cache_key": "k"},
        ("safety_identifier", "prompt_cache_key"),
    ),
    ("openai", {"presence_penalty": 0.5, "frequency_penalty": 0}, ("presence_penalty",)),
    ("openai", {"n": 1, "store": False, "service_tier": "auto", "logprobs": False, "user": None}, ()),
    (
        "responses",
        {"store": False, "include": ["reasoning.encrypted_content"], "truncation": "disabled"},
        (),
    ),
    ("responses", {"store": True, "text": {"verbosity": "low"}}, ("store", "text.verbosity")),
    ("responses", {"previous_response_id": None, "background": False, "conversation": None}, ()),
    (
        "anthropic",
        {"metadata": {"user_id": "u"}, "top_k": 5, "context_management": {"edits": []}},
        ("metadata", "top_k", "context_management"),
    ),
]


@pytest.mark.parametrize(("form", "given", "names"), HINTS)
def test_hints_are_named(form: str, given: dict[str, Any], names: tuple[str, ...]) -> None:
    found = read(form, **given)
    assert found.hints == names
    assert found.only_form == ()


def test_a_conversation_of_chat_completions() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}}
    file = {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}}
    marked = {"type": "text", "text": "Look:", "prompt_cache_breakpoint": {"mode": "explicit"}}
    found = read(
        "openai",
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [marked, image, file], "name": "ann"},
            {"role": "assistant", "content": "I look.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "12"}]},
            {"role": "assistant", "content": None, "refusal": "I can't."},
            {"role": "system", "content": "Be briefer."},
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}],
            },
        ],
    )
    assert plain(found.messages) == [
        ("system", (Text("Be brief."),)),
        (
            "user",
            (
                Text("Look:", cache=True),
                Image("image/png", PNG, detail="low"),
                Document("application/pdf", PDF, name="a.pdf"),
            ),
        ),
        ("assistant", (Text("I look."), ToolCall("c1", "f", '{"a": 1}'))),
        ("tool", (ToolResult("c1", (Text("12"),)),)),
        ("assistant", (Text("I can't."),)),
        ("system", (Text("Be briefer."),)),
        ("user", (Image(url="https://a.example/b.png"),)),
    ]
    assert found.hints == ("messages.name",)


def test_a_conversation_of_responses() -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
    found = read(
        "responses",
        instructions="Be brief.",
        input=[
            {"role": "developer", "content": "In French."},
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "Look:"},
                    {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"},
                    {"type": "input_file", "file_url": "https://a.example/b.pdf"},
                ],
            },
            thought,
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
            {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c2", "output": "2"},
            {
                "type": "function_call_output",
                "call_id": "c1",
                "output": [{"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"}],
            },
            {"role": "assistant", "content": "Done."},
        ],
    )
    assert plain(found.messages) == [
        ("system", (Text("Be brief."),)),
        ("system", (Text("In French."),)),
        (
            "user",
            (Text("Look:"), Image("image/png", PNG, detail="auto"), Document(url="https://a.example/b.pdf")),
        ),
        (
            "assistant",
            (
                Reasoning(json.dumps(thought), "responses/auto"),
                Text("I look."),
                ToolCall("c1", "f", "{}"),
                ToolCall("c2", "f", "{}"),
            ),
        ),
        ("tool", (ToolResult("c2", (Text("2"),)), ToolResult("c1", (Image("image/png", PNG),)))),
        ("assistant", (Text("Done."),)),
    ]


def test_a_conversation_of_messages() -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "abc"}
    mark = {"cache_control": {"type": "ephemeral"}}
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    source = {"type": "base64", "media_type": "application/pdf", "data": PDF}
    found = read(
        "anthropic",
        system=[{"type": "text", "text": "Be brief."}, {"type": "text", "text": "In French.", **mark}],
        tools=TOOLS["anthropic"],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "Look:", **mark}, picture]},
            {"role": "user", "content": [{"type": "document", "title": "a.pdf", "source": source}]},
            {
                "role": "assistant",
                "content": [thought, {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": "ü"}}],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t1",
                        "content": [picture],
                        "is_error": True,
                        **mark,
                    },
                    {"type": "text", "text": "Go on."},
                ],
            },
            {"role": "system", "content": "Be briefer."},
        ],
    )
    assert plain(found.messages) == [
        ("system", (Text("Be brief."), Text("In French.", cache=True))),
        ("user", (Text("Look:", cache=True), Image("image/png", PNG))),
        ("user", (Document("application/pdf", PDF, name="a.pdf"),)),
        (
            "assistant",
            (Reasoning(json.dumps(thought), "anthropic/auto", "Hm."), ToolCall("t1", "f", '{"a": "ü"}')),
        ),
        ("tool", (ToolResult("t1", (Image("image/png", PNG),), is_error=True, cache=True),)),
        ("user", (Text("Go on."),)),
        ("system", (Text("Be briefer."),)),
    ]


HISTORIES: list[tuple[str, dict[str, Any], str]] = [
    (
        "openai",
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]},
        "messages[0].content[0]",
    ),
    (
        "openai",
        {"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]},
        "messages[0].content[0].file.file_id",
    ),
    ("responses", {"type": "web_search_call", "id": "ws", "status": "completed"}, "input[0].web_search_call"),
    (
        "responses",
        {"role": "user", "content": [{"type": "input_image", "file_id": "f"}]},
        "input[0].content[0].file_id",
    ),
    (
        "anthropic",
        {"role": "user", "content": [{"type": "search_result", "source": "a", "content": []}]},
        "messages.0.content.0.search_result",
    ),
    (
        "anthropic",
        {"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]},
        "messages.0.content.0.image.source.file",
    ),
]


@pytest.mark.parametrize(("form", "item", "name"), HISTORIES)
def test_what_only_one_api_has_in_its_history_is_named(form: str, item: dict[str, Any], name: str) -> None:
    found = read(form, **{"input" if form == "responses" else "messages": [item]})
    assert found.only_form == (name,)


def test_the_beginning_of_an_answer_is_for_anthropic_only() -> None:
    turns = [{"role": "user", "content": "Tides?"}, {"role": "assistant", "content": "They"}]
    assert read("anthropic", messages=turns).only_form == ("messages.1: the beginning of the answer",)


def test_a_count_needs_no_max_tokens() -> None:
    body = body_for("anthropic")
    del body["max_tokens"]
    assert MESSAGES.read_count(body, {}).max_tokens is None
    assert json.loads(MESSAGES.count(12)) == {"input_tokens": 12}


def test_thinking_with_a_budget_is_off_after_a_call_of_another_model() -> None:
    """Anthropic takes no such history with a budget, and the thoughts of the other model are not its own."""
    own = {"type": "thinking", "thinking": "Hm.", "signature": "abc"}
    call = {"type": "tool_use", "id": "t1", "name": "get_weather", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "12"}
    budget = {"type": "enabled", "budget_tokens": 2000}

    def sent(*content: Any) -> Any:
        turns = [
            {"role": "user", "content": "Tides?"},
            {"role": "assistant", "content": list(content)},
            {"role": "user", "content": [result]},
        ]
        found = read("anthropic", tools=TOOLS["anthropic"], thinking=budget, messages=turns)
        return found.native.body["thinking"]

    assert sent(own, call) == budget
    assert sent(call) == {"type": "disabled"}
