"""Limits on connections: how many there are, and how long their clients may take.

A client that connects and sends nothing, or does not read its answer, would keep its connection for ever, and
a few thousand of them would take the files that the database and the providers' connections need. Therefore

    head_s without a whole head        closes a connection that has never sent a request
    read_s without a byte taken        closes a connection whose answer waits for its reader; one to a standby
                                       only after standby_read_s: the standby watches its own client
    one connection too many            closes the one that has been idle for longest, else the new one

Bodies have limits of their own (`bodies.py`), and aiohttp closes connections that are idle between requests.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

from aiohttp import web

from ..open_files import most_open_files
from .time_limits import STANDARD, TimeLimits

log = logging.getLogger(__name__)
MAX_CONNECTIONS = 6_000  # 5,000 requests may wait, each on a connection of its own
_NOT_AT_ALL = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)  # lingers on for 0 s

Connection = web.RequestHandler


def affordable_connections() -> int:
    """How many connections the process can have without those of others failing: half of its open files."""
    return most_open_files(2 * MAX_CONNECTIONS) // 2


class Connections:
    """The connections of one gateway. `most` None: as many as the process can afford."""

    def __init__(self, most: int | None = None, times: TimeLimits = STANDARD) -> None:
        self._most = affordable_connections() if most is None else most
        self._times = times
        self._readers = _Readers()
        self._idle: dict[Connection, float] = {}  # since when; the longest first
        self._new: dict[Connection, float] = {}  # of those, the ones that have sent no request
        self._busy: dict[Connection, int] = {}  # requests in progress

    def __len__(self) -> int:
        return len(self._idle) + len(self._busy)

    @property
    def busy(self) -> int:
        """Connections with a request in progress."""
        return len(self._busy)

    def accepted(self, serve: web.Server) -> Connection:
        """A new connection of that server; another one may be closed for it."""
        connection = serve()
        loop = asyncio.get_running_loop()
        self._idle[connection] = self._new[connection] = loop.time()
        if len(self) > self._most:
            oldest = next(iter(self._idle))
            if oldest is connection:  # all others have requests in progress
                loop.call_soon(loop.call_soon, self._close, oldest)  # once it has its transport
            else:
                self._close(oldest)
        return connection

    @contextmanager
    def answering(self, connection: Connection, *, to_standby: bool = False) -> Iterator[None]:
        """A request is in progress on it; a standby has passed it on, or a client has sent it."""
        self._new.pop(connection, None)
        self._idle.pop(connection, None)
        self._busy[connection] = self._busy.get(connection, 0) + 1
        if connection.transport is not None:
            read_s = self._times.standby_read_s if to_standby else self._times.read_s
            self._readers.watch(connection.transport, read_s)
        try:
            yield
        finally:
            self._busy[connection] -= 1
            if not self._busy[connection]:
                del self._busy[connection]
                if connection.transport is not None:
                    self._idle[connection] = asyncio.get_running_loop().time()

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Close what takes too long while the block runs."""
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        loop, times = asyncio.get_running_loop(), self._times
        while True:
            await asyncio.sleep(times.sweep_s)
            now = loop.time()
            for connection, since in list(self._new.items()):
                if now - since > times.head_s:
                    self._close(connection)
            for connection, since in list(self._idle.items()):
                if connection.transport is None and now - since > times.sweep_s:  # closed, not just accepted
                    self._forget(connection)
            self._readers.sweep(now)

    async def first_requests(self) -> None:
        """Wait for the requests of connections that were accepted just now, at most `first_s`.

        A client whose connection is closed before it gets an answer can only report an error.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self._times.first_s
        await asyncio.sleep(0)  # a connection that was just accepted gets its transport
        while loop.time() < end and any(each.transport is not None for each in self._new):
            await asyncio.sleep(0.01)

    def _close(self, connection: Connection) -> None:
        if connection.transport is not None:
            self._forget(connection)
            connection.force_close()

    def _forget(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
        self._new.pop(connection, None)


@dataclass(slots=True)
class _Waiting:
    """The bytes that wait for a reader, and since when it has taken none of them."""

    read_s: float
    size: int = 0
    since: float = 0.0


class _Readers:
    """Whether clients read what is written to them.

    A transport stays here until it has no bytes left: one that is closing waits for its reader as well.
    """

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Transport, _Waiting] = {}

    def watch(self, transport: asyncio.Transport, read_s: float) -> None:
        """Something will be written to it, and its reader may take nothing for `read_s`."""
        self._waiting.setdefault(transport, _Waiting(read_s))

    def sweep(self, now: float) -> None:
        """Abort the connections of clients that have taken nothing for too long."""
        for transport, seen in list(self._waiting.items()):
            before, seen.size = seen.size, transport.get_write_buffer_size()
            if transport.is_closing() and not seen.size:
                del self._waiting[transport]
            elif seen.size < before or not before:  # some was taken, or nothing has waited
                seen.since = now
            elif now - seen.since > seen.read_s:
                log.info("closed a connection whose client does not read its answer")
                del self._waiting[transport]
                reset(transport)


def reset(transport: asyncio.Transport) -> None:
    """Close it without what it still has to send: the system would keep that, too, until the client reads."""
    with suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOT_AT_ALL)
    transport.abort()


CONNECTIONS: web.AppKey[Connections] = web.AppKey("connections", Connections)
