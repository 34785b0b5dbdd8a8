"""The list of tasks: filters, search, totals and exports, on the page and over the API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from src.core.store import DEFERS, NewBatch, PlannedRow, Store
from src.messages import Message
from src.records import Result, Task, TaskStatus

from .conftest import AppMaker, context_of
from .filled import BATCH, ME, FilledState, show_in_flight

TOKENS = {"ORCHESTRATOR_TOKENS": "alice:alices-long-token,root:a-long-operators-token:operate"}
ALICE = {"Authorization": "Bearer alices-long-token"}


def index_all(store: Store) -> None:
    store.search.prepare()
    while store.search.index_some():
        pass


@pytest.fixture
def indexed(client: FlaskClient, store: Store) -> Iterator[FlaskClient]:
    index_all(store)
    yield client


def ids(client: FlaskClient, query: str, **request: Any) -> list[str]:
    answer = client.get(f"/api/tasks?{query}", **request)
    assert answer.status_code == 200, answer.text
    return [task["id"] for task in answer.json["tasks"]]


def total(client: FlaskClient, query: str = "", **request: Any) -> tuple[int, bool]:
    answer = client.get(f"/api/tasks?{query}", **request).json
    return answer["total"], answer["exact"]


# ------------------------------------------------------------------ filters


def test_a_search_finds_words_of_prompts_and_answers(indexed: FlaskClient) -> None:
    assert ids(indexed, "q=formula") == ["=1+1"]
    assert ids(indexed, f"q={quote('An answer')}&batch={quote(BATCH)}&limit=2") == ["t-6", "t-5"]
    assert ids(indexed, f"q={quote('onerror alert')}") == ["t-script"]
    assert ids(indexed, "q=nosuchword") == []
    page = indexed.get("/tasks?q=formula").text
    assert "1 task matches" in page and 'value="formula"' in page
    assert "/tasks/export.csv?q=formula" in page


@pytest.mark.parametrize(
    "text", ['"', "((", "a AND", "*", "'; DROP TABLE tasks; --", "%", "\\", "NEAR(", "-x", "a:b"]
)
def test_any_text_can_be_searched(indexed: FlaskClient, text: str) -> None:
    for path in ("/tasks", "/api/tasks", "/tasks/export.jsonl"):
        assert indexed.get(f"{path}?q={quote(text)}").status_code == 200


def test_a_search_says_what_it_does_not_know_yet(client: FlaskClient, store: Store) -> None:
    answer = client.get("/api/tasks?q=formula").json
    assert (answer["tasks"], answer["search_behind"]) == ([], 9)
    assert "9 ended tasks are not indexed yet" in client.get("/tasks?q=formula").text
    index_all(store)
    context_of(client).cache.forget()
    assert client.get("/api/tasks?q=formula").json["search_behind"] == 0
    assert "not indexed" not in client.get("/tasks?q=formula").text
    assert client.get("/api/tasks").json["search_behind"] is None


def test_without_the_search_there_is_no_field_for_it(make_app: AppMaker) -> None:
    app = make_app()
    here = app.extensions["orchestrator"]
    off = here.settings.pages.model_copy(update={"search": False})
    here.settings = here.settings.model_copy(update={"pages": off})
    client = app.test_client()
    assert 'name="q"' not in client.get("/tasks").text
    assert "Full-text search is off" in client.get("/tasks?q=x").text
    refused = client.get("/api/tasks?q=x")
    assert (refused.status_code, refused.json["error"]["code"]) == (422, "no_search")
    assert client.get("/tasks/export.csv?q=x").status_code == 422


def test_a_submitter_finds_only_own_tasks(make_app: AppMaker, store: Store, filled: FilledState) -> None:
    """By words, by every other filter, and in totals and exports."""
    mine = [Task("mine", "queue", (Message("user", "An own question"),), submitter="alice", priority=99)]
    store.intake.add_tasks(mine, now=filled.now)
    (claimed,) = store.queue.claim(ME, 1, now=filled.now)
    answered = Result(claimed, TaskStatus.SUCCEEDED, filled.now, output="An answer about a formula.")
    store.queue.finish(ME, [answered])
    index_all(store)
    client = make_app(TOKENS).test_client()
    queries = (
        "", "q=answer", "q=formula", "status=succeeded", "status=waiting", "batch=queue", "id=t",
        "submitter=local", "provider=gemini", "within=month", "order=oldest", f"batch={quote(BATCH)}",
    )  # fmt: skip
    for query in queries:
        assert ids(client, query, headers=ALICE) in ([], ["mine"]), query
        found, _ = total(client, query, headers=ALICE)
        assert found <= 1
        exported = client.get(f"/tasks/export.jsonl?{query}", headers=ALICE).text.splitlines()
        assert {json.loads(line)["id"] for line in exported} <= {"mine"}
        assert "t-script" not in client.get(f"/tasks?{query}", headers=ALICE).text
    assert ids(client, "q=answer", headers=ALICE) == ["mine"]
    assert total(client, "batch=queue", headers=ALICE) == (1, True)


def test_filters_of_model_time_and_order(client: FlaskClient, filled: FilledState) -> None:
    everything = ids(client, "")
    assert ids(client, "order=oldest") == everything[::-1]
    assert ids(client, "within=hour") == everything
    assert set(ids(client, "model=gpt-6-luna")) == {"=1+1", "t-2", "t-5"}
    later = filled.now + 7200
    assert ids(client, f"since={later}") == []
    assert ids(client, "until=2020-01-01") == ids(client, "until=2020-01-01T10:00") == []
    assert ids(client, "since=2020-01-01T10:00:30Z") == everything
    for wrong in (
        "since=yesterday",
        "within=year",
        "order=cost",
        "status=open",
        "since=2020-13-01",
        "until=-1",
        "since=2026-01-02&until=2026-01-01",
        "name.with.dots=1",
    ):
        assert client.get(f"/api/tasks?{wrong}").status_code == 422, wrong
        page = client.get(f"/tasks?id=t-3&{wrong}")
        assert page.status_code == 200 and 'class="problem"' in page.text
        assert 'name="id" value="t-3"' in page.text and ">t-4<" not in page.text, "what is right stays"


def test_pages_of_the_oldest_first(client: FlaskClient) -> None:
    seen: list[str] = []
    query = "order=oldest&limit=5"
    while query:
        answer = client.get(f"/api/tasks?{query}").json
        seen += [task["id"] for task in answer["tasks"]]
        after = answer["next_after"]
        assert answer["next_before"] is None
        query = f"order=oldest&limit=5&after={after}" if after is not None else ""
    assert seen == ids(client, "")[::-1]


def test_truncated_answers_are_a_state_to_choose(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    store.intake.add_tasks([Task("cut", "queue", (Message("user", "Long?"),), priority=9)], now=filled.now)
    (task,) = store.queue.claim(ME, 1, now=filled.now)
    store.queue.finish(ME, [Result(task, TaskStatus.SUCCEEDED, filled.now, output="x", truncated=True)])
    assert ids(client, "status=truncated") == ["cut"]
    assert "cut" in client.get("/tasks/export.csv?status=truncated").text
    assert 'value="truncated" selected' in client.get("/tasks?status=truncated").text


# ------------------------------------------------------------------ totals


def test_totals_are_counted_where_the_store_keeps_them(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    rows = [Task(f"m-{i}", "many", (Message("user", "x"),)) for i in range(60)]
    store.intake.add_tasks(rows, now=filled.now)
    context_of(client).cache.forget()
    assert total(client) == (72, True)
    assert total(client, "batch=many") == (60, True)
    assert total(client, "batch=many&status=queued") == (60, True)
    assert total(client, "batch=unknown") == (0, True)
    assert total(client, "status=failed") == (1, True)
    assert total(client, "type=general") == (50, False), "no counter has it"
    assert total(client, "batch=many&id=m-1") == (11, True), "all of it is on the page"
    assert "More than 50 tasks match" in client.get("/tasks?type=general").text
    show_in_flight(filled, store, [filled.queued_row])
    context_of(client).cache.forget()
    assert total(client, "status=waiting") == (62, True)
    assert total(client, "status=in_flight&batch=many") == (0, True)
    assert total(client, "status=waiting&batch=many") == (50, False)


# ------------------------------------------------------------------ exports


def test_an_export_has_the_tasks_of_the_list(indexed: FlaskClient) -> None:
    """Every filter selects the same tasks in both, apart from open ones, which have no result."""
    ended = set(ids(indexed, "limit=100")) - set(ids(indexed, "status=waiting"))
    queries = (
        "", "q=answer", "status=failed", "provider=gemini", "model=gpt-6-luna", "id=t-1", "within=day",
        f"batch={quote(BATCH)}", "type=research", "submitter=local", "until=2020-01-01",
    )  # fmt: skip
    for query in queries:
        lines = indexed.get(f"/tasks/export.jsonl?{query}").text.splitlines()
        exported = [json.loads(line)["id"] for line in lines]
        listed = [task for task in ids(indexed, f"{query}&order=oldest&limit=100") if task in ended]
        assert exported == listed, query
    assert indexed.get("/tasks/export.jsonl?status=waiting").text == ""


def test_tasks_for_batches_and_in_batches_have_states_of_their_own(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    batch_of_three(store, filled.now)
    deferred, batched = ids(client, "status=deferred"), ids(client, "status=batched")
    assert (deferred, batched) == (["due-2"], ["due-1", "due-0"])
    assert not {*deferred, *batched} & {*ids(client, "status=waiting"), *ids(client, "status=queued")}
    assert (total(client, "status=deferred"), total(client, "status=batched")) == ((1, True), (2, True))
    (listed,) = client.get("/api/tasks?status=deferred").json["tasks"]
    assert (listed["status"], listed["state"], listed["finished_at"]) == ("deferred", "deferred", None)
    detail = client.get(listed["url"]).text
    assert "Deferred" in detail or "deferred" in detail


def test_pages_count_tasks_for_batches_as_open(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    batch_of_three(store, filled.now)
    page = " ".join(client.get("/batches/due").text.split())
    assert "0 of 3 tasks ended" in page
    assert "1 for a provider&#39;s batch" in page or "1 for a provider's batch" in page
    assert "2 in a provider&#39;s batch" in page or "2 in a provider's batch" in page
    assert "2 in providers" in " ".join(client.get("/").text.split())
    (listed,) = [each for each in client.get("/api/batches").json["batches"] if each["name"] == "due"]
    assert (listed["open_tasks"], listed["live_tasks"]) == (3, 0)


def batch_of_three(store: Store, now: float) -> None:
    """A batch with one deferred task and two that are at a provider."""
    store.intake.create_batch("due", now=now, options={DEFERS: 86_400.0})
    due = [Task(f"due-{n}", "due", (Message("user", "x"),), deadline_at=now + 86_400) for n in range(3)]
    store.intake.add_tasks(due, now=now)
    (group,) = store.deferrals.groups()
    rows = [PlannedRow(task, 1_000, 100, "economy") for task in store.deferrals.oldest(group.id, 2)]
    store.provider_batches.intend(NewBatch("openai", "gpt-x", "marker01"), rows, now)
