"""Usage and summaries: calls, cost and latency by provider, agent and tier."""

from __future__ import annotations

import random
from typing import Any

import pytest

from src.core.store import CallSums, Store, TaskSums, TierSavings, UsageRow
from src.core.store.histogram import BINS, bin_of, quantile
from src.core.store.reports import GroupBy
from src.core.store.rollups import CALL_SUMS, add_call
from src.records import Outcome, TaskStatus, Usage

from .makers import NOW, a_result, a_task, an_attempt, tasks, with_claims

HOUR = 3600.0
T0 = NOW - NOW % 86400  # a midnight
FIRST_BIN = CALL_SUMS.index("bin_00")


@pytest.fixture
def used(store: Store) -> Store:
    """Four tasks of two types and submitters; calls in three minutes, two hours, two days."""
    claimed = with_claims(
        store,
        a_task("a", task_type="research", submitter="alice"),
        a_task("b", task_type="research", submitter="bob"),
        a_task("c", submitter="alice"),
        a_task("d", batch="other", submitter="alice"),
    )
    at = {"a": T0 + 1, "b": T0 + 61, "c": T0 + HOUR, "d": T0 + 25 * HOUR}
    results = []
    for task in claimed:
        provider = "gemini" if task.id == "b" else "openai"
        failed = an_attempt(1, Outcome.UNCERTAIN, provider="gemini", started_at=at[task.id], cost_nanos=50)
        final = an_attempt(2, provider=provider, started_at=at[task.id] + 2)
        results.append(a_result(task, failed, final))
    store.queue.finish("me", results)
    return store


@pytest.mark.parametrize(
    ("group_by", "calls"),
    [
        ((), {(): 6}),
        (("provider",), {("gemini",): 4, ("openai",): 2}),
        (("task_type", "submitter"), {("general", "alice"): 2, ("research", "bob"): 2}),
        (("minute",), {(T0,): 2, (T0 + 60,): 2, (T0 + HOUR,): 2}),
        (("hour", "provider"), {(T0, "gemini"): 3, (T0, "openai"): 1, (T0 + HOUR, "gemini"): 1}),
        (("day",), {(T0,): 6}),
        (("model",), {("gpt-x",): 6}),
    ],
    ids=str,
)
def test_usage_is_summed_by_the_requested_keys(
    used: Store, group_by: tuple[str, ...], calls: dict[tuple[object, ...], int]
) -> None:
    rows = used.reports.usage(T0, T0 + 24 * HOUR, group_by)  # type: ignore[arg-type]
    calls_by_key = {row.key: row.sums.calls for row in rows}
    assert calls_by_key.items() >= calls.items()
    assert sum(calls_by_key.values()) == 6


def test_usage_of_a_period_without_calls_is_empty(used: Store) -> None:
    assert used.reports.usage(T0 - HOUR, T0) == []
    assert used.reports.usage(T0 - HOUR, T0, ()) == []


def test_a_call_counts_in_the_minute_in_which_it_began(used: Store) -> None:
    assert sum(row.sums.calls for row in used.reports.usage(T0, T0 + 60)) == 2
    assert sum(row.sums.calls for row in used.reports.usage(T0 + 59, T0 + 60.5)) == 4  # bounds: whole minutes


def test_uncertain_and_unknown_costs_are_kept_apart(store: Store) -> None:
    (task,) = with_claims(store, a_task())
    attempts = [
        an_attempt(1, Outcome.UNCERTAIN, cost_nanos=7),
        an_attempt(2, Outcome.OK, cost_nanos=None),
        an_attempt(3, Outcome.OK, cost_nanos=11),
    ]
    store.queue.finish("me", [a_result(task, *attempts, baseline_nanos=None)])
    summary = store.reports.summary("b")
    assert (summary.cost_nanos, summary.calls.uncertain_nanos, summary.calls.unknown_cost_calls) == (11, 7, 1)
    assert summary.tasks == TaskSums(
        tasks=1, succeeded=1, cost_nanos=18, unknown_cost_tasks=1, unknown_baseline_tasks=1
    )


def test_a_summary_has_calls_by_provider_and_tasks_by_agent_and_tier(store: Store) -> None:
    one, two, three, four = with_claims(store, *tasks(4))
    gemini = an_attempt(2, provider="gemini", agent="gemini-scout", latency_s=2.0)
    store.queue.finish(
        "me",
        [
            a_result(one),
            a_result(two, an_attempt(1, Outcome.FAILED, cost_nanos=0), gemini, tier="premium"),
            a_result(three, an_attempt(1, Outcome.NEUTRAL), status=TaskStatus.REFUSED, output=None),
            a_result(four, truncated=True),
        ],
    )
    summary = store.reports.summary("b")
    openai = summary.providers["openai"]
    assert (openai.calls, openai.ok, openai.failed, openai.neutral) == (4, 2, 1, 1)
    assert openai.average_s == pytest.approx(0.5)
    assert (openai.prompt_tokens, openai.output_tokens) == (4 * 15, 4 * 20)
    assert set(summary.models) == {("openai", "gpt-x"), ("gemini", "gpt-x")}
    assert {agent: sums.tasks for agent, sums in summary.agents.items()} == {
        "gpt-engineer": 3,
        "gemini-scout": 1,
    }
    assert summary.tiers["economy"] == TaskSums(
        tasks=3, succeeded=2, truncated=1, cost_nanos=3000, baseline_nanos=15000
    )
    assert (summary.calls.calls, summary.tasks.tasks, summary.baseline_nanos) == (5, 4, 20000)
    assert summary.counts[TaskStatus.REFUSED] == 1


def test_a_task_without_an_answer_counts_its_cost_and_hides_no_savings(store: Store) -> None:
    one, two, three = with_claims(store, *tasks(3))
    failed = a_result(two, tier="auto", status=TaskStatus.FAILED, output=None, baseline_nanos=None)
    store.queue.finish("me", [a_result(one), failed])
    summary = store.reports.summary("b")
    assert summary.saved_nanos == 5000 - 1000 - 1000
    assert summary.savings == (
        TierSavings("economy", 1, 1000, 5000),
        TierSavings("not answered", 1, 1000, 0),
    )
    store.queue.finish(
        "me", [a_result(three, baseline_nanos=None)]
    )  # the baseline model has no price any more
    assert (store.reports.summary("b").saved_nanos, store.reports.summary("b").savings) == (None, ())


def test_the_overall_summary_is_the_sum_of_all_batches(used: Store) -> None:
    everything, one, other = used.reports.summary(), used.reports.summary("b"), used.reports.summary("other")
    assert everything.calls.calls == one.calls.calls + other.calls.calls == 8
    assert everything.tasks.tasks == one.tasks.tasks + other.tasks.tasks == 4


def test_a_summary_of_nothing_is_zero(store: Store) -> None:
    summary = store.reports.summary()
    assert (summary.calls.calls, summary.tasks, summary.providers) == (0, TaskSums(), {})
    assert summary.calls.p50_s is summary.calls.average_s is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("q", [0.05, 0.5, 0.95, 1.0])
def test_quantiles_of_the_histogram_are_within_15_percent(seed: int, q: float) -> None:
    rng = random.Random(seed)
    latencies = sorted(rng.lognormvariate(0.0, 1.0) for _ in range(2000))
    sums = [0] * len(CALL_SUMS)
    for latency_s in latencies:
        add_call(sums, an_attempt(latency_s=latency_s, usage=Usage()))
    true = latencies[min(len(latencies) - 1, int(q * len(latencies)))]
    assert quantile(sums[FIRST_BIN : FIRST_BIN + BINS], q) == pytest.approx(
        true, rel=0.34 if q == 1.0 else 0.15
    )


@pytest.mark.parametrize(
    ("latency_s", "number"), [(0.0, 0), (0.0099, 0), (0.01, 1), (746.0, 39), (1e9, 39)], ids=str
)
def test_every_latency_has_a_bin(latency_s: float, number: int) -> None:
    assert bin_of(latency_s) == number


@pytest.mark.parametrize("latency_s", [0.001, 0.5, 0.66, 90.0])
def test_all_quantiles_of_a_single_call_are_its_latency(latency_s: float) -> None:
    histogram = [0] * BINS
    histogram[bin_of(latency_s)] = 1
    sums = CallSums(calls=1, ok=1, latency_us=round(latency_s * 1e6), histogram=tuple(histogram))
    assert sums.p50_s == sums.p95_s == pytest.approx(latency_s)
    assert quantile(histogram, 0.5) == quantile(histogram, 0.95)


def test_quantiles_of_no_calls_are_none() -> None:
    assert quantile([0] * BINS, 0.5) is None
    assert CallSums().p95_s is None


def test_whole_days_and_single_minutes_add_up_to_the_same(store: Store) -> None:
    """Sums of a range, mostly from `usage_days`, equal those of its minutes."""
    midnight, day = 20_000 * 86_400.0, 86_400
    claimed = with_claims(store, *tasks(6), a_task("x", submitter="alice", task_type="research"))
    times = [midnight + i * day * 0.71 for i in range(len(claimed))]
    results = [
        a_result(task, an_attempt(started_at=at, model=f"m{i % 2}", cost_nanos=10**i))
        for i, (task, at) in enumerate(zip(claimed, times, strict=True))
    ]
    store.queue.finish("me", results)
    for start, end in ((0, 5), (0.5, 3.25), (0.9, 1.1), (1, 2), (0.25, 0.75), (1.999, 4.001), (3, 3)):
        bounds = midnight + start * day, midnight + end * day
        by_minute = store.reports.usage(*bounds, ("minute", *EVERY_KEY))
        for group_by in GROUPS:
            found = {row.key: row.sums.cost_nanos for row in store.reports.usage(*bounds, group_by)}
            assert found == _by_key(by_minute, group_by), (start, end, group_by)


GROUPS: tuple[tuple[GroupBy, ...], ...] = (
    (),
    ("provider",),
    ("day", "model"),
    ("submitter", "task_type"),
    ("hour",),
)
EVERY_KEY: tuple[GroupBy, ...] = ("provider", "model", "task_type", "submitter")


def _by_key(rows: list[UsageRow], group_by: tuple[GroupBy, ...]) -> dict[tuple[Any, ...], int]:
    """The cost of rows by minute and all keys, added up for the keys of `group_by`."""
    sums: dict[tuple[Any, ...], int] = {}
    for row in rows:
        named = dict(zip(("minute", *EVERY_KEY), row.key, strict=True))
        minute = int(named["minute"])
        named |= {"hour": minute - minute % 3600, "day": minute - minute % 86_400}
        key = tuple(named[name] for name in group_by)
        sums[key] = sums.get(key, 0) + row.sums.cost_nanos
    return sums


def test_the_wait_for_the_first_call_is_counted_once_a_task(store: Store) -> None:
    first, second = with_claims(store, *tasks(2))
    store.queue.record_attempts("me", [(first, an_attempt(1, Outcome.FAILED, started_at=NOW + 0.5))])
    later = an_attempt(2, started_at=NOW + 90)
    store.queue.finish("me", [a_result(first, an_attempt(1, Outcome.FAILED, started_at=NOW + 0.5), later)])
    store.queue.finish("me", [a_result(second, an_attempt(1, started_at=NOW + 40))])
    waits = store.reports.queue_waits()
    assert (waits.waits, waits.wait_us) == (2, 40_500_000)
    assert waits.histogram[bin_of(0.5)] == waits.histogram[bin_of(40.0)] == 1
    assert sum(waits.histogram) == 2

    store.admin.retry("b", [first.id], now=NOW + 100)
    store.queue.claim("me", 1, now=NOW + 100)
    store.queue.finish("me", [a_result(first, an_attempt(1, started_at=NOW + 500))])
    assert store.reports.queue_waits() == waits, "a retry is no first call"


def test_a_store_without_calls_has_no_waits(store: Store) -> None:
    assert store.reports.queue_waits().waits == 0
