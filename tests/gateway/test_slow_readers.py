"""Clients that stop reading, over real sockets: they are disconnected in time, and nothing of them stays."""

from __future__ import annotations

import asyncio
import gc
import select
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from src.core.relay import Relay
from src.core.store import Store
from src.gateway.asked import Asked
from src.gateway.connections import Connections
from src.gateway.forwarding import KEY, STANDBY
from src.gateway.streaming import Stream
from src.gateway.time_limits import TimeLimits
from src.records import TaskStatus
from src.simulator.process import SimulatorProcess
from tests.core.direct_pool import settings_for
from tests.core.pools import new_store

from .in_process import InProcess, in_process, standby_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no poll")
READ_S = 0.6
TIMES = TimeLimits(read_s=READ_S, standby_read_s=5 * READ_S, sweep_s=0.1)
SMALL_BYTES = 4_096  # of the client's receive buffer
VECTORS, VECTOR_BYTES = 1_600, 8_192  # 13 MB in all
QUESTION: Any = [{"role": "user", "content": "Name three rivers."}]
REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": QUESTION},
    "/v1/responses": {"input": QUESTION},
    "/v1/messages": {"messages": QUESTION, "max_tokens": 200},
}
STREAM = {**REQUESTS["/v1/chat/completions"], "model": "openai/economy", "stream": True}
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


@asynccontextmanager
async def served(store: Store, provider: SimulatorProcess, where: str) -> AsyncIterator[InProcess]:
    """What a client is connected to: the leader, or a standby that passes its request on."""
    settings = settings_for(max_answer_mb=64.0)
    async with in_process(store, provider.base_urls, settings, TIMES) as leader:
        if where == "leader":
            yield leader
            return
        async with standby_of(leader) as standby:
            yield standby


@pytest.fixture(params=["leader", "standby"])
def where(request: pytest.FixtureRequest) -> str:
    """Where a client is connected."""
    return str(request.param)


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


def read_bytes(client: socket.socket) -> float:
    """Read a byte now and then until the connection is reset: seconds."""
    began, poller = time.monotonic(), select.poll()
    poller.register(client, 0)
    while not poller.poll(1_000 * READ_S / 10):  # what has come could be read even after the reset
        assert client.recv(1)
        assert time.monotonic() < began + 20
    return time.monotonic() - began


async def ended(gateway: InProcess) -> None:
    """Let the pool end what was asked, within the time that it gives calls in flight."""
    await gateway.served.drain()
    assert gateway.pool.reserved_nanos == 0


def check_cancelled(store: Store) -> None:
    """One request was cancelled and booked, and nothing of it is left in this process."""
    assert left_behind() == []
    assert store.reports.task_counts()[TaskStatus.CANCELLED] == 1
    assert store.reports.summary("gateway/local").calls.uncertain_nanos > 0


@pytest.mark.parametrize("path", REQUESTS)
async def test_the_reader_of_a_stream_that_stops_is_disconnected_and_its_call_is_booked(
    store: Store, huge: SimulatorProcess, path: str, where: str
) -> None:
    body = {**REQUESTS[path], "model": "openai/economy", "stream": True}
    async with served(store, huge, where) as gateway:
        async with gateway.sent(path, body, receive_bytes=SMALL_BYTES) as client:
            seen = await seen_until_reset(client)
        assert not any(words in seen for words in LAST_WORDS)
        await ended(gateway)
    check_cancelled(store)


async def test_a_reader_that_takes_a_byte_now_and_then_is_disconnected_too(
    store: Store, huge: SimulatorProcess, where: str
) -> None:
    async with served(store, huge, where) as gateway:
        async with gateway.sent("/v1/chat/completions", STREAM) as client:
            took_s = await asyncio.to_thread(read_bytes, client)
        assert took_s > READ_S
        await ended(gateway)
    check_cancelled(store)


@pytest.mark.parametrize("is_known", [True, False], ids=["with the key", "by its own account"])
async def test_a_standby_that_stops_reading_is_disconnected_later(
    store: Store, huge: SimulatorProcess, is_known: bool
) -> None:
    async with served(store, huge, "leader") as gateway:
        began = time.monotonic()
        key = store.leadership.gateway().key if is_known else "a-guess"
        header = f"Via: 1.1 a-standby {STANDBY}\r\n{KEY}: {key}\r\n"
        passed_on = {"receive_bytes": SMALL_BYTES, "header": header}
        async with gateway.sent("/v1/chat/completions", STREAM, **passed_on) as client:
            await seen_until_reset(client)
        assert (time.monotonic() - began > TIMES.standby_read_s) == is_known
        await ended(gateway)
    check_cancelled(store)


async def test_a_client_that_closes_in_the_midst_of_its_stream_ends_the_call(
    store: Store, huge: SimulatorProcess, where: str
) -> None:
    async with served(store, huge, where) as gateway:
        async with gateway.sent("/v1/chat/completions", STREAM) as client:
            assert b" 200 " in await asyncio.to_thread(client.recv, 1_000)
        await ended(gateway)
    check_cancelled(store)


async def test_the_reader_of_a_whole_answer_that_stops_is_disconnected(
    store: Store, huge: SimulatorProcess, where: str
) -> None:
    body = {"model": "text-embedding-3-small", "encoding_format": "base64", "input": ["word"] * VECTORS}
    async with served(store, huge, where) as gateway:
        async with gateway.sent("/v1/embeddings", body, receive_bytes=SMALL_BYTES) as client:
            assert len(await seen_until_reset(client)) < VECTORS * VECTOR_BYTES / 2
        await ended(gateway)
    assert left_behind() == []
    assert store.reports.task_counts()[TaskStatus.SUCCEEDED] == 1
    assert store.reports.summary("gateway/local").calls.cost_nanos > 0


async def test_a_reader_that_takes_its_time_gets_the_whole_stream(
    store: Store, huge: SimulatorProcess, where: str
) -> None:
    async with served(store, huge, where) as gateway:
        async with gateway.sent("/v1/chat/completions", STREAM) as client:
            took_s, found = await asyncio.to_thread(read_slowly, client)
        assert took_s > 2 * READ_S and b"data: [DONE]" in found[-1_000:]
        await ended(gateway)
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
