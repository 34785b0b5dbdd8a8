"""Budgets on the dashboard: every period and scope, computed from the store."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask.testing import FlaskClient

from src.config import load_settings
from src.core.budget_keeper import keep_cap
from src.core.store import (
    DEFERS,
    Identity,
    NewBatch,
    PlannedRow,
    PublishedGateway,
    Registrant,
    Store,
)
from src.messages import Message
from src.records import Attempt, Outcome, Result, Task, TaskStatus
from src.settings import Settings
from src.web import create_app
from src.web.context import AppContext
from tests.helpers import VirtualClock

NOW = 1_795_000_000.0  # 2026-11-18, 04:26 UTC
DAY_S = 86_400.0
BUDGETS = """
[budgets]
daily_usd = 1.0
monthly_usd = 40.0
[budgets.providers.openai]
total_usd = 5.0
[budgets.submitters."<b>eve</b>"]
daily_usd = 0.25
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "own.toml").write_text(BUDGETS, encoding="utf-8")
    loaded = load_settings(tmp_path / "own.toml", {})
    return loaded.model_copy(update={"state_dir": tmp_path / "state"})


def spend(store: Store, name: str, at: float, provider: str, usd: float, *, sure: bool = True) -> None:
    task = Task(name, "spent", (Message("user", "?"),), created_at=at, submitter="<b>eve</b>")
    store.intake.add_tasks([task], now=at)
    (claimed,) = store.queue.claim("me", 1, now=at)
    nanos = int(usd * 1e9)
    outcome = Outcome.OK if sure else Outcome.UNCERTAIN
    attempt = Attempt(1, provider, "m", "a", outcome, at, 0.5, "weighted", (), cost_nanos=nanos)
    status = TaskStatus.SUCCEEDED if sure else TaskStatus.FAILED
    store.queue.finish("me", [Result(claimed, status, at, (attempt,), output="x" if sure else None)])


def client_of(settings: Settings, store: Store, *, simulated: bool) -> FlaskClient:
    return create_app(AppContext(settings, store, simulated=simulated, clock=VirtualClock(NOW))).test_client()


def test_every_budget_shows_what_is_spent_and_when_it_resets(settings: Settings) -> None:
    with Store.open(settings.state_dir / "live.db", simulated=False) as store:
        store.orchestrators.register(Registrant("me", 1, "h", "live"), now=NOW)
        spend(store, "today", NOW - 60, "openai", 0.85)
        spend(store, "unsure", NOW - 50, "openai", 0.10, sure=False)
        spend(store, "before", NOW - 3 * DAY_S, "openai", 4.0)
        spend(store, "elsewhere", NOW - 3 * DAY_S, "gemini", 1.0)
        client = client_of(settings, store, simulated=False)
        view, page = client.get("/api/dashboard").json, client.get("/").text
    assert {
        (b["scope"], b["name"], b["period"]): (round(b["spent_usd"], 3), round(b["uncertain_usd"], 3))
        for b in view["budgets"]
    } == {
        ("all", "", "day"): (0.85, 0.1),
        ("all", "", "month"): (5.85, 0.1),
        ("provider", "openai", "total"): (4.85, 0.1),
        ("submitter", "<b>eve</b>", "day"): (0.85, 0.1),
    }
    resets = {b["period"]: b["resets_at"] for b in view["budgets"]}
    assert resets["day"] == NOW - NOW % DAY_S + DAY_S
    assert resets["total"] is None
    texts = [need["text"] for need in view["attention"]]
    assert "95 % of the overall daily budget is spent" in texts
    assert "380 % of the daily budget of submitter <b>eve</b> is spent" in texts
    assert view["money"]["budget_usd"] == 1.0
    assert "submitter &lt;b&gt;eve&lt;/b&gt;" in page
    assert "uncertain" in page
    assert "never" in page


def test_a_cap_is_shown_while_its_batch_has_open_tasks(settings: Settings) -> None:
    with Store.open(settings.state_dir / "live.db", simulated=False) as store:
        store.intake.add_tasks([Task("t", "capped", (Message("user", "?"),))], now=NOW)
        store.intake.create_batch("ended", now=NOW)
        for batch, usd in (("capped", 2.0), ("ended", 3.0)):
            keep_cap(store, batch, usd)
        client = client_of(settings, store, simulated=False)
        shown = client.get("/api/dashboard").json["budgets"]
    caps = [(b["name"], b["limit_usd"]) for b in shown if b["scope"] == "batch"]
    assert caps == [("capped", 2.0)]


def test_simulated_cost_counts_towards_no_budget(settings: Settings) -> None:
    with Store.open(settings.state_dir / "simulated.db", simulated=True) as store:
        client = client_of(settings, store, simulated=True)
        assert client.get("/api/dashboard").json["budgets"] == []
        assert 'id="budgets"' not in client.get("/").text


def test_without_budgets_the_one_of_the_gateway_is_shown(tmp_path: Path) -> None:
    settings = load_settings(environ={}).model_copy(update={"state_dir": tmp_path})
    with Store.open(tmp_path / "live.db", simulated=False) as store:
        client = client_of(settings, store, simulated=False)
        [shown] = client.get("/api/dashboard").json["budgets"]
        assert (shown["scope"], shown["period"], shown["limit_usd"]) == ("gateway", "day", 10.0)
        assert "daily budget of the gateway" in client.get("/").text
        assert "<code>http://127.0.0.1:5001/v1</code>" in client.get("/new").text
        leader = store.fenced().leadership
        leader.take(Identity("one", 1, "here", 10.0), seen=leader.leader())
        leader.publish(PublishedGateway("http://127.0.0.1:5999"))
        assert "<code>http://127.0.0.1:5999/v1</code>" in client.get("/new").text
        figures = client.get("/metrics").text
        assert 'orchestrator_budget_remaining_usd{budget="gateway:daily"} 10.0' in figures
        lifted = settings.gateway.model_copy(update={"daily_usd": "none"})
        other = client_of(settings.model_copy(update={"gateway": lifted}), store, simulated=False)
        assert other.get("/api/dashboard").json["budgets"] == []


def test_what_batches_at_providers_may_still_cost_is_not_left(settings: Settings) -> None:
    with Store.open(settings.state_dir / "live.db", simulated=False) as store:
        store.intake.create_batch("due", now=NOW, options={DEFERS: DAY_S})
        due = [Task(f"t{n}", "due", (Message("user", "?"),), deadline_at=NOW + DAY_S) for n in range(2)]
        store.intake.add_tasks(due, now=NOW)
        (group,) = store.deferrals.groups()
        rows = [PlannedRow(task, 200_000_000, 9, "economy") for task in store.deferrals.oldest(group.id, 9)]
        store.provider_batches.intend(NewBatch("openai", "m", "marker01"), rows, NOW)
        client = client_of(settings, store, simulated=False)
        view, page = client.get("/api/dashboard").json, client.get("/").text
    found = {(b["scope"], b["name"], b["period"]): b for b in view["budgets"]}
    for key in (("all", "", "day"), ("all", "", "month"), ("provider", "openai", "total")):
        assert (found[key]["batched_usd"], found[key]["spent_usd"], found[key]["used"]) == (0.4, 0.0, 0.0)
    assert found["submitter", "<b>eve</b>", "day"]["batched_usd"] == 0.0
    assert "+ up to $0.4000 in batches" in " ".join(page.split())
