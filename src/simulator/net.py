"""Sockets and clocks below the providers: a port that can refuse, a connection that can be reset."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable

from aiohttp import web

from .shapes import Answer

HOST = "127.0.0.1"
_BACKLOG = 1024
_LINGER_OFF = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)  # close at once, with a reset


class Clock:
    """Epoch seconds that never go backwards, and `t`: seconds since the start or the last reset."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self.zero = self.now()

    def now(self) -> float:
        """UTC epoch seconds."""
        return time.monotonic() + self._offset

    def t(self) -> float:
        """Seconds since the start or the last reset."""
        return self.now() - self.zero

    def reset(self) -> None:
        """Set `t` to zero."""
        self.zero = self.now()


class Listener:
    """A port that can be closed, so that connections are refused, and opened again.

    While closed, a socket that is bound but does not listen keeps other processes from getting the port.
    """

    def __init__(self, port: int) -> None:
        self._server: asyncio.Server | None = None
        self._socket: socket.socket | None = _bound(port)
        self.port: int = self._socket.getsockname()[1]

    @property
    def is_open(self) -> bool:
        """Whether the port accepts connections."""
        return self._server is not None

    async def open(self, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        """Raises OSError if the port is taken."""
        bound, self._socket = self._socket or _bound(self.port), None
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(factory, sock=bound, backlog=_BACKLOG)

    def close(self) -> None:
        """Refuse connections from now on, and keep the port."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        with contextlib.suppress(OSError):  # open() binds again
            self._socket = _bound(self.port)

    def end(self) -> None:
        """Give the port up."""
        if self._server is not None:
            self._server.close()
        if self._socket is not None:
            self._socket.close()


def _bound(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # on Windows this option would let two servers share the port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((HOST, port))
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound


def reset_connection(transport: asyncio.BaseTransport | None) -> None:
    """Close with a TCP reset instead of a polite end."""
    if transport is None:
        return
    raw = transport.get_extra_info("socket")
    if raw is not None and raw.fileno() != -1:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()


def whole(answer: Answer, headers: dict[str, str]) -> web.Response:
    """The answer as a response; its own headers go before `headers`."""
    merged = {"Content-Type": "application/json", **headers, **answer.headers}
    return web.Response(status=answer.status, body=answer.body, headers=merged)


async def begin(request: web.BaseRequest, body: bytes, headers: dict[str, str]) -> web.StreamResponse:
    """Send the head of a 200 that promises the whole body."""
    head = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
    response = web.StreamResponse(status=200, headers=head)
    await response.prepare(request)
    return response
