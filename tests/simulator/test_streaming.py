"""Streamed answers: the events of each API, the same answer as at once, pace, limits and counters."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from src.simulator import SimulatorProcess
from src.simulator.config import API_FORMATS

from .sdks import ask, finish_of, text_of, usage_of
from .streams import RawStream, stream
from .test_server import until

# -- what is sent --


@pytest.mark.parametrize("max_tokens", [4_000, 7], ids=["whole", "cut at max_tokens"])
@pytest.mark.parametrize("api", API_FORMATS)
async def test_a_stream_adds_up_to_the_answer_that_is_given_at_once(
    sim: SimulatorProcess, api: str, max_tokens: int
) -> None:
    at_once = await ask(sim, api, max_tokens=max_tokens)
    found = await stream(sim, api, max_tokens=max_tokens)
    assert found.text == text_of(api, at_once)
    assert found.finish == finish_of(api, at_once)
    assert found.usage == usage_of(api, at_once)
    assert found.chunks > 1


async def test_openai_sends_the_role_then_deltas_the_end_and_done(raw_stream: RawStream) -> None:
    events = [data for _, data in await raw_stream.events("openai")]
    assert events[-1] == "[DONE]"
    deltas = [event["choices"][0]["delta"] for event in events[:-1]]
    assert deltas[0] == {"role": "assistant", "content": "", "refusal": None}
    assert all(set(delta) == {"content"} for delta in deltas[1:-1])
    assert deltas[-1] == {}
    ends = [event["choices"][0]["finish_reason"] for event in events[:-1]]
    assert ends == [None] * (len(ends) - 1) + ["length"]
    assert not any("usage" in event for event in events[:-1])
    assert {event["object"] for event in events[:-1]} == {"chat.completion.chunk"}
    assert len({event["id"] for event in events[:-1]}) == 1


async def test_openai_s_usage_comes_in_a_chunk_of_its_own_if_asked_for(raw_stream: RawStream) -> None:
    options = {"include_usage": True, "include_obfuscation": False}
    *chunks, last, done = [data for _, data in await raw_stream.events("openai", stream_options=options)]
    assert done == "[DONE]"
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 50
    assert all(chunk["usage"] is None for chunk in chunks)
    assert not any("obfuscation" in chunk for chunk in chunks)


async def test_anthropic_s_events_are_named_and_nested(raw_stream: RawStream) -> None:
    events = await raw_stream.events("anthropic")
    assert all(name == data["type"] for name, data in events)
    names = [name for name, _ in events]
    assert names[:3] == ["message_start", "content_block_start", "ping"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(names[3:-3]) == {"content_block_delta"}
    opened = events[0][1]["message"]
    assert (opened["content"], opened["stop_reason"], opened["usage"]["output_tokens"]) == ([], None, 1)
    assert events[1][1]["content_block"] == {"type": "text", "text": ""}
    assert {data["index"] for _, data in events[3:-2]} == {0}
    assert events[-2][1]["delta"]["stop_reason"] == "max_tokens"
    assert events[-2][1]["usage"]["output_tokens"] == 50


async def test_gemini_streams_events_or_one_array_of_the_same(raw_stream: RawStream) -> None:
    events = [data for _, data in await raw_stream.events("gemini")]
    path = "/v1beta/models/gemini-3.8-flash:streamGenerateContent"
    async with raw_stream.open("gemini", path=path) as response:
        assert response.headers["Content-Type"] == "application/json; charset=UTF-8"
        array = json.loads(await response.read())
    said = [[event["candidates"], event["usageMetadata"]] for event in events]
    assert said == [[event["candidates"], event["usageMetadata"]] for event in array]
    ends = [event["candidates"][0].get("finishReason") for event in events]
    assert ends == [None] * (len(ends) - 1) + ["MAX_TOKENS"]
    counts = [event["usageMetadata"]["candidatesTokenCount"] for event in events]
    assert counts == sorted(counts)
    assert counts[-1] == 50


async def test_the_sdks_own_collectors_of_streams_agree_with_it(sim: SimulatorProcess) -> None:
    import anthropic
    import openai

    settings: dict[str, Any] = {"api_key": "k", "max_retries": 0}
    no_tls: Any = {"verify": False}  # plain HTTP: loading certificates takes longer than the calls
    request: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Why?"}]}
    async with anthropic.AsyncAnthropic(
        base_url=sim.base_urls["anthropic"],
        **settings,
        http_client=anthropic.DefaultAsyncHttpxClient(**no_tls),
    ) as claude:
        async with claude.messages.stream(max_tokens=400, **request) as events:
            message = await events.get_final_message()
        at_once = await claude.messages.create(max_tokens=400, **request)
        assert [block.text for block in message.content] == [block.text for block in at_once.content]
        assert (message.stop_reason, message.usage) == (at_once.stop_reason, at_once.usage)
    async with openai.AsyncOpenAI(
        base_url=sim.base_urls["openai"], **settings, http_client=openai.DefaultAsyncHttpxClient(**no_tls)
    ) as gpt:
        async with gpt.chat.completions.stream(max_completion_tokens=400, **request) as chunks:
            completion = await chunks.get_final_completion()
        again = await gpt.chat.completions.create(max_completion_tokens=400, **request)
        assert completion.choices[0].message.content == again.choices[0].message.content


async def test_chunks_are_as_long_as_configured(sim: SimulatorProcess) -> None:
    sim.patch("openai", {"chunk_tokens": 25})
    found = await stream(sim, "openai", max_tokens=50)
    assert found.chunks == 1 + 2 + 1 + 1  # role, deltas, end, usage


# -- pace --


async def test_tokens_come_at_the_pace_of_the_configuration(raw_stream: RawStream) -> None:
    raw_stream.sim.patch(
        "openai", {"latency": {"first_token_s": 0.2, "per_token_s": 0.01, "jitter": 0}, "chunk_tokens": 10}
    )
    began = time.monotonic()
    async with raw_stream.open("openai") as response:
        arrivals = [time.monotonic() - began async for line in response.content if b'"content"' in line]
    # the role with the first token, then five deltas of ten tokens; nothing comes before it is due
    assert len(arrivals) == 6
    due = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert all(at >= when - 0.01 for at, when in zip(arrivals, due, strict=True))


# -- limits and counters --


@pytest.mark.parametrize("api", API_FORMATS)
async def test_a_stream_is_limited_and_counted_like_any_call(raw_stream: RawStream, api: str) -> None:
    raw_stream.sim.patch(api, {"limits": {"requests_per_minute": 30, "burst_s": 20}})

    async def status() -> int:
        async with raw_stream.open(api) as response:
            await response.read()
            return int(response.status)

    statuses = await asyncio.gather(*(status() for _ in range(15)))
    assert (statuses.count(200), statuses.count(429)) == (10, 5)
    stats = raw_stream.sim.stats()[api]
    assert stats["by_status"] == {"200": 10, "429": 5}
    assert (stats["streams"], stats["aborted_streams"], stats["in_flight"]) == (10, 0, 0)
    assert stats["output_tokens"] == 10 * 50
    assert stats["answered_duplicates"] == 9


@pytest.mark.parametrize("api", API_FORMATS)
async def test_a_stream_that_the_client_leaves_is_charged_as_far_as_it_was_sent(
    raw_stream: RawStream, api: str
) -> None:
    pace = {"first_token_s": 0, "per_token_s": 0.05, "jitter": 0}
    raw_stream.sim.patch(api, {"latency": pace, "chunk_tokens": 1})
    async with raw_stream.open(api) as response:
        async for line in response.content:
            if b"text" in line or b"content" in line:
                break
        response.close()
    await until(lambda: raw_stream.sim.stats()[api]["in_flight"] == 0)
    stats = raw_stream.sim.stats()[api]
    assert stats["by_status"] == {"gone": 1}
    assert (stats["streams"], stats["aborted_streams"]) == (1, 1)
    assert stats["output_tokens"] < 25


@pytest.mark.parametrize("api", API_FORMATS)
async def test_errors_before_a_stream_are_those_of_any_call(sim: SimulatorProcess, api: str) -> None:
    sim.patch(api, {"faults": {"overloaded": 1.0}})
    with pytest.raises(Exception) as raised:
        await stream(sim, api)
    assert int(getattr(raised.value, "status_code", 0) or raised.value.code) in (503, 529)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("api", "more"),
    [
        pytest.param("openai", {"stream": "yes"}, id="openai: words"),
        pytest.param("anthropic", {"stream": 1}, id="anthropic: a number"),
        pytest.param("openai", {"stream": False, "stream_options": {}}, id="options without a stream"),
        pytest.param("openai", {"stream_options": {"include_costs": True}}, id="unknown option"),
    ],
)
async def test_a_wrong_wish_for_a_stream_is_refused(
    raw_stream: RawStream, api: str, more: dict[str, Any]
) -> None:
    async with raw_stream.open(api, **more) as response:
        assert response.status == 400
        assert (await response.json())["error"]["type"] == "invalid_request_error"
