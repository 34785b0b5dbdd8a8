"""The JSON API: weights, providers, tasks, batches, usage, events, exports."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shlex
import threading
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient

from src.core.results import csv_line, guard
from src.core.store import Store
from src.messages import Message
from src.records import Task, TaskStatus
from src.web.context import MAX_SUBMITTING, MAX_WAITING
from src.web.serving import THREADS
from tests.documents import PAGES

from .conftest import AppMaker, context_of
from .filled import BATCH, ME, SCRIPT, FilledState, _result, show_in_flight

REBALANCE = "/api/providers/rebalance"
THIRDS = {"anthropic": 0.3333, "openai": 0.3333, "gemini": 0.3333}


# ------------------------------------------------------------------ weights


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"weights": {"openai": -0.1}}, "weights.openai"),
        ({"weights": {"openai": "much"}}, "weights.openai"),
        ({"weights": {"openai": True}}, "weights.openai"),
        ({"weights": {"openai": None}}, "weights.openai"),
        ('{"weights": {"openai": 1e999}}', "weights.openai"),
        ('{"weights": {"openai": 1e308, "gemini": 1e308}}', "weights"),
        ({"weights": {"openai": 0, "anthropic": 0, "gemini": 0}}, "weights"),
        ({"weights": {}}, "weights"),
        ({"weights": [0.3]}, "weights"),
        ({"weights": {"opnai": 1.0}}, "weights.opnai"),
        ({"preset": "cheapest"}, "preset"),
        ({"version": 77}, "version"),
        ({"version": "1"}, "version"),
        ({"weights": {"openai": 1.0}, "preset": "equal"}, ""),
        ({}, ""),
        ({"weights": {"openai": 1.0}, "dryrun": True}, "dryrun"),
        ({"weights": {"openai": 1.0}, "dry_run": "no"}, "dry_run"),
        ([1], ""),
    ],
    ids=str,
)
def test_invalid_weights_are_422_with_the_field(
    client: FlaskClient, store: Store, body: Any, field: str
) -> None:
    data = body if isinstance(body, str) else json.dumps(body)
    response = client.post(REBALANCE, data=data, content_type="application/json")
    assert response.status_code == 422
    error = response.json["error"]
    assert error["code"] == "invalid"
    assert error["details"]["field"] == field
    assert error["message"]
    assert store.controls.settings_version() == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nope",
        b'{"a":' * 100_000,
        b'{"preset": "equal", "preset": "price"}',
        b'{"version": NaN}',
        b'"\xff"',
    ],
    ids=["empty", "cut", "word", "deep", "duplicate key", "NaN", "not UTF-8"],
)
def test_invalid_json_is_400(client: FlaskClient, body: bytes) -> None:
    response = client.post(REBALANCE, data=body, content_type="application/json")
    assert (response.status_code, response.json["error"]["code"]) == (400, "bad_json")


def test_a_packed_body_is_415_and_says_why(client: FlaskClient) -> None:
    packed, headers = gzip.compress(b'{"prompt": "x"}'), {"Content-Encoding": "gzip"}
    response = client.post("/api/tasks", data=packed, content_type="application/json", headers=headers)
    assert response.status_code == 415
    assert response.json["error"]["message"] == "Send this without a Content-Encoding."


def test_a_duplicate_key_is_refused_as_in_a_file_and_named(client: FlaskClient, store: Store) -> None:
    before = store.reports.task_counts()
    body = '{"tasks": [{"prompt": "a", "prompt": "b"}]}'
    response = client.post("/api/tasks", data=body, content_type="application/json")
    assert response.status_code == 400 and "duplicate key 'prompt'" in response.json["error"]["message"]
    assert store.reports.task_counts() == before


def test_weights_are_normalised_and_the_response_shows_them(client: FlaskClient, store: Store) -> None:
    answer = client.post(REBALANCE, json={"weights": {"anthropic": 1, "openai": 2, "gemini": 1}}).json
    assert answer["applied"] is True
    assert answer["weights"] == {"anthropic": 0.25, "openai": 0.5, "gemini": 0.25}
    assert sum(answer["shares"].values()) == pytest.approx(1)
    assert store.controls.current_settings()["weights"] == answer["weights"]
    assert client.get("/api/providers/status").json["providers"][1]["weight"] == 0.5


def test_providers_that_are_not_named_keep_their_proportions(client: FlaskClient) -> None:
    answer = client.post(REBALANCE, json={"weights": {"openai": 0.6}}).json
    assert answer["weights"] == {"anthropic": 0.25, "openai": 0.5, "gemini": 0.25}


def test_a_dry_run_shows_the_shares_and_changes_nothing(client: FlaskClient, store: Store) -> None:
    answer = client.post(
        REBALANCE, json={"weights": {"openai": 1, "gemini": 0, "anthropic": 0}, "dry_run": True}
    )
    assert answer.json["applied"] is False
    assert answer.json["shares"] == {"anthropic": 0.0, "openai": 1.0, "gemini": 0.0}
    assert store.controls.settings_version() == 0


def test_undo_and_restore_are_recorded_as_changes(client: FlaskClient, store: Store) -> None:
    first = client.post(REBALANCE, json={"preset": "equal"}).json
    client.post(REBALANCE, json={"weights": {"openai": 1, "gemini": 1, "anthropic": 0}})
    assert client.post(f"{REBALANCE}/undo").json["weights"] == pytest.approx(THIRDS, abs=1e-3)
    again = client.post(REBALANCE, json={"version": first["version"]}).json
    assert again["weights"] == pytest.approx(THIRDS, abs=1e-3)
    history = client.get(REBALANCE).json["history"]
    assert [change["version"] for change in history] == [5, 3, 2, 1], "4 is where undo keeps its place"
    assert {change["who"] for change in history} == {"local"}


def test_undoing_the_first_change_restores_the_configuration(client: FlaskClient) -> None:
    client.post(REBALANCE, json={"preset": "equal"})
    assert client.post(f"{REBALANCE}/undo").json["weights"] == {
        "anthropic": 0.3,
        "openai": 0.4,
        "gemini": 0.3,
    }


def test_undo_walks_back_and_redo_forward_until_a_new_change(client: FlaskClient) -> None:
    def share(path: str, body: Any = None) -> Any:
        answer = client.post(f"{REBALANCE}{path}", json=body or {})
        return answer.json["weights"]["openai"] if answer.status_code == 200 else answer.json["error"]["code"]

    def set_to(openai: int) -> None:
        client.post(REBALANCE, json={"weights": {"openai": openai, "gemini": 100 - openai, "anthropic": 0}})

    set_to(80)
    set_to(90)
    set_to(70)
    assert [share("/undo") for _ in range(4)] == [0.9, 0.8, 0.4, "nothing_to_undo"]
    seen = client.get(REBALANCE).json
    assert (seen["can_undo"], seen["can_redo"]) == (False, True)
    assert [share("/redo"), share("/redo"), share("/undo")] == [0.8, 0.9, 0.8]
    set_to(60)
    assert share("/redo") == "nothing_to_redo"
    assert [share("/undo") for _ in range(3)] == [0.8, 0.4, "nothing_to_undo"]
    assert [share("/redo") for _ in range(3)] == [0.8, 0.6, "nothing_to_redo"]
    texts = [change["text"] for change in client.get(REBALANCE).json["history"]]
    assert all("% to" in text for text in texts), "places of undo are no changes of their own"


@pytest.mark.parametrize("name", ["default", "equal", "performance", "price", "suggested"])
def test_every_preset_sums_to_one(client: FlaskClient, name: str) -> None:
    weights = client.post(REBALANCE, json={"preset": name, "dry_run": True}).json["weights"]
    assert sum(weights.values()) == pytest.approx(1)
    assert all(weight > 0 for weight in weights.values())


def test_pause_is_a_setting_and_resume_lifts_holds_as_well(client: FlaskClient, store: Store) -> None:
    client.post("/api/providers/openai/pause")
    client.post("/api/providers/openai/pause")
    assert store.controls.current_settings()["paused"] == ["openai"]
    states = {p["name"]: p["state"] for p in client.get("/api/providers/status").json["providers"]}
    assert states["openai"] == "paused"
    client.post("/api/providers/openai/resume")
    assert store.controls.current_settings()["paused"] == []
    commands = store.controls.take_commands(ME, 0.0)
    assert [(c.kind, c.args, c.who) for c in commands] == [("resume", {"provider": "openai"}, "local")]
    kinds = [event["kind"] for event in client.get("/api/events?limit=3").json["events"]]
    assert kinds == ["provider_resume", "provider_pause", "provider_pause"]


# ------------------------------------------------------------------ tasks


def test_the_same_id_is_one_task_and_another_content_is_a_conflict(client: FlaskClient) -> None:
    row = {"id": "mine", "prompt": "What is it?", "task_type": "research"}
    first = client.post("/api/tasks", json=row)
    assert (first.status_code, first.json["added"], first.json["task"]["status"]) == (202, 1, "queued")
    again = client.post("/api/tasks", json=row)
    assert (again.json["added"], again.json["existing"]) == (0, 1)
    assert again.json["task"]["row"] == first.json["task"]["row"]
    other = client.post("/api/tasks", json={**row, "prompt": "Something else?"})
    assert (other.status_code, other.json["error"]["code"]) == (409, "id_exists")


def test_a_task_may_name_an_agent_and_shows_its_system_prompt(client: FlaskClient) -> None:
    row = {"id": "mine", "prompt": "What is it?", "agent": "gpt-reviewer"}
    task = client.post("/api/tasks", json=row).json["task"]
    assert task["named_agent"] == "gpt-reviewer"
    assert [turn["role"] for turn in task["messages"]] == ["system", "user"]
    page = client.get(task["url"]).text
    assert "named by the task: gpt-reviewer" in page and "You are a code reviewer." in page
    unknown = client.post("/api/tasks", json={"prompt": "What is it?", "agent": "nobody"})
    assert unknown.status_code == 422
    assert "unknown agent 'nobody'; choose from claude-analyst" in unknown.json["error"]["message"]


@pytest.mark.parametrize("second", ["b", "a"], ids=["another content", "the same content"])
def test_a_duplicate_id_in_a_request_is_named_and_nothing_is_added(
    client: FlaskClient, store: Store, second: str
) -> None:
    rows = [{"id": "a", "prompt": "a"}, {"id": "a", "prompt": second}]
    sent = client.post("/api/tasks", json={"tasks": rows, "batch": "mine"})
    error = sent.json["error"]
    assert (sent.status_code, error["code"], error["details"]["field"]) == (422, "invalid", "tasks.1.id")
    assert error["message"] == "tasks.1.id: duplicate id 'a': an earlier task of this request has it"
    assert store.reports.batch("mine") is None


def test_equal_prompts_without_ids_are_two_tasks(client: FlaskClient) -> None:
    ids = {client.post("/api/tasks", json={"prompt": "Again?"}).json["task"]["id"] for _ in range(2)}
    assert len(ids) == 2


def test_several_tasks_are_accepted_all_or_none(client: FlaskClient, store: Store) -> None:
    bad = client.post("/api/tasks", json={"tasks": [{"prompt": "a"}, {"promt": "b"}], "batch": "new"})
    assert bad.status_code == 422
    assert "task 2" in bad.json["error"]["message"]
    assert "did you mean 'prompt'" in bad.json["error"]["message"]
    assert store.reports.batch("new") is None
    good = client.post("/api/tasks", json={"tasks": [{"prompt": "a"}, {"prompt": "b"}], "batch": "new"})
    assert (good.status_code, good.json["added"], len(good.json["tasks"])) == (202, 2, 2)


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "a", "wait_s": -1},
        {"prompt": "a", "wait_s": 1e9},
        {"tasks": []},
        {"prompt": ""},
        {"tasks": [{"prompt": "a"}], "x": 1},
        {"prompt": "a", "providers": ["nobody"]},
        {"prompt": "a", "max_tokens": "5"},
        "text",
    ],
    ids=str,
)
def test_an_invalid_task_is_422(client: FlaskClient, body: Any) -> None:
    assert client.post("/api/tasks", json=body).status_code == 422


@pytest.mark.parametrize(
    "deadline", [0, -1, True, [], 1e12, "soon", "", "-5m", "nan", "1e309", "5000w"], ids=repr
)
def test_an_invalid_deadline_is_422_with_the_field(client: FlaskClient, store: Store, deadline: Any) -> None:
    row = {"prompt": "a", "deadline": deadline}
    alone = client.post("/api/tasks", json=row)
    second = client.post(
        "/api/tasks", json={"tasks": [{"prompt": "b", "deadline": "1h"}, row], "batch": "new"}
    )
    assert (alone.status_code, second.status_code) == (422, 422)
    errors = alone.json["error"], second.json["error"]
    assert [each["details"] for each in errors] == [{"field": "deadline"}, {"field": "tasks.1.deadline"}]
    assert "'deadline' must be" in errors[0]["message"] and errors[1]["message"].startswith("task 2: ")
    assert store.reports.batch("new") is None


@pytest.mark.parametrize(("deadline", "seconds"), [(90, 90.0), ("1h30m", 5_400.0), ("24h", 86_400.0)])
def test_a_deadline_counts_from_its_submission(
    client: FlaskClient, store: Store, deadline: Any, seconds: float
) -> None:
    sent = client.post("/api/tasks", json={"prompt": "a", "deadline": deadline}).json["task"]
    assert sent["deadline_at"] == pytest.approx(sent["created_at"] + seconds, abs=1.0)


def test_the_response_warns_of_odd_tasks(make_app: AppMaker, store: Store) -> None:
    store.orchestrators.retire(ME, now=0.0)  # what can be called is then a matter of the configuration
    client = make_app(providers={"openai"}).test_client()
    odd = [{"prompt": "a", "task_type": "reserch"}, {"prompt": "b", "task_type": "reserch"}]
    pinned = {"prompt": "c", "providers": ["gemini"]}
    waits, *warnings = client.post("/api/tasks", json={"tasks": [*odd, pinned]}).json["warnings"]
    assert waits.startswith("no orchestrator is running, so these tasks wait; start one with: python ")
    assert warnings == [
        "unknown task type 'reserch' is served as 'general'; did you mean 'research'?",
        "'providers': no configured provider serves this "
        "(gemini: no key in GOOGLE_API_KEY or GEMINI_API_KEY)",
    ]
    assert client.post("/api/tasks", json={"prompt": "d", "providers": ["openai"]}).json["warnings"] == [
        waits
    ]
    (_, unpriced) = client.post("/api/tasks", json={"prompt": "e", "models": ["gpt-99"]}).json["warnings"]
    assert unpriced.startswith("no price for gpt-99; ")


def test_the_providers_of_the_running_orchestrator_count(make_app: AppMaker) -> None:
    client = make_app(providers={"openai"}).test_client()
    answer = client.post("/api/tasks", json={"prompt": "a", "providers": ["gemini"]}).json
    assert answer["warnings"] == []


def curls() -> list[list[str]]:
    """The curl commands of the page on the server, as arguments."""
    text = PAGES["server.md"].replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in text.splitlines() if line.startswith("curl ")]


def test_the_documented_curl_commands_work(client: FlaskClient) -> None:
    answers = []
    for words in curls():
        url = urlsplit(next(word for word in words if word.startswith("http")))
        path = f"{url.path}?{url.query}"
        if "-d" in words:
            task = json.loads(words[words.index("-d") + 1]) | {"wait_s": 0}  # no orchestrator runs
            answers.append(client.post(path, json=task))
        else:
            answers.append(client.post(path) if "POST" in words else client.get(path))
    sent, shown, cancelled, found, exported = answers
    assert (sent.status_code, sent.json["warnings"], sent.json["task"]["status"]) == (202, [], "queued")
    assert shown.json["id"] == "sky" and shown.json["result"] is None
    assert cancelled.json["outcome"] == "cancelled"
    assert (found.status_code, found.json["tasks"]) == (200, [])
    assert (exported.status_code, exported.text.count("\n")) == (200, 1)


def test_wait_s_waits_for_the_answer(client: FlaskClient, store: Store, filled: FilledState) -> None:
    def answer() -> None:
        while not (mine := [t for t in store.queue.claim(ME, 50, now=filled.now) if t.id == "soon"]):
            pass
        store.queue.finish(ME, [_result(mine[0], 0, filled.now)])

    worker = threading.Thread(target=answer)
    worker.start()
    response = client.post("/api/tasks", json={"id": "soon", "prompt": "Quick!", "wait_s": 20})
    worker.join()
    assert response.status_code == 200
    assert response.json["task"]["result"]["output"] == "An answer."
    assert response.json["task"]["result"]["simulated"] is True


def test_one_waiting_request_too_many_gets_a_warning(
    client: FlaskClient, store: Store, filled: FilledState, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = context_of(client).waiting
    taken = [waiting.acquire(blocking=False) for _ in range(MAX_WAITING)]
    try:
        assert all(taken)
        response = client.post("/api/tasks", json={"prompt": "Quick!", "wait_s": 60})
    finally:
        for _ in taken:
            waiting.release()
    assert (response.status_code, response.json["waited"]) == (202, False)
    assert "64 requests are waiting already" in response.json["warnings"][0]
    again = client.post("/api/tasks", json={"prompt": "Quick!", "wait_s": 0.01}).json
    assert again["waited"] is True and again["warnings"] == []
    assert "waited" not in client.post("/api/tasks", json={"prompt": "Quick!"}).json
    assert THREADS >= MAX_WAITING + 16, "the others find a thread"


def test_a_filter_by_waiting_fills_its_pages_beside_calls_in_flight(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    store.intake.add_tasks(
        [Task(f"w-{i}", "many", (Message("user", "?"),)) for i in range(30)], now=filled.now
    )
    claimed = store.queue.claim(ME, 12, now=filled.now)
    newest = sorted(task.row for task in claimed)[-5:]
    show_in_flight(filled, store, newest)
    seen: list[int] = []
    path = "/api/tasks?status=waiting&limit=10"
    while path:
        page = client.get(path).json
        assert {task["state"] for task in page["tasks"]} == {"waiting"}
        assert len(page["tasks"]) == 10 or page["next_before"] is None
        seen += [task["row"] for task in page["tasks"]]
        before = page["next_before"]
        path = f"/api/tasks?status=waiting&limit=10&before={before}" if before else ""
    counts = store.reports.task_counts()
    assert len(seen) == len(set(seen)) == counts[TaskStatus.QUEUED] + counts[TaskStatus.RUNNING] - 5
    calls = client.get("/api/tasks?status=in_flight").json["tasks"]
    assert sorted(task["row"] for task in calls) == newest


def test_a_list_is_filtered_and_paged_by_key(client: FlaskClient) -> None:
    seen: list[str] = []
    before = ""
    while True:
        page = client.get(f"/api/tasks?batch={BATCH}&limit=3{before}").json
        seen += [task["id"] for task in page["tasks"]]
        if page["next_before"] is None:
            break
        before = f"&before={page['next_before']}"
    assert seen == [f"t-{i}" for i in reversed(range(10))]
    assert [t["id"] for t in client.get("/api/tasks?id=t-s").json["tasks"]] == ["t-script"]
    assert [t["status"] for t in client.get("/api/tasks?status=failed").json["tasks"]] == ["failed"]
    research = client.get("/api/tasks?type=research").json["tasks"]
    assert {t["task_type"] for t in research} == {"research"}
    assert {t["provider"] for t in client.get("/api/tasks?provider=gemini").json["tasks"]} == {"gemini"}
    assert client.get("/api/tasks?batch=nothing").json["tasks"] == []


@pytest.mark.parametrize("query", ["status=done", "before=x", "limit=0", "limit=100000", "color=red"])
def test_an_invalid_filter_is_422(client: FlaskClient, query: str) -> None:
    assert client.get(f"/api/tasks?{query}").status_code == 422
    page = client.get(f"/tasks?{query}")
    assert "problem" in page.text


def test_a_task_lists_its_attempts_and_their_reasons(client: FlaskClient) -> None:
    task = client.get("/api/tasks/queue/t-script").json
    assert task["result"]["output"] == SCRIPT
    attempt = task["timeline"][0]
    assert attempt["reasons"][1] == {
        "provider": "other",
        "model": "",
        "score": 0.0,
        "why": "circuit breaker open",
    }
    assert task["cost_usd"] == 0.0015


def test_a_queued_task_is_cancelled_at_once_and_a_claimed_one_on_request(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    done = client.post(f"/api/tasks/{filled.queued_row}/cancel").json
    assert done["outcome"] == "cancelled"
    assert client.get(f"/api/tasks/{filled.queued_row}").json["status"] == "cancelled"
    running = client.get("/api/tasks?status=running").json["tasks"][0]
    assert client.post(f"/api/tasks/{running['row']}/cancel").json["outcome"] == "requested"
    (command,) = store.controls.take_commands(ME, filled.now)
    assert (command.kind, command.args["ids"]) == ("cancel", [running["id"]])


def stranger(client: FlaskClient, store: Store, filled: FilledState) -> str:
    """A queued task whose id is the row number of another queued task."""
    other = store.tasks.at_row(filled.queued_row)
    assert other is not None and other.row.id != str(filled.queued_row)
    queued = client.post("/api/tasks", json={"id": filled.queued_row, "prompt": "Mine?"})
    assert queued.json["task"]["id"] == str(filled.queued_row)
    return str(filled.queued_row)


def test_a_number_is_an_id_of_the_queue_before_it_is_a_row(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    mine = stranger(client, store, filled)
    shown = client.get(f"/api/tasks/{mine}").json
    assert (shown["id"], shown["messages"][0]["content"]) == (mine, "Mine?")
    page = client.get(shown["url"]).text
    assert "Mine?" in page and '<a href="/tasks" aria-current="page">' in page
    assert client.get(f"/tasks/{mine}", follow_redirects=True).request.path == shown["url"]
    assert client.get(f"/api/rows/{mine}").json["row"] == int(mine), "that of the stranger"
    done = client.post(f"/api/tasks/{mine}/cancel").json
    assert (done["id"], done["outcome"]) == (mine, "cancelled")
    assert client.get(f"/api/rows/{mine}").json["status"] == "queued"
    assert client.post(f"/api/tasks/{mine}/retry").json["id"] == mine
    assert client.get(f"/api/tasks/{filled.answered_row}").json["row"] == filled.answered_row
    assert client.get(f"/api/tasks/0{filled.answered_row}").status_code == 404, "no row is written like that"


def test_a_task_of_the_queue_is_cancelled_and_retried_by_its_id(client: FlaskClient) -> None:
    client.post("/api/tasks", json={"id": "soon", "prompt": "Hi"})
    assert client.post("/api/tasks/soon/cancel").json["outcome"] == "cancelled"
    assert client.post("/api/tasks/soon/retry").json["outcome"] == "queued"
    assert client.post("/api/tasks/later/cancel").status_code == 404


def test_a_retry_queues_the_task_and_keeps_its_attempts(client: FlaskClient, filled: FilledState) -> None:
    assert client.post(f"/api/tasks/{filled.failed_row}/retry").json["outcome"] == "queued"
    task = client.get(f"/api/tasks/{filled.failed_row}").json
    assert (task["status"], len(task["timeline"])) == ("queued", 1)
    assert client.post(f"/api/tasks/{filled.failed_row}/retry").status_code == 409


def test_a_whole_batch_is_cancelled_and_retried(client: FlaskClient, store: Store) -> None:
    done = client.post("/api/batches/cancel", json={"batch": BATCH}).json
    assert done["cancelled"] + done["requested"] == 3
    again = client.post("/api/batches/retry", json={"batch": BATCH}).json
    assert again["queued"] == 1 + done["cancelled"]
    assert client.post("/api/batches/retry", json={"batch": "nothing"}).status_code == 404
    counts = {b["name"]: b["counts"] for b in client.get("/api/batches").json["batches"]}
    assert counts[BATCH]["queued"] == store.reports.task_counts(BATCH)[TaskStatus.QUEUED] == again["queued"]


# ------------------------------------------------------------------ usage, events, exports


def test_usage_is_grouped_as_requested(client: FlaskClient, filled: FilledState) -> None:
    rows = client.get("/api/usage?by=provider").json["rows"]
    assert {row["key"]["provider"] for row in rows} == {"anthropic", "openai", "gemini"}
    assert sum(row["totals"]["ok"] for row in rows) == 8
    assert sum(row["totals"]["cost_usd"] for row in rows) == pytest.approx(8 * 0.0015)
    by_hour = client.get("/api/usage?by=hour,task_type").json["rows"]
    assert set(by_hour[0]["key"]) == {"hour_at", "task_type"}
    assert client.get(f"/api/usage?since={filled.now + 500}&until={filled.now + 600}").json["rows"] == []


@pytest.mark.parametrize(
    "query", ["by=color", "by=provider,provider", "since=-1", "until=inf", "by=minute&since=0"]
)
def test_an_invalid_usage_query_is_422(client: FlaskClient, query: str) -> None:
    assert client.get(f"/api/usage?{query}").status_code == 422


def test_events_are_paged_by_id(client: FlaskClient) -> None:
    newest = client.get("/api/events?limit=1").json["events"][0]
    assert (newest["kind"], newest["level"]) == ("unknown_price", "alert")
    after = client.get(f"/api/events?after={newest['id'] - 1}").json["events"]
    assert [event["id"] for event in after] == [newest["id"]]
    assert client.get("/api/events?kind=breaker_opened").json["events"][0]["provider"] == "openai"


def test_an_export_is_json_lines_of_results(client: FlaskClient) -> None:
    response = client.get(f"/tasks/export.jsonl?batch={BATCH}")
    assert "results.simulated.jsonl" in response.headers["Content-Disposition"]
    rows = [json.loads(line) for line in response.text.splitlines()]
    assert all(row["batch"] == BATCH and row["simulated"] is True for row in rows)
    assert sum(row["status"] == "failed" for row in rows) == 1
    assert len(client.get("/tasks/export.jsonl").text.splitlines()) == 9
    assert len(client.get("/tasks/export.jsonl?status=failed").text.splitlines()) == 1


def test_a_csv_cell_is_never_a_formula(client: FlaskClient) -> None:
    rows = list(csv.DictReader(io.StringIO(client.get("/tasks/export.csv?batch=queue").text)))
    risky = next(row for row in rows if row["id"].endswith("1+1"))
    assert risky["id"] == "'=1+1"
    assert risky["output"].startswith("'=cmd")
    assert all(row["simulated"] == "true" for row in rows)


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_text_that_a_spreadsheet_would_calculate_begins_with_an_apostrophe(
    sign: str,
) -> None:
    (row,) = csv.reader(io.StringIO(csv_line([guard(f"{sign}1+1"), guard("1")]).decode(), newline=""))
    assert row == [f"'{sign}1+1", "1"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/api/tasks/{10**30}", 404),
        (f"/api/rows/{10**30}", 404),
        (f"/api/rows/{'9' * 5000}", 404),
        (f"/api/tasks?before={10**30}", 422),
        (f"/api/events?after={10**30}", 422),
        ("/api/usage?since=1e30", 422),
        ("/api/usage?until=1e308&by=minute", 422),
    ],
)
def test_numbers_beyond_the_database_are_client_errors(client: FlaskClient, path: str, status: int) -> None:
    assert client.get(path).status_code == status


def test_an_unchanged_status_is_304(client: FlaskClient) -> None:
    first = client.get("/api/providers/status")
    again = client.get("/api/providers/status", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_one_submitting_request_too_many_is_503_with_retry_after(client: FlaskClient) -> None:
    taken, submitting = 0, context_of(client).submitting
    while submitting.acquire(blocking=False):
        taken += 1
    try:
        refused = client.post("/api/tasks", json={"prompt": "Why?"})
        assert client.get("/healthz").status_code == 200
    finally:
        for _ in range(taken):
            submitting.release()
    assert taken == MAX_SUBMITTING
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert refused.json["error"]["code"] == "busy"
    assert client.post("/api/tasks", json={"prompt": "Why?"}).status_code == 202
