"""HTTP/1.1 clients with as little work as Python allows, so that a load costs the measured less than it is.

One request at a time on each connection. Answers have a length or come in chunks, as all servers here send.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_BLANK = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; `head` is in lower case. The body is empty where `on_body` got it."""

    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str:
        """The value of a header, empty where there is none."""
        _, found, rest = self.head.partition(f"\r\n{name}:".encode())
        return rest.partition(b"\r\n")[0].strip().decode() if found else ""


def post(path: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a request."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{lines}\r\n"
    )
    return head.encode() + body


class Connection(asyncio.Protocol):
    """One connection to a port of this machine, opened when it is needed and again when it was closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._on_body: Callable[[bytes], None] | None = None
        self._clear()

    def _clear(self) -> None:
        self._read, self._body = bytearray(), bytearray()
        self._head = b""
        self._status, self._left = 0, -1  # bytes of the body that are missing; -1: it comes in chunks

    async def ask(self, request: bytes, on_body: Callable[[bytes], None] | None = None) -> Answer:
        """Send a request. `on_body` gets the body as it comes. Raises OSError where the connection ends."""
        loop = asyncio.get_running_loop()
        if self._transport is None or self._transport.is_closing():
            await loop.create_connection(lambda: self, "127.0.0.1", self._port)
        assert self._transport is not None
        self._clear()
        self._on_body, self._answer = on_body, loop.create_future()
        self._transport.write(request)
        return await self._answer

    def abort(self) -> None:
        """Close the connection in the middle of whatever it does."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    # ------------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("closed before the end of the answer"))

    def data_received(self, data: bytes) -> None:
        self._read += data
        if not self._head and not self._read_head():
            return
        ended = self._read_chunks() if self._left < 0 else self._read_length()
        if ended and self._answer is not None and not self._answer.done():
            self._answer.set_result(Answer(self._status, self._head, bytes(self._body)))

    def _read_head(self) -> bool:
        end = self._read.find(_BLANK)
        if end < 0:
            return False
        self._head = bytes(self._read[: end + 2]).lower()
        del self._read[: end + len(_BLANK)]
        self._status = int(self._head[9:12])
        _, found, rest = self._head.partition(b"\r\ncontent-length:")
        self._left = int(rest.partition(b"\r\n")[0]) if found else -1
        return True

    def _read_length(self) -> bool:
        self._left -= len(self._read)
        self._deliver(bytes(self._read))
        self._read.clear()
        return self._left <= 0

    def _read_chunks(self) -> bool:
        while (end := self._read.find(b"\r\n")) >= 0:
            size = int(self._read[:end], 16)
            if len(self._read) < end + size + 4:
                return False
            piece = bytes(self._read[end + 2 : end + 2 + size])
            del self._read[: end + size + 4]
            if not size:
                return True
            self._deliver(piece)
        return False

    def _deliver(self, piece: bytes) -> None:
        if self._on_body is None or self._status != 200:
            self._body += piece
        elif piece:
            self._on_body(piece)
