"""The page of costs: what it adds up, by what, and who sees it."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from flask.testing import FlaskClient

from src.core.store import Registrant, Store
from src.messages import Message
from src.records import Attempt, Outcome, Result, Task, TaskStatus, Usage

from .conftest import AppMaker, context_of
from .filled import ME, FilledState

DAY = 86_400
TOKENS = {"ORCHESTRATOR_TOKENS": "alice:alices-long-token,eve:eves-reading-token:read"}


@pytest.fixture
def spent(client: FlaskClient, store: Store, filled: FilledState) -> FlaskClient:
    """Beside the filled tasks of today: $1 and $2 of two days, by two people; $0.50 may have been billed."""
    tasks = [
        Task("big", "queue", (Message("user", "x"),), "research", submitter="bob", priority=99),
        Task("small", "queue", (Message("user", "y"),), "general", submitter="<i>eve</i>", priority=98),
    ]
    store.intake.add_tasks(tasks, now=filled.now)
    big, small = store.queue.claim(ME, 2, now=filled.now)
    store.queue.finish(
        ME,
        [
            _result(big, filled.now - 2 * DAY, 2_000_000_000),
            _result(small, filled.now - DAY, 1_000_000_000, uncertain_nanos=500_000_000),
        ],
    )
    context_of(client).cache.forget()
    return client


def _result(task: Task, at: float, nanos: int, uncertain_nanos: int = 0) -> Result:
    made: dict[str, Any] = {
        "agent": "gpt-engineer",
        "started_at": at,
        "latency_s": 1.0,
        "choice": "weighted",
        "reasons": (),
    }
    call = Attempt(
        1, "openai", "gpt-6-luna", outcome=Outcome.OK, usage=Usage(1000, 0, 0, 500), cost_nanos=nanos, **made
    )
    calls = (call,)
    if uncertain_nanos:
        calls = (
            Attempt(2, "openai", "gpt-6-luna", outcome=Outcome.UNCERTAIN, cost_nanos=uncertain_nanos, **made),
            call,
        )
    return Result(task, TaskStatus.SUCCEEDED, at + 2, calls, output="An answer.", tier="economy")


def rows_of(client: FlaskClient, query: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(client.get(f"/costs.csv?{query}").text)))


@pytest.mark.parametrize("by", ["day", "provider", "model", "task_type", "submitter"])
def test_every_grouping_adds_up_to_the_same(spent: FlaskClient, store: Store, by: str) -> None:
    calls = store.reports.summary().calls
    page = spent.get(f"/costs?by={by}").text
    assert "$3.01" in page or "$3.02" in page
    assert "$0.50" in page, "uncertain money has a column of its own"
    rows = rows_of(spent, f"by={by}")
    assert sum(float(row["cost_usd"]) for row in rows) == pytest.approx(calls.cost_nanos / 1e9)
    assert sum(float(row["uncertain_usd"]) for row in rows) == pytest.approx(0.5)
    assert sum(int(row["calls"]) for row in rows) == calls.calls
    assert ("<svg" in page) and 'class="timechart"' in page


def test_the_dearest_group_comes_first_and_links_to_its_tasks(spent: FlaskClient) -> None:
    page = spent.get("/costs?by=submitter").text
    assert page.index(">bob<") < page.index("&lt;i&gt;eve&lt;/i&gt;") < page.index(">local<")
    assert "<i>eve" not in page
    assert 'href="/tasks?submitter=bob"' in page
    assert 'href="/tasks?type=research"' in spent.get("/costs?by=task_type").text
    assert 'href="/tasks?model=gpt-6-luna"' in spent.get("/costs?by=model").text


def test_a_range_counts_whole_utc_days(spent: FlaskClient, filled: FilledState) -> None:
    def cost(query: str) -> float:
        return sum(float(row["cost_usd"]) for row in rows_of(spent, query))

    today = int(filled.now) // DAY * DAY
    assert cost("range=today") == pytest.approx(cost("range=month") - 3)
    assert cost("range=week") == cost("range=year") == cost("range=month")
    assert cost(f"since={today - DAY}&until={today - DAY}") == pytest.approx(1)
    assert cost(f"since={today - 2 * DAY}&until={today - DAY}") == pytest.approx(3)
    assert cost("since=2020-01-01&until=2020-01-31") == 0
    assert "No call was made in this time." in spent.get("/costs?since=2020-01-01&until=2020-01-31").text
    for wrong in ("by=agent", "range=decade", "since=soon", "limit=3", "since=2026-01-02&until=2026-01-01"):
        assert spent.get(f"/costs.csv?{wrong}").status_code == 422
        page = spent.get(f"/costs?{wrong}")
        assert page.status_code == 200 and 'class="problem"' in page.text
    assert 'name="by" value="model"' in spent.get("/costs?by=model&since=soon").text, "what is right stays"


def test_money_of_interrupted_calls_has_no_model_and_stays_uncertain(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    store.orchestrators.reserve_cost(ME, {("openai", "queue", "local", ""): 70_000_000})
    store.orchestrators.register(Registrant("next", 2, "elsewhere", "simulated"), now=filled.now)
    context_of(client).cache.forget()
    (row,) = [row for row in rows_of(client, "by=model") if not row["model"]]
    assert (row["cost_usd"], row["uncertain_usd"], row["calls"]) == ("0.0", "0.07", "0")
    assert "unknown" in client.get("/costs?by=model").text


def test_costs_are_for_those_who_may_read_everything(make_app: AppMaker) -> None:
    client = make_app(TOKENS).test_client()
    for path in ("/costs", "/costs.csv", "/events"):
        for token, status in (("alices-long-token", 403), ("eves-reading-token", 200)):
            assert client.get(path, headers={"Authorization": f"Bearer {token}"}).status_code == status
    page = client.get("/tasks", headers={"Authorization": "Bearer alices-long-token"}).text
    assert 'href="/costs"' not in page and 'href="/events"' not in page
