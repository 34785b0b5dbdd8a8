"""Answers of real servers that deviate from the documentation: through the SDKs, from a scripted server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from src.errors import (
    AuthFailed,
    BadRequest,
    ContentRefused,
    ContextTooLong,
    InvalidResponse,
    ModelUnavailable,
    Overloaded,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    ServerError,
    Truncated,
)
from src.messages import Message
from src.providers.base import ProviderAdapter
from src.records import Completion, FinishReason, Usage

from .conftest import API_FORMATS, KEY, MODELS, Builder, Canned, access_to, ask

pytestmark = pytest.mark.asyncio(loop_scope="module")

Json = dict[str, Any]


def claude(**changes: Any) -> Json:
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-5-5",
        "content": [{"type": "text", "text": "Elbe."}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 10, "output_tokens": 3},
    }
    return {**body, **changes}


def gpt(message: Json | None = None, finish: Any = "stop", **changes: Any) -> Json:
    message = {"role": "assistant", "content": "Elbe.", **(message or {})}
    body = {
        "id": "chatcmpl-1",
        "model": "gpt-6-luna",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13},
    }
    return {**body, **changes}


def gemini(text: str = "Elbe.", finish: Any = "STOP", **changes: Any) -> Json:
    body = {
        "candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": finish}],
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 3, "totalTokenCount": 13},
        "modelVersion": "gemini-3.5-flash-lite-002",
    }
    return {**body, **changes}


@pytest_asyncio.fixture(loop_scope="module")
async def adapter_for() -> AsyncIterator[Builder]:
    builder = Builder()
    yield builder
    await builder.close()


@pytest.fixture
def canned(server: Canned) -> Canned:
    """The server, as new."""
    server.status, server.body, server.headers, server.seen = 200, None, {}, []
    return server


class CannedApi:
    """One adapter before the canned server."""

    def __init__(self, api: str, canned: Canned, adapter: ProviderAdapter) -> None:
        self.api_format, self.canned, self.adapter = api, canned, adapter

    async def answer(self, body: Any, **changes: Any) -> Completion:
        self.canned.body = body
        return await self.adapter.complete(ask(self.api_format, **changes))

    async def failure(self, body: Any, status: int = 200, **headers: str) -> ProviderError:
        self.canned.status = status
        self.canned.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        before = len(self.canned.seen)
        with pytest.raises(ProviderError) as caught:
            await self.answer(body)
        assert len(self.canned.seen) == before + 1
        return caught.value


@pytest.fixture
def anthropic_api(canned: Canned, adapters: dict[str, ProviderAdapter]) -> CannedApi:
    return CannedApi("anthropic", canned, adapters["anthropic"])


@pytest.fixture
def openai_api(canned: Canned, adapters: dict[str, ProviderAdapter]) -> CannedApi:
    return CannedApi("openai", canned, adapters["openai"])


@pytest.fixture
def gemini_api(canned: Canned, adapters: dict[str, ProviderAdapter]) -> CannedApi:
    return CannedApi("gemini", canned, adapters["gemini"])


@pytest.fixture(params=API_FORMATS)
def any_api(
    request: pytest.FixtureRequest, canned: Canned, adapters: dict[str, ProviderAdapter]
) -> CannedApi:
    return CannedApi(request.param, canned, adapters[request.param])


# ---------------------------------------------------------------- what is sent


async def test_anthropic_gets_system_prompts_apart_and_only_what_was_given(anthropic_api: CannedApi) -> None:
    turns = (
        Message("system", "One."),
        Message("user", "Hi"),
        Message("system", "Two."),
        Message("assistant", "Ho"),
    )
    await anthropic_api.answer(claude(), messages=turns)
    seen = anthropic_api.canned.seen[0]
    assert seen["path"] == "/v1/messages"
    assert seen["body"] == {
        "model": "claude-haiku-5-5",
        "max_tokens": 400,
        "system": "One.\n\nTwo.",
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}],
    }


async def test_anthropic_gets_every_parameter(anthropic_api: CannedApi) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    await anthropic_api.answer(claude(), top_p=0.9, stop=("END",), response_schema=schema)
    body = anthropic_api.canned.seen[0]["body"]
    assert (body["top_p"], body["stop_sequences"]) == (0.9, ["END"])
    closed = {**schema, "additionalProperties": False}
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": closed}}


async def test_openai_gets_every_parameter(openai_api: CannedApi) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    await openai_api.answer(
        gpt(), temperature=0.5, top_p=0.9, seed=0, stop=("A", "B"), response_schema=schema
    )
    seen = openai_api.canned.seen[0]
    assert seen["path"] == "/v1/chat/completions"
    assert seen["body"] == {
        "model": "gpt-6-luna",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Name three rivers."},
        ],
        "max_completion_tokens": 400,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 0,
        "stop": ["A", "B"],
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "answer",
                "strict": True,
                "schema": {**schema, "additionalProperties": False},
            },
        },
    }


async def test_a_compatible_server_gets_max_tokens_unless_its_model_wants_otherwise(
    openai_api: CannedApi,
) -> None:
    await openai_api.answer(gpt(), parameters={})
    body = openai_api.canned.seen[0]["body"]
    assert body["max_tokens"] == 400
    assert "max_completion_tokens" not in body


async def test_a_schema_with_optional_properties_is_not_sent_as_strict(openai_api: CannedApi) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        "required": ["a"],
    }
    await openai_api.answer(gpt(), response_schema=schema)
    assert openai_api.canned.seen[0]["body"]["response_format"]["json_schema"]["strict"] is False


async def test_gemini_gets_every_parameter(gemini_api: CannedApi) -> None:
    turns = (
        Message("system", "Short."),
        Message("user", "Hi"),
        Message("assistant", "Ho"),
        Message("user", "?"),
    )
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    fields = {
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 2**40 + 7,
        "stop": ("END",),
        "response_schema": schema,
    }
    await gemini_api.answer(gemini(), messages=turns, **fields)
    seen = gemini_api.canned.seen[0]
    assert seen["path"] == "/v1beta/models/gemini-3.5-flash-lite:generateContent"
    assert seen["headers"]["x-goog-api-key"] == KEY
    assert KEY not in seen["url"]
    body = seen["body"]
    assert body["systemInstruction"]["parts"] == [{"text": "Short."}]
    assert [(turn["role"], turn["parts"][0]["text"]) for turn in body["contents"]] == [
        ("user", "Hi"),
        ("model", "Ho"),
        ("user", "?"),
    ]
    config = body["generationConfig"]
    assert (config["maxOutputTokens"], config["temperature"], config["topP"]) == (400, 0.5, 0.9)
    assert config["stopSequences"] == ["END"]
    assert config["seed"] == 7  # what 32 bits hold of it
    assert config["responseMimeType"] == "application/json"
    assert list(config["responseSchema"]["properties"]) == ["a"]


AS_WORDS = "Answer with JSON that matches this JSON schema, and with nothing else:\n"
BOUNDED = {"type": "object", "properties": {"a": {"type": "string", "minLength": 2}}, "required": ["a"]}
LIST = {"type": "array", "items": {"type": "object"}}


async def test_what_an_apis_schemas_lack_goes_into_the_prompt_as_text(
    anthropic_api: CannedApi, gemini_api: CannedApi
) -> None:
    words = AS_WORDS + json.dumps(BOUNDED, separators=(",", ":"))
    await anthropic_api.answer(claude(), response_schema=BOUNDED)
    body = anthropic_api.canned.seen[-1]["body"]
    assert body["system"] == f"Be brief.\n\n{words}"
    assert "minLength" not in str(body["output_config"])
    await gemini_api.answer(gemini(), response_schema=BOUNDED)
    body = gemini_api.canned.seen[-1]["body"]
    assert body["systemInstruction"]["parts"] == [{"text": f"Be brief.\n\n{words}"}]
    assert "responseSchema" in body["generationConfig"]


async def test_a_schema_that_an_api_can_not_say_goes_in_words_alone(
    anthropic_api: CannedApi, openai_api: CannedApi, gemini_api: CannedApi
) -> None:
    words = AS_WORDS + json.dumps(LIST, separators=(",", ":"))
    await anthropic_api.answer(claude(), response_schema=LIST)
    body = anthropic_api.canned.seen[-1]["body"]
    assert words in body["system"]
    assert "output_config" not in body
    await openai_api.answer(gpt(), response_schema=LIST)
    body = openai_api.canned.seen[-1]["body"]
    assert [m["role"] for m in body["messages"]] == ["system", "system", "user"]
    assert body["messages"][1]["content"] == words
    assert "response_format" not in body
    await gemini_api.answer(gemini(), response_schema=LIST)
    config = gemini_api.canned.seen[-1]["body"]["generationConfig"]
    assert config["responseMimeType"] == "application/json"
    assert "responseSchema" not in config


async def test_a_model_without_schemas_gets_the_schema_as_text(any_api: CannedApi) -> None:
    answers = {"anthropic": claude(), "openai": gpt(), "gemini": gemini()}
    flags = {"schema_in_words": True}
    await any_api.answer(answers[any_api.api_format], response_schema=BOUNDED, parameters=flags)
    text = json.dumps(any_api.canned.seen[-1]["body"])
    assert "Answer with JSON that matches this JSON schema" in text
    assert not any(key in text for key in ("output_config", "response_format", "responseMimeType"))


LONG = "A rule. " * 600
SHOTS = (
    Message("system", LONG),
    Message("user", "Mail 0"),
    Message("assistant", "kind 3"),
    Message("user", "Mail 1"),
)
KEPT = {"cache_control": {"type": "ephemeral"}}
ENDS = {"prompt_cache_breakpoint": {"mode": "explicit"}}
MARKS = {"prompt_cache": "marks"}


async def test_anthropic_gets_a_mark_at_the_end_of_a_shared_system_prompt(anthropic_api: CannedApi) -> None:
    turns = (SHOTS[0], SHOTS[-1])
    await anthropic_api.answer(
        claude(), messages=turns, cache_key="k", cached_turns=1, parameters=MARKS, response_schema=LIST
    )
    body = anthropic_api.canned.seen[-1]["body"]
    kept, words = body["system"]
    assert kept == {"type": "text", "text": LONG, **KEPT}
    assert words["text"].startswith(AS_WORDS)
    assert "cache_control" not in words
    assert body["messages"] == [{"role": "user", "content": "Mail 1"}]


async def test_anthropic_gets_a_mark_at_the_end_of_shared_examples(anthropic_api: CannedApi) -> None:
    await anthropic_api.answer(claude(), messages=SHOTS, cache_key="k", cached_turns=3, parameters=MARKS)
    body = anthropic_api.canned.seen[-1]["body"]
    assert body["system"] == LONG
    assert body["messages"] == [
        {"role": "user", "content": "Mail 0"},
        {"role": "assistant", "content": [{"type": "text", "text": "kind 3", **KEPT}]},
        {"role": "user", "content": "Mail 1"},
    ]


async def test_openai_gets_a_key_and_a_mark_if_the_model_takes_marks(openai_api: CannedApi) -> None:
    facts = {"messages": SHOTS, "cache_key": "k", "cached_turns": 3}
    await openai_api.answer(gpt(), **facts, parameters=MARKS, response_schema=LIST)
    body = openai_api.canned.seen[-1]["body"]
    assert body["prompt_cache_key"] == "k"
    assert body["prompt_cache_options"] == {"mode": "explicit"}
    assert [turn["role"] for turn in body["messages"]] == ["system", "system", "user", "assistant", "user"]
    marked = [n for n, turn in enumerate(body["messages"]) if isinstance(turn["content"], list)]
    assert marked == [2], "an answer takes no mark, so the last message before it does"
    assert body["messages"][2]["content"] == [{"type": "text", "text": "Mail 0", **ENDS}]
    await openai_api.answer(gpt(), **facts, parameters={"prompt_cache": "key"})
    body = openai_api.canned.seen[-1]["body"]
    assert body["prompt_cache_key"] == "k"
    assert not any("cache" in json.dumps(turn) for turn in body["messages"])
    assert "prompt_cache_options" not in body


async def test_a_long_prompt_that_is_not_shared_is_not_written_into_openais_cache(
    openai_api: CannedApi,
) -> None:
    await openai_api.answer(gpt(), messages=SHOTS, parameters=MARKS)
    body = openai_api.canned.seen[-1]["body"]
    assert body["prompt_cache_options"] == {"mode": "explicit"}
    assert "prompt_cache_key" not in body
    assert "breakpoint" not in json.dumps(body)


async def test_no_api_says_a_word_of_caches_unless_it_is_to(any_api: CannedApi) -> None:
    answers = {"anthropic": claude(), "openai": gpt(), "gemini": gemini()}
    await any_api.answer(answers[any_api.api_format], messages=SHOTS, cache_key="k")
    assert "cache" not in json.dumps(any_api.canned.seen[-1]["body"])


async def test_a_provider_without_a_key_is_called_with_a_placeholder(
    canned: Canned, adapter_for: Builder
) -> None:
    for api, body in zip(API_FORMATS, (claude(), gpt(), gemini()), strict=True):
        canned.body = body
        await adapter_for(access_to(api, canned.url(api), key="")).complete(ask(api))
    keys = ("x-api-key", "authorization", "x-goog-api-key")
    sent = [{seen["headers"].get(name) for name in keys} for seen in canned.seen]
    assert all(one & {"none", "Bearer none"} for one in sent)


async def test_what_the_environment_holds_for_openai_goes_to_openai_alone(
    canned: Canned, adapter_for: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin-key-0123456789")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-mine")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-mine")
    canned.body = gpt()
    own = access_to("openai", canned.url("openai"))
    other = type(own)("groq", own.config, own.base_url, own.key, "GROQ_API_KEY (environment)")
    for access in (own, other):
        await adapter_for(access).complete(ask("openai"))
    for seen, org in zip(canned.seen, ("org-mine", None), strict=True):
        assert seen["headers"]["Authorization"] == f"Bearer {KEY}"
        assert seen["headers"].get("OpenAI-Organization") == org


# ---------------------------------------------------------------- what comes back


async def test_anthropic_text_is_joined_over_blocks_and_usage_is_split(anthropic_api: CannedApi) -> None:
    content = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "Elbe, "},
        {"type": "text", "text": "Oder."},
        {"type": "something_new"},
    ]
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 5,
        "cache_creation_input_tokens": 7,
        "output_tokens": 30,
        "output_tokens_details": {"thinking_tokens": 20},
    }
    completion = await anthropic_api.answer(claude(content=content, usage=usage, novelty=1))
    assert completion.text == "Elbe, Oder."
    assert completion.usage == Usage(10, 5, 7, 30, 20)


async def test_openai_usage_is_split(openai_api: CannedApi) -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 30,
        "total_tokens": 130,
        "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 20},
        "completion_tokens_details": {"reasoning_tokens": 25},
    }
    assert (await openai_api.answer(gpt(usage=usage))).usage == Usage(40, 40, 20, 30, 25)


async def test_reasoning_outside_completion_tokens_is_found_in_the_total(openai_api: CannedApi) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 135}
    assert (await openai_api.answer(gpt(usage=usage))).usage == Usage(100, 0, 0, 35, 0)


async def test_gemini_thinking_is_what_the_total_has_more(gemini_api: CannedApi) -> None:
    usage = {
        "promptTokenCount": 50,
        "cachedContentTokenCount": 20,
        "candidatesTokenCount": 3,
        "thoughtsTokenCount": 40,
        "totalTokenCount": 93,
    }
    completion = await gemini_api.answer(gemini(usageMetadata=usage))
    assert completion.usage == Usage(30, 20, 0, 43, 40)
    assert completion.model == "gemini-3.5-flash-lite-002"


@pytest.mark.parametrize("usage", [None, {}, "odd"])
async def test_missing_usage_is_estimated_and_said(openai_api: CannedApi, usage: Any) -> None:
    completion = await openai_api.answer(gpt(usage=usage))
    assert completion.usage == Usage(input_tokens=7, output_tokens=2)  # 27 and 5 characters
    assert completion.warnings == ("the provider returned no usage; tokens are estimated from characters",)


async def test_a_bare_compatible_answer_is_an_answer(openai_api: CannedApi) -> None:
    body = {
        "choices": [{"message": {"content": [{"type": "text", "text": "Elbe."}]}, "finish_reason": "stop"}]
    }
    completion = await openai_api.answer(body)
    assert (completion.text, completion.model, completion.request_id) == ("Elbe.", MODELS["openai"], "")
    assert completion.limits == ()


async def test_missing_usage_elsewhere_is_estimated_too(
    anthropic_api: CannedApi, gemini_api: CannedApi
) -> None:
    body = gemini()
    del body["usageMetadata"]
    for completion in (await anthropic_api.answer(claude(usage=None)), await gemini_api.answer(body)):
        assert completion.usage.output_tokens == 2
        assert completion.warnings


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", FinishReason.STOP),
        ("stop_sequence", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("model_context_window_exceeded", FinishReason.LENGTH),
        ("tool_use", FinishReason.TOOL),
        ("pause_turn", FinishReason.OTHER),
        ("something_new", FinishReason.OTHER),
    ],
)
async def test_anthropic_stop_reasons(anthropic_api: CannedApi, reason: str, finish: FinishReason) -> None:
    assert (await anthropic_api.answer(claude(stop_reason=reason))).finish_reason is finish


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("tool_calls", FinishReason.TOOL),
        ("something_new", FinishReason.OTHER),
    ],
)
async def test_openai_finish_reasons(openai_api: CannedApi, reason: str, finish: FinishReason) -> None:
    assert (await openai_api.answer(gpt(finish=reason))).finish_reason is finish


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("STOP", FinishReason.STOP),
        ("MAX_TOKENS", FinishReason.LENGTH),
    ],
)
async def test_gemini_finish_reasons(gemini_api: CannedApi, reason: Any, finish: FinishReason) -> None:
    assert (await gemini_api.answer(gemini(finish=reason))).finish_reason is finish


@pytest.mark.parametrize(
    "reason", ["SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"]
)
async def test_gemini_refusals_name_their_reason(gemini_api: CannedApi, reason: Any) -> None:
    error = await gemini_api.failure(gemini("some text", finish=reason))
    assert (type(error), error.code) == (ContentRefused, reason)
    assert error.code in str(error)
    assert error.usage.output_tokens == 3


async def test_a_blocked_prompt_is_refused_with_its_reason(gemini_api: CannedApi) -> None:
    body = {
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
        "usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9},
    }
    error = await gemini_api.failure(body)
    assert (type(error), error.code) == (ContentRefused, "PROHIBITED_CONTENT")
    assert error.usage == Usage(input_tokens=9)


async def test_a_refusal_of_claude_names_its_category(anthropic_api: CannedApi) -> None:
    details = {"type": "refusal", "category": "bio", "explanation": "Not this."}
    error = await anthropic_api.failure(claude(stop_reason="refusal", stop_details=details))
    assert type(error) is ContentRefused
    assert "bio: Not this." in str(error)


async def test_a_refusal_of_gpt_keeps_its_text(openai_api: CannedApi) -> None:
    error = await openai_api.failure(gpt({"content": None, "refusal": "I can't help with that."}))
    assert type(error) is ContentRefused
    assert "I can't help with that." in str(error)


async def test_a_full_window_without_text_is_a_prompt_too_long(anthropic_api: CannedApi) -> None:
    error = await anthropic_api.failure(claude(content=[], stop_reason="model_context_window_exceeded"))
    assert type(error) is ContextTooLong
    assert error.usage is not None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"<html></html>",
        {},
        {"choices": []},
        {"choices": "odd"},
        {"choices": [7]},
    ],
)
async def test_a_body_that_is_no_answer_is_invalid(openai_api: CannedApi, body: Any) -> None:
    assert type(await openai_api.failure(body)) is InvalidResponse


@pytest.mark.parametrize("body", [b"", b"{", b"[]", {}, {"content": "odd"}, {"content": ["odd"], "usage": 3}])
async def test_the_same_from_anthropic(anthropic_api: CannedApi, body: Any) -> None:
    assert type(await anthropic_api.failure(body)) is InvalidResponse


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff\xff", {}, {"candidates": []}, {"candidates": [{}]}, {"candidates": 7}]
)
async def test_the_same_from_gemini(gemini_api: CannedApi, body: Any) -> None:
    assert type(await gemini_api.failure(body)) is InvalidResponse


@pytest.mark.parametrize("text", ["", "  \n"])
async def test_blank_text_is_no_text(openai_api: CannedApi, text: str) -> None:
    assert type(await openai_api.failure(gpt({"content": text}))) is InvalidResponse
    assert type(await openai_api.failure(gpt({"content": text}, finish="length"))) is Truncated


# ---------------------------------------------------------------- errors


OPENAI_ERRORS = [
    (429, {"type": "insufficient_quota", "code": "credit_balance_exhausted"}, QuotaExhausted),
    (429, {"type": "insufficient_quota", "code": None}, QuotaExhausted),
    (400, {"type": "invalid_request_error", "code": "billing_hard_limit_reached"}, QuotaExhausted),
    (402, {"type": "unknown", "code": "invalid_request_error"}, QuotaExhausted),
    (403, {"type": "invalid_request_error", "code": "model_not_found"}, ModelUnavailable),
    (400, {"code": "model_decommissioned"}, ModelUnavailable),
    (404, {"type": "api_error", "code": None}, ModelUnavailable),
    (400, {"code": "content_filter"}, ContentRefused),
    (400, {"code": "invalid_prompt"}, ContentRefused),
    (400, {"type": "exceed_context_size_error", "code": 400}, ContextTooLong),
    (429, {"code": "engine_overloaded"}, Overloaded),
    (429, {}, RateLimited),
]


@pytest.mark.parametrize(("status", "error", "cls"), OPENAI_ERRORS)
async def test_openai_error_codes(
    openai_api: CannedApi, status: int, error: Json, cls: type[ProviderError]
) -> None:
    assert type(await openai_api.failure({"error": {"message": "no", **error}}, status)) is cls


ANTHROPIC_ERRORS = [
    (402, {"type": "billing_error"}, QuotaExhausted),
    (400, {"type": "billing_error"}, QuotaExhausted),
    (
        429,
        {"type": "rate_limit_error", "details": {"error_code": "contract_spend_limit_reached"}},
        QuotaExhausted,
    ),
    (400, {"type": "invalid_request_error", "details": {"error_code": "organization_on_hold"}}, AuthFailed),
    (500, {"type": "overloaded_error"}, Overloaded),
    (429, {"type": "rate_limit_error", "details": "odd"}, RateLimited),
]


@pytest.mark.parametrize(("status", "error", "cls"), ANTHROPIC_ERRORS)
async def test_anthropic_error_codes(
    anthropic_api: CannedApi, status: int, error: Json, cls: type[ProviderError]
) -> None:
    body = {"type": "error", "error": {"message": "no", **error}}
    assert type(await anthropic_api.failure(body, status)) is cls


def _reason(reason: str) -> list[Json]:
    return [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]


def _quota(ident: str) -> list[Json]:
    return [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": ident}]}]


GEMINI_ERRORS = [
    (400, {"status": "INVALID_ARGUMENT", "details": _reason("API_KEY_INVALID")}, AuthFailed),
    (400, {"status": "FAILED_PRECONDITION"}, AuthFailed),
    (403, {"status": "PERMISSION_DENIED", "details": _reason("BILLING_DISABLED")}, QuotaExhausted),
    (429, {"status": "RESOURCE_EXHAUSTED", "details": _quota("RequestsPerMinute")}, RateLimited),
    (429, {"status": "RESOURCE_EXHAUSTED", "details": _quota("RequestsPerDay-FreeTier")}, QuotaExhausted),
    (429, {"status": "RESOURCE_EXHAUSTED", "details": "odd"}, RateLimited),
]


@pytest.mark.parametrize(("status", "error", "cls"), GEMINI_ERRORS)
async def test_gemini_error_codes(
    gemini_api: CannedApi, status: int, error: Json, cls: type[ProviderError]
) -> None:
    assert type(await gemini_api.failure({"error": {"message": "no", **error}}, status)) is cls


ODD_ERRORS = [b"", b"[]", b'"no"', b'{"error": "no"}', b'[{"error": {"message": "no"}}]', b"<html>", b"\xff"]


@pytest.mark.parametrize("body", ODD_ERRORS)
async def test_an_error_of_any_shape_is_known_by_its_status(any_api: CannedApi, body: bytes) -> None:
    error = await any_api.failure(body, 429, retry_after="3")
    assert (type(error), error.status, error.retry_after_s) == (RateLimited, 429, 3.0)


async def test_an_error_inside_a_200_is_an_error(openai_api: CannedApi, anthropic_api: CannedApi) -> None:
    assert type(await openai_api.failure({"error": {"message": "no", "code": 429}})) is RateLimited
    assert type(await openai_api.failure({"error": {"message": "no", "code": "odd"}})) is Overloaded
    body = {"type": "error", "error": {"type": "overloaded_error", "message": "no"}}
    assert type(await anthropic_api.failure(body)) is Overloaded


async def test_a_key_in_an_error_is_not_passed_on(any_api: CannedApi) -> None:
    error = await any_api.failure({"error": {"message": f"bad key {KEY}"}}, 401)
    assert type(error) is AuthFailed
    assert str(error) == f"{any_api.api_format}: answered 401: bad key ***"


async def test_a_key_in_the_names_of_an_answer_is_not_passed_on(any_api: CannedApi) -> None:
    """Models, ids and reasons to end are stored, shown and written to the results."""
    body = {
        "anthropic": claude(model=KEY, id=KEY, stop_reason=KEY),
        "openai": gpt(finish=KEY, model=KEY, id=KEY),
        "gemini": gemini(modelVersion=KEY, responseId=KEY),
    }[any_api.api_format]
    completion = await any_api.answer(body)
    assert (completion.text, completion.model, completion.request_id) == ("Elbe.", "***", "***")
    assert KEY not in repr(completion)


async def test_a_key_for_a_code_is_not_passed_on(any_api: CannedApi) -> None:
    error = await any_api.failure({"error": {"message": "no", "type": KEY, "code": KEY, "status": KEY}}, 400)
    assert KEY not in repr(vars(error)) + str(error)


async def test_a_server_error_keeps_its_limits(openai_api: CannedApi) -> None:
    error = await openai_api.failure({"error": {}}, 500, x_ratelimit_limit_requests="60")
    assert type(error) is ServerError
    assert error.limits[0].limit == 60


# ---------------------------------------------------------------- listing models


async def test_models_are_listed_from_each_api(any_api: CannedApi) -> None:
    bodies = {
        "anthropic": [{"id": "a"}, {}, "odd"],
        "openai": [{"id": "a"}],
        "gemini": [{"name": "models/a"}],
    }
    any_api.canned.body = {"models" if any_api.api_format == "gemini" else "data": bodies[any_api.api_format]}
    assert await any_api.adapter.list_models(2.0) == ["a"]


async def test_a_list_without_models_is_empty(openai_api: CannedApi) -> None:
    openai_api.canned.body = {"data": None}
    assert await openai_api.adapter.list_models(2.0) == []


# ---------------------------------------------------------------- what an SDK can't send


async def test_a_prompt_that_is_no_text_is_a_bad_request_that_was_never_sent(any_api: CannedApi) -> None:
    with pytest.raises(BadRequest) as caught:
        await any_api.answer(None, messages=(Message("user", "half a character: \ud800"),))
    assert caught.value.sent is False
    assert any_api.canned.seen == []
