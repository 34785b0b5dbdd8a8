"""Attacks on the server over real sockets: unwanted bodies, half-sent requests, many connections."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from src.web import connections
from src.web.connections import BODY_GRACE_S, HEADERS_S, MIN_BYTES_PER_S, is_too_slow
from src.web.serving import make_server

from .conftest import AppMaker

TOKEN, READER = "a-token-that-nobody-guesses", "another-that-nobody-guesses"
TOKENS = {"ORCHESTRATOR_TOKENS": f"alice:{TOKEN}, carol:{READER}:read"}
MB = 1 << 20
FORM = "Content-Type: multipart/form-data; boundary=b"
JSON = "Content-Type: application/json"
ALICE = f"Authorization: Bearer {TOKEN}"


@pytest.fixture
def server(make_app: AppMaker) -> Iterator[Any]:
    yield from _running(make_app(TOKENS))


@pytest.fixture
def open_server(make_app: AppMaker) -> Iterator[Any]:
    """One without tokens."""
    yield from _running(make_app())


def _running(app: Any) -> Iterator[Any]:
    found: Any = make_server(app, [("127.0.0.1", 0)], threads=4)
    thread = threading.Thread(target=found.run)
    thread.start()
    yield found
    found.close()
    for channel in list(found.active_channels.values()):
        channel.handle_close()
    found.task_dispatcher.shutdown()
    thread.join(10)


def connect(server: Any) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.effective_port)), timeout=20)


def head(method: str, path: str, *headers: str) -> bytes:
    lines = (f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", "")
    return "\r\n".join(lines).encode()


def answer(connection: socket.socket) -> str:
    """All bytes of the response, until the connection is closed."""
    got = b""
    while piece := connection.recv(1 << 16):
        got += piece
    return got.decode()


# Headers of a body that is never sent -> the status of the response.
REFUSED = {
    "a file without a token": (303, head("POST", "/uploads", FORM, f"Content-Length: {300 * MB}")),
    "a file without a token, in pieces": (303, head("POST", "/uploads", FORM, "Transfer-Encoding: chunked")),
    "a file with a wrong token": (
        401,
        head("POST", "/uploads", FORM, "Authorization: Bearer wrong", f"Content-Length: {300 * MB}"),
    ),
    "a file with a token that may only read": (
        403,
        head("POST", "/uploads", FORM, f"Authorization: Bearer {READER}", f"Content-Length: {300 * MB}"),
    ),
    "a file larger than any": (413, head("POST", "/uploads", FORM, ALICE, f"Content-Length: {513 * MB}")),
    "tasks without a token": (401, head("POST", "/api/tasks", JSON, f"Content-Length: {30 * MB}")),
    "tasks larger than they may be": (
        413,
        head("POST", "/api/tasks", JSON, ALICE, f"Content-Length: {65 * MB}"),
    ),
    "a long body for signing in": (413, head("POST", "/login", FORM, f"Content-Length: {2 * MB}")),
    "a long body for what takes none": (401, head("POST", "/healthz", FORM, f"Content-Length: {2 * MB}")),
    "a long body for nothing": (404, head("POST", "/nothing", FORM, ALICE, f"Content-Length: {2 * MB}")),
    "a body with a GET": (413, head("GET", "/healthz", f"Content-Length: {2 * MB}")),
    "a file from another site": (
        403,
        head("POST", "/uploads", FORM, ALICE, "Origin: http://evil.example", f"Content-Length: {MB}"),
    ),
    "asking first, without a token": (
        401,
        head("POST", "/api/tasks", JSON, "Expect: 100-continue", "Content-Length: 10"),
    ),
}


@pytest.mark.parametrize("attack", REFUSED)
def test_a_body_is_refused_by_its_headers_before_it_is_sent(server: Any, attack: str) -> None:
    status, sent = REFUSED[attack]
    with connect(server) as connection:
        connection.sendall(sent)
        said = answer(connection)
    assert said.startswith(f"HTTP/1.1 {status} "), said[:200]
    assert "X-Content-Type-Options: nosniff" in said and "100 Continue" not in said


def test_without_tokens_a_form_without_a_session_is_refused_by_its_headers(open_server: Any) -> None:
    with connect(open_server) as connection:
        connection.sendall(head("POST", "/uploads", FORM, f"Content-Length: {300 * MB}"))
        assert answer(connection).startswith("HTTP/1.1 403 ")


def test_a_chunked_body_is_cut_off_at_the_limit_of_its_path(server: Any) -> None:
    piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with connect(server) as connection:
        connection.sendall(head("POST", "/login", FORM, "Transfer-Encoding: chunked"))
        sent = 0
        try:
            for _ in range(1000):
                connection.sendall(piece)
                sent += len(piece)
        except OSError:  # the server has closed it
            pass
    assert sent < 16 * MB  # what fits into the buffers of both ends


def test_an_admitted_body_arrives_complete(server: Any) -> None:
    prompt = "x" * MB
    body = f'{{"prompt": "{prompt}"}}'.encode()
    for extra in ((), ("Expect: 100-continue",)):
        with connect(server) as connection:
            length = f"Content-Length: {len(body)}"
            connection.sendall(head("POST", "/api/tasks", JSON, ALICE, length, "Connection: close", *extra))
            if extra:
                assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue")
            connection.sendall(body)
            assert answer(connection).startswith("HTTP/1.1 202 ")


@pytest.mark.parametrize("length", [(), ("Content-Length: 0",)], ids=["no length", "length 0"])
def test_a_request_without_a_body_that_asks_first_is_answered_at_once(
    server: Any, length: tuple[str, ...]
) -> None:
    with connect(server) as connection:
        connection.sendall(head("GET", "/healthz", "Expect: 100-continue", "Connection: close", *length))
        assert answer(connection).startswith("HTTP/1.1 200 ")


def test_hundreds_of_half_sent_requests_do_not_block_others(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_PER_ADDRESS", 40)
    with ExitStack() as stack:
        for _ in range(120):
            connection = stack.enter_context(connect(server))
            connection.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        with connect(server) as one_more:
            one_more.sendall(head("GET", "/healthz", "Connection: close"))
            assert answer(one_more).startswith("HTTP/1.1 200 ")
        assert len(server.active_channels) <= 42


def test_a_connection_that_waits_for_its_answer_stays_open(server: Any) -> None:
    busy, newest = (_channel(requests=[1]), _channel())
    assert connections.connection_to_close([busy] * 300 + [newest], newest, 500, lambda _: False) is newest
    idle = _channel(began_at=5.0, has_asked=True)
    assert (
        connections.connection_to_close([busy] * 300 + [idle, newest], newest, 500, lambda _: False) is idle
    )
    assert connections.connection_to_close([busy] * 300 + [newest], newest, 500, lambda _: True) is None
    half = _channel(began_at=9.0, request=_request(9.0))
    others = [busy] * 300 + [idle, half, newest]
    assert connections.connection_to_close(others, newest, 200, lambda _: True) is half


def _channel(**changes: Any) -> Any:
    usual = {"addr": ("127.0.0.1", 1), "requests": [], "request": None, "will_close": False}
    return SimpleNamespace(**{**usual, "has_asked": False, "began_at": 0.0, **changes})


def _request(began_at: float, headers: bool = False, received: int = 0) -> Any:
    return SimpleNamespace(began_at=began_at, headers_finished=headers, body_bytes_received=received)


@pytest.mark.parametrize(
    ("sent", "after_s", "late"),
    [
        (b"", HEADERS_S - 1, False),
        (b"", HEADERS_S + 1, True),
        (b"GET / HT", HEADERS_S - 1, False),
        (b"GET / HT", HEADERS_S + 1, True),
        (head("POST", "/login", FORM, "Content-Length: 1000") + b"x", BODY_GRACE_S - 1, False),
        (head("POST", "/login", FORM, "Content-Length: 1000") + b"x", BODY_GRACE_S + 1, True),
        (
            head("POST", "/login", FORM, "Content-Length: 60000") + b"x" * 50_000,
            BODY_GRACE_S + 50_000 / MIN_BYTES_PER_S - 1,
            False,
        ),
        (head("GET", "/healthz"), 100.0, False),  # an idle connection after a request
    ],
)
def test_a_slow_request_is_cut_off(server: Any, sent: bytes, after_s: float, late: bool) -> None:
    with connect(server) as connection:
        connection.sendall(sent)
        channel = _until_seen(server, sent)
        assert is_too_slow(channel, time.monotonic() + after_s) is late


def _until_seen(server: Any, sent: bytes) -> Any:
    """The connection on the server, once all bytes have arrived."""
    for _ in range(2000):
        for channel in list(server.active_channels.values()):
            whole = channel.has_asked and not channel.requests
            part = channel.request is not None and (
                channel.request.header_bytes_received + channel.request.body_bytes_received >= len(sent) > 0
            )
            if not sent or whole or part:
                return channel
        time.sleep(0.01)
    raise AssertionError("the server has not received the request")


def test_a_refused_body_leaves_no_file(server: Any, tmp_path: Path) -> None:
    with connect(server) as connection:
        connection.sendall(head("POST", "/uploads", FORM, f"Content-Length: {300 * MB}"))
        answer(connection)
    assert not list(tmp_path.rglob("uploads/*"))
