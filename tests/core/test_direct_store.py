"""Direct requests while the store is away, and after a kill between an answer and its commit."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from src.core.direct import Run
from src.core.store import DirectRecord, Registrant, Store
from src.errors import StoreError
from src.messages import Message
from src.records import Attempt, Outcome, Result, Task, TaskStatus, Usage
from src.simulator.process import SimulatorProcess
from tests.helpers import start_module

from .direct_pool import Served, request, serving, settings_for
from .pools import new_store
from .test_outage_of_the_store import impatient, locked


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorProcess]:
    row = {"latency": {"first_token_s": 0.02, "per_token_s": 0.0}}
    with SimulatorProcess.start({"providers": {"openai": row}}) as started:
        yield started


async def first_to_lead(store: Store, simulator: SimulatorProcess) -> tuple[Served, Any]:
    """A pool that leads as soon as the lease of the killed one is over."""
    end = time.monotonic() + 30
    while True:
        context = serving(store, simulator.base_urls, settings_for(lease_s=1.0))
        try:
            return await context.__aenter__(), context
        except StoreError:
            assert time.monotonic() < end
            await asyncio.sleep(0.3)


async def test_an_answer_whose_commit_a_kill_prevented_is_booked_as_uncertain(
    place: Any, simulator: SimulatorProcess
) -> None:
    Store.open(place, simulated=False).close()
    child = start_module("tests.core.direct_child", str(place), json.dumps(simulator.base_urls))
    out, _ = child.communicate(timeout=60)
    assert child.returncode == -9
    cost, reserved = map(int, out.split())
    assert 0 < cost <= reserved
    with Store.open(place, simulated=False) as store:
        assert not sum(store.reports.task_counts().values()), "the answer was not stored"
        _, context = await first_to_lead(store, simulator)
        await context.__aexit__(None, None, None)
        calls = store.reports.summary("runs/local/r").calls
        assert calls.uncertain_nanos == reserved and calls.cost_nanos == 0


async def test_requests_outlast_a_store_that_is_away_for_three_seconds(
    tmp_path: Path, simulator: SimulatorProcess
) -> None:
    path = tmp_path / "state.db"
    new_store(tmp_path).close()
    with Store.open(impatient(path), simulated=False) as store:
        async with serving(store, simulator.base_urls, settings_for()) as served:
            asked = [asyncio.create_task(served.direct.ask(request(n))) for n in range(5)]
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            with locked(path):
                asked += [asyncio.create_task(served.direct.ask(request(n))) for n in range(5)]
                await asyncio.sleep(3.0)
                assert served.pool.unstored_answers or served.pool.reserved_nanos
            answers = await asyncio.gather(*asked)
            await served.drain()
            assert not served.pool.reserved_nanos
        assert store.reports.task_counts()[TaskStatus.SUCCEEDED] == 10
        costs = sum(answer.cost_nanos or 0 for answer in answers)
        assert store.reports.summary("gateway").calls.cost_nanos == costs


# ------------------------------------------------------------------ the store alone


def a_record(
    number: int, *, keeps_content: bool = True, batch: str = "gateway", **fields: Any
) -> DirectRecord:
    task = Task(f"t{number}", batch, (Message("user", "Why?"),), created_at=100.0)
    attempt = Attempt(
        1, "openai", "m", "a", Outcome.OK, 101.0, 1.0, "weighted", (), usage=Usage(10, 0, 0, 5), cost_nanos=7
    )
    fields = {"output": "Because.", "attempts": (attempt,)} | fields
    return DirectRecord(Result(task, TaskStatus.SUCCEEDED, 102.0, **fields), keeps_content)


@pytest.fixture
def store(place: Any) -> Iterator[Store]:
    with Store.open(place, simulated=True) as opened:
        opened.orchestrators.register(Registrant("me", 1, "h", "simulated", ""), now=1.0)
        yield opened


def test_a_record_is_one_transaction_that_may_be_repeated(store: Store) -> None:
    records = [a_record(1), a_record(2, keeps_content=False), a_record(1, batch="runs/local/x")]
    for _ in range(2):
        assert store.direct_tasks.record("me", records) == records
    assert store.reports.task_counts()[TaskStatus.SUCCEEDED] == 3
    assert store.reports.summary("gateway").calls.cost_nanos == 14
    kept, bare = store.tasks.find("gateway", "t1"), store.tasks.find("gateway", "t2")
    assert kept is not None and kept.result is not None and kept.result.output == "Because."
    assert bare is not None and bare.result is not None and bare.result.output is None and bare.is_purged
    assert bare.result.attempts == kept.result.attempts
    (usage,) = store.reports.usage(0.0, 1e9, ["submitter"])
    assert usage.sums.cost_nanos == 21 and usage.sums.calls == 3


def test_none_of_them_is_ever_claimed_or_requeued(store: Store) -> None:
    store.direct_tasks.record("me", [a_record(1)])
    assert store.queue.claim("me", 10, now=200.0) == []
    found = store.orchestrators.register(Registrant("next", 1, "h", "simulated", ""), now=300.0)
    assert (found.recovered, found.poisoned) == (0, 0)
    assert store.reports.task_counts()[TaskStatus.SUCCEEDED] == 1


def test_the_store_remembers_no_more_runs_than_it_needs(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.core.store.direct_tasks.STREAMS_KEPT", 100)
    for first in range(0, 300, 50):
        records = [a_record(0, batch=f"runs/local/{n}") for n in range(first, first + 50)]
        store.direct_tasks.record("me", records)
    assert len(store.direct_tasks._streams) == 100
    assert len(store.direct_tasks._ids._batch_ids) <= 1


def test_names_that_were_forgotten_are_found_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.core.store.identifiers.NAMES_KEPT", 3)
    store.direct_tasks.record("me", [a_record(0, batch=f"runs/local/{n}") for n in range(10)])
    for number in [*range(10), *range(10)]:
        found = store.tasks.find(f"runs/local/{number}", "t0")
        assert found is not None and found.row.batch == f"runs/local/{number}"
    ids = store.direct_tasks._ids
    assert max(len(ids._batch_ids), len(ids._streams_by_id), len(ids._streams_by_name)) <= 3


async def test_run_names_are_those_of_their_submitter(tmp_path: Path, simulator: SimulatorProcess) -> None:
    with new_store(tmp_path) as store:
        async with serving(store, simulator.base_urls, settings_for()) as served:
            for submitter in ("a", "b"):
                await served.direct.ask(request(1, submitter=submitter), run=Run("same"))
            await served.drain()
        for submitter in ("a", "b"):
            counts = store.reports.task_counts(f"runs/{submitter}/same")
            assert counts[TaskStatus.SUCCEEDED] == 1
