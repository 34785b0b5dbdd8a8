"""Answers that are given again without any work: the same as the first, and to nobody else."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from src.web.presenters.pool import _pool_view
from src.web.quick import MAX_KEPT, QuickAnswers
from src.web.serving import make_server

from .conftest import AppMaker, csrf_of

STATUS = "/api/providers/status"
TOKEN = {"ORCHESTRATOR_TOKEN": "a-token-that-nobody-guesses"}
BEARER = {"Authorization": f"Bearer {TOKEN['ORCHESTRATOR_TOKEN']}"}


def kept_by(client: FlaskClient) -> dict[Any, Any]:
    quick = client.application.wsgi_app
    assert isinstance(quick, QuickAnswers)
    return quick._kept


def test_an_answer_is_given_again_as_it_was_while_it_is_fresh(client: FlaskClient) -> None:
    first, again = client.get(STATUS), client.get(STATUS)
    assert (again.data, list(again.headers)) == (first.data, list(first.headers))
    assert len(kept_by(client)) == 1
    csrf = csrf_of(client, "/provider-status")
    client.post("/providers/gemini/pause", data={"csrf": csrf})
    client.delete_cookie(client.application.config["SESSION_COOKIE_NAME"])
    after = client.get(STATUS).json["providers"]
    assert [p["state"] for p in after if p["name"] == "gemini"] == ["paused"]


def test_what_is_known_already_is_not_sent_again(client: FlaskClient) -> None:
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
def test_it_is_given_to_nobody_else(make_app: AppMaker, options: dict[str, Any], status: int) -> None:
    client = make_app(TOKEN).test_client()
    assert client.get(STATUS, headers=BEARER).status_code == 200
    assert client.open(STATUS, **options).status_code == status
    assert client.get(STATUS, headers=BEARER).status_code == 200
    assert len(kept_by(client)) == 1
    assert TOKEN["ORCHESTRATOR_TOKEN"] not in repr(kept_by(client))


def test_nothing_else_is_kept_and_never_much(app: Flask) -> None:
    client = app.test_client(use_cookies=False)
    for path in ("/", "/tasks", "/api/tasks", "/healthz", f"{STATUS}?x=1", "/nothing"):
        client.get(path)
    assert not kept_by(client)
    for port in range(2 * MAX_KEPT):
        client.get(STATUS, headers={"Host": f"localhost:{port + 1}"})
    assert 0 < len(kept_by(client)) <= MAX_KEPT


@pytest.fixture
def port(app: Flask) -> Iterator[int]:
    server: Any = make_server(app, [("127.0.0.1", 0)], threads=2)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield int(server.effective_port)
    server.close()
    server.task_dispatcher.shutdown()
    thread.join(10)


def test_the_server_gives_ready_answers_on_its_own_thread(port: int, app: Flask) -> None:
    """The first is made by a thread, the next are copied by the loop: the same but for the date."""
    quick, copied = app.wsgi_app, []
    assert isinstance(quick, QuickAnswers)
    inner = quick.packet

    def packet(environ: Any) -> bytes | None:
        found = inner(environ)
        copied.append(found is not None)
        return found

    quick.packet = packet  # type: ignore[method-assign]
    context = app.extensions["orchestrator"]
    context.cache.get(
        "pool", lambda: _pool_view(context), fresh_s=3600
    )  # does not grow old on a slow machine
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    answers = []
    for path in (STATUS, STATUS, "/healthz", STATUS):
        connection.request("GET", path)
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        assert headers.pop("date").endswith(" GMT")
        answers.append((response.status, headers, response.read()))
    connection.close()
    assert copied == [False, True, False, True]
    assert answers[0] == answers[1] == answers[3]
    assert answers[0][0] == 200
    assert answers[0][1]["x-content-type-options"] == "nosniff"


def test_requests_sent_in_one_go_are_answered_in_their_order(port: int, app: Flask) -> None:
    import socket

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
