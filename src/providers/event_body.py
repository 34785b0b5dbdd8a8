"""The body of a stream of server-sent events, between a connection and the task that reads it.

    connection --received--> undecided --pump--> open --last chunk, or the end--> handed over to aiohttp
                                 +-----hand_over------------------------------------^

A chunk of a few letters must not cost more than itself. So its content goes to a function at once, in the
callback in which it was received: the task that waits for the answer wakes only where that function has had
enough. Ends and faults are left to aiohttp, whose parser gets the last chunk and whatever is odd.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from .chunks import Chunks
from .network import AnswerTooLarge

HELD_BYTES = 256 * 1024  # then the server has to wait

Take = Callable[[bytes], bool]
"""Gets content; False: no more for now."""


class EventBody:
    """One body. `to_aiohttp` takes what is not read here; `transport` is the connection's."""

    def __init__(self, transport: Any, to_aiohttp: Callable[[bytes], None]) -> None:
        self._transport, self._to_aiohttp = transport, to_aiohttp
        self._chunks = Chunks()
        self._raw: list[bytes] | None = []  # until it is decided who reads it
        self._content: list[bytes] = []
        self._held_bytes = 0
        self._is_paused = False
        self._bytes = self._most_bytes = 0  # of content so far, and as many as there may be
        self._take: Take | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.is_over = False  # the rest of the body is aiohttp's

    def received(self, data: bytes) -> None:
        """Bytes from the connection."""
        if self._raw is not None:
            self._raw.append(data)
            return
        content = self._chunks.feed(data)
        if content:
            self._bytes += len(content)
            if self._take is None:
                self._hold(content)
            elif self._bytes > self._most_bytes:
                self._wake()
            elif not self._take(content):
                self._take = None
                self._wake()
        if not self._chunks.is_plain:
            self.hand_over()

    def _open(self, raw: list[bytes]) -> None:
        self._raw = None
        for data in raw:
            (self._to_aiohttp if self.is_over else self.received)(data)

    def hand_over(self) -> None:
        """Leave the rest to aiohttp. No effect the second time."""
        if self.is_over:
            return
        self.is_over = True
        rest = self._chunks.rest() if self._raw is None else b"".join(self._raw)
        self._resume()
        if rest:
            self._to_aiohttp(rest)
        self._wake()

    async def pump(self, take: Take, most_bytes: int) -> bool:
        """Give the content to `take` until that returns False, and return True; False: the rest is aiohttp's.

        `take` must not raise. Raises AnswerTooLarge for more than `most_bytes`.
        """
        self._most_bytes = most_bytes
        if self._raw is not None and not self.is_over:
            self._open(self._raw)
        while True:
            if self._bytes > most_bytes:
                raise AnswerTooLarge(most_bytes)
            while self._content:
                content, self._content, self._held_bytes = b"".join(self._content), [], 0
                self._resume()
                if not take(content):
                    return True
            if self.is_over:
                return False
            if not await self._received_by(take):
                return True

    async def _received_by(self, take: Take) -> bool:
        """Until it is over, or `take` returns False."""
        self._take, self._waiter = take, asyncio.get_running_loop().create_future()
        try:
            await self._waiter
            return self._take is not None
        finally:
            self._take = self._waiter = None

    def _hold(self, content: bytes) -> None:
        self._content.append(content)
        self._held_bytes += len(content)
        if self._held_bytes > HELD_BYTES and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
