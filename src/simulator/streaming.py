"""Streams: answers that are sent piece by piece at the pace of the configuration, and how they break."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator

from aiohttp import web

from .shapes import Frame

_FLUSH_BYTES = 65_536  # frames that are due together are joined up to this


class Pace:
    """When each token is due: the first `first_s` after the start, then one every `token_s` seconds."""

    def __init__(self, first_s: float, token_s: float) -> None:
        self._token_s = token_s
        self._first_at = time.monotonic() + first_s

    def wait_s(self, tokens: int) -> float:
        """Seconds until that many tokens have been produced."""
        return self._first_at + self._token_s * tokens - time.monotonic()


class StreamWriter:
    """Writes the frames of one answer. `tokens` is what has been produced by what was written."""

    def __init__(self, response: web.StreamResponse, pace: Pace) -> None:
        self.tokens = 0
        self.response = response
        self._pace = pace
        self._due: list[bytes] = []
        self._due_bytes = 0

    async def first_token(self) -> None:
        """Wait until the first token is due."""
        wait_s = self._pace.wait_s(0)
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    async def write(self, frames: Iterable[Frame], *, byte_by_byte: bool = False) -> None:
        """Write each frame when it is due. Raises OSError where the client has left."""
        for frame in frames:
            wait_s = self._pace.wait_s(frame.tokens)
            if wait_s > 0:
                await self._flush()
                await asyncio.sleep(wait_s)
            self.tokens = frame.tokens
            if byte_by_byte:
                await self._write_bytes(frame.data)
                continue
            self._due.append(frame.data)
            self._due_bytes += len(frame.data)
            if self._due_bytes >= _FLUSH_BYTES:
                await self._flush()
        await self._flush()

    async def _flush(self) -> None:
        if self._due:
            data = b"".join(self._due)
            self._due, self._due_bytes = [], 0
            await self.response.write(data)

    async def _write_bytes(self, data: bytes) -> None:
        for i in range(len(data)):
            await self.response.write(data[i : i + 1])
            await asyncio.sleep(0)  # a segment of its own


# -- broken streams --


def half(frames: Iterable[Frame]) -> list[Frame]:
    """The frames that open a stream and the first half of its content, but at least a piece of it."""
    whole = list(frames)
    content = [i for i, frame in enumerate(whole) if frame.is_content]
    if not content:  # what opens the stream, or nothing where the frame that ends it is the only one
        return whole[:1] if len(whole) > 1 else []
    return whole[: content[(len(content) - 1) // 2] + 1]


def unterminated(frames: Iterable[Frame]) -> Iterator[Frame]:
    """All but the frame that ends the stream."""
    held: Frame | None = None
    for frame in frames:
        if held is not None:
            yield held
        held = frame


def with_a_malformed_frame(frames: Iterable[Frame]) -> list[Frame]:
    """One frame in the middle is cut short; the ends of lines stay, so that only its JSON is broken."""
    found = list(frames)
    content = [i for i, frame in enumerate(found) if frame.is_content] or [0]
    middle = content[len(content) // 2]
    data = found[middle].data
    end = data[len(data.rstrip()) :]
    found[middle] = found[middle]._replace(data=data[: len(data) * 2 // 3] + end)
    return found
