"""Relays the events of a streamed answer to its reader.

An event goes out at once, and waits as long as its reader does. Where more than `MANY` come within `JOIN_S`,
from a fast provider or after a wait for a slow reader, the further ones are held until that time is over and
then joined: an event that is sent costs far more than one that is joined.

    offered --fast reader--> sent            the task that relays sleeps meanwhile
       |  +---too many-----> held --JOIN_S--> sent
       +------slow reader--> yielded to that task, which waits

Events come in one order: none is offered while the task has one in its hands.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing

from ..errors import ProviderError
from ..records import Completion, Placement
from ..stream_events import Finished, Passed, ReasoningDelta, StreamEvent, TextDelta, ToolCallDelta
from .open_requests import Delivery

JOIN_S = 0.02
MANY = 4
HELD_BYTES = 65_536  # may be held at most: then the provider has to wait as well
_BETWEEN = b"\n\n"  # two server-sent events


class ReaderGone(Exception):
    """The delivery has failed, with the error in `Relay.failure`."""


class Relay:
    """The way of one answer to its reader.

    `cancel` cancels the task that runs `relay`: its reader may go while the next event is awaited.
    """

    def __init__(self, delivery: Delivery, placement: Placement, cancel: Callable[[], None]) -> None:
        self._delivery, self._placement, self._cancel = delivery, placement, cancel
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time
        self._has_begun = False
        self._window_from, self._in_window = 0.0, 0
        self._held: list[StreamEvent] = []
        self._held_bytes = 0
        self._timer: asyncio.TimerHandle | None = None  # when what is held is due
        self._flush: asyncio.Task[None] | None = None  # sends it, since the reader is slow
        self.completion: Completion | None = None  # set before the last event is sent
        self.failure: Exception | None = None  # of the delivery

    async def relay(self, events: AsyncGenerator[StreamEvent, None], on_begin: Callable[[], None]) -> None:
        """Hand over all events. `on_begin`: the first one is there, so that no other call can replace this.

        Raises ReaderGone, and what `events` raises.
        """
        try:
            async with aclosing(events):
                async for event in events:
                    if not self._has_begun:
                        on_begin()
                        await self._begin()
                        self._has_begun = True
                    await self._put(event)
            await self._flushed()
        except ProviderError:
            await self._flushed()
            raise
        finally:
            self._stop_timer()
            if self._flush is not None:
                self._flush.cancel()

    def offer(self, events: Sequence[StreamEvent]) -> bool:
        """The next events, as an `Offer`: taken unless they have to wait for the reader."""
        if not self._has_begun or self._held_bytes > HELD_BYTES or self.failure is not None:
            return False
        if not self._may_go():
            self._hold(events)
            return True
        return self._offered(events)

    async def _begin(self) -> None:
        try:
            await self._delivery.begin(self._placement)
        except Exception as error:  # whatever it is, the answer has lost its reader
            self.failure = error
            raise ReaderGone from error

    async def _put(self, event: StreamEvent) -> None:
        is_last = False
        if isinstance(event, Finished):
            self.completion, is_last = event.completion, True
        if self._may_go() or (is_last and not self._holds):
            await self._send(event)
            return
        self._hold((event,))
        if is_last or self._held_bytes > HELD_BYTES:
            await self._flushed()

    @property
    def _holds(self) -> bool:
        return self._timer is not None or self._flush is not None

    def _may_go(self) -> bool:
        """Whether the next event goes out at once."""
        if self._holds:
            return False
        now = self._now()
        if now - self._window_from >= JOIN_S:
            self._window_from, self._in_window = now, 0
        self._in_window += 1
        return self._in_window <= MANY

    def _hold(self, events: Sequence[StreamEvent]) -> None:
        self._held.extend(events)
        self._held_bytes += sum(map(_size, events))
        if not self._holds:
            self._timer = self._loop.call_at(self._window_from + JOIN_S, self._is_due)

    def _take_held(self) -> list[StreamEvent]:
        held, self._held, self._held_bytes = self._held, [], 0
        return held

    def _is_due(self) -> None:
        self._timer = None
        if self._offered(self._held):
            self._take_held()
            self._restart()
        else:
            self._flush = asyncio.create_task(self._send_held())

    def _restart(self) -> None:
        self._window_from, self._in_window = self._now(), 0

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _offered(self, events: Sequence[StreamEvent]) -> bool:
        try:
            return self._delivery.offer(list(joined(events)) if len(events) > 1 else events)
        except Exception as error:  # noqa: BLE001 - see `_begin`; the task that relays raises ReaderGone
            self.failure = error
            return False

    async def _send(self, event: StreamEvent) -> None:
        if self.failure is not None:
            raise ReaderGone from self.failure
        try:
            await self._delivery.send(event)
        except Exception as error:  # see `_begin`
            self.failure = error
            raise ReaderGone from error

    async def _flushed(self) -> None:
        """Wait until nothing is held."""
        if self._flush is not None:
            await self._flush
        self._stop_timer()
        await self._send_all()

    async def _send_all(self) -> None:
        while self._held:
            for event in joined(self._take_held()):
                await self._send(event)
        if self.failure is not None:
            raise ReaderGone from self.failure

    async def _send_held(self) -> None:
        try:
            await self._send_all()
        except ReaderGone:
            self._cancel()
        self._restart()
        self._flush = None


def joined(events: Sequence[StreamEvent]) -> Iterator[StreamEvent]:
    """The events, with those in a row that say the same kind of thing as one."""
    alike: list[StreamEvent] = []
    for event in events:
        if alike and not _continues(alike[-1], event):
            yield _one(alike)
            alike = []
        alike.append(event)
    if alike:
        yield _one(alike)


def _continues(last: StreamEvent, event: StreamEvent) -> bool:
    if isinstance(last, ToolCallDelta):
        return isinstance(event, ToolCallDelta) and event.number == last.number
    if isinstance(last, ReasoningDelta) and last.whole is not None:
        return False  # the end of its block
    return type(last) is type(event) and not isinstance(event, Finished)


def _one(alike: list[StreamEvent]) -> StreamEvent:
    """Events of one kind as one."""
    first = alike[0]
    if len(alike) == 1:
        return first
    raw = _BETWEEN.join(event.raw for event in alike if event.raw)
    last = alike[-1]
    if isinstance(last, TextDelta | ReasoningDelta):  # of reasoning, the last may have the whole block
        return last._replace(text="".join(map(_text, alike)), raw=raw)
    if isinstance(first, ToolCallDelta):
        return first._replace(arguments="".join(map(_text, alike)), raw=raw)
    return Passed(raw)


def _text(event: StreamEvent) -> str:
    if isinstance(event, TextDelta | ReasoningDelta):
        return event.text
    return event.arguments if isinstance(event, ToolCallDelta) else ""


def _size(event: StreamEvent) -> int:
    return len(event.raw) + len(_text(event))
