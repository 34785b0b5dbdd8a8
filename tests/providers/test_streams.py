"""Streams of all adapters, through the real SDKs, over the real simulator: whole, and broken in each way."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
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
from src.providers.base import ProviderAdapter
from src.providers.factory import build_adapter
from src.records import CompletionRequest, FinishReason
from src.simulator.process import SimulatorProcess
from src.stream_events import Finished, StreamEvent, TextDelta

from .conftest import API_FORMATS, access_to, ask, in_flight

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=API_FORMATS)
async def adapter(
    request: pytest.FixtureRequest, own_simulator: SimulatorProcess
) -> AsyncIterator[ProviderAdapter]:
    api = request.param
    made = build_adapter(access_to(api, own_simulator.base_urls[api]), 4)
    await made.warm_up()
    yield made
    await made.close()


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


async def test_a_stream_gives_the_answer_that_comes_without_one(adapter: ProviderAdapter) -> None:
    whole = await adapter.complete(ask(adapter.name))
    events = await streamed(adapter, ask(adapter.name))
    *deltas, last = events
    assert isinstance(last, Finished)
    assert len([event for event in deltas if isinstance(event, TextDelta)]) > 2
    assert text_of(events) == last.completion.text == whole.text
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


@pytest.mark.parametrize("fault", [*MIDWAY, "stream_error"])
async def test_a_stream_that_breaks_is_never_a_whole_answer(
    adapter: ProviderAdapter, faulty: SimulatorProcess, fault: str
) -> None:
    faulty.patch(adapter.name, {"faults": {fault: 1.0}, "chunk_tokens": 5})
    events: list[StreamEvent] = []
    expected = MIDWAY.get(fault, ERROR_EVENTS[adapter.name])
    with pytest.raises(expected) as raised:
        await streamed(adapter, ask(adapter.name), events)
    assert type(raised.value) is expected
    assert raised.value.sent
    assert raised.value.usage is None or fault == "no_stop_reason"  # else: uncertain
    assert raised.value.provider == adapter.name
    assert text_of(events)
    assert not any(isinstance(event, Finished) for event in events)
    assert connections(adapter)[1] == 0


@pytest.mark.parametrize("fault", AT_ONCE)
async def test_an_error_instead_of_a_stream_is_that_of_other_calls(
    adapter: ProviderAdapter, faulty: SimulatorProcess, fault: str
) -> None:
    faulty.patch(adapter.name, {"faults": {fault: 1.0}})
    with pytest.raises(ProviderError) as without:
        await adapter.complete(ask(adapter.name))
    events: list[StreamEvent] = []
    with pytest.raises(AT_ONCE[fault]) as within:
        await streamed(adapter, ask(adapter.name), events)
    assert not text_of(events)
    theirs, ours = without.value, within.value
    assert type(ours) is type(theirs)
    assert (ours.status, ours.code, ours.sent) == (theirs.status, theirs.code, theirs.sent)
    assert (ours.retry_after_s, ours.usage) == (theirs.retry_after_s, theirs.usage)
    assert connections(adapter)[1] == 0


async def test_one_byte_at_a_time_is_the_same_answer(
    adapter: ProviderAdapter, faulty: SimulatorProcess
) -> None:
    whole = await adapter.complete(ask(adapter.name, "\U0001f30a naïve “café”"))
    faulty.patch(adapter.name, {"faults": {"stream_bytes": 1.0}, "chunk_tokens": 20})
    last = (await streamed(adapter, ask(adapter.name, "\U0001f30a naïve “café”")))[-1]
    assert isinstance(last, Finished)
    assert (last.completion.text, last.completion.usage) == (whole.text, whole.usage)


async def test_an_answer_that_max_tokens_cuts_says_so(adapter: ProviderAdapter) -> None:
    last = (await streamed(adapter, ask(adapter.name, max_tokens=20)))[-1]
    assert isinstance(last, Finished)
    assert last.completion.finish_reason is FinishReason.LENGTH


async def test_max_tokens_spent_before_any_text_is_an_error_with_its_usage(
    adapter: ProviderAdapter, faulty: SimulatorProcess
) -> None:
    faulty.patch(adapter.name, {"thinking_tokens": 60})
    with pytest.raises(Truncated) as raised:
        await streamed(adapter, ask(adapter.name, max_tokens=20))
    assert raised.value.usage is not None
    assert raised.value.usage.output_tokens == 20


async def test_ten_megabytes_arrive_and_more_is_refused(
    adapter: ProviderAdapter, faulty: SimulatorProcess
) -> None:
    faulty.patch(adapter.name, {"faults": {"stream_huge": 1.0}})
    events = await streamed(adapter, ask(adapter.name, max_tokens=3_000_000, timeout_s=60.0))
    assert len(text_of(events)) == 10_000_000
    small = build_adapter(access_to(adapter.name, faulty.base_urls[adapter.name]), 4, max_answer_mb=1.0)
    with pytest.raises(InvalidResponse, match="longer than 1 MB"):
        await streamed(small, ask(adapter.name, max_tokens=3_000_000, timeout_s=60.0))
    assert connections(small) == (0, 0)
    await small.close()


async def test_a_whole_stream_returns_its_connection(
    adapter: ProviderAdapter, faulty: SimulatorProcess
) -> None:
    for _ in range(5):
        await streamed(adapter, ask(adapter.name))
        assert connections(adapter) == (1, 0)


@pytest.mark.parametrize("how", ["closed", "dropped", "cancelled"])
async def test_a_stream_that_is_left_closes_its_connection(
    adapter: ProviderAdapter, faulty: SimulatorProcess, how: str
) -> None:
    faulty.patch(adapter.name, {"latency": {"first_token_s": 0.0, "per_token_s": 0.05}, "chunk_tokens": 1})

    async def first() -> None:
        stream = adapter.stream(ask(adapter.name))
        async for event in stream:
            if isinstance(event, TextDelta):
                break
        if how == "closed":
            await stream.aclose()
        elif how == "cancelled":
            async for _ in stream:
                pass

    task = asyncio.create_task(first())
    if how == "cancelled":
        await in_flight(faulty, adapter.name, 1)
        await asyncio.sleep(0.1)
        task.cancel()
    await asyncio.wait([task])
    gc.collect()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert connections(adapter)[1] == 0
    await in_flight(faulty, adapter.name, 0)
    assert faulty.stats()[adapter.name]["aborted_streams"] == 1
