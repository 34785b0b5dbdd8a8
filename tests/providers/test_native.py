"""Requests of the gateway that go to the API that their caller wrote them for: sent as they are."""

from __future__ import annotations

from typing import Any

import pytest

from src.errors import BadRequest, InvalidResponse, RateLimited
from src.messages import Message, Reasoning, Text, ToolCall
from src.records import FinishReason, Native

from .conftest import KEY, MODELS, Builder, Canned, access_to, ask

CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-6-luna-2026",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Elbe."}, "finish_reason": "stop", "new": 1}
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
    "future": {"field": [1]},
}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-5-5",
    "content": [{"type": "text", "text": "Elbe.", "citations": None}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 9, "output_tokens": 2},
    "container": {"id": "x"},
}
BODIES: dict[str, dict[str, Any]] = {
    "openai": {
        "model": "auto",
        "messages": [{"role": "user", "content": "A river?", "name": "ann"}],
        "max_completion_tokens": 50,
        "logit_bias": {"1": 2},
        "n": 1,
        "future_field": {"a": [None, 1.5]},
    },
    "anthropic": {
        "model": "auto",
        "system": [
            {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
        ],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "A river?"}]}],
        "max_tokens": 50,
        "tools": [{"type": "web_search_20260209", "name": "web_search"}],
        "future_field": {"a": [None, 1.5]},
    },
}
ANSWERS = {"openai": CHAT, "anthropic": MESSAGE}
OWN = ("openai", "anthropic")


def native(api: str, **changes: Any) -> Native:
    headers = {
        "anthropic-beta": "context-1m-2025-08-07,new-feature",
        "anthropic-version": "2023-06-01",
        "x-api-key": "sk-the-callers-own",
        "authorization": "Bearer sk-the-callers-own",
        "host": "elsewhere",
    }
    return Native(api, {**BODIES[api], **changes}, headers)


@pytest.mark.parametrize("api", OWN)
async def test_the_body_is_the_callers_but_for_the_model(
    api: str, canned: Canned, adapter_for: Builder
) -> None:
    canned.body = ANSWERS[api]
    adapter = adapter_for(access_to(api, canned.url(api)))
    form = native(api, stream=True, stream_options={"include_usage": True})
    request = ask(api, native=form, max_tokens=50)
    completion = await adapter.complete(request)
    [seen] = canned.seen
    assert seen["body"] == {**BODIES[api], "model": MODELS[api]}
    assert completion.raw == ANSWERS[api]
    assert completion.text == "Elbe."
    assert completion.usage.prompt_tokens == 9
    assert completion.warnings == ()


@pytest.mark.parametrize("api", OWN)
async def test_headers_of_the_api_go_along_and_the_callers_key_does_not(
    api: str, canned: Canned, adapter_for: Builder
) -> None:
    canned.body = ANSWERS[api]
    await adapter_for(access_to(api, canned.url(api))).complete(ask(api, native=native(api)))
    headers = canned.seen[0]["headers"]
    assert headers["anthropic-beta"] == "context-1m-2025-08-07,new-feature"
    assert headers["anthropic-version"] == "2023-06-01"
    assert "callers-own" not in str(dict(headers))
    assert KEY in str(dict(headers))
    assert headers["host"] != "elsewhere"


LIMITS = {"openai": "max_completion_tokens", "anthropic": "max_tokens"}  # of the models of these tests


@pytest.mark.parametrize("api", OWN)
@pytest.mark.parametrize("written", [None, "max_tokens", "max_completion_tokens"])
async def test_the_length_that_is_reserved_goes_out_under_the_name_that_the_model_takes(
    api: str, written: str | None, canned: Canned, adapter_for: Builder
) -> None:
    canned.body = ANSWERS[api]
    body = {name: value for name, value in BODIES[api].items() if not name.startswith("max_")}
    form = Native(api, body if written is None else {**body, written: 500})
    await adapter_for(access_to(api, canned.url(api))).complete(ask(api, native=form, max_tokens=77))
    assert canned.seen[0]["body"] == {**body, "model": MODELS[api], LIMITS[api]: 77}


@pytest.mark.parametrize("api", OWN)
async def test_what_the_model_does_not_take_is_left_out_and_the_rest_goes_along(
    api: str, canned: Canned, adapter_for: Builder
) -> None:
    canned.body = ANSWERS[api]
    form = native(api, temperature=1.5, top_p=0.5)
    request = ask(api, native=form, max_tokens=50, temperature=1.0)
    request.parameters["unsent"] = ("top_p",)  # type: ignore[index]
    await adapter_for(access_to(api, canned.url(api))).complete(request)
    assert canned.seen[0]["body"] == {**BODIES[api], "model": MODELS[api], "temperature": 1.0}


async def test_the_form_of_another_api_is_rendered(canned: Canned, adapter_for: Builder) -> None:
    canned.body = CHAT
    adapter = adapter_for(access_to("openai", canned.url("openai")))
    completion = await adapter.complete(ask("openai", "A river?", native=native("anthropic")))
    body = canned.seen[0]["body"]
    assert body["messages"][-1] == {"role": "user", "content": "A river?"}
    assert "future_field" not in body
    assert "anthropic-beta" not in canned.seen[0]["headers"]
    assert completion.raw is None


ODD_ENDS: dict[str, tuple[str, dict[str, Any], FinishReason]] = {
    "an empty answer": (
        "anthropic",
        {"content": [], "usage": {"input_tokens": 9, "output_tokens": 0}},
        FinishReason.STOP,
    ),
    "blocks of a tool of the server": (
        "anthropic",
        {
            "content": [{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}],
            "stop_reason": "pause_turn",
        },
        FinishReason.OTHER,
    ),
    "no room for text": ("anthropic", {"content": [], "stop_reason": "max_tokens"}, FinishReason.LENGTH),
    "calls of a new kind": (
        "openai",
        {
            "choices": [
                {
                    "message": {"content": None, "tool_calls": [{"id": "c", "type": "custom", "custom": {}}]},
                    "finish_reason": "tool_calls",
                }
            ]
        },
        FinishReason.TOOL,
    ),
}


@pytest.mark.parametrize(("api", "changes", "finish"), ODD_ENDS.values(), ids=ODD_ENDS)
async def test_any_end_that_the_api_gives_is_an_answer_to_its_own_form(
    api: str, changes: dict[str, Any], finish: FinishReason, canned: Canned, adapter_for: Builder
) -> None:
    canned.body = {**ANSWERS[api], **changes}
    completion = await adapter_for(access_to(api, canned.url(api))).complete(ask(api, native=native(api)))
    assert completion.finish_reason is finish
    assert completion.raw == canned.body


async def test_an_answer_that_was_cut_off_is_none(canned: Canned, adapter_for: Builder) -> None:
    canned.body = {**MESSAGE, "stop_reason": None, "content": [{"type": "text", "text": "The"}]}
    adapter = adapter_for(access_to("anthropic", canned.base_url))
    canned.body["usage"] = {"input_tokens": 9, "output_tokens": 50}
    with pytest.raises(InvalidResponse):
        await adapter.complete(ask("anthropic", native=native("anthropic")))


@pytest.mark.parametrize(("status", "cls"), [(400, BadRequest), (429, RateLimited)])
async def test_errors_are_read_as_ever(
    status: int, cls: type[Exception], canned: Canned, adapter_for: Builder
) -> None:
    canned.status, canned.body = status, {"error": {"message": "no", "type": "x"}}
    with pytest.raises(cls):
        await adapter_for(access_to("openai", canned.url("openai"))).complete(
            ask("openai", native=native("openai"))
        )


async def test_the_parts_of_a_native_answer_are_read_too(canned: Canned, adapter_for: Builder) -> None:
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "abc"}
    call = {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {"q": "Elbe"}}
    canned.body = {
        **MESSAGE,
        "content": [thinking, {"type": "text", "text": "I look."}, call],
        "stop_reason": "tool_use",
    }
    request = ask("anthropic", messages=(Message("user", "A river?"),), native=native("anthropic"))
    completion = await adapter_for(access_to("anthropic", canned.base_url)).complete(request)
    reasoning, text, called = completion.parts
    assert isinstance(reasoning, Reasoning)
    assert (reasoning.text, reasoning.origin) == ("Hm.", f"anthropic/{MODELS['anthropic']}")
    assert text == Text("I look.")
    assert called == ToolCall("toolu_1", "find", '{"q": "Elbe"}')
    assert completion.finish_reason is FinishReason.TOOL


@pytest.mark.parametrize("api", OWN)
async def test_a_body_that_is_passed_on_does_not_repeat_the_key(
    api: str, canned: Canned, adapter_for: Builder
) -> None:
    canned.body = {**ANSWERS[api], "echo": f"Bearer {KEY}"}
    completion = await adapter_for(access_to(api, canned.url(api))).complete(ask(api, native=native(api)))
    assert KEY not in str(completion.raw)
    assert "Bearer" in str(completion.raw)
