"""Streams of an agent: three time limits, what is held back, and what closing leaves behind."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from src.agents.real_agent import RealAgent
from src.agents.stream_limits import within_limits
from src.config import load_settings
from src.errors import ProviderError, SchemaMismatch, TimedOut, Unreachable
from src.messages import Message, ToolCall
from src.records import (
    Completion,
    CompletionRequest,
    FinishReason,
    Placement,
    Task,
    Usage,
)
from src.stream_events import Finished, Offer, Passed, StreamEvent, TextDelta, ToolCallDelta, refuse
from tests.core.virtual_time import VirtualLoop, run_virtually

PING, TEXT = Passed(b""), TextDelta("a")
END = Finished(Completion("aaa", FinishReason.STOP, Usage(), "m"))
Step = tuple[float, StreamEvent | Exception]  # seconds before it, and what comes


class Paced:
    """The stream of an adapter. `closed` says whether it was left, with or without its end."""

    def __init__(self, *steps: Step) -> None:
        self.steps = steps
        self.closed = False

    async def stream(
        self, request: CompletionRequest, offer: Offer = refuse
    ) -> AsyncGenerator[StreamEvent, None]:
        try:
            for seconds, event in self.steps:
                await asyncio.sleep(seconds)
                if isinstance(event, Exception):
                    raise event
                if isinstance(event, Finished) or not offer((event,)):
                    yield event
        finally:
            self.closed = True


def limited(
    total_s: float = 100.0, first_s: float | None = 10.0, stall_s: float | None = 5.0
) -> CompletionRequest:
    limits: Any = {"timeout_s": total_s, "first_token_timeout_s": first_s, "stall_timeout_s": stall_s}
    return CompletionRequest("m", (Message("user", "Hi"),), 9, **limits)


def read(
    paced: Paced, request: CompletionRequest, reader_s: float = 0.0, *, offered: bool = False
) -> tuple[list[StreamEvent], ProviderError | None, float]:
    """What came, the error if there was one, and the seconds that it took."""

    async def job(loop: VirtualLoop) -> tuple[list[StreamEvent], ProviderError | None, float]:
        found: list[StreamEvent] = []
        raised = None

        def offer(events: Sequence[StreamEvent]) -> bool:
            assert found, "nothing is offered before there is content"
            found.extend(events)
            return True

        more: Any = {"offer": offer} if offered else {}
        try:
            async for event in within_limits(paced.stream, request, "openai", **more):
                found.append(event)
                assert not (offered and len(found) > 3 and event == TEXT), "not offered"
                await asyncio.sleep(reader_s)
        except ProviderError as error:
            raised = error
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        assert not [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        return found, raised, loop.time()

    return run_virtually(job)


CASES: dict[str, tuple[Sequence[Step], Any, str, float]] = {
    "in time": ([(9, TEXT), (4, TEXT), (4.9, END)], limited(), "", 17.9),
    "first": ([(11, TEXT), (0, END)], limited(), "no first token within 10 s", 10),
    "pings are no token": ([(4, PING), (4, PING), (4, TEXT)], limited(), "no first token within 10 s", 10),
    "stall": ([(1, TEXT), (6, END)], limited(), "the stream stalled: no event for 5 s", 6),
    "pings are a sign of life": ([(1, TEXT), (4, PING), (4, PING), (4, END)], limited(), "", 13),
    "stall between pings": ([(1, TEXT), (4, PING), (6, END)], limited(), "stalled: no event for 5 s", 10),
    "total": ([(2, TEXT)] * 60, limited(20.0), "no complete answer within 20 s", 20),
    "total before the first": ([(9, TEXT)], limited(3.0), "no complete answer within 3 s", 3),
    "only the total": ([(60, TEXT), (30, END)], limited(100.0, None, None), "", 90),
    "nothing at all": ([(1000, END)], limited(100.0, None, None), "no complete answer within 100 s", 100),
}


@pytest.mark.parametrize("offered", [False, True], ids=["yielded", "offered"])
@pytest.mark.parametrize(("steps", "request_", "message", "at"), CASES.values(), ids=CASES)
def test_each_limit_ends_a_stream(
    steps: Sequence[Step], request_: CompletionRequest, message: str, at: float, *, offered: bool
) -> None:
    paced = Paced(*steps)
    found, raised, seconds = read(paced, request_, offered=offered)
    assert seconds == pytest.approx(at)
    assert paced.closed
    if message:
        assert isinstance(raised, TimedOut)
        assert message in str(raised)
        assert (raised.provider, raised.model, raised.sent) == ("openai", "m", True)
    else:
        assert raised is None
        assert found == [event for _, event in steps]


def test_a_slow_reader_is_no_stall_but_counts_in_the_total() -> None:
    steps = [(1.0, TEXT)] * 5 + [(1.0, END)]
    assert read(Paced(*steps), limited(), reader_s=12.0)[1] is None
    found, raised, _ = read(Paced(*steps), limited(30.0), reader_s=12.0)
    assert len(found) == 3
    assert "no complete answer within 30 s" in str(raised)


def test_nothing_is_delivered_before_there_is_content() -> None:
    broken = Unreachable("reset", provider="openai")
    found, raised, _ = read(Paced((0, PING), (1, PING), (1, broken)), limited())
    assert (found, raised) == ([], broken)
    found, raised, _ = read(Paced((0, PING), (1, PING), (1, TEXT), (1, broken)), limited())
    assert (found, raised) == ([PING, PING, TEXT], broken)


def test_a_limit_does_not_hide_a_cancellation() -> None:
    async def job(loop: VirtualLoop) -> None:
        async def reading() -> None:
            request = limited(first_s=5.0)
            async for _ in within_limits(Paced((1000, TEXT)).stream, request, "openai"):
                pass

        task = asyncio.create_task(reading())
        loop.call_at(5.0, task.cancel)  # at the same moment as the limit
        with pytest.raises(asyncio.CancelledError):
            await task

    run_virtually(job)


def test_one_timer_serves_a_stream_of_many_events() -> None:
    async def job(loop: VirtualLoop) -> int:
        made = 0
        call_at = loop.call_at

        def counted(*args: Any, **more: Any) -> Any:
            nonlocal made
            made += 1
            return call_at(*args, **more)

        request = limited(total_s=1000.0)
        stream = within_limits(Paced(*[(0, TEXT)] * 10_000, (0, END)).stream, request, "openai")
        loop.call_at = counted  # type: ignore[method-assign]
        assert [event async for event in stream][-1] == END
        return made

    assert run_virtually(job) <= 3


def test_events_are_heard_about_each_second_also_those_without_content() -> None:
    async def job(loop: VirtualLoop) -> list[float]:
        heard: list[float] = []
        steps = [(0.1, PING)] * 40 + [(0.1, TEXT)] * 40 + [(0.1, END)]
        stream = within_limits(Paced(*steps).stream, limited(), "openai", lambda: heard.append(loop.time()))
        async for _ in stream:
            pass
        return heard

    heard = run_virtually(job)
    assert len(heard) == 8
    assert all(0.95 <= later - earlier <= 1.2 for earlier, later in itertools.pairwise(heard))


# -- through an agent --

SETTINGS = load_settings(environ={})
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def placement(**task: Any) -> Placement:
    asked = Task("t", "b", (Message("user", "Hi"),), **task)
    return Placement(
        1, asked, "openai", "gpt-6-luna", "g", "economy", "a", 100, "weighted", (), 0.0, 50.0, 1
    )  # fmt: skip


def through_an_agent(paced: Paced, **task: Any) -> list[StreamEvent]:
    async def job(_: VirtualLoop) -> list[StreamEvent]:
        adapters: Any = {"openai": paced}
        agent = RealAgent("a", SETTINGS.agents[0], adapters, SETTINGS)
        return [event async for event in agent.stream(placement(**task), lambda: None)]

    return run_virtually(job)


def finished(text: str, *parts: Any, reason: FinishReason = FinishReason.STOP) -> Finished:
    return Finished(Completion(text, reason, Usage(), "m", parts=parts))


def test_an_agent_streams_within_the_limits_of_its_provider() -> None:
    provider = SETTINGS.providers["openai"]
    with pytest.raises(TimedOut, match="no complete answer within 50 s"):
        through_an_agent(Paced((1000, TEXT)))
    with pytest.raises(TimedOut, match=f"no event for {provider.stall_timeout_s:g} s"):
        through_an_agent(Paced((1, TEXT), (31, END)))
    assert through_an_agent(Paced((1, TEXT), (1, END))) == [TEXT, END]


def test_json_is_delivered_once_it_matches() -> None:
    text = '```json\n{"city": "Oslo"}\n```'
    found = through_an_agent(Paced((0, TextDelta(text)), (0, finished(text))), response_schema=CITY)
    assert [type(event) for event in found] == [TextDelta, Finished]
    assert found[0] == TextDelta('{"city": "Oslo"}')
    with pytest.raises(SchemaMismatch):
        through_an_agent(Paced((0, TextDelta("{}")), (0, finished("{}"))), response_schema=CITY)


def test_calls_instead_of_json_are_delivered() -> None:
    call = ToolCall("c1", "get", "{}")
    paced = Paced((0, ToolCallDelta(0, "c1", "get", "{}")), (0, finished("", call, reason=FinishReason.TOOL)))
    found = through_an_agent(paced, response_schema=CITY)
    assert found[0] == ToolCallDelta(0, "c1", "get", "{}")


def test_what_a_provider_gets_as_its_caller_wrote_it_is_not_held() -> None:
    events = [TextDelta("{", b"data: 1"), TextDelta("}", b"data: 2"), finished("{}")]
    found = through_an_agent(Paced(*((0, event) for event in events)), response_schema=CITY)
    assert found == events


@pytest.mark.parametrize("how", ["closed", "dropped", "cancelled"])
def test_leaving_an_agents_stream_closes_the_providers(how: str) -> None:
    paced = Paced((1, TEXT), (1, TEXT), (20, END))

    async def job(_: VirtualLoop) -> None:
        adapters: Any = {"openai": paced}
        stream = RealAgent("a", SETTINGS.agents[0], adapters, SETTINGS).stream(placement(), lambda: None)

        async def reading() -> None:
            async with aclosing(stream) if how == "closed" else Open():
                async for _ in stream:
                    if how != "cancelled":
                        break

        task = asyncio.create_task(reading())
        await asyncio.sleep(5)
        if how == "cancelled":
            task.cancel()
        await asyncio.wait([task])

    run_virtually(job)
    assert paced.closed


class Open:
    """A context that does nothing."""

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


def test_a_stream_may_last_until_the_deadline_of_its_task() -> None:
    steps = [(1.0, TEXT)] * 80 + [(0.0, END)]
    assert through_an_agent(Paced(*steps), deadline_at=100.0)[-1] == END
    with pytest.raises(TimedOut, match="no complete answer within 60 s"):
        through_an_agent(Paced(*steps), deadline_at=60.0)
    with pytest.raises(TimedOut, match="no complete answer within 50 s"):
        through_an_agent(Paced(*steps))
