"""The status that programs poll: fresh after a change, a 304 without one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from src.web.serving import make_server

from .conftest import AppMaker, csrf_of

STATUS = "/api/providers/status"
TOKEN = {"ORCHESTRATOR_TOKEN": "a-token-that-nobody-guesses"}
BEARER = {"Authorization": f"Bearer {TOKEN['ORCHESTRATOR_TOKEN']}"}


def test_a_change_shows_in_the_next_answer(client: FlaskClient) -> None:
    first, again = client.get(STATUS), client.get(STATUS)
    assert (again.data, list(again.headers)) == (first.data, list(first.headers))
    csrf = csrf_of(client, "/provider-status")
    client.post("/providers/gemini/pause", data={"csrf": csrf})
    after = client.get(STATUS).json["providers"]
    assert [p["state"] for p in after if p["name"] == "gemini"] == ["paused"]


def test_an_answer_that_the_client_has_is_a_304_without_a_body(client: FlaskClient) -> None:
    tag = client.get(STATUS).headers["ETag"]
    again = client.get(STATUS, headers={"If-None-Match": tag})
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
    assert again.headers["X-Content-Type-Options"] == "nosniff"
    assert client.get(STATUS, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({}, 401),
        ({"headers": {"Authorization": "Bearer wrong"}}, 401),
        ({"headers": {**BEARER, "Host": "evil.example"}}, 421),
        ({"headers": BEARER, "method": "DELETE"}, 405),
    ],
    ids=["no token", "wrong token", "wrong host", "wrong method"],
)
def test_a_cached_view_still_passes_the_guard(
    make_app: AppMaker, options: dict[str, Any], status: int
) -> None:
    client = make_app(TOKEN).test_client()
    assert client.get(STATUS, headers=BEARER).status_code == 200
    assert client.open(STATUS, **options).status_code == status
    assert client.get(STATUS, headers=BEARER).status_code == 200


@pytest.fixture
def port(app: Flask) -> Iterator[int]:
    server: Any = make_server(app, [("127.0.0.1", 0)], threads=2)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield int(server.effective_port)
    server.close()
    server.task_dispatcher.shutdown()
    thread.join(10)


def test_pipelined_requests_are_answered_in_order(port: int) -> None:
    one = f"GET {STATUS} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    other = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(one + one + other + one * 20 + last)
        got = b""
        while piece := connection.recv(1 << 16):
            got += piece
    assert got.count(b"HTTP/1.1 200 OK") == 23
    assert got.index(b'"version"') > got.index(b'"agents"')
    assert got.count(b"HTTP/1.1 404 NOT FOUND") == 1
