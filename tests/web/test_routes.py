"""Every route in one table: its response to a valid request, and how it refuses all others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from src.web.guard import HEADERS

from .conftest import AppMaker, MakeClient, csrf_of
from .filled import BATCH, FilledState

TOKEN = "a-token-that-nobody-guesses"
HTML, JSON = "text/html; charset=utf-8", "application/json"
METRICS = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Route:
    """A valid request to one endpoint. `form` or `json` is its body; a form gets a CSRF token added."""

    method: str
    path: str
    status: int = 200
    kind: str = HTML
    form: dict[str, str] | None = None
    json: Any = None
    open: bool = False  # answers without a token
    wrong_method: str = "DELETE"
    rule: str = field(default="")  # as Flask knows it, where that differs from the path

    def request(
        self, client: FlaskClient, filled: FilledState, csrf: str = "", **options: Any
    ) -> TestResponse:
        path = self.path.format(
            answered=filled.answered_row, failed=filled.failed_row, queued=filled.queued_row
        )
        if self.form is not None:
            options["data"] = {**self.form, "csrf": csrf}
        elif self.json is not None:
            options["json"] = self.json
        return client.open(path, method=self.method, **options)


ROUTES = [
    Route("GET", "/", rule="/"),
    Route("GET", "/provider-status", rule="/provider-status"),
    Route("GET", "/rebalance", rule="/rebalance"),
    Route("GET", "/new", rule="/new"),
    Route("GET", "/batches", rule="/batches"),
    Route("GET", "/batches/queue", rule="/batches/<every_text:name>"),
    Route("GET", "/batches/no such batch", 404),
    Route("GET", f"/batch?name={quote(BATCH)}", rule="/batch"),
    Route("GET", "/provider-batches", rule="/provider-batches"),
    Route(
        "POST",
        "/provider-batches/1/cancel",
        404,
        form={},
        rule="/provider-batches/<number>/cancel",
    ),
    Route("GET", "/tasks", rule="/tasks"),
    Route("GET", "/rows/{answered}", rule="/rows/<row>"),
    Route("GET", "/tasks/{answered}", 303),
    Route("GET", "/tasks/t-script", 303, rule="/tasks/<task_id>"),
    Route("GET", "/tasks/queue/t-script", rule="/tasks/<batch>/<task_id>"),
    Route(
        "GET",
        "/tasks/export.jsonl",
        kind="application/x-ndjson",
        rule="/tasks/export.<any(jsonl, csv):kind>",
    ),
    Route("GET", "/tasks/export.csv", kind="text/csv; charset=utf-8"),
    Route("GET", "/costs", rule="/costs"),
    Route("GET", "/costs.csv", kind="text/csv; charset=utf-8", rule="/costs.csv"),
    Route("GET", "/events", rule="/events"),
    Route("GET", "/login", 303, open=True, rule="/login"),
    Route(
        "GET", "/static/style.css", kind="text/css; charset=utf-8", open=True, rule="/static/<path:filename>"
    ),
    Route("GET", "/uploads/no-such-upload-here-really", 404, rule="/uploads/<upload_id>"),
    Route("POST", "/tasks", 303, form={"prompt": "What?"}),
    Route("POST", "/rebalance", 303, form={"weight-openai": "100"}),
    Route(
        "POST",
        "/providers/openai/pause",
        303,
        form={},
        rule="/providers/<name>/<any(pause, resume, reset):verb>",
    ),
    Route("POST", "/rows/{queued}/cancel", 303, form={}, rule="/rows/<row>/<any(cancel, retry):verb>"),
    Route("POST", "/rows/{failed}/retry", 303, form={}),
    Route("POST", "/batches/cancel", 200, form={"batch": BATCH}),
    Route("POST", "/batches/cancel", 303, form={"batch": BATCH, "confirmed": "yes"}),
    Route("POST", "/batches/cancel", 404, form={"batch": "no such batch"}),
    Route("POST", "/batches/retry", 303, form={"batch": BATCH}, rule="/batches/<any(cancel, retry):verb>"),
    Route("POST", "/batches/purge", 200, form={"batch": BATCH}, rule="/batches/purge"),
    Route("POST", "/batches/purge", 303, form={"batch": BATCH, "confirmed": "yes"}),
    Route("POST", "/batches/purge", 404, form={"batch": "no such batch"}),
    Route("POST", "/uploads", 422, form={}, rule="/uploads"),
    Route("POST", "/uploads/no-such-upload-here-really", 404, form={}),
    Route("POST", "/logout", 303, form={}, open=True, rule="/logout", wrong_method="GET"),
    Route("GET", "/healthz", kind=JSON, open=True, rule="/healthz"),
    Route("GET", "/readyz", kind=JSON, open=True, rule="/readyz"),
    Route("GET", "/leader", 503, kind=JSON, open=True, rule="/leader"),  # beside no orchestrator
    Route("GET", "/metrics", kind=METRICS, rule="/metrics"),
    Route("GET", "/api/providers/status", kind=JSON, rule="/api/providers/status"),
    Route("GET", "/api/dashboard", kind=JSON, rule="/api/dashboard"),
    Route("GET", "/api/providers/rebalance", kind=JSON, rule="/api/providers/rebalance"),
    Route("POST", "/api/providers/rebalance", kind=JSON, json={"preset": "equal"}),
    Route("POST", "/api/providers/rebalance/undo", 409, JSON, rule="/api/providers/rebalance/undo"),
    Route("POST", "/api/providers/rebalance/redo", 409, JSON, rule="/api/providers/rebalance/redo"),
    Route(
        "POST",
        "/api/providers/openai/pause",
        202,
        JSON,
        rule="/api/providers/<name>/<any(pause, resume, reset):verb>",
    ),
    Route("POST", "/api/providers/openai/resume", 202, JSON),
    Route("POST", "/api/providers/openai/reset", 202, JSON),
    Route("POST", "/api/providers/nobody/reset", 404, JSON),
    Route("GET", "/api/tasks", kind=JSON, rule="/api/tasks"),
    Route("POST", "/api/tasks", 202, JSON, json={"prompt": "What?"}),
    Route("GET", "/api/rows/{answered}", kind=JSON, rule="/api/rows/<row>"),
    Route("GET", "/api/rows/t-script", 404, JSON),
    Route("GET", "/api/tasks/{answered}", kind=JSON),
    Route("GET", "/api/tasks/999999", 404, JSON),
    Route("GET", "/api/tasks/t-script", kind=JSON, rule="/api/tasks/<task_id>"),
    Route("GET", "/api/tasks/queue/t-script", kind=JSON, rule="/api/tasks/<batch>/<task_id>"),
    Route("POST", "/api/rows/{queued}/cancel", 202, JSON, rule="/api/rows/<row>/<any(cancel, retry):verb>"),
    Route(
        "POST",
        "/api/tasks/t-script/retry",
        202,
        JSON,
        rule="/api/tasks/<task_id>/<any(cancel, retry):verb>",
    ),
    Route("POST", "/api/tasks/{queued}/cancel", 202, JSON),
    Route("POST", "/api/tasks/{answered}/cancel", 409, JSON),
    Route(
        "POST",
        "/api/tasks/queue/t-script/retry",
        202,
        JSON,
        rule="/api/tasks/<batch>/<task_id>/<any(cancel, retry):verb>",
    ),
    Route("GET", "/api/batches", kind=JSON, rule="/api/batches"),
    Route("POST", "/api/batches/cancel", 202, JSON, json={"batch": BATCH}, rule="/api/batches/cancel"),
    Route("POST", "/api/batches/retry", 202, JSON, json={"batch": BATCH}, rule="/api/batches/retry"),
    Route("POST", "/api/batches/purge", 200, JSON, json={"batch": BATCH}, rule="/api/batches/purge"),
    Route("POST", "/api/batches/purge", 404, JSON, json={"batch": "no such batch"}),
    Route("GET", "/api/provider-batches", kind=JSON, rule="/api/provider-batches"),
    Route("POST", "/api/provider-batches/1/cancel", 404, JSON, rule="/api/provider-batches/<number>/cancel"),
    Route("GET", "/api/usage?by=provider,hour", kind=JSON, rule="/api/usage"),
    Route("GET", "/api/events", kind=JSON, rule="/api/events"),
    Route("GET", "/api/openapi.json", kind=JSON, rule="/api/openapi.json"),
]
every_route = pytest.mark.parametrize("route", ROUTES, ids=lambda r: f"{r.method} {r.path}")


def check_error(response: TestResponse, status: int, code: str) -> None:
    """The one shape of errors: JSON for the API, a page with the same message for people."""
    assert (response.status_code, response.headers.get("Content-Type")) in {(status, JSON), (status, HTML)}
    if response.is_json:
        assert set(response.json) == {"error"}
        assert set(response.json["error"]) == {"code", "message", "details"}
        assert response.json["error"]["code"] == code
    else:
        assert code.replace("_", " ") in response.text
    assert "Traceback" not in response.text


@every_route
def test_a_route_answers_with_its_status_and_all_headers(
    route: Route, client: FlaskClient, filled: FilledState
) -> None:
    csrf = "" if route.form is None else csrf_of(client)
    response = route.request(client, filled, csrf)
    assert response.status_code == route.status, response.text
    assert response.headers["Content-Type"] == (route.kind if route.status not in (303,) else HTML)
    for name, value in HEADERS.items():
        assert response.headers[name] == value
    if route.kind == JSON and route.status < 300 and "openapi" not in route.path:
        assert response.json["simulated"] is True
    if not route.path.startswith("/static"):
        assert response.headers["Cache-Control"] == "no-store"
    response.get_data()
    response.close()


@every_route
def test_another_method_is_refused(route: Route, refusing: MakeClient) -> None:
    path = route.path.split("?")[0].format(answered=1, failed=1, queued=1)
    response = refusing().open(path, method=route.wrong_method)
    expected = {"DELETE": (403, 405), "GET": (405,)}[route.wrong_method]
    assert response.status_code in expected  # a page's form word is asked for before the method
    check_error(
        response, response.status_code, {403: "csrf", 405: "method_not_allowed"}[response.status_code]
    )


@every_route
def test_an_unknown_host_is_refused(route: Route, refusing: MakeClient, filled: FilledState) -> None:
    for host in ("evil.example", "localhost.evil.example:5000", "10.1.2.3", "[2001:db8::1]:5000"):
        check_error(route.request(refusing(), filled, headers={"Host": host}), 421, "host_not_allowed")


FROM_ELSEWHERE = (
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
)


@every_route
def test_another_site_changes_nothing(route: Route, refusing: MakeClient, filled: FilledState) -> None:
    client = refusing()
    csrf = csrf_of(client) if route.method == "POST" else ""
    for headers in FROM_ELSEWHERE:
        response = route.request(client, filled, csrf, headers=headers)
        if route.method == "POST":
            check_error(response, 403, "cross_site")
        else:
            assert response.status_code == route.status
        response.close()


@every_route
def test_without_the_right_token_nothing_is_shown(
    route: Route, refusing: MakeClient, filled: FilledState
) -> None:
    client = refusing(TOKEN)
    for given in ("", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"):
        response = route.request(client, filled, headers={"Authorization": given} if given else {})
        if route.open:
            assert response.status_code in (200, 403, route.status)  # 403: a form without its word
        elif route.kind in (JSON, METRICS) or given.startswith("Bearer"):
            check_error(response, 401, "unauthorized")
            assert response.headers["WWW-Authenticate"] == "Bearer"
        else:
            assert response.status_code == 303
            assert response.headers["Location"].startswith("/login?next=")
        response.close()


@every_route
def test_with_the_token_a_route_answers(route: Route, make_app: AppMaker, filled: FilledState) -> None:
    client = make_app({"ORCHESTRATOR_TOKEN": TOKEN}).test_client()
    response = route.request(client, filled, headers={"Authorization": f"Bearer {TOKEN}"})
    allowed = {route.status, 200, 403} if route.open else {route.status}  # 200: the login page is needed now
    assert response.status_code in allowed, response.text
    response.close()


def test_the_table_leaves_no_route_out(app: Flask) -> None:
    known = {(route.method, route.rule) for route in ROUTES if route.rule}
    tables = {rule for _, rule in known}
    for rule in app.url_map.iter_rules():
        assert rule.rule in tables, f"{rule.rule} is not in the table"


@pytest.mark.parametrize("path", ["/nothing", "/api/nothing", "/rows/999999", "/api/providers/x/explode"])
def test_an_unknown_path_is_404(path: str, client: FlaskClient) -> None:
    check_error(client.get(path), 404, "not_found")
