"""What an answer means: for the request, or for the provider. Through the SDKs, from a server on loopback."""

from __future__ import annotations

import json
from typing import Any

import pytest

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
    RequestTooLarge,
    ServerError,
    Truncated,
    Unreachable,
    UnusableAnswer,
)
from src.messages import Message
from src.providers.base import ProviderAdapter
from src.records import FinishReason

from .conftest import API_FORMATS, Canned
from .test_odd_answers import CannedApi, claude, gemini, gpt

pytestmark = pytest.mark.asyncio(loop_scope="module")

Json = dict[str, Any]


class CannedApis:
    """Every API format before the same server."""

    def __init__(self, server: Canned, adapters: dict[str, ProviderAdapter]) -> None:
        self._server, self._adapters = server, adapters

    def __getitem__(self, name: str) -> CannedApi:
        self._server.status, self._server.body, self._server.headers = 200, None, {}
        self._server.seen = []
        return CannedApi(name, self._server, self._adapters[name])


@pytest.fixture
def apis(server: Canned, adapters: dict[str, ProviderAdapter]) -> CannedApis:
    return CannedApis(server, adapters)


def error(api: str, status: int, message: str, **more: Any) -> Json:
    """An error body as the API itself would write it."""
    if api == "anthropic":
        return {"type": "error", "error": {"type": "an_error", "message": message, **more}}
    if api == "gemini":
        return {"error": {"code": status, "message": message, "status": "A_STATUS", **more}}
    return {"error": {"message": message, "type": None, "code": None, **more}}


# ---------------------------------------------------------------- 2.1: too large for the limit

OPENAI_LARGE = (
    "Request too large for gpt-6-luna in organization org-1a2b on tokens per min (TPM): Limit 30000, "
    "Requested 48211. The input or output tokens must be reduced in order to run successfully."
)
OPENAI_LIMITED = (
    "Rate limit reached for gpt-6-luna in organization org-1a2b on tokens per min (TPM): Limit 90000, "
    "Used {used}, Requested {requested}. Please try again in 6.214s."
)


@pytest.mark.parametrize("status", [413, 429])
@pytest.mark.parametrize(
    "message",
    [
        OPENAI_LARGE,
        "Request too large for model `llama-3.3-70b` on TPM: Limit 30,000, Requested 48,211, please reduce",
        "Requested 48211 > Limit 30000",
        "Zu gross: 48211 statt 30000",
    ],
)
@pytest.mark.parametrize("api", API_FORMATS)
async def test_a_request_too_large_for_the_limit_differs_from_a_rate_limit(
    apis: CannedApis, api: str, message: str, status: int
) -> None:
    more = {"type": "tokens", "code": "rate_limit_exceeded"} if api == "openai" else {}
    found = await apis[api].failure(error(api, status, message, **more), status)
    assert type(found) is RequestTooLarge
    assert "(48,211 tokens, limit 30,000)" in str(found)


@pytest.mark.parametrize(
    ("message", "headers", "code"),
    [
        (OPENAI_LIMITED.format(used=89_500, requested=1_200), {}, "tokens"),
        (OPENAI_LIMITED.format(used=90_000, requested=1_200), {}, "tokens"),
        (OPENAI_LIMITED.format(used=89_900, requested=180), {}, "tokens"),
        ("Rate limit reached on requests per day: Limit 2000, Requested 3000", {}, "requests"),
        ("Limit: 90000 / min. Current: 91500 / min.", {"retry_after": "6"}, "tokens"),
        ("Rate limit reached. Please try again in 20s.", {}, "tokens"),
        ("Over the limit of 10000 tokens. Please retry after 1200 milliseconds.", {"retry_after": "2"}, ""),
        ("Too many requests", {}, "tokens"),
    ],
)
async def test_where_waiting_helps_it_is_a_rate_limit(
    apis: CannedApis, message: str, headers: dict[str, str], code: str
) -> None:
    body = error("openai", 429, message, type=code, code="rate_limit_exceeded")
    assert type(await apis["openai"].failure(body, 429, **headers)) is RateLimited


async def test_beside_a_time_to_wait_the_counts_must_be_the_limit_and_this_request(
    apis: CannedApis,
) -> None:
    api = apis["openai"]
    body = error("openai", 429, OPENAI_LARGE, type="tokens", code="rate_limit_exceeded")
    long = (Message("user", "word " * 30_000),)
    for limit, cls in (("30000", RequestTooLarge), ("90000", RateLimited)):
        api.canned.status = 429
        api.canned.headers = {"retry-after": "2", "x-ratelimit-limit-tokens": limit}
        with pytest.raises(cls):
            await api.answer(body, messages=long)
        with pytest.raises(RateLimited):
            await api.answer(body)


async def test_one_limit_below_the_least_that_the_prompt_can_be_is_enough(apis: CannedApis) -> None:
    long = (Message("user", "A sentence of words. " * 8_000),)  # 168,000 characters
    body = error("anthropic", 429, "This request would exceed your rate limit", type="rate_limit_error")
    api = apis["anthropic"]
    api.canned.status = 429
    api.canned.headers = {"anthropic-ratelimit-input-tokens-limit": "20000", "retry-after": "30"}
    with pytest.raises(RequestTooLarge, match=r"\(28,000 tokens, limit 20,000\)"):
        await api.answer(body, messages=long)
    with pytest.raises(RateLimited):
        await api.answer(body)


async def test_geminis_quota_of_tokens_is_compared_as_well(apis: CannedApis) -> None:
    quota = {"quotaId": "GenerateContentInputTokensPerModelPerMinute-FreeTier", "quotaValue": "20000"}
    details = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [quota]},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37s"},
    ]
    body = error("gemini", 429, "You exceeded your current quota", details=details)
    api = apis["gemini"]
    api.canned.status = 429
    with pytest.raises(RequestTooLarge, match=r"\(28,000 tokens, limit 20,000\)"):
        await api.answer(body, messages=(Message("user", "A sentence of words. " * 8_000),))
    with pytest.raises(RateLimited):
        await api.answer(body)


@pytest.mark.parametrize("api", API_FORMATS)
async def test_a_body_that_is_too_large_is_the_requests(apis: CannedApis, api: str) -> None:
    bodies: dict[str, Any] = {
        "anthropic": error(api, 413, "Request exceeds the maximum size", type="request_too_large"),
        "openai": b"<html><h1>413 Request Entity Too Large</h1></html>",
        "gemini": error(api, 413, "Request payload size exceeds the limit: 20971520 bytes."),
    }
    assert type(await apis[api].failure(bodies[api], 413)) is RequestTooLarge


# ---------------------------------------------------------------- 2.2, 2.3: what a 403 says

FLAGGED = [
    (403, {"error": {"code": 403, "message": "input was flagged", "metadata": {"reasons": ["violence"]}}}),
    (403, {"error": {"code": 403, "message": "no", "metadata": {"flagged_input": "how to", "reasons": []}}}),
    (400, {"error": {"code": None, "message": "no", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
    (400, {"error": {"code": "content_filter", "message": "no", "status": 400}}),
    (400, {"error": {"type": "content_filter", "message": "high risk"}}),
    (400, {"error": {"code": "data_inspection_failed", "message": "no"}}),
    (200, {"base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}, "choices": None}),
    (200, {"error": {"code": 403, "message": "flagged", "metadata": {"reasons": ["hate"]}}}),
]


@pytest.mark.parametrize(("status", "body"), FLAGGED)
async def test_a_flagged_prompt_is_a_refusal(apis: CannedApis, status: int, body: Json) -> None:
    found = await apis["openai"].failure(body, status)
    assert type(found) is ContentRefused
    assert found.message.rpartition(": ")[2] in json.dumps(body)


@pytest.mark.parametrize("status", [400, 403, 200])
@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {"reasons": ["violence"], "flagged_input": "how to"}},
        {"innererror": {"content_filter_result": {"hate": {"filtered": True, "severity": "high"}}}},
        {"safety_violations": ["violence"]},
    ],
    ids=["reasons", "filter-result", "violations"],
)
@pytest.mark.parametrize("api", API_FORMATS)
async def test_fields_that_name_what_was_flagged_are_enough(
    apis: CannedApis, api: str, fields: Json, status: int
) -> None:
    found = await apis[api].failure(error(api, status, "no", **fields), status)
    assert type(found) is ContentRefused


async def test_a_filter_that_found_nothing_is_no_refusal(apis: CannedApis) -> None:
    fields = {"innererror": {"content_filter_result": {"hate": {"filtered": False, "severity": "safe"}}}}
    body = error("openai", 400, "no", metadata={"provider_name": "x", "reasons": []}, **fields)
    assert type(await apis["openai"].failure(body, 400)) is BadRequest


@pytest.mark.parametrize(
    "body", [b"<!DOCTYPE html><title>Just a moment...</title>", b"", b" \n", b"{}", b"[]"]
)
@pytest.mark.parametrize("api", API_FORMATS)
async def test_a_403_without_an_error_of_the_api_is_the_networks(
    apis: CannedApis, api: str, body: bytes
) -> None:
    found = await apis[api].failure(body, 403)
    assert (type(found), found.status, found.sent) == (Unreachable, 403, True)
    assert "moment" not in str(found)


@pytest.mark.parametrize("api", API_FORMATS)
async def test_a_403_of_the_api_is_about_the_key(apis: CannedApis, api: str) -> None:
    assert type(await apis[api].failure(error(api, 403, "not for this key"), 403)) is AuthFailed


@pytest.mark.parametrize(("status", "cls"), [(407, Unreachable), (511, Unreachable), (502, ServerError)])
@pytest.mark.parametrize("api", API_FORMATS)
async def test_a_page_is_never_repeated(
    apis: CannedApis, api: str, status: int, cls: type[ProviderError]
) -> None:
    found = await apis[api].failure(b"<html><body>A secret of the proxy</body></html>", status)
    assert type(found) is cls
    assert "secret" not in str(found)


# ---------------------------------------------------------------- 2.6, 2.7, 2.8


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("Your credit balance is too low to access the Anthropic API.", "credit_balance_too_low"),
        (
            "You have reached your specified API usage limits. You will regain access on 2026-12-01.",
            "usage_limit_reached",
        ),
    ],
)
async def test_a_spent_credit_of_anthropic_is_a_quota(apis: CannedApis, message: str, code: str) -> None:
    body = error("anthropic", 400, message, type="invalid_request_error")
    found = await apis["anthropic"].failure(body, 400)
    assert (type(found), found.code, found.resets_at) == (QuotaExhausted, code, None)
    other = error("anthropic", 400, "messages: at least one is required", type="invalid_request_error")
    assert type(await apis["anthropic"].failure(other, 400)) is BadRequest


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        *[(status, ServerError) for status in (409, 421, 423, 424, 425, 460, 499, 520, 524)],
        (498, Overloaded),
        (420, RateLimited),
        (408, None),
        *[(status, BadRequest) for status in (400, 405, 406, 411, 415, 422, 431)],
    ],
)
@pytest.mark.parametrize("api", API_FORMATS)
async def test_a_status_that_passes_by_itself_is_no_bad_request(
    apis: CannedApis, api: str, status: int, cls: type[ProviderError] | None
) -> None:
    found = await apis[api].failure(error(api, status, "no"), status)
    assert type(found) is cls or (cls is None and found.counts_against_health)


REASONS = [
    ({"detail": "the reason"}, "the reason"),
    ({"detail": [{"loc": ["body", "stop", 0], "msg": "too long", "type": "x"}]}, "body.stop.0: too long"),
    ({"detail": [{"msg": "one"}, {"msg": "two"}]}, "one; two"),
    ({"detail": {"error": {"message": "inner"}}}, "inner"),
    ({"errors": [{"code": 7, "message": "first"}, {"message": "second"}]}, "first; second"),
    ({"errors": {"prompt": ["is required"]}}, "is required"),
    ({"error": "plain"}, "plain"),
    ({"error": ["a", "b"]}, "a; b"),
    ({"error": {"message": {"detail": "nested"}}}, "nested"),
    ({"object": "error", "message": "vLLM says so", "type": "BadRequestError", "code": 400}, "vLLM says so"),
    ({"code": "x", "error": "as xAI writes it"}, "as xAI writes it"),
    ({"type": "about:blank", "title": "Bad", "status": 400, "detail": "RFC 9457"}, "RFC 9457"),
    ({"error_code": 17, "error_msg": "as Baidu writes it"}, "as Baidu writes it"),
    ({"Message": "as .NET writes it"}, "as .NET writes it"),
    ({"fault": {"faultstring": "as Apigee writes it"}}, "as Apigee writes it"),
    ({"model": ["This field is required."]}, "model: This field is required."),
    (b"only text", "only text"),
]


@pytest.mark.parametrize(("body", "reason"), REASONS)
@pytest.mark.parametrize("api", API_FORMATS)
async def test_the_reason_is_shown_whatever_the_shape(
    apis: CannedApis, api: str, body: Any, reason: str
) -> None:
    found = await apis[api].failure(body, 400)
    assert type(found) is BadRequest
    assert str(found).endswith(reason)


# ---------------------------------------------------------------- 2.9, 3.3: Gemini's own words


@pytest.mark.parametrize("reason", ["MODEL_ARMOR", "JAILBREAK", 77])
async def test_an_unknown_reason_to_block_a_prompt_is_a_refusal_with_its_name(
    apis: CannedApis, reason: Any
) -> None:
    found = await apis["gemini"].failure({"promptFeedback": {"blockReason": reason}})
    assert (type(found), found.code) == (ContentRefused, str(reason))
    assert found.code in str(found)


@pytest.mark.parametrize("text", ["", "half a te"])
@pytest.mark.parametrize(
    "reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "OTHER", "SOMETHING_NEW", 99]
)
async def test_an_unknown_end_keeps_its_name_and_is_neutral(apis: CannedApis, reason: Any, text: str) -> None:
    found = await apis["gemini"].failure(gemini(text, finish=reason))
    assert type(found) is UnusableAnswer
    assert not found.counts_against_health
    assert found.code == str(reason)
    assert found.code in str(found)


@pytest.mark.parametrize("reason", ["MODEL_ARMOR", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"])
async def test_later_reasons_to_refuse_are_known(apis: CannedApis, reason: Any) -> None:
    assert type(await apis["gemini"].failure(gemini(finish=reason))) is ContentRefused


async def test_no_reason_to_block_is_none(apis: CannedApis) -> None:
    completion = await apis["gemini"].answer(
        gemini(promptFeedback={"blockReason": "BLOCK_REASON_UNSPECIFIED"})
    )
    assert completion.text == "Elbe."


def parts(*found: Json, finish: str = "STOP") -> Json:
    return {**gemini(), "candidates": [{"content": {"parts": list(found)}, "finishReason": finish}]}


async def test_thoughts_are_no_answer(apis: CannedApis) -> None:
    thought = {"text": "THOUGHT", "thought": True}
    assert (await apis["gemini"].answer(parts(thought, {"text": "x"}))).text == "x"
    found = await apis["gemini"].failure(parts(thought))
    assert type(found) is UnusableAnswer
    assert "reasoning" in str(found)
    assert type(await apis["gemini"].failure(parts(thought, finish="MAX_TOKENS"))) is Truncated


# ---------------------------------------------------------------- 2.10, 3.2: how an answer ends

CALLS = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


@pytest.mark.parametrize(
    ("api", "body"),
    [
        pytest.param("openai", gpt({"content": None, "tool_calls": CALLS}, "tool_calls"), id="tool-calls"),
        pytest.param("openai", gpt({"content": None, "tool_calls": CALLS}), id="tool-calls-and-stop"),
        pytest.param("openai", gpt({"content": "", "reasoning_content": "Hm."}), id="reasoning-content"),
        pytest.param("openai", gpt({"content": None, "reasoning": "Hm."}), id="reasoning"),
        pytest.param("openai", gpt({"content": None}, "something_new"), id="unknown-end"),
        pytest.param("anthropic", claude(content=[], stop_reason="pause_turn"), id="pause-turn"),
        pytest.param(
            "anthropic",
            claude(content=[{"type": "tool_use", "name": "f", "input": {}}], stop_reason="tool_use"),
            id="tool-use",
        ),
        pytest.param(
            "gemini",
            {
                **gemini(),
                "candidates": [
                    {
                        "content": {
                            "parts": [{"functionCall": {}, "thought": False}, {"functionCall": {"name": "f"}}]
                        },
                        "finishReason": "STOP",
                    }
                ],
            },
            id="function-call",
        ),
        pytest.param("gemini", gemini("", "MALFORMED_FUNCTION_CALL"), id="malformed-call"),
        pytest.param("anthropic", claude(content=[{"type": "thinking", "thinking": "Hm."}]), id="thinking"),
    ],
)
async def test_a_quirk_of_a_model_is_neutral(apis: CannedApis, api: str, body: Json) -> None:
    found = await apis[api].failure(body)
    assert type(found) is UnusableAnswer
    assert not found.counts_against_health
    assert found.usage is not None


@pytest.mark.parametrize("code", ["json_validate_failed", "tool_use_failed"])
async def test_a_400_about_what_the_model_wrote_is_neutral(apis: CannedApis, code: str) -> None:
    found = await apis["openai"].failure(error("openai", 400, "the model wrote nonsense", code=code), 400)
    assert type(found) is UnusableAnswer


@pytest.mark.parametrize(
    ("reason", "cls"),
    [
        ("error", InvalidResponse),
        ("ERROR", InvalidResponse),
        ("abort", InvalidResponse),
        ("network_error", InvalidResponse),
        ("insufficient_system_resource", Overloaded),
        ("content_filter", ContentRefused),
        ("content_filter: PROHIBITED_CONTENT", ContentRefused),
        ("sensitive", ContentRefused),
        ("model_context_window_exceeded", ContextTooLong),
    ],
)
async def test_an_answer_that_ended_badly_is_none_although_it_has_text(
    apis: CannedApis, reason: str, cls: type[ProviderError]
) -> None:
    found = await apis["openai"].failure(gpt({"content": "half a te"}, reason))
    assert type(found) is cls
    assert reason in str(found)
    assert found.usage is not None


async def test_an_error_inside_the_choice_is_one(apis: CannedApis) -> None:
    body = gpt({"content": "half a te"})
    body["choices"][0]["error"] = {"code": 502, "message": "upstream broke"}
    found = await apis["openai"].failure(body)
    assert type(found) is InvalidResponse
    assert "upstream broke" in str(found)


@pytest.mark.parametrize(
    ("api", "body", "warns"),
    [
        ("openai", gpt(finish="eos"), False),
        ("openai", gpt(finish="STOP"), False),
        ("openai", gpt(finish="something_new"), True),
        ("anthropic", claude(stop_reason="something_new"), True),
        ("anthropic", claude(stop_reason="pause_turn"), True),
    ],
)
async def test_an_unknown_end_is_never_a_plain_success(
    apis: CannedApis, api: str, body: Json, warns: bool
) -> None:
    completion = await apis[api].answer(body)
    assert bool(completion.warnings) is warns
    assert completion.finish_reason is (FinishReason.OTHER if warns else FinishReason.STOP)


@pytest.mark.parametrize("reason", ["model_length", "max_tokens", "length"])
async def test_other_words_for_a_length_are_known(apis: CannedApis, reason: str) -> None:
    assert (await apis["openai"].answer(gpt(finish=reason))).finish_reason is FinishReason.LENGTH
    assert type(await apis["openai"].failure(gpt({"content": ""}, reason))) is Truncated


# ---------------------------------------------------------------- 3.4: an error inside a 200

IN_A_200 = [
    ({"error": "model runner stopped"}, Overloaded),
    ({"code": "rate_limit_daily", "message": "come back tomorrow"}, QuotaExhausted),
    ({"code": "something", "message": "odd"}, Overloaded),
    ({"error": {"code": "429"}}, RateLimited),
    ({"error": {"code": 429, "message": "slow"}}, RateLimited),
    ({"error": {"status": 401, "message": "key"}}, AuthFailed),
    ({"status": 500, "message": "broken"}, ServerError),
    ({"error": {"type": "invalid_request_error", "message": "no"}}, BadRequest),
    ({"error": {"type": "invalid_request_error", "message": "33000 tokens > 32000"}}, ContextTooLong),
    ({"error": {"code": "model_not_found", "message": "no"}}, ModelUnavailable),
    ({"detail": "Internal error"}, Overloaded),
    ({"errors": [{"message": "no"}]}, Overloaded),
    ({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, QuotaExhausted),
]


@pytest.mark.parametrize(("body", "cls"), IN_A_200)
async def test_an_error_inside_a_200_is_known_by_its_code_or_status(
    apis: CannedApis, body: Json, cls: type[ProviderError]
) -> None:
    found = await apis["openai"].failure(body)
    assert type(found) is cls
    assert found.usage is None
    assert not (found.may_be_billed and found.status in (None, 200)), "nothing is booked"


async def test_the_same_from_anthropic(apis: CannedApis) -> None:
    api = apis["anthropic"]
    assert type(await api.failure({"type": "error", "error": {"type": "overloaded_error"}})) is Overloaded
    assert type(await api.failure({"type": "error", "error": {"type": "api_error"}})) is ServerError
    assert type(await api.failure({"error": "model runner stopped"})) is Overloaded


GOOGLES_OWN = [
    ({"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow"}, RateLimited),
    ({"code": 503, "status": "UNAVAILABLE", "message": "busy"}, Overloaded),
    ({"status": "UNAVAILABLE"}, Overloaded),
    ({"status": "INTERNAL", "message": "broken"}, ServerError),
    ({"code": 404, "status": "NOT_FOUND", "message": "no model"}, ModelUnavailable),
    ({"code": 400, "status": "INVALID_ARGUMENT", "message": "no"}, BadRequest),
    ("model runner stopped", Overloaded),
]


@pytest.mark.parametrize(("error_body", "cls"), GOOGLES_OWN)
async def test_the_same_from_gemini(apis: CannedApis, error_body: Any, cls: type[ProviderError]) -> None:
    found = await apis["gemini"].failure({"error": error_body})
    assert type(found) is cls
    assert found.usage is None


# ---------------------------------------------------------------- 5.13: cached tokens under other names


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_cache_hit_tokens": 1_500, "prompt_cache_miss_tokens": 500},  # DeepSeek
        {"cached_tokens": 1_500},  # Kimi
        {"cache_read_input_tokens": 1_500},  # LiteLLM
        {"num_cached_tokens": 1_500},
        {"prompt_tokens_details": {"cached_tokens": 1_500}},
        {"prompt_tokens_details": {"cached_tokens": 1_500}, "prompt_cache_hit_tokens": 1_500},
    ],
)
async def test_tokens_from_the_cache_are_known_whatever_their_name(apis: CannedApis, usage: Json) -> None:
    body = gpt(usage={"prompt_tokens": 2_000, "completion_tokens": 300, "total_tokens": 2_300, **usage})
    found = (await apis["openai"].answer(body, messages=(Message("user", "x" * 8_000),))).usage
    assert (found.input_tokens, found.cache_read_tokens, found.output_tokens) == (500, 1_500, 300)


# ---------------------------------------------------------------- 5.17: a daily quota with a short wait


async def test_a_daily_quota_keeps_the_time_to_come_back_beside_its_reset(apis: CannedApis) -> None:
    quota = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaValue": "250"}
    details = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [quota]},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12s"},
    ]
    body = error("gemini", 429, "You exceeded your current quota", details=details)
    found = await apis["gemini"].failure(body, 429)
    assert (type(found), found.retry_after_s) == (QuotaExhausted, 12.0)
    assert found.resets_at is not None
