"""Access control, throttling of guesses, and text that must never reach a page."""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import url_for
from flask.testing import FlaskClient

from src.access import AccessPolicy, AllowedHosts, Throttle, network_of
from src.config import load_settings
from src.core.store import Store
from src.errors import ConfigError
from src.tokens import Tokens
from src.web import create_app, uploads
from src.web.context import AppContext
from src.web.roles import ALLOWED, OPEN_ENDPOINTS
from tests.helpers import VirtualClock

from .conftest import AppMaker, csrf_of
from .filled import ME, SCRIPT, FilledState

ALICE, BOB = "alices-own-long-token", "bobs-own-long-token"
CAROL, DAVE = "carols-own-long-token", "daves-own-long-token"
TWO = {"ORCHESTRATOR_TOKENS": f"alice:{ALICE}:operate, bob:{BOB}:operate"}
ROLES = {"ORCHESTRATOR_TOKENS": f"alice:{ALICE}, bob:{BOB}:submit, carol:{CAROL}:read, dave:{DAVE}:operate"}
BEARERS = {
    name: {"Authorization": f"Bearer {token}"}
    for name, token in {"alice": ALICE, "bob": BOB, "carol": CAROL, "dave": DAVE}.items()
}


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


def test_signing_out_ends_the_session(guarded: Callable[[], FlaskClient]) -> None:
    client = guarded()
    sign_in(client)
    assert client.post("/logout", data={"csrf": csrf_of(client)}).status_code == 303
    assert client.get("/").status_code == 303


@pytest.mark.parametrize(
    "target",
    ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:x", "\\\\evil", "/\n/x"],
)
def test_signing_in_never_redirects_to_another_site(guarded: Callable[[], FlaskClient], target: str) -> None:
    client = guarded()
    form = {"token": ALICE, "csrf": csrf_of(client, "/login"), "next": target}
    assert client.post("/login", data=form).headers["Location"] == "/"


def test_a_forged_cookie_and_one_of_a_changed_token_are_invalid(make_app: AppMaker) -> None:
    client = make_app(TWO).test_client()
    name = client.application.config["SESSION_COOKIE_NAME"]
    sign_in(client)
    cookie = client.get_cookie(name)
    assert cookie is not None
    changed = make_app({"ORCHESTRATOR_TOKENS": f"alice:another-long-token,bob:{BOB}"}).test_client()
    changed.set_cookie(name, cookie.value)
    assert changed.get("/").status_code == 303
    forged = make_app(TWO).test_client()
    forged.set_cookie(name, cookie.value[:-3] + "abc")
    assert forged.get("/").status_code == 303


def test_sessions_survive_a_restart(make_app: AppMaker) -> None:
    client = make_app(TWO).test_client()
    name = client.application.config["SESSION_COOKIE_NAME"]
    sign_in(client)
    cookie = client.get_cookie(name)
    assert cookie is not None
    restarted = make_app(TWO).test_client()
    restarted.set_cookie(name, cookie.value)
    assert restarted.get("/").status_code == 200


def test_history_and_usage_name_the_caller(guarded: Callable[[], FlaskClient], store: Store) -> None:
    client = guarded()
    as_bob = {"Authorization": f"Bearer {BOB}"}
    client.post("/api/providers/rebalance", json={"preset": "equal"}, headers=as_bob)
    task = client.post("/api/tasks", json={"prompt": "Whose?"}, headers=as_bob).json["task"]
    assert store.controls.settings_history()[0].who == "bob"
    assert task["submitter"] == "bob"


def test_the_api_accepts_a_session_only_with_a_csrf_token(guarded: Callable[[], FlaskClient]) -> None:
    client = guarded()
    sign_in(client)
    csrf = csrf_of(client)
    assert client.get("/api/providers/status").status_code == 200
    assert client.post("/api/providers/openai/pause").json["error"]["code"] == "csrf"
    assert client.post("/api/providers/openai/pause", headers={"X-CSRF-Token": csrf}).status_code == 202


@pytest.mark.parametrize(
    "path", ["/tasks", "/rebalance", "/providers/openai/pause", "/batches/retry", "/uploads"]
)
def test_a_form_without_its_csrf_token_is_refused(client: FlaskClient, path: str) -> None:
    csrf_of(client)
    for given in ({}, {"csrf": "guess"}, {"csrf": "ü"}):
        response = client.post(path, data=given)
        assert response.status_code == 403
        assert "earlier session" in response.text


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"])
def test_the_api_accepts_no_media_type_of_a_form(client: FlaskClient, kind: str) -> None:
    for path in ("/api/tasks", "/api/providers/openai/pause"):
        response = client.post(path, data=b'{"prompt": "x"}', content_type=kind)
        assert response.json["error"]["code"] == "unsupported_media_type"


def test_guesses_are_throttled_and_a_right_token_always_works(filled: FilledState, store: Store) -> None:
    clock = VirtualClock(filled.now)
    app = create_app(
        AppContext(
            filled.settings,
            store,
            simulated=True,
            access=AccessPolicy.from_environment("127.0.0.1", TWO),
            clock=clock,
        )
    )
    client = app.test_client()

    def status_of(token: str, address: str = "127.0.0.1") -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return client.get("/api/events", headers=headers, environ_base={"REMOTE_ADDR": address}).status_code

    assert [status_of("wrong") for _ in range(5)] == [401] * 5
    assert (status_of("wrong"), status_of(ALICE), status_of("wrong")) == (
        429,
        200,
        429,
    )  # and Alice's coming in resets nothing
    assert sign_in(client) == 303
    assert (status_of("wrong", "127.0.0.200"), status_of("wrong", "127.0.1.1")) == (
        429,
        401,
    )  # counted by network
    clock.advance(1.1)
    assert status_of("wrong") == 401
    refused = client.get("/api/events", headers={"Authorization": "Bearer wrong"})
    assert refused.headers["Retry-After"] == "3"
    clock.advance(7200.0)
    assert [status_of("wrong") for _ in range(5)] == [401] * 5


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("203.0.113.7", "203.0.113.200", True),
        ("203.0.113.7", "203.0.114.7", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:203.0.113.7", "203.0.113.9", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_addresses_are_counted_by_network(one: str, other: str, together: bool) -> None:
    assert (network_of(one) == network_of(other)) is together


@pytest.mark.parametrize(
    ("peer", "header", "counted"),
    [
        ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "1.1.1.1, 203.0.113.7", "203.0.113.7"),  # the first one is what the client has written
        ("::ffff:10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("198.51.100.1", "203.0.113.7", "198.51.100.1"),
        ("198.51.100.1", "127.0.0.1", "198.51.100.1"),
    ],
)
def test_forwarding_headers_count_only_from_trusted_proxies(
    make_app: AppMaker, peer: str, header: str, counted: str
) -> None:
    app = make_app({**TWO, "ORCHESTRATOR_TRUSTED_PROXIES": "10.0.0.0/8, ::1"})
    headers = {"X-Forwarded-For": header, "X-Forwarded-Proto": "https", "Authorization": "Bearer wrong"}
    app.test_client().get("/api/events", headers=headers, environ_base={"REMOTE_ADDR": peer})
    assert list(app.extensions["orchestrator"].access.throttle._failures) == [network_of(counted)]


def test_proxies_must_be_addresses_or_networks() -> None:
    with pytest.raises(ConfigError, match="ORCHESTRATOR_TRUSTED_PROXIES"):
        AccessPolicy.from_environment("127.0.0.1", {"ORCHESTRATOR_TRUSTED_PROXIES": "my-proxy"})


def test_a_cookie_is_secure_if_the_proxy_speaks_tls(make_app: AppMaker) -> None:
    app = make_app({**TWO, "ORCHESTRATOR_TRUSTED_PROXIES": "127.0.0.1"})
    for proto, secure in (("https", True), ("http", False)):
        client = app.test_client()
        headers = {"X-Forwarded-Proto": proto, "X-Forwarded-For": "203.0.113.7"}
        cookie = client.get("/login", headers=headers).headers["Set-Cookie"]
        assert ("Secure" in cookie) is secure


def test_signing_out_ends_copies_of_the_cookie_even_after_a_restart(make_app: AppMaker) -> None:
    client = make_app(TWO).test_client()
    name = client.application.config["SESSION_COOKIE_NAME"]
    sign_in(client)
    copied = client.get_cookie(name)
    assert copied is not None
    other = make_app(TWO).test_client()
    other.set_cookie(name, copied.value)
    assert other.get("/").status_code == 200
    client.post("/logout", data={"csrf": csrf_of(client)})
    for thief in (other, make_app(TWO).test_client()):
        thief.set_cookie(name, copied.value)
        for path in ("/", "/healthz", "/login"):  # none of them signs the cookie anew
            assert "Max-Age=12" not in thief.get(path).headers.get("Set-Cookie", "")
        thief.set_cookie(name, copied.value)
        assert thief.get("/").status_code == 303
        assert thief.get("/api/tasks").status_code == 401
    assert sign_in(client) == 303 and client.get("/").status_code == 200


def test_polling_without_a_session_does_not_break_signing_in(make_app: AppMaker) -> None:
    client = make_app(TWO).test_client()
    form = {"token": ALICE, "csrf": csrf_of(client, "/login")}
    assert client.get("/api/providers/status").status_code == 401
    assert client.get("/").status_code == 303
    assert client.post("/login", data=form).status_code == 303


def test_a_session_ends_after_two_weeks_of_use(filled: FilledState, store: Store) -> None:
    clock = VirtualClock(filled.now)
    app = create_app(
        AppContext(
            filled.settings,
            store,
            simulated=True,
            access=AccessPolicy.from_environment("127.0.0.1", TWO),
            clock=clock,
        )
    )
    client = app.test_client()
    sign_in(client)
    for _ in range(14):
        clock.advance(86_000.0)
        assert client.get("/tasks").status_code == 200
    clock.advance(86_000.0)
    assert client.get("/tasks").status_code == 303


def test_the_throttle_keeps_a_bounded_number_of_addresses() -> None:
    throttle = Throttle()
    for number in range(5000):
        throttle.failed(f"10.0.{number // 256}.{number % 256}", 0.0)
    assert len(throttle._failures) <= 1001


def test_every_token_is_compared_and_none_is_in_the_repr() -> None:
    tokens = Tokens.from_environment(TWO)
    found = [
        None if (token := tokens.find(text)) is None else token.name for text in (ALICE, BOB, ALICE + "x")
    ]
    assert found == ["alice", "bob", None]
    assert tokens.find("ü\udcff") is None
    assert ALICE not in repr(tokens)
    assert ALICE not in repr(vars(tokens))
    assert not Tokens.from_environment({})


@pytest.mark.parametrize(
    ("given", "why"),
    {
        "alice": "name:token",
        "alice:": "name:token",
        f":{ALICE}": "name:token",
        f"alice:{ALICE}:submit:more": "name:token",
        f"alice:{ALICE}:": "name:token",
        f"alice:{ALICE}:admin": "role of alice",
        f"alice:{ALICE},alice:{BOB}": "alice occurs twice",
        f"alice:{ALICE},bob:{ALICE}": "same token",
        f"local:{ALICE}": "local",
        f"a\x1blice:{ALICE}": "printable",
        "alice:a": "16",
        "alice:fifteen-letters": "16",
    }.items(),
)
def test_unsafe_tokens_are_refused_and_not_repeated(given: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as refused:
        Tokens.from_environment({"ORCHESTRATOR_TOKENS": given})
    assert ALICE not in str(refused.value) and BOB not in str(refused.value)


def test_a_short_single_token_and_a_shared_one_are_refused() -> None:
    for given in ({"ORCHESTRATOR_TOKEN": "a"}, {"ORCHESTRATOR_TOKEN": ALICE, **TWO}):
        with pytest.raises(ConfigError):
            AccessPolicy.from_environment("0.0.0.0", given)


def test_listening_beyond_this_machine_needs_a_token() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "my-server"):
        with pytest.raises(ConfigError, match="ORCHESTRATOR_TOKEN"):
            AccessPolicy.from_environment(host, {})
        assert AccessPolicy.from_environment(host, {"ORCHESTRATOR_TOKEN": "x" * 16}).tokens
    for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9"):
        assert not AccessPolicy.from_environment(host, {}).tokens


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
def test_a_host_header_must_be_a_name_of_this_server(bound: str, header: str, fine: bool) -> None:
    assert AllowedHosts(bound, ["pool.example.org"]).allows(header) is fine


def test_text_of_a_model_is_never_markup(client: FlaskClient, filled: FilledState) -> None:
    for path in (
        f"/rows/{filled.answered_row}",
        "/tasks",
        "/",
        "/tasks?batch=queue&type=%3Cscript%3E",
        "/rebalance",
    ):
        page = client.get(path).text
        assert SCRIPT not in page
        assert "<script>" not in page
        assert " onerror=" not in page.replace("onerror=alert(1)&gt;", "")


def test_no_page_has_inline_script_or_style(client: FlaskClient, filled: FilledState) -> None:
    lists = ("/batches", "/tasks", "/costs", "/events", "/nothing")
    for path in ("/", "/new", "/provider-status", "/rebalance", *lists, f"/rows/{filled.answered_row}"):
        page = client.get(path).text
        assert page.count("<script") == page.count('<script src="/static/app.js" defer></script>') == 1
        for word in (" style=", "<style", " onclick=", "javascript:"):
            assert word not in page, (path, word)
        assert re.search(r'(src|href|action)="(https?:)?//', page) is None, path


def test_keys_are_never_on_a_page(tmp_path: Path) -> None:
    """Keys do not reach the application, only the names of the providers that have one."""
    settings = load_settings(environ={}).model_copy(update={"state_dir": tmp_path})
    with Store.open(tmp_path / "live.db", simulated=False) as store:
        app = create_app(AppContext(settings, store, simulated=False, providers={"openai"}))
        page = app.test_client().get("/provider-status").text
        status = app.test_client().get("/api/providers/status").json
    assert "ANTHROPIC_API_KEY" in page
    assert [p["state"] for p in status["providers"]] == ["not_configured", "unknown", "not_configured"]
    assert status["simulated"] is False


def test_bodies_are_small_except_where_tasks_are_submitted(client: FlaskClient) -> None:
    large = {"weights": {"openai": 1.0}, "x": "y" * 2_000_000}
    response = client.post("/api/providers/rebalance", json=large)
    assert (response.status_code, response.json["error"]["code"]) == (413, "too_large")
    assert client.post("/api/tasks", json={"prompt": "y" * 2_000_000}).status_code == 202
    form = {"csrf": csrf_of(client), "prompt": "y" * 2_000_000}
    assert client.post("/tasks", data=form).status_code == 413


def test_no_stack_trace_reaches_a_page(
    client: FlaskClient, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    client.application.extensions["orchestrator"].clock = None  # type: ignore[attr-defined]
    for path in ("/", "/api/providers/status"):
        response = client.get(path)
        assert response.status_code == 500
        assert "AttributeError" not in response.text
        assert "see the log" in response.text
    assert "AttributeError" in caplog.text


def test_an_unavailable_database_is_503_in_one_shape(client: FlaskClient, filled: FilledState) -> None:
    client.application.extensions["orchestrator"].store.close()  # type: ignore[attr-defined]
    for path in filled.database.parent.glob("simulated.db*"):
        path.write_bytes(b"this is no database" * 1000)
    assert client.get("/readyz").status_code == 503
    response = client.get("/api/tasks")
    assert (response.status_code, response.json["error"]["code"]) == (503, "store_unavailable")
    assert "Database unavailable" in client.get("/tasks").text
    assert client.get("/healthz").status_code == 200


def test_the_key_that_signs_cookies_is_private_to_the_user(client: FlaskClient, filled: FilledState) -> None:
    secret = filled.settings.state_dir / "web_secret"
    assert secret.stat().st_mode & 0o077 == 0
    assert len(secret.read_bytes()) == 32


@pytest.mark.parametrize("levels", [4, 6, 12])
def test_exponential_schemas_are_refused_and_the_server_goes_on(client: FlaskClient, levels: int) -> None:
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


def test_an_uploaded_name_cant_leave_its_folder(client: FlaskClient, filled: FilledState) -> None:
    form = {"csrf": csrf_of(client), "file": (io.BytesIO(b"a\n"), "../../../etc/evil.txt")}
    response = client.post("/uploads", data=form)
    assert response.status_code == 303
    assert "evil.txt" in client.get(response.headers["Location"]).text
    kept = list((filled.settings.state_dir / "uploads").iterdir())
    assert len(kept) == 2
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept)
    for word in ("..%2f..%2fweb_secret", "....................", "a" * 24):
        assert client.get(f"/uploads/{word}").status_code == 404


# ------------------------------------------------------------------ roles


def test_every_endpoint_is_in_the_table_of_roles(make_app: AppMaker) -> None:
    endpoints = {rule.endpoint for rule in make_app().url_map.iter_rules()}
    assert endpoints == {*ALLOWED, *OPEN_ENDPOINTS}
    assert not set(ALLOWED) & OPEN_ENDPOINTS


@pytest.mark.parametrize("role", ["submit", "read", "operate"])
def test_a_role_reaches_its_endpoints_and_no_others(make_app: AppMaker, role: str) -> None:
    """Every route with each of its methods; only refusals by role are checked."""
    app = make_app(ROLES)
    client = app.test_client()
    bearer = BEARERS[{"submit": "alice", "read": "carol", "operate": "dave"}[role]]
    values = {"row": "1", "task_id": "x", "batch": "x", "upload_id": "x", "name": "openai", "kind": "jsonl"}
    values["number"] = "1"
    for rule in app.url_map.iter_rules():
        if rule.endpoint in OPEN_ENDPOINTS:
            continue
        verb = "undo" if "rebalance" in rule.rule else "pause" if "<name>" in rule.rule else "cancel"
        with app.test_request_context():
            path = url_for(
                rule.endpoint, **{k: v for k, v in (values | {"verb": verb}).items() if k in rule.arguments}
            )
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            answer = client.open(path, method=method, json={} if method == "POST" else None, headers=bearer)
            assert (answer.status_code == 403) is (role not in ALLOWED[rule.endpoint]), (path, method)


@pytest.fixture
def shared(make_app: AppMaker) -> FlaskClient:
    """A server with four callers. Alice has a failed task in the queue and one in a batch of her own."""
    client = make_app(ROLES).test_client()
    for body in (
        {"id": "hers", "prompt": "A secret of Alice's"},
        {"id": "b", "prompt": "Another", "batch": "alices"},
    ):
        assert client.post("/api/tasks", json=body, headers=BEARERS["alice"]).status_code == 202
    return client


HERS = (
    "/api/tasks/hers",
    "/api/tasks/queue/hers",
    "/api/tasks/alices/b",
    "/tasks/queue/hers",
    "/tasks/alices/b",
)


def test_a_page_shows_no_button_that_the_role_may_not_use(shared: FlaskClient, filled: FilledState) -> None:
    pages = ("/", "/new", "/provider-status", "/rebalance", f"/rows/{filled.failed_row}")
    for name, texts in {
        "alice": {">Submit<": True, ">Rebalance<": False, ">Pause": False},
        "carol": {
            ">Submit<": False,
            ">Rebalance<": True,
            ">Pause": False,
            ">Apply<": False,
            "Run again<": False,
        },
        "dave": {">Submit<": True, ">Rebalance<": True, ">Pause": True, ">Apply<": True, "Run again<": True},
    }.items():
        said = "".join(shared.get(path, headers=BEARERS[name]).text for path in pages)
        for text, shown in texts.items():
            assert (text in said) is shown, (name, text)


def test_a_submitter_does_not_find_tasks_of_others(shared: FlaskClient) -> None:
    row = shared.get("/api/tasks/hers", headers=BEARERS["alice"]).json["row"]
    for path in (*HERS, f"/api/rows/{row}", f"/rows/{row}"):
        answers = {name: shared.get(path, headers=bearer) for name, bearer in BEARERS.items()}
        found = {name: answer.status_code for name, answer in answers.items()}
        assert found == {"alice": 200, "bob": 404, "carol": 200, "dave": 200}, path
        assert "secret of Alice" not in answers["bob"].text
    for path in ("/api/tasks", "/tasks", "/tasks?submitter=alice", "/api/tasks?batch=alices", "/api/batches",
                 "/tasks/export.jsonl", "/tasks/export.csv?batch=alices", "/", "/api/dashboard"):  # fmt: skip
        said = shared.get(path, headers=BEARERS["bob"]).text
        assert "secret of Alice" not in said and "alices" not in said.replace("batch=alices", ""), path
    for name in ("alice", "carol"):
        assert "alices" in shared.get("/api/batches", headers=BEARERS[name]).text
        assert "secret of Alice" in shared.get("/api/tasks", headers=BEARERS[name]).text


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/tasks/hers/cancel", {}, 404),
        ("/api/tasks/alices/b/retry", {}, 404),
        ("/api/batches/cancel", {"batch": "alices"}, 404),
        ("/api/batches/retry", {"batch": "alices"}, 404),
        ("/api/tasks", {"prompt": "mine", "batch": "alices"}, 409),
        ("/api/tasks", {"id": "hers", "prompt": "A secret of Alice's"}, 409),
        ("/api/tasks", {"id": "hers", "prompt": "other"}, 409),
        ("/api/tasks", {"prompt": "first!", "priority": 10}, 422),
        ("/api/providers/openai/pause", {}, 403),
        ("/api/providers/rebalance", {"preset": "equal"}, 403),
    ],
)
def test_a_submitter_cannot_change_tasks_of_others(
    shared: FlaskClient, store: Store, path: str, body: dict[str, Any], status: int
) -> None:
    before = store.reports.task_counts()
    answer = shared.post(path, json=body, headers=BEARERS["bob"])
    assert answer.status_code == status and "secret" not in answer.text
    assert store.reports.task_counts() == before


def test_a_submitter_that_cancels_the_queue_cancels_only_their_tasks(
    shared: FlaskClient, store: Store
) -> None:
    shared.post("/api/tasks", json={"id": "bobs", "prompt": "Mine"}, headers=BEARERS["bob"])
    done = shared.post("/api/batches/cancel", json={"batch": "queue"}, headers=BEARERS["bob"]).json
    assert done["cancelled"] == 1
    assert store.tasks.statuses("queue", ["bobs", "hers"]) == {"bobs": "cancelled", "hers": "queued"}
    again = shared.post("/api/batches/retry", json={"batch": "queue"}, headers=BEARERS["bob"]).json
    assert again["queued"] == 1


def test_a_retry_is_billed_to_its_caller_and_changes_name_theirs(shared: FlaskClient, store: Store) -> None:
    for verb in ("cancel", "retry"):
        for path in (f"/api/tasks/hers/{verb}", f"/api/tasks/alices/b/{verb}"):
            assert shared.post(path, headers=BEARERS["dave"]).status_code == 202
    assert store.tasks.submitters("queue", ["hers"]) == {"hers": "dave"}
    assert store.tasks.submitters("alices", ["b"]) == {"b": "dave"}
    claimed = {task.id: task.submitter for task in store.queue.claim(ME, 50, now=0.0)}
    assert (claimed["hers"], claimed["b"]) == ("dave", "dave")
    assert (
        shared.get("/api/tasks/alices/b", headers=BEARERS["alice"]).status_code == 200
    )  # it is in her batch
    shared.post("/api/batches/cancel", json={"batch": "alices"}, headers=BEARERS["dave"])
    shared.post("/api/batches/retry", json={"batch": "alices"}, headers=BEARERS["dave"])
    shared.post("/api/providers/openai/pause", headers=BEARERS["dave"])
    made = {event.event.kind: event.event.message for event in store.events.recent(20)}
    for kind in ("task_cancelled", "task_retried", "batch_cancelled", "batch_retried", "provider_pause"):
        assert made[kind].startswith("dave "), kind


@pytest.mark.parametrize(("name", "most"), [("bob", 9), ("dave", 1_000_000)])
def test_a_priority_is_limited_by_role(shared: FlaskClient, name: str, most: int) -> None:
    for priority, status in ((most, 202), (most + 1, 422)):
        body = {"prompt": f"Is {priority} allowed?", "priority": priority}
        assert shared.post("/api/tasks", json=body, headers=BEARERS[name]).status_code == status


def test_a_submitter_cannot_use_the_upload_of_another(shared: FlaskClient) -> None:
    alice, bob = shared, shared.application.test_client()
    sign_in(alice, ALICE)
    sign_in(bob, BOB)
    form = {"csrf": csrf_of(alice), "file": (io.BytesIO(b'{"prompt": "A secret"}\n'), "mine.jsonl")}
    address = alice.post("/uploads", data=form).headers["Location"]
    assert bob.get(address).status_code == 404
    for action in ("start", "template"):
        assert bob.post(address, data={"csrf": csrf_of(bob), "action": action}).status_code == 404
    bob.post(address, data={"csrf": csrf_of(bob), "action": "drop"})
    assert alice.get(address).status_code == 200
    high = {"csrf": csrf_of(bob), "file": (io.BytesIO(b'{"prompt": "x", "priority": 10}\n'), "x.jsonl")}
    assert bob.post("/uploads", data=high).status_code == 422
    taken = {"csrf": csrf_of(alice), "batch": "bobs"}
    bob.post("/api/tasks", json={"prompt": "x", "batch": "bobs"}, headers=BEARERS["bob"])
    assert alice.post(address, data=taken).status_code == 409


# ------------------------------------------------------------------ what enters


@pytest.mark.parametrize(
    "name", ["a\x1b[31mb", "a\r\nb", "a\nb", "a\x00b", "a\u202eb", "a\x9bb", "", " ", "\u3000", "x" * 501]
)
def test_the_name_of_a_batch_is_safe_for_terminals_and_logs(
    client: FlaskClient, store: Store, name: str
) -> None:
    before = len(store.reports.batches())
    for path, body in (
        ("/api/tasks", {"prompt": "x", "batch": name}),
        ("/api/batches/cancel", {"batch": name}),
        ("/api/batches/retry", {"batch": name}),
    ):
        assert client.post(path, json=body).status_code == 422, path
    form = {"csrf": csrf_of(client), "file": (io.BytesIO(b'{"prompt": "x"}\n'), "a\x1b[31mb.jsonl")}
    address = client.post("/uploads", data=form).headers["Location"]
    assert "\x1b" not in client.get(address).text
    if name.strip():  # an empty field means the file's name
        assert client.post(address, data={"csrf": csrf_of(client), "batch": name}).status_code == 422
    assert len(store.reports.batches()) == before


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "Infinity", "-Infinity", "[1e999]"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/tasks", '{"prompt": "x", "metadata": {"a": %s}}'),
        ("/api/tasks", '{"prompt": "x", "response_schema": {"type": "number", "maximum": %s}}'),
        ("/api/tasks", '{"prompt": "x", "temperature": %s}'),
        ("/api/tasks", '{"prompt": "x", "priority": %s}'),
        ("/api/tasks", '{"prompt": "x", "deadline": %s}'),
        ("/api/tasks", '{"prompt": "x", "wait_s": %s}'),
        ("/api/tasks", '{"tasks": [{"prompt": "x", "metadata": {"a": {"b": %s}}}]}'),
        ("/api/tasks", '{"prompt": "x", "unknown": %s}'),
        ("/api/providers/rebalance", '{"weights": {"openai": %s}}'),
        ("/api/providers/rebalance", '{"version": %s}'),
        ("/api/batches/cancel", '{"batch": %s}'),
    ],
)
def test_nan_and_infinity_are_refused_everywhere(
    client: FlaskClient, path: str, body: str, number: str
) -> None:
    answer = client.post(path, data=body % number, content_type="application/json")
    assert answer.status_code in (400, 422)


def test_uploads_that_are_not_submitted_are_limited_and_expire(
    client: FlaskClient, filled: FilledState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_KEPT_BYTES", 3000)

    def bring() -> int:
        form = {"csrf": csrf_of(client), "file": (io.BytesIO(b'{"prompt": "x"}\n' * 10), "tasks.jsonl")}
        return client.post("/uploads", data=form).status_code

    codes = [bring() for _ in range(6)]
    assert codes[0] == 303 and codes[-1] == 413
    folder = filled.settings.state_dir / "uploads"
    for path in folder.iterdir():
        os.utime(path, (0, time.time() - 3700))
    assert bring() == 303
    assert len(list(folder.iterdir())) == 2
