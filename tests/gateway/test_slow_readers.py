"""Clients that stop reading, over real sockets: they are disconnected in time, and nothing of them stays."""

from __future__ import annotations

import asyncio
import gc
import select
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from src.core.relay import Relay
from src.core.store import Store
from src.gateway.asked import Asked
from src.gateway.connections import Connections
from src.gateway.streaming import Stream
from src.gateway.time_limits import TimeLimits
from src.records import TaskStatus
from src.simulator.process import SimulatorProcess
from tests.core.direct_pool import settings_for
from tests.core.pools import new_store

from .in_process import in_process

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no poll")
READ_S = 0.6
TIMES = TimeLimits(read_s=READ_S, sweep_s=0.1)
SMALL_BYTES = 4_096  # of the client's receive buffer
VECTORS, VECTOR_BYTES = 1_600, 8_192  # 13 MB in all
QUESTION: Any = [{"role": "user", "content": "Name three rivers."}]
REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": QUESTION},
    "/v1/responses": {"input": QUESTION},
    "/v1/messages": {"messages": QUESTION, "max_tokens": 200},
}
LAST_WORDS = (b"[DONE]", b"response.completed", b"message_stop", b"attempts=")


@pytest.fixture(scope="module")
def huge() -> Iterator[SimulatorProcess]:
    """A provider that answers 10 MB: far more than the buffers of a connection take."""
    config = {"latency": {"first_token_s": 0.0, "per_token_s": 0.0}, "faults": {"stream_huge": 1.0}}
    with SimulatorProcess.start({"providers": {"openai": config}}) as simulator:
        yield simulator


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path) as opened:
        yield opened


def left_behind() -> list[str]:
    """What is kept of requests in this process."""
    gc.collect()
    return [type(each).__name__ for each in gc.get_objects() if isinstance(each, Stream | Asked | Relay)]


async def seen_until_reset(client: socket.socket) -> bytes:
    """What a client finds that has read nothing until its connection was reset."""
    poller = select.poll()
    poller.register(client, 0)  # errors are reported unasked
    events = await asyncio.to_thread(poller.poll, 20_000)
    assert events and events[0][1] & select.POLLERR
    found = []
    with suppress(ConnectionResetError):
        while part := client.recv(65_536):
            found.append(part)
    return b"".join(found)


def read_slowly(client: socket.socket) -> tuple[float, bytes]:
    """Read a stream to its end, 3 MB of it with a pause before each piece: (seconds, bytes)."""
    began, found = time.monotonic(), bytearray()
    while b"attempts=" not in found[-1_000:]:
        if len(found) < 3_000_000:
            time.sleep(0.03)
        part = client.recv(65_536)
        assert part, found[-1_000:]
        found += part
    return time.monotonic() - began, bytes(found)


@pytest.mark.parametrize("path", REQUESTS)
async def test_the_reader_of_a_stream_that_stops_is_disconnected_and_its_call_is_booked(
    store: Store, huge: SimulatorProcess, path: str
) -> None:
    body = {**REQUESTS[path], "model": "openai/economy", "stream": True}
    async with in_process(store, huge.base_urls, settings_for(max_answer_mb=64.0), TIMES) as gateway:
        async with gateway.sent(path, body, receive_bytes=SMALL_BYTES) as client:
            seen = await seen_until_reset(client)
        assert not any(words in seen for words in LAST_WORDS)
        await gateway.served.drain()
        assert gateway.pool.reserved_nanos == 0
    assert left_behind() == []
    assert store.reports.task_counts()[TaskStatus.CANCELLED] == 1
    assert store.reports.summary("gateway/local").calls.uncertain_nanos > 0


async def test_the_reader_of_a_whole_answer_that_stops_is_disconnected(
    store: Store, huge: SimulatorProcess
) -> None:
    body = {"model": "text-embedding-3-small", "encoding_format": "base64", "input": ["word"] * VECTORS}
    async with in_process(store, huge.base_urls, settings_for(max_answer_mb=64.0), TIMES) as gateway:
        async with gateway.sent("/v1/embeddings", body, receive_bytes=SMALL_BYTES) as client:
            assert len(await seen_until_reset(client)) < VECTORS * VECTOR_BYTES / 2
        await gateway.served.drain()
        assert gateway.pool.reserved_nanos == 0
    assert left_behind() == []
    assert store.reports.task_counts()[TaskStatus.SUCCEEDED] == 1
    assert store.reports.summary("gateway/local").calls.cost_nanos > 0


async def test_a_reader_that_takes_its_time_gets_the_whole_stream(
    store: Store, huge: SimulatorProcess
) -> None:
    body = {**REQUESTS["/v1/chat/completions"], "model": "openai/economy", "stream": True}
    async with in_process(store, huge.base_urls, settings_for(max_answer_mb=64.0), TIMES) as gateway:
        async with gateway.sent("/v1/chat/completions", body) as client:
            took_s, found = await asyncio.to_thread(read_slowly, client)
        assert took_s > 2 * READ_S and b"data: [DONE]" in found[-1_000:]
        await gateway.served.drain()
    assert store.reports.task_counts()[TaskStatus.SUCCEEDED] == 1


async def test_a_connection_that_is_closing_does_not_wait_for_its_reader_for_ever() -> None:
    connections = Connections(times=TIMES)

    async def handler(request: web.BaseRequest) -> web.Response:
        with connections.answering(request.protocol):
            return web.Response(body=bytes(60_000), headers={"connection": "close"})

    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BYTES)  # also of what it accepts
    server, loop = web.Server(handler), asyncio.get_running_loop()
    accepting = await loop.create_server(partial(connections.accepted, server), sock=listening)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BYTES)
        async with accepting, connections.watched():
            client.connect(listening.getsockname())
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert len(await seen_until_reset(client)) < 60_000
            await server.shutdown(1.0)
