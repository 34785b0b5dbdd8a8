"""Each fault of each API through the real SDK: which exception it raises, what becomes of the answer."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest

from src.simulator import SimulatorProcess
from src.simulator.config import API_FORMATS
from src.simulator.faults import FAULTS, IN_A_STREAM

from .sdks import MODELS, PROMPT, ask, finish_of, gemini_sdk, list_models, text_of, usage_of

ERRORS: dict[str, dict[str, tuple[str, int]]] = {
    "anthropic": {
        "rate_limit": ("RateLimitError", 429),
        "rate_limit_bare": ("RateLimitError", 429),
        "slow_down": ("RampLimitExceededError", 429),
        "daily_quota": ("RateLimitError", 429),
        "spend_cap": ("EnforcedSpendLimitReachedError", 429),
        "server_error": ("InternalServerError", 500),
        "bad_gateway": ("InternalServerError", 502),
        "overloaded": ("OverloadedError", 529),
        "unavailable": ("ServiceUnavailableError", 503),
        "timeout_status": ("GatewayTimeoutError", 504),
        "auth": ("AuthenticationError", 401),
        "forbidden": ("PermissionDeniedError", 403),
        "model_not_found": ("NotFoundError", 404),
        "context_length": ("BadRequestError", 400),
        "content_policy": ("BadRequestError", 400),
        "bad_request": ("BadRequestError", 400),
    },
    "openai": {
        "rate_limit": ("RateLimitError", 429),
        "rate_limit_bare": ("RateLimitError", 429),
        "slow_down": ("RateLimitError", 429),
        "daily_quota": ("RateLimitError", 429),
        "spend_cap": ("RateLimitError", 429),
        "server_error": ("InternalServerError", 500),
        "bad_gateway": ("InternalServerError", 502),
        "overloaded": ("InternalServerError", 503),
        "unavailable": ("InternalServerError", 503),
        "timeout_status": ("InternalServerError", 504),
        "auth": ("AuthenticationError", 401),
        "forbidden": ("PermissionDeniedError", 403),
        "model_not_found": ("NotFoundError", 404),
        "context_length": ("BadRequestError", 400),
        "content_policy": ("BadRequestError", 400),
        "bad_request": ("BadRequestError", 400),
    },
    "gemini": {
        "rate_limit": ("TooManyRequests", 429),
        "rate_limit_bare": ("TooManyRequests", 429),
        "slow_down": ("TooManyRequests", 429),
        "daily_quota": ("TooManyRequests", 429),
        "spend_cap": ("TooManyRequests", 429),
        "server_error": ("InternalServerError", 500),
        "bad_gateway": ("BadGateway", 502),
        "overloaded": ("ServiceUnavailable", 503),
        "unavailable": ("ServiceUnavailable", 503),
        "timeout_status": ("GatewayTimeout", 504),
        "auth": ("Unauthorized", 401),
        "forbidden": ("Forbidden", 403),
        "model_not_found": ("NotFound", 404),
        "context_length": ("BadRequest", 400),
        "bad_request": ("BadRequest", 400),
    },
}
_MODULES = {"anthropic": "anthropic", "openai": "openai", "gemini": "google.api_core.exceptions"}

# what a client can tell apart by code, not by words
CODES: dict[str, dict[str, Any]] = {
    "anthropic": {"slow_down": "ramp_limit_exceeded", "spend_cap": "enforced_spend_limit_reached"},
    "openai": {
        "rate_limit": ("requests", "rate_limit_exceeded"),
        "slow_down": ("rate_limit_error", "slow_down"),
        "daily_quota": ("requests", "rate_limit_exceeded"),
        "spend_cap": ("insufficient_quota", "organization_spend_limit_exceeded"),
        "overloaded": ("service_unavailable_error", "server_is_overloaded"),
        "auth": ("invalid_request_error", "invalid_api_key"),
        "model_not_found": ("invalid_request_error", "model_not_found"),
        "context_length": ("invalid_request_error", "context_length_exceeded"),
        "content_policy": ("invalid_request_error", "content_policy_violation"),
    },
    "gemini": {
        "rate_limit": "GenerateRequestsPerMinutePerProjectPerModel",
        "daily_quota": "GenerateRequestsPerDayPerProjectPerModel",
        "spend_cap": "GenerateRequestsPerDayPerProjectPerModel",
    },
}


def status_of(error: Any) -> int:
    return int(error.status_code if hasattr(error, "status_code") else error.code)


def code_of(api: str, error: Any) -> Any:
    if api == "anthropic":
        return error.error_code
    if api == "openai":
        return error.type, error.code
    quotas = [d["violations"][0]["quotaId"] for d in error.details if d["@type"].endswith("QuotaFailure")]
    return quotas[0] if quotas else None


def header_of(error: Any, name: str) -> str | None:
    value = error.response.headers.get(name)
    return None if value is None else str(value)


@pytest.mark.parametrize(
    ("api", "fault"),
    [pytest.param(w, f, id=f"{w}-{f}") for w, faults in ERRORS.items() for f in faults],
)
async def test_an_error_is_the_sdk_s_own_class_status_and_code(
    sim: SimulatorProcess, api: str, fault: str
) -> None:
    gemini_sdk()
    name, status = ERRORS[api][fault]
    sim.patch(api, {"faults": {fault: 1.0}})
    with pytest.raises(getattr(importlib.import_module(_MODULES[api]), name)) as raised:
        await ask(sim, api)
    assert type(raised.value).__name__ == name
    assert status_of(raised.value) == status
    if fault in CODES[api]:
        assert code_of(api, raised.value) == CODES[api][fault]
    assert sim.stats()[api]["by_fault"][fault] >= 1


def test_every_fault_is_in_one_of_the_tables() -> None:
    covered = {"reset", "outage", "down", "silence", "reset_midway", "trickle", "malformed"}
    covered |= {"empty", "no_stop_reason", "length", "content_filter"}
    covered |= {"wrong_json", "wrong_json_once", "fenced_json"}
    covered |= IN_A_STREAM  # test_broken_streams.py
    for api in API_FORMATS:
        missing = set(FAULTS) - covered - set(ERRORS[api])
        assert missing == ({"content_policy"} if api == "gemini" else set())


@pytest.mark.parametrize(
    ("api", "fault", "expected"),
    [
        pytest.param("anthropic", "rate_limit", "7", id="anthropic"),
        pytest.param("anthropic", "slow_down", "7", id="anthropic slow_down"),
        pytest.param("anthropic", "rate_limit_bare", None, id="anthropic bare"),
        pytest.param("anthropic", "spend_cap", None, id="anthropic spend cap"),
        pytest.param("openai", "rate_limit", "7", id="openai"),
        pytest.param("openai", "rate_limit_bare", None, id="openai bare"),
        pytest.param("openai", "daily_quota", "432", id="openai daily: the next of 200 requests"),
        pytest.param("openai", "spend_cap", None, id="openai spend cap"),
    ],
)
async def test_retry_after_is_sent_where_waiting_helps(
    sim: SimulatorProcess, api: str, fault: str, expected: str | None
) -> None:
    sim.patch(api, {"faults": {fault: 1.0}, "retry_after_s": 7})
    with pytest.raises(Exception, match="429") as raised:
        await ask(sim, api)
    assert header_of(raised.value, "retry-after") == expected


@pytest.mark.parametrize(
    ("fault", "expected"),
    [("rate_limit", ["7s"]), ("rate_limit_bare", []), ("daily_quota", ["37s"]), ("spend_cap", [])],
)
async def test_gemini_states_the_time_to_wait_in_the_body(
    sim: SimulatorProcess, fault: str, expected: list[str]
) -> None:
    sim.patch("gemini", {"faults": {fault: 1.0}, "retry_after_s": 7})
    with pytest.raises(Exception, match="429") as raised:
        await ask(sim, "gemini")
    details = raised.value.details  # type: ignore[attr-defined]
    assert [d["retryDelay"] for d in details if d["@type"].endswith("RetryInfo")] == expected


# -- answers that are not what they should be --


@pytest.mark.parametrize(
    ("api", "fault", "finish", "has_text"),
    [
        pytest.param(api, fault, finish, has_text, id=f"{api}-{fault}")
        for api, finishes in {
            "anthropic": ("end_turn", None, "max_tokens", "refusal"),
            "openai": ("stop", None, "length", "content_filter"),
            "gemini": ("STOP", "FINISH_REASON_UNSPECIFIED", "MAX_TOKENS", "SAFETY"),
        }.items()
        for fault, finish, has_text in zip(
            ("empty", "no_stop_reason", "length", "content_filter"),
            finishes,
            (False, True, True, False),
            strict=True,
        )
    ],
)
async def test_a_spoiled_answer_is_parsed_and_shows_it(
    sim: SimulatorProcess, api: str, fault: str, finish: str | None, has_text: bool
) -> None:
    sim.patch(api, {"faults": {fault: 1.0}})
    answer = await ask(sim, api)
    assert finish_of(api, answer) == finish
    assert bool(text_of(api, answer)) == has_text


async def test_gemini_blocks_a_prompt_instead_of_answering_400(sim: SimulatorProcess) -> None:
    sim.patch("gemini", {"faults": {"content_policy": 1.0}})
    answer = await ask(sim, "gemini")
    assert answer.prompt_feedback.block_reason.name == "SAFETY"
    assert not answer.candidates


@pytest.mark.parametrize("api", API_FORMATS)
async def test_a_body_that_is_cut_is_no_answer(sim: SimulatorProcess, api: str) -> None:
    sim.patch(api, {"faults": {"malformed": 1.0}})
    with pytest.raises(Exception, match=r"Unterminated|Expecting|JSON") as raised:
        await ask(sim, api)
    assert type(raised.value).__name__ in ("JSONDecodeError", "ParseError")


# -- connections that break --


@pytest.mark.parametrize("aiohttp", [True, False], ids=["aiohttp", "httpx2"])
@pytest.mark.parametrize("api", ["anthropic", "openai"])
@pytest.mark.parametrize("fault", ["reset", "outage", "down", "reset_midway"])
async def test_a_broken_connection_is_a_connection_error(
    sim: SimulatorProcess, api: str, fault: str, aiohttp: bool
) -> None:
    sim.patch(api, {"faults": {fault: 1.0}})
    with pytest.raises(importlib.import_module(api).APIConnectionError):
        await ask(sim, api, aiohttp=aiohttp)


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ("reset", "ConnectionError"),
        ("outage", "ConnectionError"),
        ("down", "ConnectionError"),
        ("reset_midway", "ChunkedEncodingError"),
        ("silence", "ReadTimeout"),
    ],
)
async def test_gemini_s_broken_connections_are_those_of_requests(
    sim: SimulatorProcess, fault: str, name: str
) -> None:
    import requests

    gemini_sdk()
    sim.patch("gemini", {"faults": {fault: 1.0}})
    with pytest.raises(getattr(requests.exceptions, name)):
        await ask(sim, "gemini", timeout_s=0.3)


@pytest.mark.parametrize("aiohttp", [True, False], ids=["aiohttp", "httpx2"])
@pytest.mark.parametrize("api", ["anthropic", "openai"])
async def test_silence_ends_by_the_client_s_own_time_limit(
    sim: SimulatorProcess, api: str, aiohttp: bool
) -> None:
    sim.patch(api, {"faults": {"silence": 1.0}})
    with pytest.raises(importlib.import_module(api).APITimeoutError):
        await ask(sim, api, timeout_s=0.2, aiohttp=aiohttp)


# -- good answers --


@pytest.mark.parametrize("api", API_FORMATS)
async def test_an_answer_is_about_the_prompt_and_says_what_it_cost(sim: SimulatorProcess, api: str) -> None:
    answer = await ask(sim, api, max_tokens=4_000)
    text = text_of(api, answer)
    assert text.startswith("On “Explain the tides to a child of ten")
    assert finish_of(api, answer) in ("end_turn", "stop", "STOP")
    assert usage_of(api, answer) == (-(-len(PROMPT) // 4) + 4, -(-len(text) // 4))


@pytest.mark.parametrize("api", API_FORMATS)
async def test_an_answer_ends_at_max_tokens(sim: SimulatorProcess, api: str) -> None:
    answer = await ask(sim, api, max_tokens=5)
    assert finish_of(api, answer) in ("max_tokens", "length", "MAX_TOKENS")
    assert usage_of(api, answer)[1] == 5
    assert len(text_of(api, answer)) == 20


@pytest.mark.parametrize("api", API_FORMATS)
async def test_a_model_that_thinks_can_spend_all_of_it_on_that(sim: SimulatorProcess, api: str) -> None:
    sim.patch(api, {"thinking_tokens": 30})
    nothing = await ask(sim, api, max_tokens=30)
    assert text_of(api, nothing) in ("", "None")
    assert finish_of(api, nothing) in ("max_tokens", "length", "MAX_TOKENS")
    assert usage_of(api, nothing)[1] == 30
    some = await ask(sim, api, max_tokens=40)
    assert len(text_of(api, some)) == 40
    assert usage_of(api, some)[1] == 40


async def test_thinking_is_shown_where_the_api_shows_it(sim: SimulatorProcess) -> None:
    for api in ("anthropic", "openai"):
        sim.patch(api, {"thinking_tokens": 30})
    claude, gpt = await ask(sim, "anthropic"), await ask(sim, "openai")
    assert claude.usage.output_tokens_details.thinking_tokens == 30
    assert gpt.usage.completion_tokens_details.reasoning_tokens == 30


@pytest.mark.parametrize(
    ("api", "name"),
    [("anthropic", "stop_sequences"), ("openai", "stop"), ("gemini", "stop_sequences")],
)
async def test_a_stop_sequence_ends_the_answer(sim: SimulatorProcess, api: str, name: str) -> None:
    answer = await ask(sim, api, **{name: ["tides"]})
    assert text_of(api, answer) == "On “Explain the "
    assert finish_of(api, answer) in ("stop_sequence", "stop", "STOP")


@pytest.mark.parametrize("api", API_FORMATS)
async def test_echo_gives_the_prompt_back_untouched(sim: SimulatorProcess, api: str) -> None:
    sim.patch(api, {"echo": True})
    prompt = "<script>alert('1')</script>\n\"ünïcode\" \U0001f30a"
    assert text_of(api, await ask(sim, api, prompt=prompt)) == prompt


CLOSED = {"additionalProperties": False}  # as Anthropic demands it
SCHEMA = {
    **CLOSED,
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "kind": {"type": "string", "enum": ["tide", "wave"]},
        "count": {"type": "integer"},
        "share": {"type": "number"},
        "sure": {"type": "boolean"},
        "parts": {
            "type": "array",
            "items": {"type": "object", "properties": {"name": {"type": "string"}}, **CLOSED},
        },
    },
    "required": ["title", "kind", "count", "share", "sure", "parts"],
}


def opened(schema: Any) -> Any:
    """Without what google-generativeai does not know."""
    if isinstance(schema, dict):
        return {key: opened(value) for key, value in schema.items() if key != "additionalProperties"}
    return schema


def check_instance(found: Any) -> None:
    assert set(found) == set(SCHEMA["properties"])
    assert isinstance(found["title"], str)
    assert found["kind"] == "tide"
    assert isinstance(found["count"], int)
    assert isinstance(found["share"], int | float)
    assert found["sure"] is True
    assert isinstance(found["parts"][0]["name"], str)


@pytest.mark.parametrize(
    ("api", "more"),
    [
        ("anthropic", {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}),
        (
            "openai",
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
        ),
        ("gemini", {"response_mime_type": "application/json", "response_schema": opened(SCHEMA)}),
    ],
    ids=API_FORMATS,
)
async def test_a_schema_is_kept(sim: SimulatorProcess, api: str, more: dict[str, Any]) -> None:
    check_instance(json.loads(text_of(api, await ask(sim, api, max_tokens=500, **more))))


JSON_FORM = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
REPAIR = [
    {"role": "user", "content": "Go."},
    {"role": "assistant", "content": "{}"},
    {"role": "user", "content": "Again."},
]


async def test_wrong_and_right_json_differ_by_the_turns_before_them(sim: SimulatorProcess) -> None:
    async def keys(**more: Any) -> set[str]:
        answer = await ask(sim, "openai", max_tokens=500, response_format=JSON_FORM, **more)
        return set(json.loads(text_of("openai", answer)))

    sim.patch("openai", {"faults": {"wrong_json_once": 1.0}})
    assert await keys() == {"unexpected"}
    assert await keys(messages=REPAIR) == set(SCHEMA["properties"])
    sim.patch("openai", {"faults": {"wrong_json_once": None, "wrong_json": 1.0}})
    assert await keys(messages=REPAIR) == {"unexpected"}
    prose = text_of("openai", await ask(sim, "openai"))
    assert "unexpected" not in prose


async def test_a_schema_in_the_prompt_is_read_there(sim: SimulatorProcess) -> None:
    words = f"Reply with JSON that matches this JSON schema:\n{json.dumps(SCHEMA)}\nGo."
    turn = [{"role": "user", "content": words}]
    check_instance(json.loads(text_of("openai", await ask(sim, "openai", messages=turn, max_tokens=500))))
    sim.patch("openai", {"faults": {"fenced_json": 1.0}})
    fenced = text_of("openai", await ask(sim, "openai", messages=turn, max_tokens=500))
    assert fenced.startswith("Here it is:\n\n```json\n{")


@pytest.mark.parametrize(
    ("api", "more"),
    [
        ("anthropic", {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}),
        (
            "openai",
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "strict": True, "schema": {"type": "object"}},
                }
            },
        ),
        ("gemini", {"response_mime_type": "application/json", "response_schema": {"type": "OBJECT"}}),
    ],
    ids=API_FORMATS,
)
async def test_a_schema_that_the_provider_does_not_take_is_a_bad_request(
    sim: SimulatorProcess, api: str, more: dict[str, Any]
) -> None:
    with pytest.raises(getattr(importlib.import_module(_MODULES[api]), ERRORS[api]["bad_request"][0])):
        await ask(sim, api, **more)


async def test_a_forced_tool_is_called_with_a_valid_input(sim: SimulatorProcess) -> None:
    tools = [{"name": "store", "input_schema": SCHEMA}]
    choice = {"type": "tool", "name": "store"}
    answer = await ask(sim, "anthropic", max_tokens=500, tools=tools, tool_choice=choice)
    assert answer.stop_reason == "tool_use"
    assert answer.content[0].name == "store"
    check_instance(answer.content[0].input)


# -- refusals of their own --


async def test_an_unknown_key_is_refused_as_each_provider_refuses_it(sim: SimulatorProcess) -> None:
    gemini_sdk()
    expected = {"anthropic": ("AuthenticationError", 401), "openai": ("AuthenticationError", 401)}
    expected["gemini"] = ("BadRequest", 400)
    for api, (name, status) in expected.items():
        sim.patch(api, {"keys": ["good"]})
        await ask(sim, api, key="good")
        for call in (ask, list_models):
            with pytest.raises(getattr(importlib.import_module(_MODULES[api]), name)) as raised:
                await call(sim, api, key="bad")
            assert status_of(raised.value) == status
    assert raised.value.details[0]["reason"] == "API_KEY_INVALID"  # type: ignore[attr-defined]


@pytest.mark.parametrize("api", API_FORMATS)
async def test_an_unknown_model_and_too_long_a_prompt_are_refused(sim: SimulatorProcess, api: str) -> None:
    sim.patch(api, {"models": [MODELS[api]], "context_window": 100})
    with pytest.raises(Exception, match="404"):
        await ask(sim, api, model="gone-1")
    with pytest.raises(Exception, match="400") as raised:
        await ask(sim, api, prompt="x" * 400)
    if api == "openai":
        assert raised.value.code == "context_length_exceeded"  # type: ignore[attr-defined]
    assert await list_models(sim, api) == [("models/" if api == "gemini" else "") + MODELS[api]]


async def test_sampling_is_refused_by_models_that_do_not_take_it(sim: SimulatorProcess) -> None:
    import openai

    sim.patch("openai", {"refuses_temperature": ["gpt-6"], "wants_max_completion_tokens": ["gpt-6"]})
    sim.patch("anthropic", {"refuses_temperature": True})
    cases: list[tuple[dict[str, Any], tuple[str, str]]] = [
        ({"temperature": 0.2, "max_completion_tokens": 9}, ("temperature", "unsupported_value")),
        ({"top_p": 0.2, "max_completion_tokens": 9}, ("top_p", "unsupported_parameter")),
        ({}, ("max_tokens", "unsupported_parameter")),
    ]
    for more, expected in cases:
        with pytest.raises(openai.BadRequestError) as raised:
            await ask(sim, "openai", **more)
        assert (raised.value.param, raised.value.code) == expected
    await ask(sim, "openai", temperature=1, max_completion_tokens=9)
    await ask(sim, "openai", model="gpt-4o-mini", temperature=0.2)
    with pytest.raises(Exception, match="`temperature` is deprecated for this model"):
        await ask(sim, "anthropic", extra_body={"temperature": 1})


# -- caches --


async def test_anthropic_writes_a_marked_prefix_once_and_reads_it_from_then_on(sim: SimulatorProcess) -> None:
    system = [{"type": "text", "text": "s" * 8_000, "cache_control": {"type": "ephemeral"}}]
    first = (await ask(sim, "anthropic", system=system)).usage
    again = (await ask(sim, "anthropic", system=system, prompt="Another question")).usage
    assert (first.cache_creation_input_tokens, first.cache_read_input_tokens) == (2_000, 0)
    assert (again.cache_creation_input_tokens, again.cache_read_input_tokens) == (0, 2_000)
    assert first.input_tokens == 13
    short = [{**system[0], "text": "s" * 4_000}]
    assert (await ask(sim, "anthropic", system=short)).usage.cache_creation_input_tokens == 0


async def test_openai_reports_a_long_prefix_it_has_seen_in_steps_of_128(sim: SimulatorProcess) -> None:
    prompts = ["p" * 6_000 + "first", "p" * 6_000 + "second"]
    off = [(await ask(sim, "openai", prompt=p)).usage.prompt_tokens_details.cached_tokens for p in prompts]
    sim.patch("openai", {"caching": True})
    on = [(await ask(sim, "openai", prompt=p)).usage.prompt_tokens_details.cached_tokens for p in prompts]
    assert (off, on) == ([0, 0], [0, 11 * 128])
