"""The same cases against all three adapters, through the real SDKs, over the real simulator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
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
    TimedOut,
    Truncated,
    Unreachable,
)
from src.messages import Document, Image, Message, Text, Tool, ToolResult, tool_calls_in
from src.providers.base import ProviderAdapter
from src.providers.factory import build_adapter
from src.records import FinishReason, Usage
from src.simulator.process import SimulatorProcess
from src.stream_events import Finished, ToolCallDelta

from ..simulator.media import b64, gif, pdf, png
from .conftest import API_FORMATS, KEY, MODELS, access_to, ask

pytestmark = pytest.mark.asyncio(loop_scope="module")

# fault: what every API format makes of it, and what it says beside its class
FAULTS: dict[str, tuple[type[ProviderError], dict[str, Any]]] = {
    "rate_limit": (RateLimited, {"status": 429, "retry_after_s": 1.0}),
    "rate_limit_bare": (RateLimited, {"status": 429, "retry_after_s": None}),
    "daily_quota": (QuotaExhausted, {"status": 429}),
    "spend_cap": (QuotaExhausted, {"status": 429}),
    "server_error": (ServerError, {"status": 500}),
    "bad_gateway": (ServerError, {"status": 502}),
    "overloaded": (Overloaded, {}),
    "unavailable": (Overloaded, {"status": 503}),
    "timeout_status": (ServerError, {"status": 504}),
    "auth": (AuthFailed, {"status": 401}),
    "forbidden": (AuthFailed, {"status": 403}),
    "model_not_found": (ModelUnavailable, {"status": 404}),
    "context_length": (ContextTooLong, {"status": 400}),
    "bad_request": (BadRequest, {"status": 400}),
    "down": (Unreachable, {"sent": False, "status": None}),
    "outage": (Unreachable, {"sent": True, "status": None}),
    "reset": (Unreachable, {"sent": True, "status": None}),
    "reset_midway": (Unreachable, {"sent": True}),
    "malformed": (InvalidResponse, {"status": 200, "sent": True}),
    "empty": (InvalidResponse, {"status": 200}),
    "no_stop_reason": (InvalidResponse, {"status": 200}),
    "content_filter": (ContentRefused, {"status": 200}),
}
# where the apis differ: what the provider really does, or can't tell
DIFFERENT: dict[tuple[str, str], tuple[type[ProviderError], dict[str, Any]]] = {
    ("anthropic", "slow_down"): (RateLimited, {"retry_after_s": 1.0, "code": "ramp_limit_exceeded"}),
    ("openai", "slow_down"): (Overloaded, {"status": 429, "code": "slow_down"}),
    ("gemini", "slow_down"): (RateLimited, {"status": 429}),
    ("anthropic", "overloaded"): (Overloaded, {"status": 529, "code": "overloaded_error"}),
    ("anthropic", "content_policy"): (BadRequest, {"code": "invalid_request_error"}),  # words only
    ("openai", "content_policy"): (ContentRefused, {"code": "content_policy_violation"}),
    ("gemini", "content_policy"): (ContentRefused, {"code": "SAFETY", "status": 200}),
}
CASES = [
    (api, fault, *DIFFERENT.get((api, fault), FAULTS.get(fault, (ProviderError, {}))))
    for api in API_FORMATS
    for fault in (*FAULTS, "slow_down", "content_policy")
]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=API_FORMATS)
async def adapter(
    request: pytest.FixtureRequest, own_simulator: SimulatorProcess
) -> AsyncIterator[ProviderAdapter]:
    api = request.param
    made = build_adapter(access_to(api, own_simulator.base_urls[api]), 4)
    await made.warm_up()
    yield made
    await made.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def adapters(own_simulator: SimulatorProcess) -> AsyncIterator[dict[str, ProviderAdapter]]:
    made = {api: build_adapter(access_to(api, own_simulator.base_urls[api]), 4) for api in API_FORMATS}
    await asyncio.gather(*(one.warm_up() for one in made.values()))
    yield made
    await asyncio.gather(*(one.close() for one in made.values()))


async def test_an_answer_has_text_usage_and_the_models_name(adapter: ProviderAdapter) -> None:
    completion = await adapter.complete(ask(adapter.name))
    assert "Name three rivers" in completion.text
    assert completion.finish_reason is FinishReason.STOP
    assert completion.model == MODELS[adapter.name]
    assert completion.usage.input_tokens > 0 < completion.usage.output_tokens
    assert completion.warnings == ()


async def test_the_system_prompt_and_all_turns_reach_the_model(
    adapter: ProviderAdapter, faulty: SimulatorProcess
) -> None:
    faulty.patch(adapter.name, {"echo": True})
    turns = (
        Message("system", "x" * 400),
        Message("user", "first"),
        Message("assistant", "y" * 400),
        Message("user", "the last word"),
    )
    long = await adapter.complete(ask(adapter.name, messages=turns))
    short = await adapter.complete(ask(adapter.name, messages=turns[-1:]))
    assert long.text == short.text == "the last word"
    assert long.usage.input_tokens - short.usage.input_tokens >= 200


async def test_a_prompt_that_is_all_system_is_answered(adapter: ProviderAdapter) -> None:
    completion = await adapter.complete(ask(adapter.name, messages=(Message("system", "Say hello."),)))
    assert completion.text


async def test_a_stop_sequence_ends_the_answer(adapter: ProviderAdapter, faulty: SimulatorProcess) -> None:
    faulty.patch(adapter.name, {"echo": True})
    completion = await adapter.complete(ask(adapter.name, "one two END three", stop=("END",)))
    assert completion.text == "one two "
    assert completion.finish_reason is FinishReason.STOP


async def test_a_temperature_is_sent(adapter: ProviderAdapter, faulty: SimulatorProcess) -> None:
    faulty.patch(adapter.name, {"refuses_temperature": True})
    with pytest.raises(BadRequest, match="temperature"):
        await adapter.complete(ask(adapter.name, temperature=0.5))
    assert (await adapter.complete(ask(adapter.name))).text


async def test_a_schema_is_sent_natively(adapter: ProviderAdapter) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
        "required": ["city", "people"],
    }
    completion = await adapter.complete(ask(adapter.name, response_schema=schema))
    assert completion.text.startswith("{")
    assert '"city"' in completion.text
    assert completion.warnings == ()


WEATHER = Tool(
    "get_weather",
    "The weather of a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
CLOCK = Tool("get_time", "The time.")


async def test_tools_are_called_and_the_conversation_goes_on_with_their_results(
    adapter: ProviderAdapter, faulty: SimulatorProcess
) -> None:
    asked = 'call get_weather {"city": "Oslo"} and get_time'
    request = ask(adapter.name, asked, tools=(WEATHER, CLOCK))
    first = await adapter.complete(request)
    assert first.finish_reason is FinishReason.TOOL
    assert first.warnings == ()
    calls = tool_calls_in(first.parts)
    assert [(call.name, call.arguments) for call in calls] == [
        ("get_weather", '{"city": "Oslo"}'),
        ("get_time", "{}"),
    ]
    shown = Image("image/png", b64(png(64, 64)))
    results = (
        ToolResult(calls[0].id, (Text("7 degrees"), shown)),
        ToolResult(calls[1].id, (Text("no clock"),), is_error=True),
    )
    turns = (*request.messages, Message("assistant", first.parts), Message("tool", results))
    second = await adapter.complete(ask(adapter.name, messages=turns, tools=(WEATHER, CLOCK)))
    assert second.text
    assert second.finish_reason is FinishReason.STOP
    assert second.usage.prompt_tokens > first.usage.prompt_tokens
    without = await adapter.complete(ask(adapter.name, messages=turns))
    assert without.text
    assert without.parts == ()


async def test_a_conversation_goes_on_at_another_provider(
    adapters: dict[str, ProviderAdapter], faulty: SimulatorProcess
) -> None:
    faulty.patch("gemini", {"requires_signatures": [MODELS["gemini"]]})
    turns = ask("openai", "call get_weather, then call get_time").messages
    for api in (*API_FORMATS, *API_FORMATS):
        answered = await adapters[api].complete(ask(api, messages=turns, tools=(WEATHER, CLOCK)))
        results = tuple(ToolResult(call.id, (Text("1"),)) for call in tool_calls_in(answered.parts))
        turns = (*turns, Message("assistant", answered.parts or answered.text))
        turns += (Message("tool", results),) if results else (Message("user", "call get_time"),)
    assert sum(len(tool_calls_in(turn.parts)) for turn in turns) >= 3


@pytest.mark.parametrize("choice", ["required", "get_time", "none"])
async def test_a_choice_of_tools_is_obeyed(adapter: ProviderAdapter, choice: str) -> None:
    request = ask(adapter.name, tools=(WEATHER, CLOCK), tool_choice=choice, parallel_tool_calls=True)
    called = [call.name for call in tool_calls_in((await adapter.complete(request)).parts)]
    assert called == {"required": ["get_weather"], "get_time": ["get_time"], "none": []}[choice]


async def test_images_and_documents_are_sent_and_counted(adapter: ProviderAdapter) -> None:
    plain = await adapter.complete(ask(adapter.name, "What is this?"))
    media = (Image("image/png", b64(png(512, 512))), Document("application/pdf", b64(pdf(2)), name="two.pdf"))
    turn = Message("user", (*media, Text("What is this?")))
    seen = await adapter.complete(ask(adapter.name, messages=(Message("system", "Be brief."), turn)))
    assert seen.warnings == ()
    assert 300 < seen.usage.prompt_tokens - plain.usage.prompt_tokens < 10_000


async def test_what_an_api_does_not_take_is_left_out_with_a_warning(
    adapters: dict[str, ProviderAdapter],
) -> None:
    turn = Message("user", (Image("image/gif", b64(gif(8, 8))), Image(url="https://example.com/a.png")))
    for api, warnings in (("anthropic", 0), ("openai", 0), ("gemini", 2)):
        completion = await adapters[api].complete(ask(api, messages=(turn,)))
        assert completion.text
        assert len(completion.warnings) == warnings


@pytest.mark.parametrize("effort", ["none", "minimal", "low", "medium", "high"])
@pytest.mark.parametrize("thinking", ["effort", "budget"])
async def test_a_reasoning_effort_is_sent(
    adapter: ProviderAdapter, faulty: SimulatorProcess, thinking: str, effort: str
) -> None:
    faulty.patch(adapter.name, {"thinking_tokens": 100})
    parameters = {**ask(adapter.name).parameters, "thinking": thinking}
    request = ask(adapter.name, reasoning_effort=effort, max_tokens=32_000, parameters=parameters)
    used = (await adapter.complete(request)).usage.reasoning_tokens
    is_gemini_3 = adapter.name == "gemini" and thinking == "effort"
    assert (used > 0) is (effort != "none" or is_gemini_3)  # which can't be kept from thinking


async def test_a_cut_off_text_is_an_answer_with_reason_length(adapter: ProviderAdapter) -> None:
    completion = await adapter.complete(ask(adapter.name, max_tokens=5))
    assert completion.finish_reason is FinishReason.LENGTH
    assert completion.text
    assert completion.usage.output_tokens == 5


async def test_thinking_that_leaves_no_room_for_text_is_truncated_and_has_its_usage(
    adapter: ProviderAdapter, faulty: SimulatorProcess
) -> None:
    faulty.patch(adapter.name, {"thinking_tokens": 300})
    with pytest.raises(Truncated) as caught:
        await adapter.complete(ask(adapter.name, max_tokens=100))
    assert caught.value.usage.output_tokens == 100
    assert caught.value.usage.reasoning_tokens == 100


async def test_thinking_is_part_of_the_output_and_counted_separately(
    adapter: ProviderAdapter, faulty: SimulatorProcess
) -> None:
    plain = await adapter.complete(ask(adapter.name))
    faulty.patch(adapter.name, {"thinking_tokens": 64})
    usage = (await adapter.complete(ask(adapter.name))).usage
    assert usage.reasoning_tokens == 64
    assert usage.output_tokens == plain.usage.output_tokens + 64


async def test_cached_input_is_counted_separately(
    adapters: dict[str, ProviderAdapter], faulty: SimulatorProcess
) -> None:
    for api in ("openai", "gemini"):  # at Anthropic a request has to mark what is to be cached
        faulty.patch(api, {"caching": True})
        request = ask(api, "z" * 12_000)
        first = (await adapters[api].complete(request)).usage
        again = (await adapters[api].complete(request)).usage
        assert again.cache_read_tokens >= 1024
        assert again.prompt_tokens == first.prompt_tokens


@pytest.mark.parametrize(("api", "fault", "cls", "says"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES])
async def test_each_failure_becomes_its_class(
    adapters: dict[str, ProviderAdapter],
    faulty: SimulatorProcess,
    api: str,
    fault: str,
    cls: type[ProviderError],
    says: dict[str, Any],
) -> None:
    faulty.patch(api, {"faults": {fault: 1.0}})
    # twice there and back, in a thread: until then the loop has seen idle connections being closed
    await asyncio.to_thread(faulty.stats)
    await asyncio.to_thread(faulty.stats)
    with pytest.raises(ProviderError) as caught:
        await adapters[api].complete(ask(api))
    error = caught.value
    assert type(error) is cls
    assert {name: getattr(error, name) for name in says} == says
    assert (error.provider, error.model) == (api, MODELS[api])
    assert str(error).startswith(f"{api}: ")
    assert KEY not in str(error)


@pytest.mark.parametrize("fault", ["empty", "no_stop_reason", "content_filter"])
async def test_a_billed_answer_without_text_has_its_usage(
    adapter: ProviderAdapter, faulty: SimulatorProcess, fault: str
) -> None:
    faulty.patch(adapter.name, {"faults": {fault: 1.0}})
    with pytest.raises(ProviderError) as caught:
        await adapter.complete(ask(adapter.name))
    assert isinstance(caught.value.usage, Usage)
    assert caught.value.usage.input_tokens > 0


async def test_one_exchange_a_call_whatever_fails(adapter: ProviderAdapter, faulty: SimulatorProcess) -> None:
    faulty.patch(adapter.name, {"faults": {"unavailable": 1.0}})
    with pytest.raises(Overloaded):
        await adapter.complete(ask(adapter.name))
    faulty.patch(adapter.name, {"faults": {"unavailable": None, "auth": 1.0}})
    with pytest.raises(AuthFailed):
        await adapter.complete(ask(adapter.name))
    assert faulty.stats()[adapter.name]["calls"] == 2


async def test_a_spent_day_ends_when_the_provider_says(
    adapters: dict[str, ProviderAdapter], faulty: SimulatorProcess
) -> None:
    for api, latest_s in (("anthropic", 86_400), ("openai", 432), ("gemini", 25 * 3600)):
        faulty.patch(api, {"faults": {"daily_quota": 1.0}})
        with pytest.raises(QuotaExhausted) as caught:
            await adapters[api].complete(ask(api))
        assert caught.value.resets_at is not None
        assert 0 <= caught.value.resets_at - time.time() <= latest_s


async def test_answers_and_errors_report_limits(
    adapters: dict[str, ProviderAdapter], faulty: SimulatorProcess
) -> None:
    limits = {"requests_per_minute": 60, "tokens_per_minute": 90_000}
    for api in ("anthropic", "openai"):
        faulty.patch(api, {"limits": limits})
        reports = (await adapters[api].complete(ask(api))).limits
        assert {(report.dimension, report.limit) for report in reports} == {
            ("requests", 60),
            ("tokens", 90_000),
        }
        assert all(report.remaining is not None for report in reports)
        with pytest.raises(RateLimited) as caught:
            await asyncio.gather(*(adapters[api].complete(ask(api)) for _ in range(4)))
        assert {report.dimension for report in caught.value.limits} == {"requests", "tokens"}


async def test_a_rejected_key_is_reported_with_the_providers_answer(
    own_simulator: SimulatorProcess, faulty: SimulatorProcess, adapter: ProviderAdapter
) -> None:
    faulty.patch(adapter.name, {"keys": ["another-key"]})
    with pytest.raises(AuthFailed) as caught:
        await adapter.complete(ask(adapter.name))
    assert str(caught.value).startswith(f"{adapter.name}: answered 4")
    assert KEY not in str(caught.value)


async def test_models_are_listed(adapter: ProviderAdapter) -> None:
    assert MODELS[adapter.name] in await adapter.list_models(2.0)


@pytest.mark.parametrize(("fault", "cls"), [("server_error", ServerError), ("down", Unreachable)])
async def test_listing_models_fails_as_a_call_does(
    adapter: ProviderAdapter, faulty: SimulatorProcess, fault: str, cls: type[ProviderError]
) -> None:
    faulty.patch(adapter.name, {"faults": {fault: 1.0}})
    with pytest.raises(cls):
        await adapter.list_models(2.0)


async def test_silence_ends_a_health_call_at_its_limit(
    adapters: dict[str, ProviderAdapter], faulty: SimulatorProcess
) -> None:
    for api in API_FORMATS:
        faulty.patch(api, {"faults": {"silence": 1.0}})
    found = await asyncio.gather(*(one.list_models(0.2) for one in adapters.values()), return_exceptions=True)
    assert [type(one) for one in found] == [TimedOut] * 3


async def test_silence_ends_a_call_whose_caller_has_no_limit(
    adapters: dict[str, ProviderAdapter], faulty: SimulatorProcess
) -> None:
    for api in API_FORMATS:
        faulty.patch(api, {"faults": {"silence": 1.0}})
    calls = (adapters[api].complete(ask(api, timeout_s=0.1)) for api in API_FORMATS)
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in found] == [TimedOut] * 3


async def test_silence_on_a_used_connection_ends_a_call_at_its_own_limit(
    adapters: dict[str, ProviderAdapter], faulty: SimulatorProcess
) -> None:
    for api in API_FORMATS:
        await adapters[api].complete(ask(api, timeout_s=300.0))
        faulty.patch(api, {"faults": {"silence": 1.0}})
    calls = (adapters[api].complete(ask(api, timeout_s=0.1)) for api in API_FORMATS)
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in found] == [TimedOut] * 3


@pytest.mark.parametrize("fault", ["silence", "trickle"])
async def test_a_call_that_is_given_up_leaves_the_adapter_usable(
    adapter: ProviderAdapter, faulty: SimulatorProcess, fault: str
) -> None:
    faulty.patch(adapter.name, {"faults": {fault: 1.0}})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await adapter.complete(ask(adapter.name))
    faulty.patch(adapter.name, {"faults": {fault: None}})
    assert (await adapter.complete(ask(adapter.name))).text


async def test_a_streamed_answer_has_the_parts_of_a_whole_one(
    adapter: ProviderAdapter, faulty: SimulatorProcess
) -> None:
    named = Tool("9 odd.name" * 9, "Odd.")  # which no API takes as it is
    text = f"call {WEATHER.name} and {CLOCK.name}"
    request = ask(adapter.name, text, tools=(WEATHER, CLOCK, named), reasoning_effort="low", max_tokens=4_000)
    for asked in (request, replace(request, tool_choice=named.name, reasoning_effort=None)):
        whole = await adapter.complete(asked)
        events = [event async for event in adapter.stream(asked)]
        last = events[-1]
        assert isinstance(last, Finished)
        streamed = last.completion
        assert [type(part) for part in streamed.parts] == [type(part) for part in whole.parts]
        calls, deltas = tool_calls_in(streamed.parts), [e for e in events if isinstance(e, ToolCallDelta)]
        assert [call.name for call in calls] == [call.name for call in tool_calls_in(whole.parts)]
        assert [(delta.id, delta.name) for delta in deltas if delta.name] == [
            (call.id, call.name) for call in calls
        ]
        assert streamed.finish_reason is FinishReason.TOOL
