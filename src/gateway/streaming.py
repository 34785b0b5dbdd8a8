"""An answer as a stream of server-sent events.

The status waits for the first event, up to `TimeLimits.status_s`, so that an early error is an HTTP error.
Then it is 200, and what comes later is an event: keep-alives while nothing else is sent, the answer, or the
API's error event; at the end a comment with provider and cost. Nothing is buffered beyond the connection's
own buffer, so a slow reader slows down the provider; a client that goes away ends its call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiohttp import web

from ..core.direct import DirectAnswer
from ..errors import ProviderError, RequestDeclined
from ..records import Placement
from ..stream_events import StreamEvent
from .answers import id_headers
from .asked import Asked, answer_headers, placement_headers
from .context import CONTEXT
from .formats.base import StreamWriter
from .problems import problem

if TYPE_CHECKING:
    from ..core.orchestrator import Orchestrator

OFFERED_BYTES = 32 * 1024  # may wait in a connection when more is offered: half of what pauses its writers


class Stream:
    """One streamed answer; a `Delivery` of the pool."""

    def __init__(self, request: web.Request, asked: Asked) -> None:
        self._request, self._asked = request, asked
        self._times = request.app[CONTEXT].times
        self._writer: StreamWriter = asked.format.stream(asked.request, asked.served(asked.request.model))
        self._response: web.StreamResponse | None = None
        self._begun = asyncio.Event()
        self._sent_at = 0.0
        self._has_written = self._is_chunked = False  # the former: aiohttp has sent the headers
        self._now = asyncio.get_running_loop().time

    async def run(self, pool: Orchestrator) -> web.StreamResponse:
        """Ask the pool and stream its answer. Raises what ends the request before its status is sent."""
        asked = self._asked
        key = asked.options.idempotency_key
        asking = asyncio.create_task(pool.direct.ask(asked.task, self, run=asked.run, idempotency_key=key))
        try:
            await self._status_due(asking)
            if self._response is None:
                if asking.done():
                    asking.result()  # raises what ended the request: an answer would have begun
                await self._open({})
            await self._finish(asking)
        finally:
            # Also where it has ended: a client that goes away may end it before it cancels this.
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        if self._response is None:
            raise RuntimeError("a stream ends after it was opened")
        return self._response

    # ------------------------------------------------------------------ Delivery

    async def begin(self, placement: Placement) -> None:
        """The first event is there: the status is 200, with all that is known of the answer."""
        asked = self._asked
        self._writer = asked.format.stream(asked.request, asked.served(placement.model))
        waited_s = max(0.0, placement.at - asked.task.created_at)
        if self._response is None:
            headers = placement_headers(asked, placement, placement.attempt, waited_s)
            await self._open(headers)
        self._begun.set()

    async def send(self, event: StreamEvent) -> None:
        """The next event; waits while the reader is slow."""
        await self._write(self._writer.event(event))

    def offer(self, events: Sequence[StreamEvent]) -> bool:
        """The next events, where the connection takes them without a wait."""
        transport = self._free_transport()
        if transport is None or not self._has_written:
            return False
        content = b"".join(map(self._writer.event, events))
        if content:
            self._sent_at = self._now()
            # As aiohttp's writer does, which takes 8 us more for each.
            transport.write(b"%x\r\n%b\r\n" % (len(content), content) if self._is_chunked else content)
        return True

    # ------------------------------------------------------------------ inside

    async def _status_due(self, asking: asyncio.Task[DirectAnswer]) -> None:
        begun = asyncio.create_task(self._begun.wait())
        try:
            await asyncio.wait(
                {asking, begun}, timeout=self._times.status_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            begun.cancel()

    async def _finish(self, asking: asyncio.Task[DirectAnswer]) -> None:
        """Keep the connection open until the answer has ended, and write its end."""
        while not asking.done():
            due_s = self._sent_at + self._times.keep_alive_s - self._now()
            if due_s <= 0:
                await self._write(self._writer.keep_alive())
                continue
            await asyncio.wait({asking}, timeout=due_s)
        try:
            answer = asking.result()
        except (RequestDeclined, ProviderError) as error:
            await self._write(self._writer.error(problem(error)))
        else:
            await self._write(self._writer.end(_comment(self._asked, answer)))
        if self._response is not None:
            await self._response.write_eof()

    async def _open(self, headers: dict[str, str]) -> None:
        context = self._request.app[CONTEXT]
        response = web.StreamResponse(
            headers={
                "content-type": "text/event-stream; charset=utf-8",
                "cache-control": "no-cache",
                "x-accel-buffering": "no",  # nginx would collect the events
                "x-orchestrator-task-id": self._asked.task.id,
                **headers,
                **id_headers(self._request),
                **context.guard.cors(self._request),
            }
        )
        await response.prepare(self._request)
        self._response, self._sent_at = response, self._now()
        self._is_chunked = response.headers.get("transfer-encoding", "") == "chunked"

    def _free_transport(self) -> asyncio.Transport | None:
        """The connection, if a write can't block now."""
        protocol = self._request.protocol
        transport = protocol.transport
        if transport is None or transport.is_closing() or protocol.writing_paused:
            return None
        return transport if transport.get_write_buffer_size() < OFFERED_BYTES else None

    async def _write(self, content: bytes) -> None:
        """Raises ConnectionResetError once the client has gone."""
        if content and self._response is not None:
            self._sent_at = self._now()
            await self._response.write(content)
            self._has_written = True


def _comment(asked: Asked, answer: DirectAnswer) -> str:
    """`provider=openai model=... cost-usd=... attempts=1 waited-ms=3 task-id=...`."""
    pairs = answer_headers(asked, answer).items()
    return " ".join(
        f"{name.removeprefix('x-orchestrator-')}={value.replace(' ', '')}" for name, value in pairs
    )
