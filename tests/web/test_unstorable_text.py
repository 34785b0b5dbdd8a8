"""Text that PostgreSQL does not take never reaches it, from whatever part of a request or command."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from src.access import AccessPolicy
from src.core.clock import Clock
from src.core.store import Store
from src.web import create_app
from src.web.context import AppContext
from tests.helpers import ORCHESTRATOR, child_environment

from .conftest import csrf_of
from .filled import settings_in

NUL, SURROGATE = "a%00b", "a%ED%A0%80b"  # half of a pair arrives as U+FFFD, which is text


@pytest.fixture
def client(place: object, tmp_path: Path) -> Iterator[FlaskClient]:
    """An application over an empty store in each database."""
    with Store.open(place, simulated=True) as store:  # type: ignore[arg-type]
        access = AccessPolicy.from_environment("127.0.0.1", {})
        settings = settings_in(tmp_path)
        yield create_app(
            AppContext(settings, store, simulated=True, access=access, clock=Clock())
        ).test_client()


PATHS = [
    "/api/tasks/{}", "/api/tasks/{}/t", "/api/tasks/queue/{}", "/api/rows/{}", "/tasks/{}", "/tasks/{}/t",
    "/tasks/queue/{}", "/rows/{}", "/uploads/{}",
]  # fmt: skip


@pytest.mark.parametrize("text", [NUL, SURROGATE], ids=["NUL", "surrogate"])
def test_in_a_path_it_is_404(client: FlaskClient, caplog: pytest.LogCaptureFixture, text: str) -> None:
    with caplog.at_level(logging.ERROR):
        for each in PATHS:
            code = client.get(each.format(text)).status_code
            assert code == 404 or (code == 303 and text == SURROGATE), each  # 303: to a search for that id
            if each.startswith("/api/"):
                assert client.post(f"{each.format(text)}/cancel", json={}).status_code == 404, each
    assert not caplog.records


NAMES = ("batch", "type", "provider", "submitter", "id")
QUERIES = [
    *(f"/{kind}?{name}=" for kind in ("tasks", "api/tasks", "tasks/export.jsonl") for name in NAMES),
    "/api/tasks?status=", "/api/tasks?before=", "/api/tasks?a%00b=", "/api/events?kind=", "/api/usage?by=",
    "/?range=", "/rebalance?preset=",
]  # fmt: skip


def test_in_a_query_it_is_422_and_half_of_a_pair_is_read_as_text(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        for each in QUERIES:
            assert client.get(each + NUL).status_code == 422, each
            assert client.get(each + SURROGATE).status_code in {200, 422}, each
    assert not caplog.records


def test_in_a_form_it_is_422(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    csrf = csrf_of(client)
    with caplog.at_level(logging.ERROR):
        for path in ("/batches/cancel", "/batches/retry", "/tasks", "/providers/openai/pause"):
            form = {"csrf": csrf, "batch": "a\0b", "prompt": "a\0b"}
            assert client.post(path, data=form).status_code == 422, path
        upload = {"csrf": csrf, "template": "a\0b", "file": (io.BytesIO(b"{}"), "a.jsonl")}
        assert client.post("/uploads", data=upload).status_code == 422
    assert not caplog.records


@pytest.mark.parametrize("text", ["a\\u0000b", "a\\ud800b"], ids=["NUL", "surrogate"])
def test_in_a_json_field_it_is_422_or_escaped(
    client: FlaskClient, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    """What goes to a model may hold NUL; names may not."""
    with caplog.at_level(logging.ERROR):
        for field in ("id", "batch", "task_type", "models", "providers", "stop", "prompt"):
            value = f'["{text}"]' if field in ("models", "providers", "stop") else f'"{text}"'
            body = f'{{"prompt": "x", "{field}": {value}}}'.replace('"prompt": "x", "prompt"', '"prompt"')
            answer = client.post("/api/tasks", data=body, content_type="application/json")
            is_content = field in ("stop", "prompt") and "0000" in text
            assert answer.status_code == (202 if is_content else 422), (field, answer.json)
    assert not caplog.records


@pytest.mark.skipif(sys.platform == "win32", reason="arguments are bytes on POSIX alone")
@pytest.mark.parametrize(
    "arguments",
    [
        (b"submit", b"Why?", b"--id", b"a\xffb"),
        (b"run", b"t.jsonl", b"-o", b"a\xffb.jsonl"),
        (b"status", b"\xff"),
    ],
    ids=["id", "output", "any"],
)
def test_in_an_argument_it_is_one_line_and_exit_code_2(tmp_path: Path, arguments: tuple[bytes, ...]) -> None:
    (tmp_path / "t.jsonl").write_text('{"prompt": "x"}\n')
    done = subprocess.run(
        [os.fsencode(sys.executable), os.fsencode(ORCHESTRATOR), *arguments],
        cwd=tmp_path,
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "is not valid utf-8 text" in done.stderr and "Traceback" not in done.stderr
