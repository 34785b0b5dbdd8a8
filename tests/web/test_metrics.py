"""`/metrics`, read with the parsers of prometheus-client."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterable
from dataclasses import replace

import pytest
from flask.testing import FlaskClient
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from src.core.store import Store
from src.messages import Message
from src.records import (
    Attempt,
    Event,
    LimitGauge,
    LimitSource,
    Outcome,
    PoolSnapshot,
    ProviderCondition,
    Result,
    Task,
    TaskStatus,
    WaitingFor,
    WaitReason,
)
from src.routing.balancer import ProviderLoadBalancer
from src.web.batch_metrics import RESULTS
from tests.helpers import VirtualClock

from .conftest import AppMaker, context_of
from .filled import BATCH, ME, FilledState
from .stack import Stack
from .test_provider_batches import COST, deferring, intended, submitted, with_every_kind_of_row

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
LABELS = {
    "orchestrator_calls": {"provider", "model", "outcome"},
    "orchestrator_call_duration_seconds": {"provider", "model", "le"},
    "orchestrator_queue_wait_seconds": {"le"},
    "orchestrator_cost_usd": {"provider", "model", "submitter"},
    "orchestrator_uncertain_cost_usd": {"provider"},
    "orchestrator_half_price_saved_usd": {"provider"},
    "orchestrator_tasks_waiting": {"reason"},
    "orchestrator_provider_batches": {"provider", "state"},
    "orchestrator_provider_batch_rows_waiting": {"provider"},
    "orchestrator_provider_batch_age_seconds": {"provider"},
    "orchestrator_provider_batch_rows": {"provider", "result"},
    "orchestrator_budget_remaining_usd": {"budget"},
    "orchestrator_limit_used_ratio": {"provider", "dimension"},
    "orchestrator_breaker_open": {"provider"},
    "orchestrator_leader": set(),
    "orchestrator_running": set(),
    "orchestrator_build": {"version", "mode"},
}


def samples(metrics: Iterable[Metric]) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for metric in metrics
        for sample in metric.samples
    }


def scraped(client: FlaskClient) -> Samples:
    context_of(client).cache.forget()
    return samples(read_text(client.get("/metrics").text))


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


def total(found: Samples, name: str, **labels: str) -> float:
    """The sum over all samples of a metric that have these labels."""
    return sum(n for (each, has), n in found.items() if each == name and labels.items() <= dict(has).items())


def book(store: Store, filled: FilledState, name: str, attempt: Attempt, *, submitter: str = "local") -> None:
    """Store a task that this attempt ends."""
    store.intake.add_tasks([Task(name, "more", (Message("user", "?"),), submitter=submitter)], now=filled.now)
    (task,) = store.queue.claim(ME, 1, now=filled.now, batch="more")
    store.queue.finish(ME, [Result(task, TaskStatus.SUCCEEDED, filled.now, (attempt,), output="!")])


def answered(filled: FilledState, *, model: str = "gpt-6-luna", at: float | None = None) -> Attempt:
    return Attempt(
        1, "openai", model, "agent", Outcome.OK, filled.now if at is None else at, 0.5, "weighted", (),
        cost_nanos=2_000_000,
    )  # fmt: skip


def show(store: Store, filled: FilledState, **changes: object) -> None:
    """Store a snapshot of the orchestrator with these values, the first provider's under `provider`."""
    balancer = ProviderLoadBalancer(filled.settings, now=filled.now, configured=filled.settings.providers)
    snapshot: PoolSnapshot = balancer.snapshot(filled.now)
    first, *others = snapshot.providers
    first = replace(first, **changes.pop("provider", {}))  # type: ignore[arg-type]
    snapshot = replace(snapshot, providers=(first, *others), **changes)  # type: ignore[arg-type]
    store.orchestrators.heartbeat(ME, now=filled.now, snapshot=snapshot)


# ------------------------------------------------------------------ format


@pytest.mark.parametrize("accept", ["", "text/plain;version=0.0.4", "*/*", "application/openmetrics-text"])
def test_both_formats_are_read_by_their_own_parsers(accept: str, client: FlaskClient) -> None:
    answer = client.get("/metrics", headers={"Accept": accept})
    assert answer.status_code == 200
    is_open = "openmetrics" in accept
    kind = "application/openmetrics-text" if is_open else "text/plain"
    assert answer.mimetype == kind
    families = list((read_openmetrics if is_open else read_text)(answer.text))
    assert {metric.name.removesuffix("_info") for metric in families} == set(LABELS)
    assert all(metric.documentation for metric in families)


def test_labels_are_few_and_hold_no_ids(client: FlaskClient) -> None:
    families = list(read_text(client.get("/metrics").text))
    for metric in families:
        for sample in metric.samples:
            assert set(sample.labels) <= LABELS[metric.name.removesuffix("_info")], metric.name
    text = client.get("/metrics").text
    assert BATCH not in text and "t-1" not in text and "filled-by-hand" not in text


# ------------------------------------------------------------------ figures


def test_the_figures_are_those_of_the_store(client: FlaskClient, store: Store) -> None:
    found, summary = scraped(client), store.reports.summary()
    for outcome in Outcome:
        calls = getattr(summary.calls, outcome)
        assert total(found, "orchestrator_calls_total", outcome=str(outcome)) == calls
    assert total(found, "orchestrator_cost_usd_total") == pytest.approx(summary.cost_nanos / 1e9)
    of_model = {"provider": "openai", "model": "gpt-6-luna"}
    sums = summary.models["openai", "gpt-6-luna"]
    seconds = "orchestrator_call_duration_seconds"
    assert value(found, f"{seconds}_count", **of_model) == sums.ok > 0
    assert value(found, f"{seconds}_bucket", le="+Inf", **of_model) == sums.ok
    assert value(found, f"{seconds}_sum", **of_model) == pytest.approx(sums.latency_us / 1e6)
    waits = store.reports.queue_waits()
    assert value(found, "orchestrator_queue_wait_seconds_count") == waits.waits == 9
    assert value(found, "orchestrator_queue_wait_seconds_sum") == pytest.approx(waits.wait_us / 1e6)
    assert total(found, "orchestrator_tasks_waiting") == store.reports.task_counts()[TaskStatus.QUEUED] > 0


def test_a_call_is_counted_in_every_bucket_that_holds_it(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    before = scraped(client)
    book(store, filled, "half-a-second", answered(filled))
    after = scraped(client)
    name = "orchestrator_call_duration_seconds_bucket"
    for (each, labels), n in after.items():
        if each == name and dict(labels)["model"] == "gpt-6-luna":
            holds = float(dict(labels)["le"]) >= 0.5
            assert n - before[each, labels] == holds, labels


def test_the_snapshot_gives_reasons_limits_and_breakers(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    limits = (
        LimitGauge("luna", "requests", 90.0, 100.0, 100.0, LimitSource.CONFIGURED),
        LimitGauge("sol", "requests", 25.0, 100.0, 100.0, LimitSource.CONFIGURED),
        LimitGauge("luna", "requests", 40.0, 100.0, 100.0, LimitSource.CONFIGURED, 86_400.0),
        LimitGauge("luna", "tokens", -5.0, 100.0, 100.0, LimitSource.LEARNED),
    )
    waits = (
        WaitingFor(5, None, WaitReason("rate_limit", "anthropic", "requests")),
        WaitingFor(2, None, WaitReason("rate_limit", "openai", "tokens")),
    )
    provider = {"state": ProviderCondition.OPEN, "limits": limits}
    show(store, filled, provider=provider, waiting=9, waiting_for=waits)
    found = scraped(client)
    waiting = "orchestrator_tasks_waiting"
    assert value(found, waiting, reason="rate_limit") == 7
    assert value(found, waiting, reason="other") == 2
    ratio = "orchestrator_limit_used_ratio"
    assert value(found, ratio, provider="anthropic", dimension="requests_per_minute") == 0.75
    assert value(found, ratio, provider="anthropic", dimension="requests_per_day") == 0.6
    assert value(found, ratio, provider="anthropic", dimension="tokens_per_minute") == 1.0
    assert value(found, "orchestrator_breaker_open", provider="anthropic") == 1
    assert value(found, "orchestrator_breaker_open", provider="openai") == 0


def test_without_an_orchestrator_there_are_no_figures_of_one(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    assert value(scraped(client), "orchestrator_running") == 1
    store.orchestrators.retire(ME, now=filled.now)
    found = scraped(client)
    assert value(found, "orchestrator_running") == 0
    assert value(found, "orchestrator_leader") == 0
    assert not total(found, "orchestrator_breaker_open")
    assert ("orchestrator_breaker_open", (("provider", "openai"),)) not in found
    assert total(found, "orchestrator_calls_total") > 0


def test_pages_of_the_leader_say_so(make_app: AppMaker) -> None:
    assert value(scraped(make_app(orchestrator=ME).test_client()), "orchestrator_leader") == 1
    assert value(scraped(make_app(orchestrator="another").test_client()), "orchestrator_leader") == 0


def test_unknown_models_and_submitters_are_folded(
    make_app: AppMaker, filled: FilledState, store: Store
) -> None:
    client = make_app({"ORCHESTRATOR_TOKENS": "alice:a-long-random-word:read"}).test_client()
    for number in range(3):
        attempt = answered(filled, model=f"gpt-made-up-{number}")
        book(store, filled, f"made-up-{number}", attempt, submitter=f"visitor-{number}")
    book(store, filled, "of-alice", answered(filled, model="gpt-6.1-sol"), submitter="alice")
    answer = client.get("/metrics", headers={"Authorization": "Bearer a-long-random-word"})
    found = samples(read_text(answer.text))
    cost = "orchestrator_cost_usd_total"
    assert value(found, cost, provider="openai", model="other", submitter="other") == pytest.approx(0.006)
    assert value(found, cost, provider="openai", model="gpt-6.1-sol", submitter="alice") == 0.002
    assert value(found, "orchestrator_calls_total", provider="openai", model="other", outcome="ok") == 3
    assert "visitor" not in answer.text and "made-up" not in answer.text


# ------------------------------------------------------------------ counters


def test_counters_never_go_down(client: FlaskClient, store: Store, filled: FilledState) -> None:
    """Whatever people do to tasks, and while time passes."""
    context = context_of(client)
    clock = context.clock
    assert isinstance(clock, VirtualClock)

    def late() -> None:  # a call that began hours before it was stored
        book(store, filled, "late", answered(filled, at=filled.now - 7_000))

    def pass_time() -> None:
        clock.advance(4_000)

    steps = {
        "a call": lambda: book(store, filled, "one-more", answered(filled)),
        "time": pass_time,
        "a late call": late,
        "more time": pass_time,
        "ten minutes": context.past_usage._kept.clear,  # it reads all anew then
        "a retry": lambda: store.admin.retry_ended(BATCH, list(TaskStatus), now=filled.now),
        "a cancel": lambda: store.admin.cancel(BATCH, now=filled.now),
        "a purge": lambda: store.contents.purge(filled.now + 10_000),
        "an event": lambda: store.events.add([Event(filled.now, "start", "started")]),
    }
    before = scraped(client)
    for what, step in steps.items():
        step()
        after = scraped(client)
        for (name, labels), n in before.items():
            if name.endswith(("_total", "_bucket", "_count", "_sum")):
                assert after[name, labels] >= n, f"{name} {labels} after {what}"
        before = after
    assert total(before, "orchestrator_calls_total") == store.reports.summary().calls.calls


# ------------------------------------------------------------------ access


@pytest.mark.parametrize(("role", "status"), [("read", 200), ("operate", 200), ("submit", 403)])
def test_a_scraper_needs_a_token_that_may_read(role: str, status: int, make_app: AppMaker) -> None:
    client = make_app({"ORCHESTRATOR_TOKENS": f"prometheus:a-long-random-word:{role}"}).test_client()
    answer = client.get("/metrics", headers={"Authorization": "Bearer a-long-random-word"})
    assert answer.status_code == status
    refused = client.get("/metrics")
    assert (refused.status_code, refused.json["error"]["code"]) == (401, "unauthorized")


# ------------------------------------------------------------------ real traffic


def test_real_calls_are_counted(stack: Stack) -> None:
    def scrape() -> Samples:
        with urllib.request.urlopen(f"{stack.url}/metrics", timeout=20) as answer:  # noqa: S310
            return samples(read_text(answer.read().decode()))

    before = scrape()
    assert total(before, "orchestrator_calls_total") == 0
    served = stack.answer(30, "measured")
    after = scrape()
    for provider, answers in served.items():
        assert total(after, "orchestrator_calls_total", provider=provider, outcome="ok") == answers
        assert total(after, "orchestrator_call_duration_seconds_count", provider=provider) == answers
    assert total(after, "orchestrator_cost_usd_total", submitter="local") > 0
    assert value(after, "orchestrator_queue_wait_seconds_count") == 30
    assert 0 < value(after, "orchestrator_queue_wait_seconds_sum") < 30 * 60
    assert value(after, "orchestrator_running") == 1
    stack.simulator.patch("openai", {"faults": {"outage": 1.0}})
    stack.answer(30, "without")
    stack.until_noticed()
    broken = scrape()
    assert total(broken, "orchestrator_calls_total", provider="openai") > served["openai"]
    assert total(broken, "orchestrator_calls_total", provider="openai", outcome="ok") == served["openai"]
    assert value(broken, "orchestrator_breaker_open", provider="openai") == 1
    assert value(broken, "orchestrator_breaker_open", provider="gemini") == 0
    ratios = {labels: n for (name, labels), n in broken.items() if name == "orchestrator_limit_used_ratio"}
    assert ratios and all(0.0 <= n <= 1.0 for n in ratios.values())


# ------------------------------------------------------------------ batches at providers


def test_batches_at_providers_are_counted_with_their_rows_and_the_age_of_the_oldest(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    assert not total(scraped(client), "orchestrator_provider_batches")
    deferring(store, filled.now - 900, count=12)
    with_every_kind_of_row(store, filled.now - 900, limit=6)
    submitted(store, filled.now - 300, limit=4)
    intended(store, filled.now - 10)
    found = scraped(client)
    states = {
        state: value(found, "orchestrator_provider_batches", provider="openai", state=state)
        for state in ("collected", "submitted", "intended")
    }
    assert states == {"collected": 1, "submitted": 1, "intended": 1}
    saved = value(found, "orchestrator_half_price_saved_usd_total", provider="openai")
    assert saved == pytest.approx(4 * COST / 1e9)
    assert value(found, "orchestrator_provider_batch_rows_waiting", provider="openai") == 6
    assert value(found, "orchestrator_provider_batch_age_seconds", provider="openai") == 300
    rows = {
        result: value(found, "orchestrator_provider_batch_rows_total", provider="openai", result=result)
        for result in RESULTS
    }
    assert rows == {"answered": 2, "failed": 1, "expired": 2, "pulled_back": 3, "paid_late": 1}
