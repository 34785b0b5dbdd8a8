"""Limits on connections: how many there are, and how long one may take until its first request.

A client that connects and says nothing would keep its connection for ever, and a few thousand of them would
take the files that the database and the providers' connections need. Therefore

    HEADERS_S without a whole head     closes a connection that has never sent a request
    one connection too many            closes the one that has been idle for longest, else the new one

Bodies have limits of their own (`bodies.py`), and aiohttp closes connections that are idle between requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from aiohttp import web

from ..open_files import most_open_files

HEADERS_S = 10.0  # as for the pages
MAX_CONNECTIONS = 6_000  # 5,000 requests may wait, each on a connection of its own
SWEEP_S = 1.0

Connection = web.RequestHandler


def affordable_connections() -> int:
    """How many connections the process can have without those of others failing: half of its open files."""
    return most_open_files(2 * MAX_CONNECTIONS) // 2


class Connections:
    """The connections of one gateway. `most` None: as many as the process can afford."""

    def __init__(self, most: int | None = None) -> None:
        self._most = affordable_connections() if most is None else most
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
    def answering(self, connection: Connection) -> Iterator[None]:
        """A request is in progress on it."""
        self._new.pop(connection, None)
        self._idle.pop(connection, None)
        self._busy[connection] = self._busy.get(connection, 0) + 1
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
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            now = loop.time()
            for connection, since in list(self._new.items()):
                if now - since > HEADERS_S:
                    self._close(connection)
            for connection, since in list(self._idle.items()):
                if connection.transport is None and now - since > SWEEP_S:  # closed; a new one gets it soon
                    self._forget(connection)

    def _close(self, connection: Connection) -> None:
        if connection.transport is not None:
            self._forget(connection)
            connection.force_close()

    def _forget(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
        self._new.pop(connection, None)


CONNECTIONS: web.AppKey[Connections] = web.AppKey("connections", Connections)
