"""Streams of servers that do not stream, that end otherwise, or that compress: over real HTTP."""

from __future__ import annotations

import gzip
import json
from contextlib import aclosing
from typing import Any

import pytest

from src.errors import AuthFailed, InvalidResponse, Overloaded, ProviderError
from src.providers.base import ProviderAdapter
from src.stream_events import Finished, Passed, StreamEvent, TextDelta

from .conftest import API_FORMATS, Builder, Canned, access_to, ask
from .raw import answer_of

EVENTS = {"Content-Type": "text/event-stream; charset=utf-8"}


async def streamed(adapter: ProviderAdapter, **changes: Any) -> list[StreamEvent]:
    async with aclosing(adapter.stream(ask(adapter.name, **changes))) as events:
        return [event async for event in events]


def chunk(**fields: Any) -> bytes:
    return b"data: " + json.dumps({"id": "c", "model": "m", **fields}).encode() + b"\n\n"


TEXT = chunk(choices=[{"index": 0, "delta": {"content": "Elbe."}, "finish_reason": None}])
STOP = chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
USAGE = chunk(choices=[], usage={"prompt_tokens": 12, "completion_tokens": 3})
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize("api", API_FORMATS)
async def test_an_answer_at_once_to_a_streaming_request_is_an_answer(
    canned: Canned, adapter_for: Builder, api: str
) -> None:
    canned.body = answer_of(api)
    events = await streamed(adapter_for(access_to(api, canned.url(api))))
    assert events[0] == TextDelta("Elbe.")
    assert isinstance(events[-1], Finished)
    assert events[-1].completion.text == "Elbe."
    assert len(events) == 2


@pytest.mark.parametrize("api", API_FORMATS)
@pytest.mark.parametrize("body", [b"", b"<html>portal</html>", b": only a comment\n\n", b"data: {"], ids=repr)
async def test_a_stream_of_nothing_is_no_answer(
    canned: Canned, adapter_for: Builder, api: str, body: bytes
) -> None:
    canned.body, canned.headers = body, EVENTS
    with pytest.raises(InvalidResponse, match="cut off"):
        await streamed(adapter_for(access_to(api, canned.url(api))))


async def test_an_error_inside_a_200_is_classified_with_and_without_events(
    canned: Canned, adapter_for: Builder
) -> None:
    adapter = adapter_for(access_to("openai", canned.url("openai")))
    cases: list[tuple[dict[str, Any], type[ProviderError]]] = [
        ({"error": {"code": "server_is_overloaded", "message": "busy"}}, Overloaded),
        ({"error": {"code": "invalid_api_key", "message": "no"}}, AuthFailed),
    ]
    for body, expected in cases:
        canned.body, canned.headers = body, {}
        with pytest.raises(expected):
            await streamed(adapter)
        canned.body, canned.headers = TEXT + b"data: " + json.dumps(body).encode() + b"\n\n" + DONE, EVENTS
        with pytest.raises(expected):
            await streamed(adapter)
        canned.body = b"event: error\n" + canned.body.partition(b"\n\n")[2]
        with pytest.raises(expected):
            await streamed(adapter)


async def test_a_compatible_server_may_leave_out_the_last_event(canned: Canned, adapter_for: Builder) -> None:
    canned.body, canned.headers = TEXT + STOP + USAGE, EVENTS
    with pytest.raises(InvalidResponse, match=r"ended without \[DONE\]"):
        await streamed(adapter_for(access_to("openai", canned.url("openai"))))  # OpenAI does not
    access = access_to("openai", canned.url("openai"))
    other = adapter_for(
        type(access)(access.name, access.config, access.base_url, access.key, "MY_KEY (.env)")
    )
    last = (await streamed(other))[-1]
    assert isinstance(last, Finished)
    assert last.completion.usage.output_tokens == 3
    canned.body = TEXT + USAGE
    with pytest.raises(InvalidResponse, match="cut off"):
        await streamed(other)


async def test_what_follows_the_last_event_is_not_read(canned: Canned, adapter_for: Builder) -> None:
    canned.body, canned.headers = TEXT + STOP + USAGE + DONE + TEXT + b"data: {broken\n\n", EVENTS
    events = await streamed(adapter_for(access_to("openai", canned.url("openai"))))
    assert [type(event) for event in events] == [TextDelta, Passed, Finished]


async def test_a_compressed_stream_is_read(canned: Canned, adapter_for: Builder) -> None:
    canned.body = gzip.compress(TEXT + STOP + USAGE + DONE)
    canned.headers = {**EVENTS, "Content-Encoding": "gzip"}
    adapter = adapter_for(access_to("openai", canned.url("openai")))
    assert (await streamed(adapter))[0] == TextDelta("Elbe.")
    canned.body = b"not compressed" * 100
    with pytest.raises(InvalidResponse):
        await streamed(adapter)
