"""Streams of all adapters, through the real SDKs, over the real simulator: whole, and broken in each way."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from src.errors import (
    ContentRefused,
    InvalidResponse,
    Overloaded,
    ProviderError,
    RateLimited,
    ServerError,
    Truncated,
    Unreachable,
)
from src.messages import Image, Message, Text, Tool, ToolCall
from src.providers.base import ProviderAdapter
from src.providers.factory import build_adapter
from src.records import CompletionRequest, FinishReason, Native
from src.simulator.process import SimulatorProcess
from src.stream_events import Finished, StreamEvent, TextDelta, ToolCallDelta

from ..simulator.media import b64, png
from .conftest import API_FORMATS, access_to, ask, in_flight

pytestmark = pytest.mark.asyncio(loop_scope="module")


FORMS = (*API_FORMATS, "responses")  # the last is for requests that come in this form only
TOOLS = (Tool("get_weather", "The weather."), Tool("get_time", "The time."))
PROMPT = "Name three rivers."
PICTURE = Message("user", (Text(PROMPT), Image("image/png", b64(png(8, 8)))))
KINDS: dict[str, dict[str, Any]] = {
    "text": {},
    "tools": {"text": "call get_weather and get_time", "tools": TOOLS},
    "reasoning": {"text": "call get_weather", "tools": TOOLS, "reasoning_effort": "high"},
    "images": {"messages": (PICTURE,)},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=FORMS)
async def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def adapter(form: str, own_simulator: SimulatorProcess) -> AsyncIterator[ProviderAdapter]:
    api = "openai" if form == "responses" else form
    access = access_to(api, own_simulator.base_urls[api], responses_api=api == "openai")
    made = build_adapter(access, 4, max_answer_mb=64.0)  # Responses repeats a text three times at its end
    await made.warm_up()
    yield made
    await made.close()


def asked(form: str, text: str = PROMPT, **changes: Any) -> CompletionRequest:
    """A request, in the form of Responses as a client of that API writes it."""
    found = ask("openai" if form == "responses" else form, text, **{"max_tokens": 4_000, **changes})
    if form != "responses":
        return found
    parts = [{"type": "input_text", "text": text}]
    if changes.get("messages"):
        url = f"data:image/png;base64,{b64(png(8, 8))}"
        parts.append({"type": "input_image", "image_url": url, "detail": "auto"})
    body = {
        "model": "another",
        "input": [{"role": "user", "content": parts}],
        "max_output_tokens": found.max_tokens,
        "tools": [
            {"type": "function", "name": tool.name, "parameters": {"type": "object"}} for tool in found.tools
        ],
        "reasoning": {"effort": found.reasoning_effort, "summary": "auto"},
    }
    return replace(found, native=Native("responses", body))


async def streamed(
    adapter: ProviderAdapter, request: CompletionRequest, into: list[StreamEvent] | None = None
) -> list[StreamEvent]:
    """All events; those that came before an error are in `into`."""
    found = [] if into is None else into
    async with contextlib.aclosing(adapter.stream(request)) as events:
        async for event in events:
            found.append(event)
    return found


def text_of(events: list[StreamEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def connections(adapter: ProviderAdapter) -> tuple[int, int]:
    """`(idle, in use)` of the adapter's pool."""
    client: Any = adapter
    http = getattr(client._client, "_http", None) or client._client._client
    connector = http._own_transport._session.connector
    return sum(map(len, connector._conns.values())), len(connector._acquired)


def calls_of(events: list[StreamEvent]) -> list[tuple[str, str, Any]]:
    """`(id, name, arguments)` of each call, in their order."""
    found: dict[int, list[str]] = {}
    for event in events:
        if isinstance(event, ToolCallDelta):
            call = found.setdefault(event.number, [event.id, event.name, ""])
            call[2] += event.arguments
    return [(ident, name, json.loads(arguments)) for ident, name, arguments in found.values()]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_gives_the_answer_that_comes_without_one(
    adapter: ProviderAdapter, form: str, kind: str
) -> None:
    request = asked(form, **KINDS[kind])
    whole = await adapter.complete(request)
    events = await streamed(adapter, request)
    *deltas, last = events
    assert isinstance(last, Finished)
    assert text_of(events) == last.completion.text == whole.text
    calls = [part for part in last.completion.parts if isinstance(part, ToolCall)]
    assert calls_of(events) == [(call.id, call.name, json.loads(call.arguments)) for call in calls]
    assert all(call.id for call in calls)
    assert len(calls) == {"tools": 2, "reasoning": 1}.get(kind, 0)
    kinds = [type(part) for part in last.completion.parts]
    assert kinds == [type(part) for part in whole.parts]
    if kind != "reasoning":
        assert len(deltas) > 2
    assert not any(isinstance(event, Finished) for event in deltas)
    ours, theirs = last.completion, whole
    assert (ours.finish_reason, ours.usage, ours.model) == (theirs.finish_reason, theirs.usage, theirs.model)
    assert ours.warnings == ()
    assert ours.request_id


# What each fault is: the error, and whether text came before it.
MIDWAY: dict[str, type[ProviderError]] = {
    "stream_cut": InvalidResponse,
    "stream_unterminated": InvalidResponse,
    "malformed": InvalidResponse,
    "reset_midway": Unreachable,
    "no_stop_reason": InvalidResponse,
}
AT_ONCE: dict[str, type[ProviderError]] = {
    "rate_limit": RateLimited,
    "server_error": ServerError,
    "unavailable": Overloaded,
    "outage": Unreachable,
    "reset": Unreachable,
    "down": Unreachable,
    "empty": InvalidResponse,
    "content_filter": ContentRefused,
}
ERROR_EVENTS = {"anthropic": Overloaded, "openai": ServerError, "gemini": Overloaded}


BREAKS = [
    (kind, fault)
    for kind in KINDS
    for fault in (*MIDWAY, "stream_error")
    if kind == "text" or fault not in ("no_stop_reason", "reset_midway")
]


@pytest.mark.parametrize(("kind", "fault"), BREAKS, ids=lambda each: each)
async def test_a_stream_that_breaks_is_never_a_whole_answer(
    adapter: ProviderAdapter, form: str, faulty: SimulatorProcess, kind: str, fault: str
) -> None:
    faulty.patch(adapter.name, {"faults": {fault: 1.0}, "chunk_tokens": 5})
    events: list[StreamEvent] = []
    expected = MIDWAY.get(fault, ERROR_EVENTS[adapter.name])
    with pytest.raises(expected) as raised:
        await streamed(adapter, asked(form, **KINDS[kind]), events)
    assert type(raised.value) is expected
    assert raised.value.sent
    assert raised.value.usage is None or fault == "no_stop_reason"  # else: uncertain
    assert raised.value.provider == adapter.name
    assert text_of(events) or kind in ("tools", "reasoning")
    assert not any(isinstance(event, Finished) for event in events)
    assert connections(adapter)[1] == 0


@pytest.mark.parametrize("fault", AT_ONCE)
async def test_an_error_instead_of_a_stream_is_that_of_other_calls(
    adapter: ProviderAdapter, form: str, faulty: SimulatorProcess, fault: str
) -> None:
    if (form, fault) == ("responses", "empty"):
        pytest.skip("its caller gets an empty answer as it is")
    faulty.patch(adapter.name, {"faults": {fault: 1.0}})
    with pytest.raises(ProviderError) as without:
        await adapter.complete(asked(form))
    events: list[StreamEvent] = []
    with pytest.raises(AT_ONCE[fault]) as within:
        await streamed(adapter, asked(form), events)
    assert not text_of(events)
    theirs, ours = without.value, within.value
    assert type(ours) is type(theirs)
    assert (ours.status, ours.code, ours.sent) == (theirs.status, theirs.code, theirs.sent)
    assert (ours.retry_after_s, ours.usage) == (theirs.retry_after_s, theirs.usage)
    assert connections(adapter)[1] == 0


async def test_one_byte_at_a_time_is_the_same_answer(
    adapter: ProviderAdapter, form: str, faulty: SimulatorProcess
) -> None:
    whole = await adapter.complete(asked(form, "\U0001f30a naïve “café”"))
    faulty.patch(adapter.name, {"faults": {"stream_bytes": 1.0}, "chunk_tokens": 20})
    last = (await streamed(adapter, asked(form, "\U0001f30a naïve “café”")))[-1]
    assert isinstance(last, Finished)
    assert (last.completion.text, last.completion.usage) == (whole.text, whole.usage)


async def test_an_answer_that_max_tokens_cuts_says_so(adapter: ProviderAdapter, form: str) -> None:
    last = (await streamed(adapter, asked(form, max_tokens=20)))[-1]
    assert isinstance(last, Finished)
    assert last.completion.finish_reason is FinishReason.LENGTH


async def test_max_tokens_spent_before_any_text_is_an_error_with_its_usage(
    adapter: ProviderAdapter, form: str, faulty: SimulatorProcess
) -> None:
    if form == "responses":
        pytest.skip("its caller gets an empty answer as it is")
    faulty.patch(adapter.name, {"thinking_tokens": 60})
    with pytest.raises(Truncated) as raised:
        await streamed(adapter, asked(form, max_tokens=20))
    assert raised.value.usage is not None
    assert raised.value.usage.output_tokens == 20


async def test_ten_megabytes_arrive_and_more_is_refused(
    adapter: ProviderAdapter, form: str, faulty: SimulatorProcess
) -> None:
    faulty.patch(adapter.name, {"faults": {"stream_huge": 1.0}})
    events = await streamed(adapter, asked(form, max_tokens=3_000_000, timeout_s=60.0))
    assert len(text_of(events)) == 10_000_000
    access = access_to(adapter.name, faulty.base_urls[adapter.name], responses_api=form == "responses")
    small = build_adapter(access, 4, max_answer_mb=1.0)
    with pytest.raises(InvalidResponse, match="longer than 1 MB"):
        await streamed(small, asked(form, max_tokens=3_000_000, timeout_s=60.0))
    assert connections(small) == (0, 0)
    await small.close()


async def test_a_whole_stream_returns_its_connection(
    adapter: ProviderAdapter, form: str, faulty: SimulatorProcess
) -> None:
    returned = []
    for _ in range(5):
        await streamed(adapter, asked(form))
        idle, in_use = connections(adapter)
        assert in_use == 0
        returned.append(idle)
    # The end of the body may come too late on a busy machine; its connection is closed then.
    assert set(returned) <= {0, 1} and 1 in returned, returned


@pytest.mark.parametrize("how", ["closed", "dropped", "cancelled"])
async def test_a_stream_that_is_left_closes_its_connection(
    adapter: ProviderAdapter, form: str, faulty: SimulatorProcess, how: str
) -> None:
    faulty.patch(adapter.name, {"latency": {"first_token_s": 0.0, "per_token_s": 0.05}, "chunk_tokens": 1})

    begun = asyncio.Event()

    async def first() -> None:
        stream = adapter.stream(asked(form))
        async for event in stream:
            if isinstance(event, TextDelta):
                break
        begun.set()
        if how == "closed":
            await stream.aclose()
        elif how == "cancelled":
            async for _ in stream:
                pass

    task = asyncio.create_task(first())
    if how == "cancelled":
        await begun.wait()
        task.cancel()
    await asyncio.wait([task])
    del task
    gc.collect()
    async with asyncio.timeout(60):
        while connections(adapter)[1]:
            await asyncio.sleep(0)
    await in_flight(faulty, adapter.name, 0)
    assert faulty.stats()[adapter.name]["aborted_streams"] == 1
