"""What a stranger may send: odd text, schemas that are none, connections that say nothing."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from src.gateway.bodies import AT_ONCE_BYTES, Body
from src.gateway.connections import Connections
from src.gateway.time_limits import TimeLimits
from src.simulator.process import SimulatorProcess

from .conftest import Served
from .http_client import send

QUESTION: Any = [{"role": "user", "content": "Name a colour."}]
CHAT: dict[str, Any] = {"model": "economy", "messages": QUESTION, "max_tokens": 200}
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/messages": CHAT,
    "/v1/responses": {"model": "economy", "input": QUESTION},
}
HALVES = ("\\ud800", "x\\udfff", "\\ude00\\ud83d", "\\ud83d\\ud83d\\ude00")


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("half", HALVES)
def test_half_of_a_surrogate_pair_is_refused_wherever_it_is(
    gateway: Served, simulator: SimulatorProcess, path: str, half: str
) -> None:
    body = json.dumps(ROUTES[path])
    for changed in (body.replace("colour", half), body[:-1] + f', "user": "{half}"}}'):
        headers = {"content-type": "application/json"}
        found = send(gateway.url, path, method="POST", headers=headers, body=changed.encode())
        assert found.status == 400 and "surrogate" in found.json["error"]["message"]


def test_whole_surrogate_pairs_are_text(gateway: Served, simulator: SimulatorProcess) -> None:
    body = json.dumps({**CHAT, "messages": [{"role": "user", "content": "\U0001f600 or \\ud800?"}]})
    assert "\\ud83d\\ude00" in body and "\\\\ud800" in body
    headers = {"content-type": "application/json"}
    found = send(gateway.url, "/v1/chat/completions", method="POST", headers=headers, body=body.encode())
    assert found.status == 200


def test_a_body_that_is_not_what_its_encoding_says_is_refused(gateway: Served) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    body = json.dumps(CHAT).encode()
    found = send(gateway.url, "/v1/chat/completions", method="POST", headers=headers, body=body)
    assert found.status == 400 and "encoding" in found.json["error"]["message"]


def test_a_large_body_is_read(gateway: Served, simulator: SimulatorProcess) -> None:
    words = "word " * 100_000
    body = {**CHAT, "messages": [{"role": "user", "content": words}]}
    assert len(words) > AT_ONCE_BYTES
    assert send(gateway.url, "/v1/chat/completions", method="POST", body=body).status == 200


async def test_what_is_done_with_a_large_body_does_not_hold_up_the_event_loop() -> None:
    here = threading.get_ident()
    assert await Body({}, is_large=True).in_turn(threading.get_ident) != here
    assert await Body({}, is_large=False).in_turn(threading.get_ident) == here


NOT_SCHEMAS: dict[str, Any] = {
    "properties is a list": {"type": "object", "properties": []},
    "a property is a number": {"type": "object", "properties": {"a": 1}},
    "required is a number": {"type": "object", "required": 1},
    "required has objects": {"type": "object", "required": [{}]},
    "an unknown type": {"type": "object", "properties": {"a": {"type": "x"}}},
    "a lost reference": {"$ref": "#/$defs/none"},
    "a reference elsewhere": {"$ref": "http://127.0.0.1/schema"},
}


def _asking_for(path: str, schema: Any) -> dict[str, Any]:
    if path == "/v1/messages":
        return {**CHAT, "output_config": {"format": {"type": "json_schema", "schema": schema}}}
    described = {"type": "json_schema", "name": "answer", "schema": schema}
    if path == "/v1/responses":
        return {**ROUTES[path], "text": {"format": described}}
    return {**CHAT, "response_format": {"type": "json_schema", "json_schema": described}}


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("schema", NOT_SCHEMAS.values(), ids=NOT_SCHEMAS)
def test_what_is_no_schema_is_refused_before_a_call(
    gateway: Served, simulator: SimulatorProcess, path: str, schema: Any
) -> None:
    found = send(gateway.url, path, method="POST", body=_asking_for(path, schema))
    assert found.status == 400 and "schema" in found.json["error"]["message"]
    assert sum(each["calls"] for each in simulator.stats().values()) == 0


def test_the_smallest_cap_of_a_run_is_a_cap(gateway: Served, simulator: SimulatorProcess) -> None:
    headers = {"x-orchestrator-run-id": "poor", "x-orchestrator-run-max-cost-usd": "1e-30"}
    found = send(gateway.url, "/v1/chat/completions", method="POST", headers=headers, body=CHAT)
    assert found.status == 429 and found.json["error"]["type"] == "insufficient_quota"


def test_an_error_names_its_provider_once(gateway: Served, simulator: SimulatorProcess) -> None:
    simulator.patch("openai", {"faults": {"bad_request": 1.0}})
    try:
        body = {**CHAT, "model": "openai/economy"}
        found = send(gateway.url, "/v1/chat/completions", method="POST", body=body)
    finally:
        simulator.patch("openai", {"faults": None})
    assert found.status == 400 and found.json["error"]["message"].count("openai:") == 1


# ------------------------------------------------------------------ connections


HEADS: dict[str, bytes] = {
    "nothing": b"",
    "an unfinished head": b"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ",
}


@pytest.mark.parametrize("sent", HEADS.values(), ids=HEADS)
async def test_a_connection_without_a_whole_head_is_closed(sent: bytes) -> None:
    times = TimeLimits(head_s=0.6, sweep_s=0.1)
    connections = Connections(times=times)
    async with _serving(connections, asyncio.Event()) as port:
        client = _Client(*await asyncio.open_connection("127.0.0.1", port))
        other = _Client(*await asyncio.open_connection("127.0.0.1", port))
        assert await other.ask() == b"HTTP/1.1 200 OK"
        began = time.monotonic()
        client.writer.write(sent)
        assert await asyncio.wait_for(client.reader.read(), 20) == b""
        assert time.monotonic() - began > times.head_s - times.sweep_s
        assert await other.ask() == b"HTTP/1.1 200 OK" and len(connections) == 1
        for each in (client, other):
            each.writer.close()


def test_clients_that_leave_while_their_answer_is_written_are_no_error(
    gateway: Served, simulator: SimulatorProcess
) -> None:
    place = urlsplit(gateway.url)
    content = json.dumps({**CHAT, "stream": True}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    for number in range(40):
        with socket.create_connection((str(place.hostname), int(place.port or 0)), timeout=60) as connection:
            connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            if number % 2:
                connection.recv(100)
            reset = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    assert send(gateway.url, "/v1/chat/completions", method="POST", body=CHAT).status == 200
    assert "never retrieved" not in gateway.script.err and "Traceback" not in gateway.script.err


@asynccontextmanager
async def _serving(connections: Connections, release: asyncio.Event) -> AsyncIterator[int]:
    async def handler(request: web.BaseRequest) -> web.Response:
        with connections.answering(request.protocol):
            if request.path == "/wait":
                await release.wait()
            return web.Response(text="ok")

    server = web.Server(handler)
    loop = asyncio.get_running_loop()
    accepting = await loop.create_server(partial(connections.accepted, server), "127.0.0.1", 0)
    async with accepting, connections.watched():
        yield accepting.sockets[0].getsockname()[1]
        await server.shutdown(1.0)


class _Client:
    """One connection; `ask` gives the status line, or nothing where it is closed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, path: str) -> None:
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        await self.writer.drain()

    async def answer(self) -> bytes:
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
            await self.reader.readexactly(2)
        except (ConnectionError, asyncio.IncompleteReadError):
            return b""
        return head.split(b"\r\n")[0]

    async def ask(self, path: str = "/") -> bytes:
        await self.send(path)
        return await self.answer()


async def test_one_connection_too_many_closes_the_one_that_is_idle_for_longest() -> None:
    connections, release = Connections(most=3), asyncio.Event()
    async with _serving(connections, release) as port:
        clients = [_Client(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(3)]
        await clients[0].send("/wait")  # busy, and the oldest
        for client in (clients[2], clients[1]):
            assert await client.ask() == b"HTTP/1.1 200 OK"
        fourth = _Client(*await asyncio.open_connection("127.0.0.1", port))
        assert await fourth.ask() == b"HTTP/1.1 200 OK"
        assert await clients[2].reader.read() == b""  # idle for longest
        assert await clients[1].ask() == b"HTTP/1.1 200 OK" and len(connections) == 3
        release.set()
        assert await clients[0].answer() == b"HTTP/1.1 200 OK"
        for client in (*clients, fourth):
            client.writer.close()


async def test_a_new_connection_is_closed_where_all_others_are_busy() -> None:
    connections, release = Connections(most=2), asyncio.Event()
    async with _serving(connections, release) as port:
        busy = [_Client(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(2)]
        for client in busy:
            await client.send("/wait")
        while connections.busy < 2:
            await asyncio.sleep(0)
        third = _Client(*await asyncio.open_connection("127.0.0.1", port))
        assert await third.reader.read() == b""
        release.set()
        assert [await client.answer() for client in busy] == [b"HTTP/1.1 200 OK"] * 2
        for client in (*busy, third):
            client.writer.close()


# ------------------------------------------------------------------ bodies


@pytest.mark.parametrize("path", [*ROUTES, "/v1/embeddings"])
@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
def test_a_body_above_the_limit_is_a_413_before_it_is_whole(
    gateway: Served, path: str, declared: bool
) -> None:
    """One that says its size is refused before a byte of it, another one at the limit: memory is bounded."""
    place = urlsplit(gateway.url)
    piece, limit, sent = b" " * 1_000_000, 32_000_000, 0
    size = "Content-Length: 900000000" if declared else "Transfer-Encoding: chunked"
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{size}\r\n\r\n"
    with socket.create_connection((str(place.hostname), int(place.port or 0)), timeout=60) as connection:
        connection.sendall(head.encode())
        while not declared and sent <= limit:
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            sent += len(piece)
        answer = HTTPResponse(connection)
        answer.begin()
        assert answer.status == 413
        found = json.loads(answer.read())
    assert "32 MB" in found["error"]["message"] and ("type" in found) == (path == "/v1/messages")
