"""The three time limits of a stream, counted while an event is awaited.

    first_token_timeout_s   from the start until the first event with content
    stall_timeout_s         between two events, from then on
    timeout_s               from the start until the end; also counted while the reader is busy

A provider often sends events without content at once and fails only then. They are held back until content
comes, so that nothing has been delivered of a call that is replaced by another one.

One timer serves a whole stream: it is set anew only when it rings, or for an earlier time. `heard` is called
every HEARD_EVERY_S at most, when events have come, also those without content.

Once there is content, events are offered without waking the task that reads the stream: that they have come
is all that the limits need.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol

from ..errors import TimedOut
from ..records import CompletionRequest
from ..stream_events import Offer, Passed, StreamEvent, refuse

HEARD_EVERY_S = 1.0


class Stream(Protocol):
    """What opens the stream of a request: `ProviderAdapter.stream`."""

    def __call__(self, request: CompletionRequest, offer: Offer, /) -> AsyncGenerator[StreamEvent, None]:
        """The events that `offer` does not take."""
        ...


async def within_limits(
    stream: Stream,
    request: CompletionRequest,
    provider: str,
    heard: Callable[[], None] = lambda: None,
    offer: Offer = refuse,
) -> AsyncGenerator[StreamEvent, None]:
    """The events that `offer` does not take, as long as they come within the limits of `request`.

    Raises TimedOut, and what they raise. Closing this generator closes the stream.
    """
    watch = _Watch(request, heard, offer)
    events = stream(request, watch.offer)
    held: list[StreamEvent] = []
    try:
        while (event := await watch.next(events, provider)) is not None:
            if watch.has_begun:
                yield event
                continue
            held.append(event)
            if type(event) is not Passed:
                watch.has_begun = True
                for each in held:
                    yield each
    finally:
        watch.stop()
        await events.aclose()


class _Watch:
    """Cancels the wait for an event when its time is over."""

    def __init__(self, request: CompletionRequest, heard: Callable[[], None], offer: Offer) -> None:
        self.has_begun = False
        self._loop = asyncio.get_running_loop()
        self._request, self._heard, self._offer = request, heard, offer
        start = self._loop.time()
        self._tell_at = math.inf  # no event has come yet
        self._total_at = start + request.timeout_s
        self._first_at = min(self._total_at, start + _or_never(request.first_token_timeout_s))
        self._stall_s = _or_never(request.stall_timeout_s)
        self._due = math.inf
        self._task: asyncio.Task[object] | None = None  # the one that waits
        self._timer: asyncio.TimerHandle | None = None
        self._rang = False

    async def next(self, events: AsyncGenerator[StreamEvent, None], provider: str) -> StreamEvent | None:
        """The next event, None at the end."""
        now = self._loop.time()
        self._prepare(now, provider)
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a stream is read within a task")
        cancelling = task.cancelling()
        self._task = task
        try:
            event = await events.__anext__()
        except StopAsyncIteration:
            return None
        except asyncio.CancelledError as error:
            if self._rang and task.uncancel() <= cancelling:
                raise self._timed_out(provider) from error
            raise
        finally:
            self._task = None
        if self._tell_at == math.inf:
            self._tell_at = now
        if self._rang:  # both at once
            task.uncancel()
            raise self._timed_out(provider)
        return event

    def offer(self, events: Sequence[StreamEvent]) -> bool:
        """Events have come while the next one is awaited: the time that is left for that begins anew."""
        if not (self.has_begun and self._offer(events)):
            return False
        now = self._loop.time()
        self._due = min(self._total_at, now + self._stall_s)
        self._tell(now)
        return True

    def _tell(self, now: float) -> None:
        if now >= self._tell_at:
            self._tell_at = now + HEARD_EVERY_S
            self._heard()

    def _prepare(self, now: float, provider: str) -> None:
        """Before the next event is awaited: the time that is left for it."""
        self._due = min(self._total_at, now + self._stall_s) if self.has_begun else self._first_at
        if self._due <= now:
            raise self._timed_out(provider)
        self._tell(now)
        if self._timer is None or self._timer.when() > self._due:
            self._set()

    def stop(self) -> None:
        """No timer is left behind."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self) -> None:
        self.stop()
        self._timer = self._loop.call_at(self._due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._task is None:  # nothing is awaited; the next wait sets the timer
            return
        if self._loop.time() < self._due:
            self._set()
            return
        self._rang = True
        self._task.cancel()

    def _timed_out(self, provider: str) -> TimedOut:
        request = self._request
        if self._loop.time() >= self._total_at:
            text = f"no complete answer within {request.timeout_s:g} s"
        elif self.has_begun:
            text = f"the stream stalled: no event for {request.stall_timeout_s:g} s"
        else:
            text = f"no first token within {request.first_token_timeout_s:g} s"
        return TimedOut(text, provider=provider, model=request.model)


def _or_never(seconds: float | None) -> float:
    return math.inf if seconds is None else seconds
