"""What a conversation becomes in each API's form, and what stays with the caller."""

from __future__ import annotations

import json
from typing import Any

import pytest

from src.messages import (
    Document,
    Image,
    Message,
    Reasoning,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    tool_calls_in,
)
from src.providers import values
from src.providers.conversations import NO_RESULT, OPENING, ordered
from src.providers.error_classes import ErrorAnswer, too_large
from src.providers.usage import Reported, of_answer
from src.records import CompletionRequest, FinishReason

from ..simulator.media import b64, gif, jpeg, pdf, png
from .conftest import API_FORMATS, ask
from .histories import CLOCK, ODD, WEATHER
from .test_rendering import ADAPTERS, body_of, read

Json = dict[str, Any]
PNG = Image("image/png", b64(png(8, 8)))
CALL = ToolCall("call 1", "get_weather", '{"city": "Oslo"}')
USER = Message("user", "And Oslo?")
CALLED = Message("assistant", (Text("I look."), CALL))
RESULT = Message("tool", (ToolResult("call 1", (Text("7 degrees"),)),))


def body(api: str, *messages: Message, **changes: Any) -> Json:
    return body_of(api, ask(api, messages=messages, **changes))[0]


# ---------------------------------------------------------------- calls and results


def test_each_api_has_its_own_form_of_a_call_and_its_result() -> None:
    turns = (Message("system", "Be brief."), USER, CALLED, RESULT)
    assert body("openai", *turns)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "And Oslo?"},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {
                    "id": "call 1",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call 1", "content": "7 degrees"},
    ]
    claude = body("anthropic", *turns)
    ident = claude["messages"][1]["content"][1]["id"]
    assert claude["system"] == "Be brief."
    assert claude["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": ident, "name": "get_weather", "input": {"city": "Oslo"}},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": ident, "content": "7 degrees"}],
        },
    ]
    assert body("gemini", *turns)["contents"][1:] == [
        {
            "role": "model",
            "parts": [
                {"text": "I look."},
                {
                    "functionCall": {"name": "get_weather", "args": {"city": "Oslo"}, "id": "call 1"},
                    "thoughtSignature": "skip_thought_signature_validator",
                },
            ],
        },
        {
            "role": "user",
            "parts": [
                {
                    "functionResponse": {
                        "name": "get_weather",
                        "response": {"result": "7 degrees"},
                        "id": "call 1",
                    }
                }
            ],
        },
    ]


def test_a_plain_conversation_is_not_touched() -> None:
    turns = (Message("system", "s"), USER, Message("assistant", "a"), Message("assistant", "b"), USER)
    assert ordered(turns) is turns


def test_results_stand_behind_their_answer_in_the_order_of_its_calls() -> None:
    first, second = ToolCall("a", "x", "{}"), ToolCall("b", "y", "{}")
    given = (
        Message("user", "?"),
        Message("assistant", (first,)),
        Message("assistant", (second,)),
        Message("system", "Be brief."),
        Message("user", (Text("By the way."), ToolResult("b", (Text("2"),)))),
        Message("tool", (ToolResult("a", (Text("1"),)), ToolResult("a", (Text("again"),)))),
    )
    assert list(ordered(given)) == [
        Message("user", "?"),
        Message("assistant", (first, second)),
        Message("tool", (ToolResult("a", (Text("1"),)), ToolResult("b", (Text("2"),)))),
        Message("system", "Be brief."),
        Message("user", (Text("By the way."),)),
        Message("user", (Text("Result of the tool call a:"), Text("again"))),
    ]


def test_a_call_without_a_result_gets_an_error_as_its_result() -> None:
    [_, _, results, _] = ordered((USER, CALLED, USER))[0:4]
    assert results == Message("tool", (ToolResult("call 1", (Text(NO_RESULT),), is_error=True),))
    sent = body("anthropic", USER, CALLED, USER)["messages"][2]["content"]
    assert sent[0]["is_error"] is True
    assert sent[1] == {"type": "text", "text": "And Oslo?"}
    assert body("openai", USER, CALLED)["messages"][-1]["content"] == "Error: no result"
    assert body("gemini", USER, CALLED)["contents"][-1]["parts"][0]["functionResponse"]["response"] == {
        "error": "no result"
    }


def test_equal_ids_of_two_calls_are_told_apart() -> None:
    turns = (USER, CALLED, RESULT, CALLED, RESULT)
    for api in API_FORMATS:
        sent = json.dumps(body(api, *turns))
        assert "call" in sent
    blocks = [m["content"] for m in body("anthropic", *turns)["messages"][1:]]
    called = [each[-1]["id"] for each in blocks[0::2]]
    answered = [each[0]["tool_use_id"] for each in blocks[1::2]]
    assert called == answered
    assert len(set(called)) == 2


@pytest.mark.parametrize("ident", ["", "a b", "é", "x" * 65, "functions.get_weather:0", "toolu_" + "y" * 300])
def test_ids_are_sent_as_the_api_accepts_them_and_always_alike(ident: str) -> None:
    call, result = ToolCall(ident, "get_weather", "{}"), ToolResult(ident, (Text("1"),))
    turns = (USER, Message("assistant", (call,)), Message("tool", (result,)))
    for api in API_FORMATS:
        assert body(api, *turns) == body(api, *turns)
        read(api, body(api, *turns))


def test_history_with_calls_has_tools_at_anthropic_also_where_the_request_has_none() -> None:
    sent = body("anthropic", USER, CALLED, RESULT)
    assert sent["tools"] == [{"name": "get_weather", "input_schema": {"type": "object"}}]
    assert sent["tool_choice"] == {"type": "none"}
    assert "tools" not in body("openai", USER, CALLED, RESULT)
    assert "tools" not in body("gemini", USER, CALLED, RESULT)


def test_arguments_that_are_no_object_are_sent_as_one() -> None:
    odd = (USER, Message("assistant", (ToolCall("a", "x", "Oslo, please"),)))
    assert body("anthropic", *odd)["messages"][1]["content"][0]["input"] == {"arguments": "Oslo, please"}
    assert body("gemini", *odd)["contents"][1]["parts"][0]["functionCall"]["args"] == {
        "arguments": "Oslo, please"
    }
    assert body("openai", *odd)["messages"][1]["tool_calls"][0]["function"]["arguments"] == "Oslo, please"


# ---------------------------------------------------------------- the order of turns


def test_an_answer_is_never_the_first_turn_where_the_api_wants_the_user_there() -> None:
    answer = Message("assistant", "Hello.")
    assert body("anthropic", answer, USER)["messages"][0] == {"role": "user", "content": OPENING}
    assert body("gemini", answer, USER)["contents"][0]["parts"] == [{"text": OPENING}]
    assert body("openai", answer, USER)["messages"][0] == {"role": "assistant", "content": "Hello."}


def test_system_prompts_anywhere_come_first_where_the_api_has_them_apart() -> None:
    turns = (
        USER,
        Message("system", "One."),
        Message("assistant", "a"),
        Message("system", (Text("Two."),)),
        USER,
    )
    assert body("anthropic", *turns)["system"] == "One.\n\nTwo."
    assert body("gemini", *turns)["systemInstruction"] == {"parts": [{"text": "One.\n\nTwo."}]}
    assert [m["role"] for m in body("openai", *turns)["messages"]] == [
        "user",
        "system",
        "assistant",
        "system",
        "user",
    ]


def test_blank_texts_are_left_out_where_the_api_refuses_them() -> None:
    turns = (Message("user", (Text("  "), Text("Hello."))), Message("assistant", ""), Message("user", "\n"))
    assert body("anthropic", *turns)["messages"] == [{"role": "user", "content": "Hello."}]
    contents = body("gemini", *turns)["contents"]
    assert [content["role"] for content in contents] == ["user", "user"]


# ---------------------------------------------------------------- cache marks


def marks_of(sent: Json) -> list[str]:
    found = list(sent["system"]) if isinstance(sent.get("system"), list) else []
    for message in sent["messages"]:
        found += message["content"] if isinstance(message["content"], list) else []
    return [block.get("text", block["type"]) for block in found if "cache_control" in block]


def test_cache_marks_of_callers_and_of_the_planning_are_sent_together() -> None:
    turns = (
        Message("system", (Text("Rules.", cache=True),)),
        Message("user", "A long document."),
        Message("user", (Text("A question.", cache=True), Text("Please."))),
    )
    assert marks_of(body("anthropic", *turns, cached_turns=2)) == [
        "Rules.",
        "A long document.",
        "A question.",
    ]


def test_at_most_four_marks_are_sent_and_those_of_the_caller_go_first() -> None:
    marked = tuple(Message("user", (Text(f"{n}", cache=True),)) for n in range(4))
    turns = (Message("system", "s"), *marked)
    assert marks_of(body("anthropic", *turns, cached_turns=1)) == ["0", "1", "2", "3"]
    more = (*turns, Message("user", (Text("4", cache=True),)))
    assert marks_of(body("anthropic", *more)) == ["1", "2", "3", "4"]


def test_marks_of_callers_are_sent_to_a_model_of_openai_that_takes_them() -> None:
    long = Text("x" * 5_000, cache=True)
    turns = (Message("user", (long, Text("?"))),)
    sent = body("openai", *turns, parameters={"prompt_cache": "marks"})
    assert sent["messages"][0]["content"][0]["prompt_cache_breakpoint"] == {"mode": "explicit"}
    assert "breakpoint" not in json.dumps(body("openai", *turns))


# ---------------------------------------------------------------- images and documents


def test_images_and_documents_have_the_form_of_each_api() -> None:
    web, plain = Image(url="https://example.com/a.png", detail="low"), Document("text/plain", b64(b"Hello"))
    paper = Document("application/pdf", b64(pdf(1)), name="a.pdf")
    turn = Message("user", (PNG, web, plain, paper))
    assert body("openai", turn)["messages"][0]["content"] == [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG.data}"}},
        {"type": "image_url", "image_url": {"url": web.url, "detail": "low"}},
        {"type": "text", "text": "Hello"},
        {
            "type": "file",
            "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{paper.data}"},
        },
    ]
    pdf_source = {"type": "base64", "media_type": "application/pdf", "data": paper.data}
    assert body("anthropic", turn)["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG.data}},
        {"type": "image", "source": {"type": "url", "url": web.url}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Hello"}},
        {"type": "document", "source": pdf_source, "title": "a.pdf"},
    ]
    assert body("gemini", turn)["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": PNG.data}},
        {"text": "[image left out]"},
        {"inlineData": {"mimeType": "text/plain", "data": plain.data}},
        {"inlineData": {"mimeType": "application/pdf", "data": paper.data}},
    ]


def test_images_of_a_result_follow_in_a_users_turn_where_results_are_text() -> None:
    shown = Message("tool", (ToolResult("call 1", (Text("See."), PNG)),))
    turns = (USER, CALLED, shown, USER)
    [result, image, _] = body("openai", *turns)["messages"][2:]
    assert result == {"role": "tool", "tool_call_id": "call 1", "content": "See."}
    assert [part["type"] for part in image["content"]] == ["text", "image_url"]
    [response, beside, _] = body("gemini", *turns)["contents"][2:]
    assert list(response["parts"][0]) == ["functionResponse"]
    assert "inlineData" in beside["parts"][1]
    [result, said] = body("anthropic", *turns)["messages"][2]["content"]
    assert [block["type"] for block in result["content"]] == ["text", "image"]
    assert said["type"] == "text"


@pytest.mark.parametrize(
    ("part", "refusing"),
    [
        (Image("image/gif", b64(gif(8, 8))), {"gemini"}),
        (Image("image/tiff", "SUkqAA=="), {"anthropic", "openai", "gemini"}),
        (Image(url="https://example.com/a.png"), {"gemini"}),
        (Image(url="http://example.com/a.png"), {"anthropic", "gemini"}),
        (Document(url="https://example.com/a.pdf"), {"openai", "gemini"}),
        (Document(url="gs://bucket/a.pdf"), {"anthropic", "openai"}),
        (Image("image/png", b64(jpeg(8, 8))), set()),  # called what it is not
    ],
)
def test_what_an_api_does_not_take_is_named(part: Image | Document, refusing: set[str]) -> None:
    found = set()
    for api in API_FORMATS:
        sent, warnings = body_of(api, ask(api, messages=(Message("user", (part, Text("?"))),)))
        read(api, sent)
        found |= {api} if warnings else set()
    assert found == refusing


# ---------------------------------------------------------------- tools


def test_names_of_tools_that_an_api_refuses_come_back_as_the_caller_wrote_them() -> None:
    for api in API_FORMATS:
        request = ask(api, tools=(ODD, CLOCK), tool_choice=ODD.name)
        sent, _ = body_of(api, request)
        asked = read(api, sent).tools
        assert asked is not None
        [name] = asked.names
        assert name != ODD.name
        answers: dict[str, Json] = {
            "openai": {
                "choices": [
                    {
                        "finish_reason": "tool_calls",
                        "message": {
                            "tool_calls": [{"id": "1", "function": {"name": name, "arguments": "{}"}}]
                        },
                    }
                ]
            },
            "anthropic": {
                "content": [{"type": "tool_use", "id": "1", "name": name, "input": {}}],
                "stop_reason": "tool_use",
            },
            "gemini": {
                "candidates": [
                    {
                        "content": {"parts": [{"functionCall": {"name": name, "id": "1"}}]},
                        "finishReason": "STOP",
                    }
                ]
            },
        }
        completion = ADAPTERS[api]._completion(answers[api], request, {}, ())
        assert tool_calls_in(completion.parts) == (ToolCall("1", ODD.name, "{}"),)
        assert completion.finish_reason is FinishReason.TOOL


def test_strict_tools_stay_strict_where_the_api_can_hold_to_their_schema() -> None:
    closed = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    closed["additionalProperties"] = False
    bounded = {**closed, "properties": {"a": {"type": "string", "maxLength": 3}}}
    for schema, is_strict in ((closed, True), (bounded, False)):
        request = ask("anthropic", tools=(Tool("t", "", schema, strict=True),))
        sent, warnings = body_of("anthropic", request)
        assert sent["tools"][0].get("strict", False) is is_strict
        assert bool(warnings) is not is_strict
    assert (
        body("openai", USER, tools=(Tool("t", "", closed, True),))["tools"][0]["function"]["strict"] is True
    )


@pytest.mark.parametrize(("thinking", "in_words"), [("budget", True), ("effort", False)])
def test_a_schema_beside_tools_is_said_in_words_before_gemini_3(thinking: str, in_words: bool) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    request = ask("gemini", tools=(WEATHER,), response_schema=schema, parameters={"thinking": thinking})
    sent = ADAPTERS["gemini"]._render(request).body
    assert ("response_mime_type" not in sent["generation_config"]) is in_words
    assert ("JSON schema" in sent["system"]) is in_words


def test_parallel_calls_are_switched_off_where_the_api_can() -> None:
    facts: Json = {"tools": (WEATHER,), "parallel_tool_calls": False}
    assert body("openai", USER, **facts)["parallel_tool_calls"] is False
    assert body("anthropic", USER, **facts)["tool_choice"] == {
        "type": "auto",
        "disable_parallel_tool_use": True,
    }
    assert body_of("gemini", ask("gemini", **facts))[1] == ("parallel_tool_calls left out",)


# ---------------------------------------------------------------- reasoning


def thinking_of(**changes: Any) -> tuple[Any, Any, tuple[str, ...]]:
    facts = {"max_tokens": 20_000, "reasoning_effort": "high", **changes}
    sent, warnings = body_of("anthropic", ask("anthropic", **facts))
    return sent.get("thinking"), sent.get("output_config", {}).get("effort"), warnings


def test_claude_is_asked_for_an_effort_or_a_budget_as_its_model_takes_it() -> None:
    budget = {"parameters": {"thinking": "budget"}}
    assert thinking_of() == ({"type": "adaptive"}, "high", ())
    assert thinking_of(reasoning_effort="none") == ({"type": "disabled"}, None, ())
    assert thinking_of(**budget)[0] == {"type": "enabled", "budget_tokens": 16_384}
    assert thinking_of(**budget, max_tokens=5_000)[0] == {"type": "enabled", "budget_tokens": 3_976}
    off, _, warnings = thinking_of(**budget, max_tokens=1_500)
    assert off is None
    assert "max_tokens" in warnings[0]


def test_thinking_stays_off_where_anthropic_would_refuse_it() -> None:
    budget = {"parameters": {"thinking": "budget"}}
    off, effort, [warning] = thinking_of(tools=(WEATHER,), tool_choice="required")
    assert (off, effort) == (None, "high")
    assert "required" in warning
    off, _, [warning] = thinking_of(**budget, messages=(USER, CALLED, RESULT), tools=(WEATHER,))
    assert off is None
    assert "without the thinking" in warning
    on, _, [warning] = thinking_of(temperature=0.5)
    assert on == {"type": "adaptive"}
    assert "temperature left out" in warning


def test_gemini_is_asked_for_a_level_or_a_budget() -> None:
    def config(**changes: Any) -> Any:
        return body("gemini", USER, **changes).get("generationConfig", {}).get("thinkingConfig")

    assert config() is None
    assert config(reasoning_effort="high") == {"thinkingLevel": "high"}
    budget = {"parameters": {"thinking": "budget"}, "max_tokens": 64_000}
    assert config(reasoning_effort="none", **budget) == {"thinkingBudget": 0}
    assert config(reasoning_effort="high", **budget) == {"thinkingBudget": 24_576}


def test_reasoning_of_a_compatible_server_goes_back_to_it_in_its_own_fields() -> None:
    request = ask("openai", tools=(WEATHER,))
    message = {"content": "I look.", "reasoning_content": "Hm.", "tool_calls": []}
    answer = {"choices": [{"message": message, "finish_reason": "stop"}]}
    completion = ADAPTERS["openai"]._completion(answer, request, {}, ())
    [reasoning, _] = completion.parts
    assert isinstance(reasoning, Reasoning)
    turn = Message("assistant", completion.parts)
    assert body("openai", USER, turn)["messages"][1]["reasoning_content"] == "Hm."
    assert "reasoning_content" not in body("openai", USER, turn, model="another")["messages"][1]


def test_reasoning_is_kept_only_where_a_conversation_may_go_on() -> None:
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    answer = {"content": [thinking, {"type": "text", "text": "Elbe."}], "stop_reason": "end_turn"}
    adapter = ADAPTERS["anthropic"]
    assert adapter._completion(answer, ask("anthropic"), {}, ()).parts == ()
    kept = adapter._completion(answer, ask("anthropic", tools=(WEATHER,)), {}, ()).parts
    assert [type(part) for part in kept] == [Reasoning, Text]


# ---------------------------------------------------------------- answers that are odd


def test_a_call_that_a_token_limit_has_cut_is_left_out() -> None:
    calls = [
        {"id": "1", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}},
        {"id": "2", "function": {"name": "get_weather", "arguments": '{"city": "Os'}},
    ]
    answer = {"choices": [{"message": {"content": None, "tool_calls": calls}, "finish_reason": "length"}]}
    completion = ADAPTERS["openai"]._completion(answer, ask("openai", tools=(WEATHER,)), {}, ())
    assert [call.id for call in tool_calls_in(completion.parts)] == ["1"]
    assert completion.finish_reason is FinishReason.LENGTH


ODD_VALUES: list[Any] = [None, 7, "x", [], {}, [None], [7], [[]], {"a": {}}, [{"type": 7}], [{"type": {}}]]


@pytest.mark.parametrize("value", ODD_VALUES, ids=repr)
def test_parts_of_any_shape_never_break_the_reading(value: Any) -> None:
    calls = [{"id": value, "function": {"name": value, "arguments": value}}, value]
    message = {"content": "x", "tool_calls": calls, "reasoning_content": value, "function_call": value}
    blocks = [
        {"type": "text", "text": "x"},
        {"type": "tool_use", "id": value, "name": value, "input": value},
        {"type": "thinking", "thinking": value},
        value,
    ]
    parts = [{"text": "x"}, {"functionCall": value, "thoughtSignature": value}, {"thought": value}, value]
    answers: dict[str, Json] = {
        "openai": {"choices": [{"message": message, "finish_reason": "stop"}]},
        "anthropic": {"content": blocks, "stop_reason": "end_turn"},
        "gemini": {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]},
    }
    for api in API_FORMATS:
        completion = ADAPTERS[api]._completion(answers[api], ask(api, tools=(WEATHER,)), {}, ())
        assert completion.text == "x"
        for call in tool_calls_in(completion.parts):
            assert len(call.name) <= values.NAME_CHARS


# ---------------------------------------------------------------- sizes


def with_image() -> CompletionRequest:
    large = Image("image/png", b64(png(512, 512, noise=600_000)))
    return ask("openai", messages=(Message("user", (large, Text("What is this?"))),))


def test_base64_is_no_text_whose_tokens_are_counted() -> None:
    usage, warnings = of_answer(Reported(800, 5), with_image(), "A dog.")
    assert (usage.input_tokens, warnings) == (800, ())
    usage, warnings = of_answer(Reported(None, 5), with_image(), "A dog.")
    assert 100 < usage.input_tokens < 2_000
    usage, warnings = of_answer(Reported(900_000, 5), with_image(), "A dog.")
    assert "at most" in warnings[0]


def test_an_image_does_not_make_a_request_too_large_for_a_limit() -> None:
    answer = ErrorAnswer(429, (), "slow down", token_limit=30_000)
    assert too_large(answer, with_image()) is None
