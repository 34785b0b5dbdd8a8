"""Hands the events of a streamed answer to whoever reads it.

An event goes out at once, and waits as long as its reader does. Where more than `MANY` come within `JOIN_S`,
from a fast provider or after a wait for a slow reader, the further ones are held until that time is over and
then joined: an event that is sent costs far more than one that is joined.
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
        self._now = asyncio.get_running_loop().time
        self._window_from, self._in_window = 0.0, 0
        self._held: list[StreamEvent] = []
        self._held_bytes = 0
        self._flush: asyncio.Task[None] | None = None  # sends what is held
        self.completion: Completion | None = None  # set before the last event is sent
        self.failure: Exception | None = None  # of the delivery

    async def relay(self, events: AsyncGenerator[StreamEvent, None], on_begin: Callable[[], None]) -> None:
        """Hand over all events. `on_begin`: the first one is there, so that no other call can replace this.

        Raises ReaderGone, and what `events` raises.
        """
        has_begun = False
        try:
            async with aclosing(events):
                async for event in events:
                    if not has_begun:
                        has_begun = True
                        on_begin()
                        await self._begin()
                    await self._put(event)
            await self._flushed()
        except ProviderError:
            await self._flushed()
            raise
        finally:
            if self._flush is not None:
                self._flush.cancel()

    async def _begin(self) -> None:
        try:
            await self._delivery.begin(self._placement)
        except Exception as error:  # whatever it is, nobody reads the answer
            self.failure = error
            raise ReaderGone from error

    async def _put(self, event: StreamEvent) -> None:
        is_last = False
        if isinstance(event, Finished):
            self.completion, is_last = event.completion, True
        if self._flush is None:
            now = self._now()
            if now - self._window_from >= JOIN_S:
                self._window_from, self._in_window = now, 0
            self._in_window += 1
            if self._in_window <= MANY or is_last:
                await self._send(event)
                return
            self._flush = asyncio.create_task(self._send_held(self._window_from + JOIN_S - now))
        self._held.append(event)
        self._held_bytes += _size(event)
        if is_last or self._held_bytes > HELD_BYTES:
            await self._flushed()

    async def _send(self, event: StreamEvent) -> None:
        try:
            await self._delivery.send(event)
        except Exception as error:  # see `_begin`
            self.failure = error
            raise ReaderGone from error

    async def _flushed(self) -> None:
        """Wait until nothing is held."""
        if self._flush is not None:
            await self._flush
        if self.failure is not None:
            raise ReaderGone from self.failure

    async def _send_held(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        try:
            while self._held:
                held, self._held, self._held_bytes = self._held, [], 0
                for event in joined(held):
                    await self._send(event)
        except ReaderGone:
            self._cancel()
        self._window_from, self._in_window, self._flush = self._now(), 0, None


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
