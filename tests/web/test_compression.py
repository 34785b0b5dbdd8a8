"""Compressed responses: smaller, the same bytes once unpacked, and no help to guess a secret."""

from __future__ import annotations

import gzip
import secrets
import zlib

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from src.core.store import Store
from src.messages import Message
from src.records import Task

from .conftest import csrf_of
from .filled import FilledState

GZIP = {"Accept_Encoding": "gzip, deflate, br"}
MOST_BYTES = 15 * 1024
PAGES = (
    "/",
    "/provider-status",
    "/rebalance",
    "/tasks",
    "/batches",
    "/batches/reports",
    "/costs",
    "/events",
    "/new",
    "/rows/{answered}",
    "/rows/{failed}",
    "/api/providers/status",
    "/api/dashboard",
    "/api/tasks?limit=50",
    "/static/style.css",
    "/static/app.js",
)


def get(client: FlaskClient, path: str, **headers: str) -> TestResponse:
    """The whole response, with its file closed."""
    with client.get(
        path, headers={name.replace("_", "-"): value for name, value in headers.items()}
    ) as answer:
        answer.get_data()
        return answer


@pytest.fixture
def busy(store: Store, filled: FilledState) -> None:
    """More tasks than a page lists, with prompts of some length."""
    said = "Summarise number {} of the quarterly reports, and say what has changed since the one before."
    store.intake.add_tasks(
        [Task(f"report-{i:03}", "reports", (Message("user", said.format(i)),)) for i in range(200)],
        now=filled.now - 60,
    )


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.usefixtures("busy")
def test_a_page_weighs_less_than_15_kb_over_the_wire(
    path: str, client: FlaskClient, filled: FilledState
) -> None:
    where = path.format(answered=filled.answered_row, failed=filled.failed_row)
    answer = get(client, where, **GZIP)
    assert answer.status_code == 200
    assert answer.headers["Content-Encoding"] == "gzip"
    assert len(answer.data) < MOST_BYTES, len(answer.data)
    assert int(answer.headers["Content-Length"]) == len(answer.data)
    assert len(gzip.decompress(answer.data)) > len(answer.data)


@pytest.mark.parametrize("path", ["/static/style.css", "/api/tasks", "/tasks/export.csv"])
def test_a_client_gets_the_same_with_and_without_compression(path: str, client: FlaskClient) -> None:
    plain, packed = get(client, path), get(client, path, **GZIP)
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data
    assert "Accept-Encoding" in plain.headers["Vary"] and "Accept-Encoding" in packed.headers["Vary"]
    assert (packed.status_code, packed.mimetype) == (plain.status_code, plain.mimetype)


@pytest.mark.parametrize("accepted", ["", "identity", "br", "gzip;q=0", "*;q=0"])
def test_a_client_that_does_not_accept_gzip_gets_none(accepted: str, client: FlaskClient) -> None:
    answer = get(client, "/static/style.css", Accept_Encoding=accepted)
    assert "Content-Encoding" not in answer.headers
    assert b"{" in answer.data


@pytest.mark.parametrize("path", ["/healthz", "/login"])
def test_a_short_answer_is_not_compressed(path: str, client: FlaskClient) -> None:
    assert "Content-Encoding" not in get(client, path, **GZIP).headers


@pytest.mark.parametrize("path", ["/api/providers/status", "/static/app.js"])
def test_a_compressed_answer_that_the_client_has_is_a_304(path: str, client: FlaskClient) -> None:
    first = get(client, path, **GZIP)
    assert first.headers["ETag"].startswith("W/"), "its bytes differ from those without compression"
    again = get(client, path, **GZIP, If_None_Match=first.headers["ETag"])
    assert (again.status_code, again.data) == (304, b"")
    assert "Content-Encoding" not in again.headers


def test_a_part_of_a_file_is_sent_as_it_is(client: FlaskClient) -> None:
    part = get(client, "/static/style.css", **GZIP, Range="bytes=0-999")
    assert (part.status_code, len(part.data)) == (206, 1000)
    assert "Content-Encoding" not in part.headers


def test_a_download_is_compressed_while_it_streams(client: FlaskClient, store: Store) -> None:
    ids = [str(i) for i in range(1_000)]
    store.intake.add_tasks([Task(i, "large", (Message("user", "?"),)) for i in ids], now=1.0)
    for start in range(0, 1_000, 50):  # reasons that do not compress well
        store.admin.cancel("large", ids[start : start + 50], now=2.0, why=secrets.token_hex(4_000))
    answer = client.get(
        "/tasks/export.jsonl?batch=large", headers={"Accept-Encoding": "gzip"}, buffered=False
    )
    assert "Content-Length" not in answer.headers
    unpacker, parts, plain = zlib.decompressobj(16 + zlib.MAX_WBITS), 0, b""
    for part in answer.response:
        plain += unpacker.decompress(part)
        parts += 1
    assert unpacker.eof
    assert plain.count(b"\n") == 1_000
    assert parts > 2, "it came as one piece"


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_that_another_site_asks_for_is_not_compressed(site: str, client: FlaskClient) -> None:
    answer = get(client, "/", **GZIP, Sec_Fetch_Site=site)
    assert answer.status_code == 200
    assert "Content-Encoding" not in answer.headers
    own = get(client, "/", **GZIP, Sec_Fetch_Site="same-origin")
    assert own.headers["Content-Encoding"] == "gzip"


def test_a_csrf_token_never_looks_the_same_twice(client: FlaskClient) -> None:
    tokens = [csrf_of(client, "/rebalance") for _ in range(3)]
    assert len(set(tokens)) == 3
    for token in tokens:  # and each of them is good
        done = client.post("/rebalance", data={"csrf": token, "action": "preview", "weight-openai": "100"})
        assert done.status_code == 200


@pytest.mark.parametrize("token", ["", "x", "!!!!", "AAAA", "A" * 86 + "==", "é" * 40])
def test_another_csrf_token_is_refused(token: str, client: FlaskClient) -> None:
    csrf_of(client, "/rebalance")
    refused = client.post("/rebalance", data={"csrf": token, "action": "preview", "weight-openai": "100"})
    assert refused.status_code == 403


def test_the_masked_token_hides_the_token_of_the_session(client: FlaskClient) -> None:
    shown = csrf_of(client, "/rebalance")
    with client.session_transaction() as session:
        token = session["csrf"]
    assert token not in shown
    refused = client.post("/rebalance", data={"csrf": token, "action": "preview", "weight-openai": "100"})
    assert refused.status_code == 403
