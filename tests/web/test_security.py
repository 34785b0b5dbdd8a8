"""Who comes in, how guesses are slowed down, and what never reaches a page."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from src.config import load_settings
from src.core.store import Store
from src.errors import ConfigError
from src.web import create_app
from src.web.access import Door, Hosts, Throttle, Tokens
from tests.helpers import VirtualClock

from .conftest import AppMaker, csrf_of
from .filled import SCRIPT, Place

ALICE, BOB = "alices-own-long-token", "bobs-own-long-token"
TWO = {"ORCHESTRATOR_TOKENS": f"alice:{ALICE}, bob:{BOB}"}


@pytest.fixture
def guarded(make_app: AppMaker) -> Callable[[], FlaskClient]:
    app = make_app(TWO)
    return app.test_client


def sign_in(client: FlaskClient, token: str = ALICE, target: str = "/") -> int:
    form = {"token": token, "next": target, "csrf": csrf_of(client, "/login")}
    return client.post("/login", data=form).status_code


def test_signing_in_sets_a_cookie_that_scripts_and_other_sites_cant_use(
    guarded: Callable[[], FlaskClient],
) -> None:
    client = guarded()
    form = {"token": ALICE, "csrf": csrf_of(client, "/login"), "next": "/tasks"}
    response = client.post("/login", data=form)
    assert (response.status_code, response.headers["Location"]) == (303, "/tasks")
    cookie = response.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert ALICE not in cookie
    assert "Sign out alice" in client.get("/").text


def test_signing_out_ends_it(guarded: Callable[[], FlaskClient]) -> None:
    client = guarded()
    sign_in(client)
    assert client.post("/logout", data={"csrf": csrf_of(client)}).status_code == 303
    assert client.get("/").status_code == 303


@pytest.mark.parametrize(
    "target",
    ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:x", "\\\\evil", "/\n/x"],
)
def test_after_signing_in_one_stays_here(guarded: Callable[[], FlaskClient], target: str) -> None:
    client = guarded()
    form = {"token": ALICE, "csrf": csrf_of(client, "/login"), "next": target}
    assert client.post("/login", data=form).headers["Location"] == "/"


def test_a_forged_cookie_and_one_of_a_changed_token_are_nothing(make_app: AppMaker) -> None:
    client = make_app(TWO).test_client()
    name = client.application.config["SESSION_COOKIE_NAME"]
    sign_in(client)
    cookie = client.get_cookie(name)
    assert cookie is not None
    changed = make_app({"ORCHESTRATOR_TOKENS": f"alice:another-token,bob:{BOB}"}).test_client()
    changed.set_cookie(name, cookie.value)
    assert changed.get("/").status_code == 303
    forged = make_app(TWO).test_client()
    forged.set_cookie(name, cookie.value[:-3] + "abc")
    assert forged.get("/").status_code == 303


def test_a_restart_signs_nobody_out(make_app: AppMaker) -> None:
    client = make_app(TWO).test_client()
    name = client.application.config["SESSION_COOKIE_NAME"]
    sign_in(client)
    cookie = client.get_cookie(name)
    assert cookie is not None
    restarted = make_app(TWO).test_client()
    restarted.set_cookie(name, cookie.value)
    assert restarted.get("/").status_code == 200


def test_names_stand_in_history_and_usage(guarded: Callable[[], FlaskClient], store: Store) -> None:
    client = guarded()
    as_bob = {"Authorization": f"Bearer {BOB}"}
    client.post("/api/providers/rebalance", json={"preset": "equal"}, headers=as_bob)
    task = client.post("/api/tasks", json={"prompt": "Whose?"}, headers=as_bob).json["task"]
    assert store.settings_history()[0].who == "bob"
    assert task["submitter"] == "bob"


def test_the_api_takes_a_session_only_with_the_pages_word(guarded: Callable[[], FlaskClient]) -> None:
    client = guarded()
    sign_in(client)
    csrf = csrf_of(client)
    assert client.get("/api/providers/status").status_code == 200
    assert client.post("/api/providers/openai/pause").json["error"]["code"] == "csrf"
    assert client.post("/api/providers/openai/pause", headers={"X-CSRF-Token": csrf}).status_code == 202


@pytest.mark.parametrize(
    "path", ["/tasks", "/rebalance", "/providers/openai/pause", "/batches/retry", "/uploads"]
)
def test_a_form_without_its_word_is_refused(client: FlaskClient, path: str) -> None:
    csrf_of(client)
    for given in ({}, {"csrf": "guess"}, {"csrf": "ü"}):
        response = client.post(path, data=given)
        assert response.status_code == 403
        assert "earlier session" in response.text


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"])
def test_the_api_takes_nothing_that_a_form_could_send(client: FlaskClient, kind: str) -> None:
    for path in ("/api/tasks", "/api/providers/openai/pause"):
        response = client.post(path, data=b'{"prompt": "x"}', content_type=kind)
        assert response.json["error"]["code"] == "unsupported_media_type"


def test_guessing_is_slowed_down_and_ends_with_the_right_token(place: Place, store: Store) -> None:
    clock = VirtualClock(place.now)
    app = create_app(place.settings, store, simulated=True, door=Door.of("127.0.0.1", TWO), clock=clock)
    client = app.test_client()

    def ask(token: str) -> int:
        return client.get("/api/events", headers={"Authorization": f"Bearer {token}"}).status_code

    assert [ask("wrong") for _ in range(5)] == [401] * 5
    assert ask("wrong") == ask(ALICE) == 429
    clock.advance(1.1)
    assert ask("wrong") == 401
    refused = client.get("/api/events", headers={"Authorization": f"Bearer {ALICE}"})
    assert refused.headers["Retry-After"] == "3"
    assert sign_in(client) == 429
    clock.advance(2.1)
    assert ask(ALICE) == 200
    assert ask("wrong") == 401


def test_the_throttle_keeps_a_bounded_number_of_addresses() -> None:
    throttle = Throttle()
    for number in range(5000):
        throttle.failed(f"10.0.{number // 256}.{number % 256}", 0.0)
    assert len(throttle._failures) <= 1001


def test_every_token_is_compared_and_none_is_shown() -> None:
    tokens = Tokens.from_environment(TWO)
    assert (tokens.name_of(ALICE), tokens.name_of(BOB), tokens.name_of(ALICE + "x")) == ("alice", "bob", None)
    assert tokens.name_of("ü\udcff") is None
    assert ALICE not in repr(tokens)
    assert ALICE not in repr(vars(tokens))
    assert not Tokens.from_environment({})


@pytest.mark.parametrize("given", ["alice", "alice:", ":token", "alice:a,alice:b"])
def test_tokens_that_make_no_sense_are_told(given: str) -> None:
    with pytest.raises(ConfigError, match="name:token"):
        Tokens.from_environment({"ORCHESTRATOR_TOKENS": given})


def test_beyond_this_machine_only_with_a_token() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "my-server"):
        with pytest.raises(ConfigError, match="ORCHESTRATOR_TOKEN"):
            Door.of(host, {})
        assert Door.of(host, {"ORCHESTRATOR_TOKEN": "x"}).tokens
    for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9"):
        assert not Door.of(host, {}).tokens


@pytest.mark.parametrize(
    ("bound", "header", "fine"),
    [
        ("127.0.0.1", "localhost:5000", True),
        ("127.0.0.1", "LOCALHOST", True),
        ("127.0.0.1", "[::1]:5000", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "192.168.1.5:5000", False),
        ("127.0.0.1", "localhost.", False),
        ("127.0.0.1", "", False),
        ("0.0.0.0", "192.168.1.5:5000", True),
        ("0.0.0.0", "pool.example.org", True),
        ("0.0.0.0", "evil.example", False),
    ],
)
def test_a_host_header_is_held_against_the_names_of_this_server(bound: str, header: str, fine: bool) -> None:
    assert Hosts(bound, ["pool.example.org"]).answers_to(header) is fine


def test_what_a_model_says_is_never_markup(client: FlaskClient, place: Place) -> None:
    for path in (
        f"/rows/{place.answered_row}",
        "/tasks",
        "/",
        "/tasks?batch=queue&type=%3Cscript%3E",
        "/rebalance",
    ):
        page = client.get(path).text
        assert SCRIPT not in page
        assert "<script>" not in page
        assert " onerror=" not in page.replace("onerror=alert(1)&gt;", "")


def test_no_page_has_inline_script_or_style(client: FlaskClient, place: Place) -> None:
    for path in ("/", "/provider-status", "/rebalance", "/tasks", f"/rows/{place.answered_row}", "/nothing"):
        page = client.get(path).text
        assert page.count("<script") == page.count('<script src="/static/app.js" defer></script>') == 1
        for word in (" style=", "<style", " onclick=", "javascript:", "http://", "https://"):
            assert word not in page, (path, word)


def test_keys_are_never_on_a_page(tmp_path: Path) -> None:
    """Keys do not even reach the application: it is given the names of the providers that have one."""
    settings = load_settings(environ={}).model_copy(update={"state_dir": tmp_path})
    with Store.open(tmp_path / "live.db", simulated=False) as store:
        app = create_app(settings, store, simulated=False, configured={"openai"})
        page = app.test_client().get("/provider-status").text
        status = app.test_client().get("/api/providers/status").json
    assert "ANTHROPIC_API_KEY" in page
    assert [p["state"] for p in status["providers"]] == ["not_configured", "unknown", "not_configured"]
    assert status["simulated"] is False


def test_a_body_is_limited_but_where_tasks_come_in(client: FlaskClient) -> None:
    large = {"weights": {"openai": 1.0}, "x": "y" * 2_000_000}
    response = client.post("/api/providers/rebalance", json=large)
    assert (response.status_code, response.json["error"]["code"]) == (413, "too_large")
    assert client.post("/api/tasks", json={"prompt": "y" * 2_000_000}).status_code == 202
    form = {"csrf": csrf_of(client), "prompt": "y" * 2_000_000}
    assert client.post("/tasks", data=form).status_code == 413


def test_no_stack_trace_reaches_a_page(
    client: FlaskClient, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    client.application.extensions["site"].clock = None  # type: ignore[attr-defined]
    for path in ("/", "/api/providers/status"):
        response = client.get(path)
        assert response.status_code == 500
        assert "AttributeError" not in response.text
        assert "The log says what" in response.text
    assert "AttributeError" in caplog.text


def test_a_store_that_is_gone_is_told_in_one_shape(client: FlaskClient, place: Place) -> None:
    client.application.extensions["site"].store.close()  # type: ignore[attr-defined]
    for path in place.database.parent.glob("simulated.db*"):
        path.write_bytes(b"this is no database" * 1000)
    assert client.get("/readyz").status_code == 503
    response = client.get("/api/tasks")
    assert (response.status_code, response.json["error"]["code"]) == (503, "store_unavailable")
    assert "The database can" in client.get("/tasks").text
    assert client.get("/healthz").status_code == 200


def test_the_secret_that_signs_cookies_is_for_this_user_alone(client: FlaskClient, place: Place) -> None:
    secret = place.settings.state_dir / "web_secret"
    assert secret.stat().st_mode & 0o077 == 0
    assert len(secret.read_bytes()) == 32


@pytest.mark.parametrize("levels", [4, 6, 12])
def test_schemas_that_grow_with_every_level_are_refused_and_the_server_goes_on(
    client: FlaskClient, levels: int
) -> None:
    definitions: dict[str, Any] = {
        f"d{level}": {"allOf": [{"$ref": f"#/$defs/d{level + 1}"}] * 10} for level in range(levels)
    }
    schema = {"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{levels}": {"type": "object"}}}
    began = time.monotonic()
    for number in range(16):
        task = {"prompt": "Why?", "response_schema": {**schema, "title": str(number)}}
        answer = client.post("/api/tasks", json=task)
        assert answer.status_code == 422 and "references when all are written out" in answer.text
    assert client.get("/healthz").status_code == 200
    assert time.monotonic() - began < 20


def test_an_uploaded_name_cant_leave_its_folder(client: FlaskClient, place: Place) -> None:
    form = {"csrf": csrf_of(client), "file": (io.BytesIO(b"a\n"), "../../../etc/evil.txt")}
    response = client.post("/uploads", data=form)
    assert response.status_code == 303
    assert "evil.txt" in client.get(response.headers["Location"]).text
    kept = list((place.settings.state_dir / "uploads").iterdir())
    assert len(kept) == 2
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept)
    for word in ("..%2f..%2fweb_secret", "....................", "a" * 24):
        assert client.get(f"/uploads/{word}").status_code == 404
