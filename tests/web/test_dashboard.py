"""The answer of the dashboard, its chart, and the outages in it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from src.core.store import CallSums, EventRow, Store
from src.core.store.sums import UsageRow
from src.records import (
    Attempt,
    Event,
    Outcome,
    ProviderCondition,
    RefusalKind,
    Result,
    TaskStatus,
    Usage,
    WaitingFor,
    WaitReason,
)
from src.routing.balancer import ProviderLoadBalancer
from src.web import create_app
from src.web.batch_rates import BatchRates
from src.web.context import AppContext
from src.web.past_usage import KEPT_S, SETTLED_S, PastUsage
from src.web.presenters.outages import Outage, outages_in

from .filled import ME, FilledState, settings_in

NOW = 1_800_000_000.0


def answer(client: FlaskClient, path: str = "/") -> tuple[str, str]:
    """The sentence as text, and the tone of its card."""
    page = client.get(path).text
    found = re.search(r'<section class="card answer ?(\w*)".*?<h1>(.*?)</h1>', page, re.S)
    assert found
    return " ".join(re.sub(r"<[^>]+>", "", found[2]).split()), found[1]


def beat(store: Store, filled: FilledState, **changes: Any) -> None:
    """Store a snapshot of the running orchestrator with these changes; `states` are by provider."""
    states = changes.pop("states", {})
    balancer = ProviderLoadBalancer(filled.settings, now=filled.now, configured=filled.settings.providers)
    snapshot = balancer.snapshot(filled.now)
    providers = tuple(replace(p, state=states.get(p.name, p.state)) for p in snapshot.providers)
    store.orchestrators.heartbeat(
        ME, now=filled.now, snapshot=replace(snapshot, providers=providers, **changes)
    )


# ------------------------------------------------------------------ five questions


def test_is_it_running_and_when_is_it_done(client: FlaskClient, filled: FilledState, store: Store) -> None:
    beat(store, filled, waiting=3)
    said, tone = answer(client)
    assert re.match(r"3 waiting, done about \d\d:\d\d UTC", said), said
    assert tone == ""


def test_an_idle_pool_says_so(client: FlaskClient, store: Store, filled: FilledState) -> None:
    beat(store, filled)
    for batch in store.reports.batches():
        store.admin.cancel(batch.name, now=filled.now)
    (task,) = store.queue.claim(ME, 9, now=filled.now) or store.queue.claim(ME, 9, now=filled.now) or [None]
    assert task is None
    said, _ = answer(client)
    assert said.startswith(("Running, nothing to do", "1 waiting")), said


def test_a_stopped_pool_with_waiting_tasks_is_red(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    store.orchestrators.retire(ME, now=filled.now)
    said, tone = answer(client)
    assert re.match(r"Not running for .*, 3 waiting, \$", said), said
    assert tone == "bad"


def test_what_blocks_it(client: FlaskClient, store: Store, filled: FilledState) -> None:
    limit = WaitingFor(2, filled.now + 5, WaitReason(RefusalKind.RATE_LIMIT, "gemini", "requests"))
    beat(store, filled, waiting=3, waiting_for=(limit,))
    assert "held by gemini requests" in answer(client)[0]


def test_who_is_down_and_since_when(client: FlaskClient, store: Store, filled: FilledState) -> None:
    store.events.add([Event(filled.now - 540, "provider_open", "openai gets no tasks", "openai")])
    beat(store, filled, waiting=3, states={"openai": ProviderCondition.OPEN})
    said, tone = answer(client)
    assert "openai down 9 min" in said and tone == "bad"
    assert "openai down 9 min" in re.findall(r"<title>(.*?)</title>", client.get("/").text)[0]


def test_a_pool_without_a_network_is_offline_once(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    states = dict.fromkeys(filled.settings.providers, ProviderCondition.OFFLINE)
    beat(store, filled, waiting=3, states=states, offline_since=filled.now - 120)
    said, tone = answer(client)
    assert said.count("offline") == 1 and "offline for 2 min" in said and tone == "bad"


def test_the_cost_is_a_range_where_calls_were_cut_off(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    (task,) = store.queue.claim(ME, 1, now=filled.now)
    cut = Attempt(
        1, "openai", "gpt-6-luna", "gpt-engineer", Outcome.UNCERTAIN, filled.now, 1.0, "weighted", (),
        usage=Usage(10, 0, 0, 10), cost_nanos=250_000_000,
    )  # fmt: skip
    store.queue.finish(ME, [Result(task, TaskStatus.FAILED, filled.now, (cut,), error="cut off")])
    said, _ = answer(client)
    found = re.search(r"\$([\d.]+) to \$([\d.]+) today", said)
    assert found and float(found[2]) - float(found[1]) == pytest.approx(0.25, abs=0.001)
    assert "+ up to $0.2500 uncertain" in client.get("/").text


@pytest.mark.parametrize("name", ["hour", "day", "month", "nonsense"])
def test_the_chart_has_a_table_with_all_its_calls(client: FlaskClient, name: str) -> None:
    page = client.get(f"/?range={name}").text
    chart = page[page.index('class="timechart"') : page.index('id="providers"')]
    assert chart.count("<figure") == 3
    heads = re.findall(r'scope="col">([^<]*)<', chart)
    column = heads.index("Calls: openai")
    cells = [re.findall(r'<td class="num">([^<]*)</td>', row)[column - 1] for row in chart.split("<tr>")[2:]]
    assert sum(map(int, cells)) == 2


def test_without_calls_there_is_no_chart(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    with Store.open(tmp_path / "simulated.db", simulated=True) as store:
        page = create_app(AppContext(settings, store, simulated=True)).test_client().get("/").text
    assert "No calls in the last hour." in page and "timechart" not in page
    assert "Never started, $0 today" in page


def test_a_strip_marks_the_minute_of_a_failure(client: FlaskClient) -> None:
    page = client.get("/").text
    assert re.search(r'aria-label="openai, last 60 minutes: 2 answered, 2 failed"', page)
    assert "1 failure, " in page


# ------------------------------------------------------------------ outages


def events(*given: tuple[float, str, str]) -> list[EventRow]:
    return [EventRow(i, Event(at, kind, "", provider)) for i, (at, kind, provider) in enumerate(given)]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([(1, "provider_open", "a"), (5, "provider_healthy", "a")], [Outage("a", 1, 5)]),
        (
            [(1, "provider_open", "a"), (3, "provider_half_open", "a"), (9, "provider_degraded", "a")],
            [Outage("a", 1, 9)],
        ),
        ([(1, "provider_exhausted", "a")], [Outage("a", 1, None)]),
        ([(1, "provider_healthy", "a"), (2, "provider_limited", "a")], []),
        ([(1, "offline", ""), (4, "online", "")], [Outage("", 1, 4)]),
        (
            [(1, "provider_open", "a"), (4, "started", ""), (6, "provider_open", "b")],
            [Outage("a", 1, 4), Outage("b", 6, None)],
        ),
        (
            [(1, "provider_open", "a"), (2, "provider_open", "b"), (3, "provider_healthy", "b")],
            [Outage("a", 1, None), Outage("b", 2, 3)],
        ),
    ],
    ids=["over", "half-open is out", "lasts", "never out", "network", "a new start", "two"],
)
def test_outages_are_read_from_events(given: list[tuple[float, str, str]], wanted: list[Outage]) -> None:
    assert outages_in(events(*given)) == tuple(wanted)


# ------------------------------------------------------------------ sums of the past


class Books:
    """Calls by minute, and what was read of them."""

    def __init__(self) -> None:
        self.calls: dict[int, int] = {}
        self.reads: list[tuple[float, float]] = []

    def usage(self, start: float, end: float, group_by: Any) -> list[UsageRow]:
        self.reads.append((start, end))
        rows = []
        for at, calls in self.calls.items():
            if start <= at < end:
                key: tuple[str | int, ...] = (at // 60 * 60,) if group_by == ("minute",) else ()
                rows.append(UsageRow(key, CallSums(calls=calls, ok=calls)))
        return rows


@pytest.mark.parametrize("by", [("minute",), ()], ids=["by time", "in all"])
def test_sums_of_the_past_equal_a_fresh_read_as_time_goes_on(by: Any) -> None:
    books, start = Books(), NOW - NOW % 60 - 7200
    past = PastUsage(books.usage)
    for minute in range(180):
        now = start + 7200 + 60 * minute
        books.calls[int(now)] = minute % 7
        since = now - 3600 if by else start
        found = past.since(since, now, by)
        fresh = books.usage(since, now + 60, by)
        assert sum(s.calls for s in found.values()) == sum(row.sums.calls for row in fresh)
        if by:
            assert {key: s.calls for key, s in found.items()} == {row.key: row.sums.calls for row in fresh}


def test_what_has_settled_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    books, start = Books(), NOW - NOW % 60
    past = PastUsage(books.usage)
    clock = [1000.0]
    monkeypatch.setattr("src.web.past_usage.time.monotonic", lambda: clock[0])
    past.since(start, start + 86400, ())
    books.reads.clear()
    past.since(start, start + 86460, ())
    assert max(end - begin for begin, end in books.reads) <= SETTLED_S + 120
    clock[0] += KEPT_S + 1
    past.since(start, start + 86460, ())
    assert books.reads[-2][0] == start


# ------------------------------------------------------------------ rates of batches


def test_a_rate_is_that_of_the_last_minutes() -> None:
    rates = BatchRates()
    assert rates.rate_per_s("b", 100, NOW) is None
    assert rates.rate_per_s("b", 104, NOW + 8) is None, "too short a time"
    assert rates.rate_per_s("b", 140, NOW + 20) == pytest.approx(2.0)
    assert rates.rate_per_s("b", 140, NOW + 310) == pytest.approx(0.0, abs=0.13)
    assert rates.rate_per_s("b", 10, NOW + 320) is None, "its tasks run again"
    assert rates.rate_per_s("other", 1, NOW + 320) is None
