"""The list of batches, the page of one, the form for new tasks, and what each role sees of them."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping

import pytest
from flask.testing import FlaskClient
from markupsafe import escape

from src.core.budget_keeper import keep_cap
from src.core.store import Store, TaskSelection
from src.records import Result, TaskStatus
from src.web.template_filters import batch_url

from .conftest import AppMaker, csrf_of
from .filled import BATCH, ME, FilledState

TOKENS = {
    "ORCHESTRATOR_TOKENS": "alice:alices-long-token-1,bob:bobs-long-token-12,carol:carols-long-token:read"
}
NAMES = (
    "plain.csv", "a/b/c.jsonl", "/absolute/path.jsonl", "a//b", "trailing/", "..", "../up", "a/./b", "what?",
    "50%", "#1", "a&b=c", "ü ñ 漢字", "quo\"te'<b>", "back\\slash", "cancel", "retry", "+plus", "%2F",
    ";x", "~", "http://x/y",
)  # fmt: skip


def bearer(name: str) -> Mapping[str, str]:
    tokens = dict(part.split(":")[:2] for part in TOKENS["ORCHESTRATOR_TOKENS"].split(","))
    return {"Authorization": f"Bearer {tokens[name]}"}


@pytest.mark.parametrize("name", NAMES)
def test_the_page_of_a_batch_is_reached_whatever_its_name(
    client: FlaskClient, store: Store, name: str
) -> None:
    store.intake.create_batch(name, now=1.0)
    listed = client.get("/batches").text
    address = batch_url(name)
    assert f'href="{address.replace("&", "&amp;")}"' in listed
    page = client.get(address)
    assert page.status_code == 200, address
    assert f"<h1>{escape(name)}</h1>" in page.text
    assert client.get("/batch", query_string={"name": name}).text.count(str(escape(name))) > 1


@pytest.mark.parametrize(
    ("address", "label"),
    [
        ("/", "Dashboard"),
        ("/batches", "Batches"),
        (batch_url(BATCH), "Batches"),
        ("/new", "New"),
        ("/rows/1", "Tasks"),
    ],
)
def test_the_navigation_marks_the_page_that_is_shown(client: FlaskClient, address: str, label: str) -> None:
    assert re.findall(r'aria-current="page">([^<]+)<', client.get(address).text) == [label]


def test_a_task_leads_to_its_batch(client: FlaskClient, filled: FilledState) -> None:
    for address in (f"/rows/{filled.failed_row}", f"/tasks?id=t-1&batch={BATCH}"):
        assert f'href="{batch_url(BATCH)}"' in client.get(address).text


def test_a_batch_shows_progress_cost_models_and_events(client: FlaskClient, store: Store) -> None:
    page = " ".join(client.get(batch_url(BATCH)).text.split())
    assert "7 of 10 tasks ended" in page
    assert "server error" in page and "Run again" in page
    assert "claude-haiku-5-5" in page and "gemini-3.5-flash-lite" in page
    cost = store.batches.costs([BATCH])[BATCH].cost_nanos
    assert f"${cost / 1e9:.4f}" in page
    assert f"${cost / 1e9 * 10 / 7:.4f}" in page, "expected for all"
    assert "submitted</span>" in page


def test_a_batch_shows_its_cap(client: FlaskClient, store: Store) -> None:
    assert "at most $" not in client.get(batch_url(BATCH)).text
    keep_cap(store, BATCH, 12.5)
    assert "at most $12.50" in client.get(batch_url(BATCH)).text
    caps = {each["name"]: each["max_cost_usd"] for each in client.get("/api/batches").json["batches"]}
    assert caps[BATCH] == 12.5 and set(caps.values()) == {12.5, None}


def test_batches_are_searched_and_paged(client: FlaskClient, store: Store) -> None:
    for n in range(60):
        store.intake.create_batch(f"nightly {n:02}", now=1.0 + n)
    page = client.get("/batches?name=NIGHTLY").text
    names = re.findall(r'title="(nightly \d\d)"', page)
    more = re.search(r'rel="next" href="([^"]+)"', page)
    assert len(names) == 50 and more
    rest = re.findall(r'title="(nightly \d\d)"', client.get(more[1].replace("&amp;", "&")).text)
    assert names + rest == [f"nightly {n:02}" for n in reversed(range(60))]
    assert "No batch matches." in client.get("/batches?name=nothing").text
    assert 'role="alert"' in client.get("/batches?before=x").text


def test_tasks_that_ended_for_one_reason_are_queued_again(client: FlaskClient, store: Store) -> None:
    form = {"csrf": csrf_of(client), "batch": BATCH, "status": "failed", "error_kind": "ServerError"}
    before = store.reports.task_counts(BATCH)
    nothing = client.post("/batches/retry", data={**form, "error_kind": "Timeout"}, follow_redirects=True)
    assert "0 tasks are queued again." in nothing.text and store.reports.task_counts(BATCH) == before
    done = client.post("/batches/retry", data=form, follow_redirects=True)
    assert "1 task is queued again." in done.text
    assert store.reports.task_counts(BATCH)[TaskStatus.FAILED] == 0
    assert "retried tasks that ended as failed (ServerError)" in done.text, "the page's events"
    for wrong in ({"status": "succeeded"}, {"error_kind": "a text for the log"}):
        assert client.post("/batches/retry", data={**form, **wrong}).status_code == 422


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_results_come_with_their_prompts_on_request(client: FlaskClient, kind: str) -> None:
    plain = client.get(f"/tasks/export.{kind}", query_string={"batch": BATCH}).text
    asked = client.get(f"/tasks/export.{kind}", query_string={"batch": BATCH, "prompts": "1"}).text
    assert "Question 1?" not in plain and "Question 1?" in asked
    if kind == "jsonl":
        row = json.loads(asked.splitlines()[0])
        assert list(row)[:3] == ["id", "batch", "prompt"] and row["prompt"].startswith("Question")
    else:
        assert "prompt,output" in asked.splitlines()[0] and "prompt" not in plain.splitlines()[0]


def test_old_links_to_the_tasks_of_a_batch_work(client: FlaskClient) -> None:
    page = client.get("/tasks", query_string={"batch": BATCH}).text
    assert "t-1" in page and "t-script" not in page


def test_a_submitter_sees_only_own_batches(make_app: AppMaker, store: Store) -> None:
    client = make_app(TOKENS).test_client()
    for name in ("alice", "bob"):
        body = {"prompt": f"A secret of {name}", "batch": f"batch of {name}"}
        assert client.post("/api/tasks", json=body, headers=bearer(name)).status_code == 202
    own, other = client.get("/batches", headers=bearer("alice")).text, "batch of bob"
    assert "batch of alice" in own and other not in own and BATCH not in own
    assert other not in client.get("/", headers=bearer("alice")).text
    assert client.get(batch_url("batch of alice"), headers=bearer("alice")).status_code == 200
    for address in (batch_url(other), batch_url(BATCH), f"/batch?name={other}"):
        assert client.get(address, headers=bearer("alice")).status_code == 404
        assert client.get(address, headers=bearer("carol")).status_code == 200
    queue = client.get("/batches/queue", headers=bearer("alice"))
    assert queue.status_code == 303, "its numbers are those of everybody"


def test_a_reader_sees_a_batch_without_buttons(make_app: AppMaker) -> None:
    client = make_app(TOKENS).test_client()
    page = client.get(batch_url(BATCH), headers=bearer("carol")).text
    assert "server error" in page and "Run again" not in page and ">Cancel<" not in page
    assert client.get("/new", headers=bearer("carol")).status_code == 403
    assert 'href="/new"' not in client.get("/", headers=bearer("carol")).text


def test_running_batches_are_on_the_dashboard(client: FlaskClient, store: Store, filled: FilledState) -> None:
    page = client.get("/").text
    assert 'id="running"' in page and BATCH in page
    for row in store.batches.with_open_tasks():
        store.admin.cancel(row.name, now=filled.now)
        claimed = store.tasks.page(9, TaskSelection([TaskStatus.RUNNING], batch=row.name)).rows
        found = (store.tasks.at_row(task.row) for task in claimed)
        ended = [Result(each.task, TaskStatus.FAILED, filled.now, error="ended") for each in found if each]
        store.queue.finish(ME, ended)
    client.application.extensions["orchestrator"].cache.forget()
    assert 'id="running"' not in client.get("/").text


# ------------------------------------------------------------------ new


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("prompt", " ", "prompt"),
        ("max_tokens", "many", "must be a whole number"),
        ("max_tokens", "0", "must be"),
        ("tier", "golden", "tier"),
        ("id", "x" * 201, "at most 200"),
        ("batch", "a\tb", "control characters"),
    ],
)
def test_an_error_stands_beside_its_field(client: FlaskClient, field: str, value: str, message: str) -> None:
    form = {"csrf": csrf_of(client), "prompt": "Keep me", "system": "And me", field: value}
    response = client.post("/tasks", data=form)
    assert response.status_code == 422
    error = re.search(rf'<span class="wrong" id="wrong-{field}" role="alert">(.*?)</span>', response.text)
    assert error and message in error[1]
    assert f'name="{field}"' in response.text and response.text.count('class="wrong"') == 1
    marked = re.search(rf'<\w+ name="{field}"[^>]*aria-invalid="true"[^>]*>', response.text)
    assert marked and f'aria-describedby="wrong-{field}"' in marked[0]
    assert ">And me</textarea>" in response.text


def test_an_id_that_exists_is_refused_beside_its_field(client: FlaskClient) -> None:
    form = {"csrf": csrf_of(client), "prompt": "Another", "id": "t-1", "batch": BATCH}
    response = client.post("/tasks", data=form)
    assert response.status_code == 409 and 'id="wrong-id"' in response.text


def test_a_task_is_submitted_with_all_its_fields(client: FlaskClient, store: Store) -> None:
    form = {
        "csrf": csrf_of(client), "prompt": "Why?", "system": "Be\r\nbrief.", "tier": "premium",
        "batch": "mine", "id": "one",
    }  # fmt: skip
    assert client.post("/tasks", data=form).status_code == 303
    detail = store.tasks.find("mine", "one")
    assert detail and detail.task.tier == "premium"
    assert [m.content for m in detail.task.messages] == ["Be\nbrief.", "Why?"]


def test_a_query_fills_in_the_form(client: FlaskClient) -> None:
    page = client.get("/new?prompt=Why%3F&batch=mine").text
    assert ">Why?</textarea>" in page and 'value="mine"' in page


def test_a_refused_file_keeps_its_template(client: FlaskClient) -> None:
    csrf = csrf_of(client)
    nothing = client.post("/uploads", data={"csrf": csrf, "template": "Of {x}"})
    assert nothing.status_code == 422 and "Choose a file first." in nothing.text
    assert ">Of {x}</textarea>" in nothing.text and 'id="wrong-file"' in nothing.text
    form = {"csrf": csrf, "template": "Of {x}", "file": (io.BytesIO(b"\x89PNG\r\n\x1a\n\0"), "x.jsonl")}
    refused = client.post("/uploads", data=form)
    assert refused.status_code == 422 and 'id="wrong-file"' in refused.text
    assert ">Of {x}</textarea>" in refused.text


def test_the_dashboard_has_no_form_but_that_to_sign_out(client: FlaskClient) -> None:
    assert "<form" not in client.get("/").text
