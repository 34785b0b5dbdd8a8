"""Streamed answers of direct requests: silent failover before the first event, an error after it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from src.core.relay import MANY, Relay, joined
from src.core.store import Store
from src.errors import ProviderError
from src.messages import Reasoning
from src.records import Placement, TaskStatus
from src.simulator.process import SimulatorProcess
from src.stream_events import Finished, Passed, ReasoningDelta, StreamEvent, TextDelta, ToolCallDelta

from .direct_pool import request, serving, settings_for
from .pools import new_store

LATENCY = {"first_token_s": 0.05, "per_token_s": 0.005}


@pytest.fixture
def simulator() -> Iterator[SimulatorProcess]:
    rows = {name: {"latency": LATENCY} for name in ("openai", "anthropic", "gemini")}
    with SimulatorProcess.start({"providers": rows}) as started:
        yield started


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path) as opened:
        yield opened


class Reader:
    """Keeps what it gets. `pause_s`: how long an event takes it; `fails_at`: the one that it refuses."""

    def __init__(self, pause_s: float = 0.0, fails_at: int = -1) -> None:
        self.begun: list[Placement] = []
        self.events: list[StreamEvent] = []
        self.offered = 0
        self._pause_s, self._fails_at = pause_s, fails_at

    async def begin(self, placement: Placement) -> None:
        self.begun.append(placement)

    async def send(self, event: StreamEvent) -> None:
        if len(self.events) == self._fails_at:
            raise ConnectionResetError("closed")
        self.events.append(event)
        await asyncio.sleep(self._pause_s)

    def offer(self, events: Sequence[StreamEvent]) -> bool:
        if self._pause_s or 0 <= self._fails_at <= len(self.events):
            return False
        self.offered += len(events)
        self.events.extend(events)
        return True

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))


async def test_what_is_streamed_is_the_answer(store: Store, simulator: SimulatorProcess) -> None:
    async with serving(store, simulator.base_urls, settings_for()) as served:
        reader = Reader()
        answer = await served.direct.ask(request(1), reader)
        assert reader.begun == [answer.placement]
        assert reader.text == answer.completion.text
        assert isinstance(reader.events[-1], Finished) and len(reader.events) > 3
        await served.drain()
    assert store.reports.summary("gateway").calls.cost_nanos == answer.cost_nanos


async def test_a_failure_before_the_first_event_is_silent(store: Store, simulator: SimulatorProcess) -> None:
    simulator.patch("openai", {"faults": {"server_error": 1.0}})
    async with serving(store, simulator.base_urls, settings_for()) as served:
        reader = Reader()
        answer = await served.direct.ask(request(1, providers=("openai", "anthropic")), reader)
        if answer.attempts == 1:  # anthropic had its turn first
            answer = await served.direct.ask(
                request(2, providers=("openai", "anthropic")), reader := Reader()
            )
        assert answer.attempts > 1 and answer.placement.provider == "anthropic"
        assert len(reader.begun) == 1 and reader.text == answer.completion.text
        await served.drain()
    detail = store.tasks.find("gateway", answer.task_id)
    assert detail is not None and len(detail.result.attempts) == answer.attempts


async def test_a_failure_after_the_first_event_is_the_requests_end(
    store: Store, simulator: SimulatorProcess
) -> None:
    simulator.patch("openai", {"faults": {"stream_cut": 1.0}})
    async with serving(store, simulator.base_urls, settings_for()) as served:
        reader = Reader()
        with pytest.raises(ProviderError):
            await served.direct.ask(request(1, id="cut", providers=("openai", "anthropic")), reader)
        calls = sum(each["calls"] for each in simulator.stats().values())
        assert calls == 1 and len(reader.begun) == 1 and reader.text
        assert not any(isinstance(event, Finished) for event in reader.events)
        await served.drain()
    detail = store.tasks.find("gateway", "cut")
    assert detail is not None and detail.result.status is TaskStatus.FAILED
    assert len(detail.result.attempts) == 1


@pytest.mark.parametrize("fails_at", [0, 2])
async def test_a_reader_that_has_gone_ends_the_call(
    store: Store, simulator: SimulatorProcess, fails_at: int
) -> None:
    async with serving(store, simulator.base_urls, settings_for()) as served:
        with pytest.raises(ConnectionResetError):
            await served.direct.ask(request(1), Reader(fails_at=fails_at))
        await served.drain()
        assert not served.pool.reserved_nanos
    assert store.reports.task_counts()[TaskStatus.CANCELLED] == 1
    assert store.reports.summary("gateway").calls.uncertain_nanos > 0


async def test_a_request_that_is_cancelled_while_it_streams_is_booked_as_uncertain(
    store: Store, simulator: SimulatorProcess
) -> None:
    async with serving(store, simulator.base_urls, settings_for()) as served:
        reader = Reader()
        asked = asyncio.create_task(served.direct.ask(request(1), reader))
        while len(reader.events) < 2:
            await asyncio.sleep(0.005)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        await served.drain()
    assert store.reports.task_counts()[TaskStatus.CANCELLED] == 1
    assert store.reports.summary("gateway").calls.uncertain_nanos > 0


# ------------------------------------------------------------------ the relay alone


async def events_of(events: list[StreamEvent], pause_s: float = 0.0) -> Any:
    for event in events:
        if pause_s:
            await asyncio.sleep(pause_s)
        yield event


def nothing() -> None:
    pass


async def test_many_at_once_are_joined_and_nothing_is_lost() -> None:
    pieces: list[StreamEvent] = [TextDelta(f"{n} ", b"data: %d" % n) for n in range(500)]
    reader = Reader()
    relay = Relay(reader, None, nothing)  # type: ignore[arg-type]
    await relay.relay(events_of(pieces), nothing)
    assert MANY < len(reader.events) <= MANY + 2
    assert reader.text == "".join(f"{n} " for n in range(500))
    assert b"\n\n".join(event.raw for event in reader.events) == b"\n\n".join(e.raw for e in pieces)


async def test_a_stream_at_an_even_pace_is_not_held() -> None:
    pieces: list[StreamEvent] = [TextDelta(str(n)) for n in range(10)]
    reader = Reader()
    await Relay(reader, None, nothing).relay(events_of(pieces, 0.008), nothing)  # type: ignore[arg-type]
    assert reader.events == pieces


def test_only_events_in_a_row_that_say_the_same_are_joined() -> None:
    events: list[StreamEvent] = [
        TextDelta("a"), TextDelta("b"), ReasoningDelta("r"), TextDelta("c"),
        ToolCallDelta(0, "id", "f", ""), ToolCallDelta(0, arguments="{"), ToolCallDelta(0, arguments="}"),
        ToolCallDelta(1, "id2", "g", "{}"), Passed(b"x"), Passed(b"y"),
    ]  # fmt: skip
    assert list(joined(events)) == [
        TextDelta("ab"), ReasoningDelta("r"), TextDelta("c"), ToolCallDelta(0, "id", "f", "{}"),
        ToolCallDelta(1, "id2", "g", "{}"), Passed(b"x\n\ny"),
    ]  # fmt: skip


def test_joined_reasoning_keeps_the_whole_of_each_block() -> None:
    one, two = Reasoning("1", "gemini/g", "ab"), Reasoning("2", "gemini/g", "c")
    events = [ReasoningDelta("a"), ReasoningDelta("b"), ReasoningDelta("", whole=one)]
    events += [ReasoningDelta("c"), ReasoningDelta("", whole=two)]
    assert list(joined(events)) == [ReasoningDelta("ab", whole=one), ReasoningDelta("c", whole=two)]


async def test_a_reader_that_goes_while_the_next_event_is_awaited_ends_the_stream() -> None:
    async def endless() -> Any:
        for n in range(MANY + 3):
            yield TextDelta(str(n))
        await asyncio.Event().wait()

    running: list[asyncio.Task[None]] = []
    relay = Relay(Reader(fails_at=MANY), None, lambda: running[0].cancel() and None)  # type: ignore[arg-type]
    running.append(asyncio.create_task(relay.relay(endless(), nothing)))
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running[0], 60)
    assert isinstance(relay.failure, ConnectionResetError)
