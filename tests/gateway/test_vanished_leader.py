"""Requests at a leader that gives no sign of life end when another one leads, or its machine is gone."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from src.access import AccessPolicy
from src.core.clock import Clock
from src.core.store import Identity, PublishedGateway, Store
from src.gateway.context import GatewayContext
from src.gateway.forwarding import FINISH_S, LOOK_S, PROBE_S, SILENT_S
from src.gateway.guard import Guard
from src.gateway.server import Gateway, Listener
from tests.core.direct_pool import settings_for
from tests.core.pools import new_store

from .http_client import send
from .in_process import HOST

SO_ATTACH_FILTER, RETURN = 26, 0x06  # of Linux; of a program for its filter
BODY = {"model": "economy", "max_tokens": 40, "messages": [{"role": "user", "content": "Why?"}]}
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="one lock file")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Somebody leads over it, as the lock says."""
    with new_store(tmp_path) as opened:
        lock = opened.leadership.host_lock
        assert lock is not None and lock.acquire()
        yield opened
        lock.release()


def lose_all(connection: socket.socket) -> None:
    """What comes is dropped as by a filter of packets: the other side gets neither an answer nor a reset."""
    drop = ctypes.create_string_buffer(struct.pack("HBBI", RETURN, 0, 0, 0))
    program = struct.pack("HP", 1, ctypes.addressof(drop))
    connection.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


class StandingStill:
    """The process of a leader that takes requests, and answers none. `is_gone`: with its machine, then."""

    def __init__(self, *, is_gone: bool) -> None:
        self.asked, self._is_gone = asyncio.Event(), is_gone
        self._connections: list[asyncio.StreamWriter] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        if self._is_gone:
            lose_all(writer.get_extra_info("socket"))
        self.asked.set()
        await reader.read(-1)  # until the standby gives up

    async def end(self) -> None:
        """Close the connections, also those that have lost their other side."""
        for each in self._connections:
            each.close()
            with suppress(OSError):
                await each.wait_closed()


@asynccontextmanager
async def leader_of(store: Store, name: str, *, is_gone: bool = False) -> AsyncIterator[StandingStill]:
    """It takes the lead and publishes its address."""
    still = StandingStill(is_gone=is_gone)
    async with await asyncio.start_server(still, HOST, 0) as server:
        mine, port = store.fenced(), server.sockets[0].getsockname()[1]
        mine.leadership.take(Identity(name, 1, socket.gethostname(), 10.0), seen=mine.leadership.leader())
        mine.leadership.publish(PublishedGateway(f"http://{HOST}:{port}", f"key of {name}"))
        yield still
        await still.end()


@asynccontextmanager
async def standby_over(store: Store) -> AsyncIterator[str]:
    """The base URL of its gateway."""
    listener, settings = Listener(HOST, 0), settings_for()
    access = AccessPolicy.from_environment(HOST, {}, ())
    context = GatewayContext(
        settings=settings,
        store=store,
        access=access,
        called=(),
        guard=Guard(access, (), via="a-standby"),
        metrics=lambda _accept: (b"", "text/plain"),
        clock=Clock(),
        simulated=False,
        incarnation="a-standby",
    )
    standing_by = Gateway(listener, context).standing_by()
    standing_by.__enter__()
    try:
        yield listener.url
    finally:
        await asyncio.to_thread(standing_by.__exit__, None, None, None)
        listener.close()


async def test_a_request_at_a_leader_that_was_replaced_is_not_waited_for(store: Store) -> None:
    async with leader_of(store, "first") as first, standby_over(store) as url:
        asking = asyncio.create_task(asyncio.to_thread(send, url, "/v1/messages", method="POST", body=BODY))
        await first.asked.wait()
        async with leader_of(store, "second") as second:
            began = time.monotonic()
            answer = await asking
            took_s = time.monotonic() - began
        assert FINISH_S - 1.0 < took_s < FINISH_S + 2 * LOOK_S + 10.0
        assert answer.status == 503 and int(answer.headers["retry-after"]) > 0
        assert not second.asked.is_set(), "the first one may have called a provider"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a socket lose what comes")
async def test_a_request_at_a_machine_that_is_gone_is_not_waited_for(store: Store) -> None:
    async with leader_of(store, "first", is_gone=True) as first, standby_over(store) as url:
        asking = asyncio.create_task(asyncio.to_thread(send, url, "/v1/messages", method="POST", body=BODY))
        await first.asked.wait()
        began = time.monotonic()
        answer = await asking
        took_s = time.monotonic() - began
    assert SILENT_S - PROBE_S < took_s < SILENT_S + 2 * PROBE_S + 10.0
    assert answer.status == 503 and int(answer.headers["retry-after"]) > 0
