"""The pages of the providers and of their weights, without script."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from src.core.store import Identity, Leader, OrchestratorRow, Store
from src.core.suggestions import prices_of_traffic, weights_by_price
from src.core.virtual_pool import VirtualPool
from src.records import ErrorCount, Event, LimitGauge, LimitSource, ProviderCondition, WorkerSnapshot
from src.routing.balancer import ProviderLoadBalancer
from src.web import create_app
from src.web.context import AppContext
from src.web.presenters.pool import orchestrator_view, weight_changes
from src.web.presenters.presets import presets
from src.web.presenters.usage import DAY_S

from .conftest import AppMaker, context_of, csrf_of
from .filled import ME, FilledState, settings_in


def show_provider(store: Store, filled: FilledState, name: str, **changes: Any) -> None:
    """Store a snapshot of the orchestrator in which this provider looks so."""
    balancer = ProviderLoadBalancer(filled.settings, now=filled.now, configured=filled.settings.providers)
    snapshot = balancer.snapshot(filled.now)
    changed = tuple(replace(p, **changes) if p.name == name else p for p in snapshot.providers)
    store.orchestrators.heartbeat(ME, now=filled.now, snapshot=replace(snapshot, providers=changed))


def card_of(page: str, provider: str) -> str:
    """The part of the page from this provider's card on, up to the next one."""
    card = page[page.index(f'id="{provider}"') :]
    return card[: card.index("</article>")]


def test_workers_are_shown_with_what_they_do(client: FlaskClient, store: Store, filled: FilledState) -> None:
    assert 'id="workers"' not in client.get("/provider-status").text, "the orchestrator makes all calls"
    worker = WorkerSnapshot("worker-1", "<node>", "1.2.3", "draining", 3, 1_234, 61.0)
    balancer = ProviderLoadBalancer(filled.settings, now=filled.now, configured=filled.settings.providers)
    snapshot = replace(balancer.snapshot(filled.now), workers=(worker,))
    store.orchestrators.heartbeat(ME, now=filled.now, snapshot=snapshot)
    context_of(client).cache.forget()  # the view of the first request may still be fresh
    page = client.get("/provider-status").text
    table = page[page.index('id="workers"') :]
    for text in ("worker-1", "draining", "&lt;node&gt;", "1.2.3", "1,234", "1 min 1 s"):
        assert text in table[: table.index("</section>")], text
    assert client.get("/api/providers/status").json["workers"] == [
        {
            "name": "worker-1", "host": "<node>", "version": "1.2.3", "state": "draining", "in_flight": 3,
            "done": 1_234, "cpu_s": 61.0,
        }
    ]  # fmt: skip


def test_orchestrators_that_stand_by_are_shown(client: FlaskClient, store: Store) -> None:
    store.standbys.sign(Identity("next-1", 4_242, "<other>", 10.0))
    page = client.get("/provider-status").text
    card = page[page.index('id="workers"') :]
    assert "Process 4242 on &lt;other&gt; stands by" in card[: card.index("</section>")]
    (shown,) = client.get("/api/providers/status").json["standbys"]
    assert (shown["host"], shown["pid"]) == ("<other>", 4_242) and 0.0 <= shown["seen_ago_s"] < 5.0
    store.standbys.leave("next-1")
    context_of(client).cache.forget()
    assert client.get("/api/providers/status").json["standbys"] == []


def test_the_age_of_the_lease_is_shown_where_there_is_one(filled: FilledState) -> None:
    row = OrchestratorRow("me", 7, "node", "live", "", filled.now, filled.now)
    lease = Leader(3, "me", 7, "node", 10.0, 5, alive=True, one_host=False, renewed_ago_s=1.5)
    view = orchestrator_view(row, lease, filled.now)
    assert (view.running, view.lease_s, view.lease_age_s) == (True, 10.0, 1.5)
    of_one_host = orchestrator_view(row, replace(lease, one_host=True, renewed_ago_s=None), filled.now)
    assert (of_one_host.running, of_one_host.lease_s) == (True, None)


def test_a_provider_card_begins_with_state_and_figures_of_a_day(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    errors = (
        ErrorCount("ServerError: overheated", 5, filled.now - 12),
        ErrorCount("TimedOut: no answer", 1, filled.now - 90),
        ErrorCount("Overloaded: later", 2, filled.now - 400),
    )
    limits = (
        LimitGauge("*", "requests", 50.0, 60.0, 60.0, LimitSource.CONFIGURED),
        LimitGauge("gpt-6-luna", "tokens", 30.0, 1_000.0, 20_000.0, LimitSource.LEARNED),
        LimitGauge("*", "requests", 900.0, 1_000.0, 0.7, LimitSource.CONFIGURED, 86_400.0),
    )
    show_provider(store, filled, "openai", errors=errors, limits=limits, opened_count=3)
    shown = client.get("/api/providers/status").json["providers"][1]
    assert (shown["name"], shown["last_day"]["calls"]) == ("openai", 4)
    assert shown["errors"][0] == {"text": "ServerError: overheated", "count": 5, "last_at": filled.now - 12}
    card = card_of(client.get("/provider-status").text, "openai")
    first, details = card.split("<summary>Details</summary>")
    assert "tokens a minute of gpt-6-luna" in first and "97 % used</b>, refills in 2.9 s" in first
    assert first.count('class="bar') == 1, "one gauge"
    assert "&times;5" in first and "last 12 s ago" in first and "later" not in first
    for word in ("Share", "Success", "p95", "Cost"):
        assert f"<dt>{word} <small" in first
    assert "Overloaded: later" in details and "the breaker opened 3 times" in details
    assert details.count("<h3>Limits") == 2 and "gpt-6-luna" in details


def test_agents_show_where_their_answers_came_from(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    balancer = ProviderLoadBalancer(filled.settings, now=filled.now, configured=filled.settings.providers)
    snapshot = balancer.snapshot(filled.now)
    served = {"openai": 30, "gemini": 10}
    agents = [replace(each, done=40, served=served) for each in snapshot.agents[:1]]
    store.orchestrators.heartbeat(ME, now=filled.now, snapshot=replace(snapshot, agents=tuple(agents)))
    page = client.get("/provider-status").text
    assert f'aria-label="Answers of {agents[0].name}: openai 30, gemini 10"' in page
    assert "30 openai, 10 gemini; 0 of" in page
    assert client.get("/api/providers/status").json["agents"][0]["served"] == served


@pytest.mark.parametrize("role", ["submit", "read", "operate"])
def test_the_weights_are_for_readers_to_see_and_for_operators_to_set(role: str, make_app: AppMaker) -> None:
    token = "a-long-random-word"
    client = make_app({"ORCHESTRATOR_TOKENS": f"me:{token}:{role}"}).test_client()
    page = client.get("/provider-status", headers={"Authorization": f"Bearer {token}"}).text
    assert ('id="weights"' in page) == (role != "submit")
    assert (">Apply</button>" in page) == (role == "operate")
    assert (" readonly>" in page) == (role == "read")


def test_by_price_is_what_suggest_weights_means_by_it(client: FlaskClient, filled: FilledState) -> None:
    context = context_of(client)
    found = presets(context)
    pool = VirtualPool(filled.settings, context.configured, {})
    prices = prices_of_traffic(context.store, pool, now=filled.now + 60, span_s=DAY_S + 60)
    others = [weight_changes(context).configured, *(found[name] for name in found if name != "price")]
    assert found["price"] == pytest.approx(weights_by_price(others, prices))

    def cost(weights: Mapping[str, float]) -> float:
        return sum(weight * prices[name] for name, weight in weights.items())

    assert all(cost(found["price"]) <= cost(other) + 1e-6 for other in others)


def test_a_provider_that_is_out_says_since_when(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    events = [
        Event(filled.now - 540, "provider_open", "openai gets no tasks", "openai", level="alert"),
        Event(filled.now - 100, "provider_half_open", "openai is tried with one call", "openai"),
        Event(filled.now - 99, "provider_open", "openai gets no tasks", "openai"),
    ]
    store.events.add(events)
    changes = {"state": ProviderCondition.OPEN, "reason": "3 failures in a row", "until": filled.now + 12}
    show_provider(store, filled, "openai", **changes)
    page = client.get("/provider-status").text
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", card_of(page, "openai")))
    assert "(9 min): 3 failures in a row; next probe in 12 s" in text and "down since" in text
    assert "down since" not in card_of(page, "gemini")


def test_a_provider_that_was_just_paused_has_no_share(client: FlaskClient, store: Store) -> None:
    """Also before the orchestrator has noticed, or without one."""
    store.controls.put_setting("paused", ["gemini"], who="alice", now=1.0)
    shares = {p["name"]: p["share"] for p in client.get("/api/providers/status").json["providers"]}
    assert shares == pytest.approx({"anthropic": 3 / 7, "openai": 4 / 7, "gemini": 0.0})


def test_without_calls_there_is_no_chart(tmp_path: Path) -> None:
    with Store.open(tmp_path / "simulated.db", simulated=True) as store:
        client = create_app(AppContext(settings_in(tmp_path), store, simulated=True)).test_client()
        page = client.get("/provider-status").text
    assert "No calls in this time." in page and "timechart" not in page


@pytest.mark.parametrize(
    ("page", "comes_back_to"),
    [
        ("providers", "/provider-status#weighing"),
        ("rebalance", "/rebalance"),
        ("//evil.example", "/rebalance"),
    ],
)
def test_the_form_of_the_weights_comes_back_to_its_page(
    page: str, comes_back_to: str, client: FlaskClient, store: Store
) -> None:
    """Without script too."""
    form = {"csrf": csrf_of(client, "/provider-status"), "page": page, "weight-gemini": "100"}
    preview = client.post("/rebalance", data={**form, "action": "preview"})
    assert preview.status_code == 200 and store.controls.settings_version() == 0
    done = client.post("/rebalance", data={**form, "action": "apply"})
    assert (done.status_code, done.headers["Location"]) == (303, comes_back_to)
    assert store.controls.current_settings()["weights"]["gemini"] == 1.0
