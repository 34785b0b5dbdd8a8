"""The pages and their forms, without script."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from flask.testing import FlaskClient

from src.core.store import Registrant, Store
from src.formatting import iso_time
from src.messages import Message
from src.records import (
    Attempt,
    Candidate,
    Event,
    Outcome,
    RefusalKind,
    Result,
    Task,
    TaskStatus,
    Usage,
    WaitingFor,
    WaitReason,
)
from src.refusal_text import wait_text
from src.routing.balancer import ProviderLoadBalancer
from src.routing.cost.budgets import BudgetRule
from src.settings import BudgetSettings
from src.web import create_app
from src.web.context import AppContext, ViewCache
from src.web.presenters.plans import PLANNED_AT_MOST, Expectation, Sample
from src.web.presenters.pool import pool_view
from src.web.presenters.usage import type_table
from src.web.presenters.weights import _with_preferences
from src.web.template_filters import why_not
from src.web.uploads import Uploads
from tests.helpers import VirtualClock
from tests.routing.build import make_settings, make_task, told_limits

from .conftest import AppMaker, context_of, csrf_of
from .filled import BATCH, ME, FilledState, settings_in

# ------------------------------------------------------------------ without an orchestrator


def test_before_any_orchestrator_the_pages_show_the_configuration(tmp_path: Path) -> None:
    with Store.open(tmp_path / "simulated.db", simulated=True) as store:
        client = create_app(AppContext(settings_in(tmp_path), store, simulated=True)).test_client()
        status = client.get("/provider-status").text
        assert "No orchestrator has run on this state yet" in status
        assert "Not seen yet" in status
        assert all(agent in status for agent in ("claude-analyst", "gpt-generalist", "gemini-scout"))
        for path in ("/", "/rebalance", "/tasks"):
            assert client.get(path).status_code == 200
        found = client.get("/api/providers/status").json
    assert found["orchestrator"]["state"] == "never"
    assert [
        sum(a["home"] == home for a in found["agents"]) for home in ("anthropic", "openai", "gemini")
    ] == [2, 3, 2]


def test_a_disabled_provider_is_not_reported_as_without_a_key(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    rows = dict(settings.providers)
    rows["gemini"] = rows["gemini"].model_copy(update={"enabled": False})
    settings = settings.model_copy(update={"providers": rows})
    with Store.open(tmp_path / "simulated.db", simulated=True) as store:
        client = create_app(AppContext(settings, store, simulated=True, providers={"openai"})).test_client()
        shown = client.get("/api/providers/status").json["providers"]
        balancer = ProviderLoadBalancer(settings, now=0.0, configured={"openai"})
    wanted_text = {"anthropic": "no key in ANTHROPIC_API_KEY", "gemini": "switched off in the configuration"}
    for reasons in (
        {p["name"]: p["reason"] for p in shown if p["state"] == "not_configured"},
        {p.name: p.reason for p in balancer.snapshot(0.0).providers if p.state == "not_configured"},
    ):
        assert reasons == wanted_text


@pytest.mark.parametrize(("after_s", "state"), [(1, "running"), (11, "silent"), (7200, "silent")])
def test_a_page_shows_the_age_of_its_data(
    filled: FilledState, store: Store, after_s: float, state: str
) -> None:
    clock = VirtualClock(filled.now + after_s)
    client = create_app(AppContext(filled.settings, store, simulated=True, clock=clock)).test_client()
    found = client.get("/api/providers/status").json["orchestrator"]
    assert found["state"] == state
    assert found["age_s"] == pytest.approx(after_s)
    page = client.get("/provider-status").text
    assert ("No orchestrator is running" in page) is (state != "running")


def test_the_pages_name_the_command_for_this_state(
    make_app: AppMaker, store: Store, filled: FilledState
) -> None:
    store.orchestrators.retire(ME, now=filled.now)
    client = make_app(start_command="python real_agent_orchestrator.py --state-dir elsewhere").test_client()
    wanted_text = "real_agent_orchestrator.py --state-dir elsewhere"
    assert f"Start it with <code>python {wanted_text}</code>" in client.get("/provider-status").text
    assert f"no orchestrator is running; start one with: python {wanted_text}" in client.get("/").text


def test_a_stopped_orchestrator_is_distinguished_from_a_silent_one(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    store.orchestrators.retire(ME, now=filled.now)
    assert client.get("/api/providers/status").json["orchestrator"]["state"] == "stopped"
    assert "waiting and no orchestrator is running" in client.get("/").text


# ------------------------------------------------------------------ pages


def test_the_dashboard_shows_the_five_numbers(client: FlaskClient) -> None:
    view = client.get("/api/dashboard").json
    assert (view["counts"]["succeeded"], view["counts"]["failed"], view["waiting"]) == (8, 1, 3)
    assert view["money"]["total_usd"] == pytest.approx(0.012)
    assert view["money"]["saved_usd"] == pytest.approx(8 * 0.009 - 0.012)
    assert [(tier["tier"], tier["tasks"]) for tier in view["money"]["tiers"]] == [("economy", 8)]
    assert view["money"]["budget_usd"] is None
    texts = [need["text"] for need in view["attention"]]
    assert any("1 task failed" in text for text in texts)
    assert any("no price for" in text for text in texts)
    page = client.get("/").text
    assert ">Simulated<" in page
    assert "breaker opened" in page
    assert "economy $0.0600" in page  # saved, by tier


def test_without_a_price_for_the_baseline_the_dashboard_claims_no_savings(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    (task,) = store.queue.claim(ME, 1, now=filled.now)
    good = Attempt(
        1, "openai", "gpt-6-luna", "gpt-engineer", Outcome.OK, filled.now, 1.0, "weighted", (),
        usage=Usage(10, 0, 0, 10), cost_nanos=1_000,
    )  # fmt: skip
    store.queue.finish(
        ME, [Result(task, TaskStatus.SUCCEEDED, filled.now, (good,), output="Hi", tier="economy")]
    )
    money = client.get("/api/dashboard").json["money"]
    assert (money["saved_usd"], money["tiers"]) == (None, [])
    assert "unknown: no price for" in client.get("/").text


def test_calls_without_a_price_explain_unknown_savings(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    (task,) = store.queue.claim(ME, 1, now=filled.now)
    dear = Attempt(
        1, "openai", "gpt-nobody-knows", "gpt-engineer", Outcome.OK, filled.now, 1.0, "weighted", (),
        usage=Usage(10, 0, 0, 10), cost_nanos=None,
    )  # fmt: skip
    store.queue.finish(
        ME, [Result(task, TaskStatus.SUCCEEDED, filled.now, (dear,), output="Hi", tier="economy")]
    )
    assert "unknown: 1 call without a price" in client.get("/").text


def test_a_limit_is_shown_per_minute(client: FlaskClient, store: Store, filled: FilledState) -> None:
    settings = make_settings(limits=told_limits(requests_per_minute=608))
    balancer = ProviderLoadBalancer(settings, now=filled.now, configured=settings.providers.keys())
    balancer.place(make_task(), filled.now)
    store.orchestrators.heartbeat(ME, now=filled.now, snapshot=balancer.snapshot(filled.now))
    assert "608 a minute" in client.get("/provider-status").text


def test_candidates_passed_over_for_a_preference_say_so(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    (task,) = store.queue.claim(ME, 1, now=filled.now)
    reasons = (Candidate("gemini", "gemini-3.5-flash-lite", 0.2), Candidate("openai", "gpt-6-luna", 0.3))
    good = Attempt(
        1, "gemini", "gemini-3.5-flash-lite", "researcher", Outcome.OK, filled.now, 1.0, "preferred", reasons,
        usage=Usage(10, 0, 0, 10), cost_nanos=1_000,
    )  # fmt: skip
    store.queue.finish(
        ME, [Result(task, TaskStatus.SUCCEEDED, filled.now, (good,), output="Hi", tier="economy")]
    )
    detail = store.tasks.find(task.batch, task.id)
    assert detail is not None
    page = client.get(f"/rows/{detail.row.row}").text
    assert "the preferred one goes first" in page and "another's turn" not in page


def test_the_end_of_an_event_is_shown_and_in_its_json(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    until = filled.now + 7_200.0
    store.events.add(
        [
            Event(
                filled.now - 5,
                "quota_exhausted",
                "gemini: quota spent",
                "gemini",
                "",
                "alert",
                {"until": until},
            )
        ]
    )
    (row,) = client.get("/api/events?kind=quota_exhausted").json["events"]
    assert row["fields"] == {"until": until}
    page = client.get("/").text
    moment = re.search(r"gemini: quota spent, until (<time .*?</time>)", page)
    assert moment and f'datetime="{iso_time(until)}"' in moment[1], (
        "the page's script makes it the reader's time"
    )
    needs = [need["text"] for need in client.get("/api/dashboard").json["attention"]]
    assert "gemini: quota spent, for another 2 h (5.0 s ago)" in needs


def test_tasks_of_a_spent_cap_have_no_finish_time(
    filled: FilledState, store: Store, client: FlaskClient
) -> None:
    balancer = ProviderLoadBalancer(filled.settings, now=filled.now, configured=filled.settings.providers)
    cap = WaitingFor(12, None, WaitReason(RefusalKind.BUDGET_SPENT, "", "cap of batch out.csv", "batch"))
    snapshot = replace(balancer.snapshot(filled.now), waiting_for=(cap,), waiting=12)
    store.orchestrators.heartbeat(ME, now=filled.now, snapshot=snapshot)
    view = client.get("/api/dashboard").json
    assert view["left_s"] is None and view["held"]["until"] is None
    assert "12 held by cap of batch out.csv: exhausted until it is raised" in client.get("/").text


@pytest.mark.parametrize(("blocked", "left"), [(1, True), (12, False)], ids=["one of many", "all"])
def test_the_finish_time_excludes_held_tasks_and_names_the_reason(
    filled: FilledState, store: Store, client: FlaskClient, blocked: int, left: bool
) -> None:
    balancer = ProviderLoadBalancer(filled.settings, now=filled.now, configured=filled.settings.providers)
    waits = WaitingFor(
        blocked, filled.now + 15 * 3600, WaitReason("budget_spent", "openai", "budget overall", "all")
    )
    soon = WaitingFor(2, filled.now + 12, WaitReason(RefusalKind.RATE_LIMIT, "openai", "tokens"))
    snapshot = replace(balancer.snapshot(filled.now), waiting_for=(soon, waits), waiting=3)
    store.orchestrators.heartbeat(ME, now=filled.now, snapshot=snapshot)
    view = client.get("/api/dashboard").json
    assert (view["left_s"] is not None) is left
    assert view["held"] == {"tasks": blocked, "what": "budget overall: exhausted", "until": waits.until,
        "budget_scope": "all",
    }  # fmt: skip
    page = client.get("/").text
    assert f"{blocked} held by budget overall: exhausted for 15 h" in page


def test_each_reason_to_wait_says_when_a_task_can_go(
    filled: FilledState, store: Store, client: FlaskClient
) -> None:
    cap = str(BudgetRule("batch", "/data/out.csv", "total", 30_000_000))
    reasons = {
        WaitReason(RefusalKind.RATE_LIMIT, "openai", "tokens"): (filled.now + 12, "in 12 s"),
        WaitReason(RefusalKind.RATE_LIMIT, "gemini", "tokens"): (filled.now, "any moment"),
        WaitReason(RefusalKind.RATE_LIMIT, "anthropic", "tokens"): (None, "with the next answer"),
        WaitReason(RefusalKind.BUDGET_SPENT, "openai", cap, "batch"): (None, "when it is raised"),
    }
    waits = tuple(WaitingFor(2, until, reason) for reason, (until, _) in reasons.items())
    balancer = ProviderLoadBalancer(filled.settings, now=filled.now, configured=filled.settings.providers)
    store.orchestrators.heartbeat(
        ME, now=filled.now, snapshot=replace(balancer.snapshot(filled.now), waiting_for=waits)
    )
    rows = re.findall(r"<tr><td>(.*?)</td><td.*?</td>\s*<td[^>]*>(.*?)</td></tr>", client.get("/").text)
    assert dict(rows) == {wait_text(reason): wanted_text for reason, (_, wanted_text) in reasons.items()}


@pytest.mark.parametrize(
    ("kind", "detail", "wanted_text"),
    [
        (RefusalKind.RATE_LIMIT, "tokens", "token limit reached"),
        (RefusalKind.LIMITS_UNKNOWN, "", "waiting for its first reply, which reports its limits"),
        (RefusalKind.CONCURRENCY_LIMIT, "", "at its concurrency limit"),
        (RefusalKind.OTHER, "a text of an earlier version", "a text of an earlier version"),
    ],
)
def test_why_a_provider_was_not_chosen_does_not_name_it(kind: str, detail: str, wanted_text: str) -> None:
    assert why_not(Candidate("openai", "gpt-6-luna", 0.4, kind, detail)) == wanted_text


def test_calls_that_a_crash_cut_off_are_no_task_type(
    filled: FilledState, store: Store, client: FlaskClient
) -> None:
    store.orchestrators.reserve_cost(ME, {("openai", BATCH, "local", ""): 700_000})
    store.orchestrators.register(Registrant("next", 2, "here", "simulated"), now=filled.now)
    assert sum(row.sums.uncertain_nanos for row in store.reports.usage(0.0, filled.now + 60, ())) >= 700_000
    assert "" not in {row.task_type for row in type_table(context_of(client))}


def test_a_provider_card_shows_score_with_its_three_factors(client: FlaskClient) -> None:
    card = client.get("/api/providers/status").json["providers"][0]
    assert card["score"] == pytest.approx(
        card["weight"] * card["performance_multiplier"] * card["time_multiplier"]
    )
    page = client.get("/provider-status").text
    assert all(
        word in page
        for word in ("<small>weight</small>", "<small>performance</small>", "<small>time</small>")
    )
    assert page.count('class="spark"') == 3
    assert '<th class="num">held</th>' in page
    for chosen in ("hour", "day", "month", "nonsense"):
        assert client.get(f"/provider-status?range={chosen}").status_code == 200


def test_a_task_page_shows_attempts_and_reasons(client: FlaskClient) -> None:
    page = client.get(f"/tasks?batch={BATCH}").text
    assert "t-9" in page
    assert "t-script" not in page
    task = client.get("/tasks/queue/t-script").text
    assert "Why anthropic" in task
    assert "circuit breaker open" in task
    assert "Be brief." in task


def test_the_next_page_of_a_list_keeps_its_filter(
    filled: FilledState, store: Store, client: FlaskClient
) -> None:
    more = [Task(f"m-{i}", "many", (Message("user", "?"),), "research") for i in range(120)]
    store.intake.add_tasks(more, now=filled.now)
    page = client.get("/tasks?type=research&batch=many").text
    assert "m-119" in page
    assert "m-69<" not in page
    older = page.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
    assert "type=research" in older
    assert "m-69" in client.get(older).text


# ------------------------------------------------------------------ forms


def test_a_batch_is_cancelled_after_a_confirmation_with_the_count(client: FlaskClient, store: Store) -> None:
    form = {"csrf": csrf_of(client), "batch": BATCH}
    confirmation = client.post("/batches/cancel", data=form)
    counts = store.reports.task_counts(BATCH)
    still_open = counts[TaskStatus.QUEUED] + counts[TaskStatus.RUNNING]
    assert confirmation.status_code == 200 and still_open > 1
    assert f"Cancel {still_open} tasks" in confirmation.text and store.reports.task_counts(BATCH) == counts
    done = client.post("/batches/cancel", data={**form, "confirmed": "yes"})
    assert done.status_code == 303 and store.reports.task_counts(BATCH)[TaskStatus.QUEUED] == 0


@pytest.mark.parametrize("path", ["/nowhere", "/tasks/1/2/3", "/api/nowhere"])
def test_a_form_to_an_unknown_path_is_404(client: FlaskClient, path: str) -> None:
    assert client.post(path, data={"a": "b"}).status_code == 404


def test_a_truncated_answer_is_marked_in_the_list(
    filled: FilledState, store: Store, client: FlaskClient
) -> None:
    store.intake.add_tasks([Task("cut", "queue", (Message("user", "?"),), priority=99)], now=filled.now)
    (task,) = store.queue.claim(ME, 1, now=filled.now)
    cut = Result(task, TaskStatus.SUCCEEDED, filled.now, (), output="half an", truncated=True)
    store.queue.finish(ME, [cut])
    assert ">truncated</small>" in client.get("/tasks?id=cut").text
    assert ">truncated</small>" not in client.get("/tasks?id=t-script").text


def test_a_task_is_submitted_by_form_and_shown(client: FlaskClient, store: Store) -> None:
    form = {
        "csrf": csrf_of(client),
        "prompt": "Line one\r\nline two",
        "task_type": "research",
        "max_tokens": "50",
    }
    response = client.post("/tasks", data=form, follow_redirects=True)
    assert "Line one\nline two" in response.text
    task = store.tasks.at_row(int(response.request.path.rsplit("/", 1)[1]))
    assert task is not None
    assert (task.task.max_tokens, task.task.task_type, task.row.batch) == (50, "research", "queue")


@pytest.mark.parametrize(
    "wrong", [{"prompt": " "}, {"max_tokens": "many"}, {"tier": "golden"}, {"max_tokens": "0"}]
)
def test_an_invalid_form_keeps_its_input(client: FlaskClient, wrong: dict[str, str]) -> None:
    form = {"csrf": csrf_of(client), "prompt": "Keep me", "max_tokens": "", "tier": "auto", **wrong}
    response = client.post("/tasks", data=form)
    assert response.status_code == 422
    assert 'role="alert"' in response.text
    if "prompt" not in wrong:
        assert ">Keep me</textarea>" in response.text


def test_weights_are_previewed_applied_and_undone_by_form(client: FlaskClient, store: Store) -> None:
    form = {
        "csrf": csrf_of(client, "/rebalance"),
        "weight-anthropic": "20",
        "weight-openai": "60",
        "weight-gemini": "20",
    }
    preview = client.post("/rebalance", data={**form, "action": "preview"})
    assert 'value="60.0"' in preview.text
    assert store.controls.settings_version() == 0
    client.post("/rebalance", data={**form, "action": "apply"})
    assert store.controls.current_settings()["weights"] == {"anthropic": 0.2, "openai": 0.6, "gemini": 0.2}
    client.post("/rebalance", data={"csrf": form["csrf"], "action": "undo"})
    assert "weights" not in store.controls.current_settings()
    history = client.get("/rebalance").text
    assert "openai 40.0 % to 60.0 %" in history
    wrong = client.post("/rebalance", data={**form, "weight-openai": "-5", "action": "apply"})
    assert (wrong.status_code, "must not be negative" in wrong.text) == (422, True)
    assert client.post("/rebalance", data={**form, "weight-openai": "lots"}).status_code == 422
    assert client.post("/rebalance", data={**form, "version": "999"}).status_code == 422
    assert 'value="33.3"' in client.get("/rebalance?preset=equal").text


def test_a_suggestion_is_shown_with_its_alternatives(client: FlaskClient) -> None:
    page = client.get("/rebalance?preset=suggested").text
    assert "Recent traffic, replayed" in page
    replayed = page[page.index("Recent traffic, replayed") :]
    assert replayed.index("in force") < replayed.index("equal")
    assert "suggested</small>" in replayed


def test_without_traffic_there_is_no_suggestion(tmp_path: Path) -> None:
    with Store.open(tmp_path / "simulated.db", simulated=True) as store:
        client = create_app(AppContext(settings_in(tmp_path), store, simulated=True)).test_client()
        assert "No traffic in the last 24 hours" in client.get("/rebalance?preset=suggested").text
        refused = client.post("/api/providers/rebalance", json={"preset": "suggested"})
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (409, "nothing_known")


def test_a_provider_is_paused_and_resumed_by_button(client: FlaskClient) -> None:
    csrf = csrf_of(client, "/provider-status")
    page = client.post("/providers/gemini/pause", data={"csrf": csrf}, follow_redirects=True).text
    assert "Resume gemini" in page
    page = client.post("/providers/gemini/resume", data={"csrf": csrf}, follow_redirects=True).text
    assert "Resume gemini" not in page


# ------------------------------------------------------------------ uploads


def send(client: FlaskClient, content: bytes, name: str) -> str:
    form = {"csrf": csrf_of(client), "file": (io.BytesIO(content), name)}
    response = client.post("/uploads", data=form)
    assert response.status_code == 303, response.text
    return response.headers["Location"]


def test_an_upload_is_previewed_with_rows_bad_lines_and_cost(client: FlaskClient, store: Store) -> None:
    lines = [
        json.dumps({"id": f"u-{i}", "prompt": f"Question {i}", "task_type": "research"}) for i in range(30)
    ]
    lines[7] = '{"promt": "x"}'
    where = send(client, "\n".join(lines).encode(), "my tasks.jsonl")
    page = client.get(where).text
    assert "Start 29 tasks" in page
    assert "line 8" in page
    assert "did you mean" in page
    assert "At most" in page
    assert store.reports.batch("my tasks.jsonl") is None
    started = client.post(where, data={"csrf": csrf_of(client), "action": "start"}, follow_redirects=True)
    assert "29 tasks are queued" in started.text
    assert client.get(where).status_code == 404
    again = send(client, "\n".join(lines).encode(), "my tasks.jsonl")
    assert 'value="my tasks.jsonl-2"' in client.get(again).text
    done = client.post(
        again, data={"csrf": csrf_of(client), "batch": "my tasks.jsonl"}, follow_redirects=True
    )
    assert "0 tasks are queued, 29 were in it already" in done.text


@pytest.mark.parametrize("name", ["tasks.csv.gz", "tasks.parquet"])
def test_a_packed_upload_is_refused_with_a_remedy(client: FlaskClient, name: str) -> None:
    form = {"csrf": csrf_of(client), "file": (io.BytesIO(b"\x1f\x8b"), name)}
    refused = client.post("/uploads", data=form)
    assert refused.status_code == 422
    assert "unpack it, or save it as CSV or JSON Lines" in refused.text


def test_a_table_needs_a_prompt_column_or_a_template(client: FlaskClient, store: Store) -> None:
    table = 'id;product;review\r\n1;Lamp;good\r\n2;Desk;"bad;\nvery"\r\n3;Sofa\r\n'.encode("utf-8-sig")
    form = {"csrf": csrf_of(client), "template": "Of {product}:\r\n{review}"}
    sent = client.post("/uploads", data={**form, "file": (io.BytesIO(table), "reviews.csv")})
    assert sent.status_code == 303, sent.text
    page = client.get(sent.headers["Location"]).text
    assert "Start 2 tasks" in page and "Of Desk: bad; very" in page
    assert "line 5" in page and "2 cells for 3 columns" in page
    client.post(sent.headers["Location"], data={"csrf": csrf_of(client), "action": "start"})
    detail = store.tasks.find("reviews.csv", "2")
    assert detail is not None and detail.task.messages[-1].content == "Of Desk:\nbad;\nvery"
    assert detail.task.metadata == {"product": "Desk", "review": "bad;\nvery"}
    where = send(client, b"prompt,city\nWhat?,Rome\n", "questions.csv")
    assert "Start 1 task" in client.get(where).text


@pytest.mark.parametrize("template", ["", "Of {product}"], ids=["none", "another column"])
def test_a_table_is_kept_until_its_template_fits(client: FlaskClient, store: Store, template: str) -> None:
    form = {"csrf": csrf_of(client), "template": template}
    sent = client.post("/uploads", data={**form, "file": (io.BytesIO(b"city\nRome\nOslo\n"), "towns.csv")})
    where = sent.headers["Location"]
    page = client.get(where).text
    assert sent.status_code == 303 and "no column" in page and "--prompt-file" not in page
    assert "Start" not in page.split("<main")[1].split("</main")[0]
    started = client.post(where, data={"csrf": form["csrf"], "action": "start"})
    assert started.status_code == 422 and store.reports.batch("towns.csv") is None
    again = {"csrf": form["csrf"], "action": "template", "template": "What is {city}?"}
    assert client.post(where, data=again).headers["Location"] == where
    assert "Start 2 tasks" in client.get(where).text
    client.post(where, data={"csrf": form["csrf"], "action": "start"})
    counts = store.reports.task_counts("towns.csv")
    assert counts[TaskStatus.QUEUED] == 2


def test_an_upload_is_planned_with_the_current_pool_and_queue(
    filled: FilledState, store: Store, make_app: AppMaker
) -> None:
    """A provider that is out of service is excluded, and open tasks go first."""
    lines = "\n".join(f"Question {i}?" for i in range(200)).encode()

    def expected() -> Expectation:
        client = make_app().test_client()
        word = send(client, lines, "q.txt").rpartition("/")[2]
        with client.application.app_context():
            found = Uploads(context_of(client)).find(word).expectation
        assert found is not None
        return cast(Expectation, found)

    before = expected()
    store.intake.add_tasks(
        [Task(f"w-{i}", "w", (Message("user", "?"),)) for i in range(2000)], now=filled.now
    )
    behind = expected()
    assert behind.ahead == before.ahead + 2000 and behind.duration_s > 3 * before.duration_s
    store.controls.put_setting("paused", ["openai"], who="me", now=filled.now)
    assert list(expected().out) == ["openai"]


def test_an_upload_warns_if_a_budget_has_less_left_than_its_cost(tmp_path: Path) -> None:
    settings = settings_in(
        tmp_path, budgets=BudgetSettings(daily_usd=0.01, alert_percent=(), min_max_tokens=1)
    )
    with Store.open(tmp_path / "live.db", simulated=False) as store:
        client = create_app(AppContext(settings, store, simulated=False)).test_client()
        page = client.get(send(client, b"Why?\n" * 500, "q.txt")).text
        assert re.search(r"The overall daily budget has \$0\.010* left, less than the expected", page)
        page = client.get(send(client, b"Why?\n", "q.txt")).text
        assert "less than the expected cost" not in page


def test_an_upload_warns_of_rows_that_no_provider_can_serve(make_app: AppMaker, store: Store) -> None:
    store.orchestrators.retire(ME, now=0.0)
    client = make_app(providers={"openai"}).test_client()
    row = json.dumps({"prompt": "Hi", "providers": ["gemini"]})
    page = client.get(send(client, f"{row}\n{row}\n".encode(), "pinned.jsonl")).text
    assert (
        "Start 2 tasks" in page and page.count("no configured provider serves this (gemini: no key in") == 1
    )


def test_an_upload_can_be_discarded(client: FlaskClient, filled: FilledState) -> None:
    where = send(client, b"one\ntwo\n", "questions.txt")
    assert "Start 2 tasks" in client.get(where).text
    client.post(where, data={"csrf": csrf_of(client), "action": "drop"})
    assert list((filled.settings.state_dir / "uploads").iterdir()) == []


@pytest.mark.parametrize(
    ("content", "wanted_text"),
    [
        (b"[{}]", "the file is a JSON array"),
        (b"\xff\xfea\x00", "the file is UTF-16"),
        (b"", "x: no tasks, the file has no rows"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01", "not a text file (NUL bytes); expected UTF-8"),
    ],
    ids=["array", "utf-16", "empty", "picture"],
)
def test_a_file_without_tasks_is_refused_with_the_reason(
    client: FlaskClient, content: bytes, wanted_text: str, filled: FilledState
) -> None:
    name = "x.jsonl" if content.startswith(b"[") else "x"
    sent = client.post("/uploads", data={"csrf": csrf_of(client), "file": (io.BytesIO(content), name)})
    assert sent.status_code == 422 and wanted_text in sent.text
    assert list((filled.settings.state_dir / "uploads").iterdir()) == []


def test_the_plan_of_a_sample_is_scaled_to_all_tasks(client: FlaskClient) -> None:
    def plan_of(count: int) -> Expectation:
        sample = Sample()
        for i in range(count):
            sample.add(Task(f"x{i}", "b", (Message("user", "word " * 200),), "research", max_tokens=900))
        return sample.expectation(context_of(client), "local")

    half = PLANNED_AT_MOST // 2 + 1
    small, large = plan_of(half), plan_of(PLANNED_AT_MOST + 1)
    assert (small.tasks, small.sampled, large.tasks, large.sampled) == (half, 1, PLANNED_AT_MOST + 1, 2)
    assert 0 < small.expected_nanos < small.at_most_nanos
    assert large.expected_nanos == pytest.approx(small.expected_nanos / half * large.tasks, rel=0.01)
    assert small.from_records


# ------------------------------------------------------------------ presenters


@pytest.mark.parametrize(
    ("mix", "expected"),
    [
        ({"general": 1.0}, {"anthropic": 0.3, "openai": 0.4, "gemini": 0.3}),
        ({"research": 1.0}, {"anthropic": 0.0, "openai": 0.0, "gemini": 1.0}),
        ({"research": 0.2, "general": 0.8}, {"anthropic": 0.3, "openai": 0.4, "gemini": 0.3}),
        ({"research": 0.5, "general": 0.5}, {"anthropic": 0.214, "openai": 0.286, "gemini": 0.5}),
    ],
    ids=["untyped", "all preferred", "made up for", "more than made up for"],
)
def test_tasks_without_a_preference_compensate_for_preferences(
    client: FlaskClient, mix: dict[str, float], expected: dict[str, float]
) -> None:
    share = {"anthropic": 0.3, "openai": 0.4, "gemini": 0.3}
    assert _with_preferences(context_of(client), share, mix) == pytest.approx(expected, abs=1e-3)


def test_requests_share_one_view_of_the_pool(client: FlaskClient) -> None:
    context = context_of(client)
    assert pool_view(context) is pool_view(context)
    context.cache.forget()
    assert pool_view(context) is pool_view(context)


def test_a_view_begun_before_a_change_is_not_cached() -> None:
    cache = ViewCache()

    def make() -> str:
        cache.forget()  # somebody changes something meanwhile
        return "old"

    assert cache.get("x", make) == "old"
    assert cache.get("x", lambda: "new") == "new"
