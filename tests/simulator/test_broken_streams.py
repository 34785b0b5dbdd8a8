"""Each way in which a stream breaks, for each API: what the SDKs make of it, and what had come by then."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from src.simulator import SimulatorProcess
from src.simulator.config import API_FORMATS
from src.simulator.faults import IN_A_STREAM

from .sdks import ask, finish_of, text_of
from .streams import RawStream, Streamed, stream
from .test_server import until

WHOLE = 50 * 4  # characters of an answer that max_tokens cuts


async def broken(sim: SimulatorProcess, api: str, fault: str, **more: Any) -> tuple[Streamed, str | None]:
    """What had come, and the class that the SDK raised, None where it took the stream as whole."""
    sim.patch(api, {"faults": {fault: 1.0}, "chunk_tokens": 5})
    found = Streamed()
    try:
        await stream(sim, api, found, **more)
    except Exception as error:  # noqa: BLE001 - which class it is, is what the tests check
        return found, type(error).__name__
    return found, None


# What each SDK makes of a stream that breaks in its middle. None: it notices nothing.
MIDWAY: dict[str, dict[str, str | None]] = {
    "stream_cut": {"anthropic": None, "openai": None, "gemini": "ValueError"},
    "stream_error": {"anthropic": "APIStatusError", "openai": "APIError", "gemini": None},
    "reset_midway": {
        "anthropic": "ReadError",
        "openai": "APIConnectionError",
        "gemini": "ChunkedEncodingError",
    },
    "stream_stall": {
        "anthropic": "ReadTimeout",
        "openai": "APITimeoutError",
        "gemini": "ConnectionError",
    },
    "malformed": {"anthropic": "JSONDecodeError", "openai": "JSONDecodeError", "gemini": "ValueError"},
}


@pytest.mark.parametrize(
    ("api", "fault"), [pytest.param(a, f, id=f"{a}-{f}") for f, apis in MIDWAY.items() for a in apis]
)
async def test_a_stream_that_breaks_midway_gives_half_and_no_end(
    sim: SimulatorProcess, api: str, fault: str
) -> None:
    found, raised = await broken(sim, api, fault, timeout_s=0.3 if fault == "stream_stall" else 60.0)
    assert raised == MIDWAY[fault][api]
    assert 0 < len(found.text) < WHOLE
    assert found.finish is None
    assert sim.stats()[api]["by_fault"] == {fault: 1}


@pytest.mark.parametrize("api", API_FORMATS)
async def test_a_stream_without_its_last_event_has_all_of_the_text(sim: SimulatorProcess, api: str) -> None:
    found, raised = await broken(sim, api, "stream_unterminated")
    assert len(found.text) == WHOLE
    assert raised == ("ValueError" if api == "gemini" else None)
    assert (found.finish is None) == (
        api == "gemini"
    )  # its last event is also the one that says why it ended


async def test_what_is_missing_is_the_terminator_of_each_api(raw_stream: RawStream) -> None:
    for api in API_FORMATS:
        raw_stream.sim.patch(api, {"faults": {"stream_unterminated": 1.0}})
    openai = [data for _, data in await raw_stream.events("openai")]
    assert openai[-1]["choices"][0]["finish_reason"] == "length"
    assert [name for name, _ in await raw_stream.events("anthropic")][-1] == "message_delta"
    assert all("finishReason" not in data["candidates"][0] for _, data in await raw_stream.events("gemini"))


async def test_an_error_inside_a_stream_has_the_form_of_its_api(raw_stream: RawStream) -> None:
    for api in API_FORMATS:
        raw_stream.sim.patch(api, {"faults": {"stream_error": 1.0}})
    name, data = (await raw_stream.events("anthropic"))[-1]
    assert (name, data["type"], data["error"]["type"]) == ("error", "error", "overloaded_error")
    *_, (_, data), (_, done) = await raw_stream.events("openai")
    assert (data["error"]["type"], done) == ("server_error", "[DONE]")
    _, data = (await raw_stream.events("gemini"))[-1]
    assert (data["error"]["code"], data["error"]["status"]) == (503, "UNAVAILABLE")


@pytest.mark.parametrize("api", API_FORMATS)
async def test_only_one_chunk_of_a_malformed_stream_is_broken(raw_stream: RawStream, api: str) -> None:
    raw_stream.sim.patch(api, {"faults": {"malformed": 1.0}, "chunk_tokens": 5})
    async with raw_stream.open(api) as response:
        body = await response.read()
    blocks = [b for b in body.decode().replace("\r\n", "\n").split("\n\n") if b]
    cut = [b for b in blocks if "[DONE]" not in b and not b.endswith("}")]
    assert len(cut) == 1
    assert 2 < blocks.index(cut[0]) < len(blocks) - 2


@pytest.mark.parametrize("api", API_FORMATS)
async def test_a_slow_start_sends_headers_and_then_nothing(raw_stream: RawStream, api: str) -> None:
    raw_stream.sim.patch(api, {"faults": {"stream_slow_start": 1.0}, "slow_start_s": 60})
    async with raw_stream.open(api) as response:
        assert response.status == 200
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await response.content.readany()
        response.close()
    await until(lambda: raw_stream.sim.stats()[api]["aborted_streams"] == 1)
    assert raw_stream.sim.stats()[api]["output_tokens"] == 0
    raw_stream.sim.patch(api, {"slow_start_s": 0.01})
    assert len((await stream(raw_stream.sim, api)).text) == WHOLE


@pytest.mark.parametrize("api", API_FORMATS)
async def test_one_byte_at_a_time_is_the_same_answer(sim: SimulatorProcess, api: str) -> None:
    found, raised = await broken(sim, api, "stream_bytes", prompt="\U0001f30a naïve “café”")
    assert raised is None
    sim.patch(api, {"faults": None})
    at_once = await ask(sim, api, prompt="\U0001f30a naïve “café”")
    assert (found.text, found.finish) == (text_of(api, at_once), finish_of(api, at_once))


@pytest.mark.parametrize("api", API_FORMATS)
async def test_ten_megabytes_arrive(raw_stream: RawStream, api: str) -> None:
    raw_stream.sim.patch(api, {"faults": {"stream_huge": 1.0}})
    size = 0
    async with raw_stream.open(api) as response:
        async for data in response.content.iter_any():
            size += len(data)
    assert 10_000_000 < size < 13_000_000
    assert raw_stream.sim.stats()[api]["output_tokens"] == 2_500_000


@pytest.mark.parametrize("fault", sorted(IN_A_STREAM))
async def test_faults_of_streams_leave_other_calls_alone(sim: SimulatorProcess, fault: str) -> None:
    sim.patch("openai", {"faults": {fault: 1.0}})
    assert len(text_of("openai", await ask(sim, "openai"))) == WHOLE
    assert sim.stats()["openai"]["by_fault"] == {}


async def test_a_stream_ends_with_an_error_or_an_array_of_one_where_nothing_was_said(
    raw_stream: RawStream,
) -> None:
    raw_stream.sim.patch("gemini", {"faults": {"stream_error": 1.0}, "thinking_tokens": 60})
    path = "/v1beta/models/gemini-3.8-flash:streamGenerateContent"
    async with raw_stream.open("gemini", path=path) as response:
        [error] = await response.json()
    assert error["error"]["status"] == "UNAVAILABLE"
