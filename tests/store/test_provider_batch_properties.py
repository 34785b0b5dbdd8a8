"""After any sequence of calls, and kills between transactions, tasks, sums and reservations are true."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import sqlalchemy as sa

from src.core.store import (
    DEFERS,
    BatchState,
    NewBatch,
    PlannedRow,
    RowEnd,
    Store,
    batch_results,
    deferrals,
    schema,
)
from src.core.store.engine import WRITING
from src.core.store.provider_batch_states import TAKES_RESULTS, may_follow
from src.errors import StoreError
from src.records import TaskStatus

from .makers import NOW, a_result, a_task, an_attempt, assert_sums_are_true, register, rows_of

DAY_S = 86_400.0
IDS = [f"t{i}" for i in range(10)]
SEEDS, STEPS = 5, 80
AT_ONCE = 2  # tasks in a transaction: several of these for a few rows


class Killed(Exception):
    """The process has gone."""


@contextmanager
def killed_after(store: Store, transactions: int) -> Iterator[None]:
    """Let this many write transactions begin, and no further one."""
    left = [transactions]

    def count(connection: sa.Connection) -> None:
        if connection.info.get("begin") == WRITING:
            if not left[0]:
                raise Killed
            left[0] -= 1

    engine = store.database._engine
    sa.event.listen(engine, "begin", count)
    try:
        with suppress(Killed):
            yield
    finally:
        sa.event.remove(engine, "begin", count)


class Walk:
    """A random walk over one store, and a model of it: the state of each batch, and what was booked."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store, self.random = store, random.Random(seed)
        store.intake.create_batch("b", now=NOW, options={DEFERS: DAY_S})
        self.states: dict[int, BatchState] = {}
        self.rows: dict[int, int] = {}
        self.ended: set[tuple[int, int]] = set()  # (batch, place) of rows that have their end
        self.cost_nanos = 0
        self.known: set[str] = set()
        self.orchestrators = self.answers = self.late = 0
        self.start_orchestrator()

    def start_orchestrator(self) -> None:
        self.orchestrators += 1
        self.me = f"o{self.orchestrators}"
        register(self.store, self.me, now=NOW + self.orchestrators)

    def step(self) -> None:
        """One call, chosen by its weight; then everything has to add up."""
        calls: dict[Callable[[], None], int] = {
            self.add: 3,
            self.claim_and_finish: 3,
            self.cancel: 2,
            self.retry: 2,
            self.go_live: 1,
            self.intend: 4,
            self.change: 6,
            self.collect: 8,
            self.give_back: 2,
            self.pull: 1,
            self.is_killed: 2,
        }
        self.random.choices(list(calls), list(calls.values()))[0]()
        self.everything_adds_up()

    def some_ids(self) -> set[str]:
        return set(self.random.sample(IDS, self.random.randint(1, 5)))

    def places(self) -> set[int]:
        return set(self.random.sample(range(1, 7), self.random.randint(1, 4)))

    def batch(self) -> int | None:
        """One of the last batches."""
        return self.random.choice(sorted(self.states)[-3:]) if self.states else None

    # ------------------------------------------------------------ tasks

    def add(self) -> None:
        due = self.random.choice([NOW + DAY_S, NOW + 1_000, None])
        self.add_these(self.some_ids(), due, rerun=self.random.random() < 0.5)

    def add_these(self, ids: set[str], due: float | None, *, rerun: bool) -> None:
        added = [a_task(id, prompt=f"{id} {due}", deadline_at=due) for id in sorted(ids)]
        self.store.intake.add_tasks(added, now=NOW, rerun_changed=rerun)
        self.known |= ids

    def claim_and_finish(self) -> None:
        n = self.random.randint(0, 3)
        claimed = self.store.queue.claim(self.me, 3, now=NOW)
        assert all(task.row not in self.waiting_rows() for task in claimed)
        done = [a_result(task, an_attempt(9, started_at=NOW)) for task in claimed[:n]]
        self.cost_nanos += 1000 * len(self.store.queue.finish(self.me, done))

    def waiting_rows(self) -> set[int]:
        batches = self.store.provider_batches
        return {each.task.row for batch in batches.open() for each in batches.tasks(batch.id)}

    def cancel(self) -> None:
        self.store.admin.cancel("b", self.some_ids(), now=NOW)

    def retry(self) -> None:
        self.store.admin.retry("b", self.some_ids(), now=NOW)

    def go_live(self) -> None:
        n = self.random.randint(1, 5)
        for group in self.store.deferrals.groups()[:1]:
            assert self.store.deferrals.go_live(group.id, n, NOW) == min(n, group.rows, AT_ONCE)

    # ------------------------------------------------------------ batches

    def intend(self) -> None:
        n, nanos = self.random.randint(2, 6), self.random.randint(1, 10**9)
        if not self.store.deferrals.groups():
            self.store.admin.retry("b", IDS, now=NOW)
            self.add_these(set(IDS), NOW + DAY_S, rerun=False)
        for group in self.store.deferrals.groups()[:1]:
            found = self.store.deferrals.oldest(group.id, n)
            rows = [PlannedRow(task, nanos, 100, "economy") for task in found]
            new = NewBatch("openai", "gpt-x", f"marker{len(self.states):04}")
            batch = self.store.provider_batches.intend(new, rows, NOW)
            assert batch is not None and batch.rows == min(n, group.rows)
            assert batch.reserved_nanos == nanos * batch.rows
            self.states[batch.id], self.rows[batch.id] = BatchState.INTENDED, batch.rows
            if self.random.random() < 0.7:
                self.bring(batch.id, BatchState.CREATING)
                self.bring(batch.id, BatchState.SUBMITTED)

    def change(self) -> None:
        if (batch_id := self.batch()) is not None:
            legal = [new for new in BatchState if may_follow(self.states[batch_id], new) and new.is_open]
            any_state = self.random.random() < 0.3 or not legal
            self.bring(batch_id, self.random.choice(list(BatchState) if any_state else legal))

    def bring(self, batch_id: int, new: BatchState) -> None:
        batches, results = self.store.provider_batches, self.store.batch_results
        go: dict[BatchState, Callable[[], Any]] = {
            BatchState.INTENDED: lambda: batches.not_created(batch_id, "", NOW),
            BatchState.CREATING: lambda: batches.creating(batch_id, NOW),
            BatchState.SUBMITTED: lambda: batches.submitted(batch_id, "remote", [], NOW),
            BatchState.CANCELLING: lambda: batches.cancelling(batch_id, NOW),
            BatchState.ENDED: lambda: batches.ended(batch_id, [], NOW),
            BatchState.COLLECTED: lambda: results.collected(batch_id, NOW),
            BatchState.FAILED: lambda: results.failed(batch_id, "", now=NOW),
        }
        state = self.states[batch_id]
        if state is not new and not may_follow(state, new):
            with pytest.raises(StoreError):
                go[new]()
            return
        go[new]()
        self.states[batch_id] = new
        if not new.is_open:
            self.ended |= {(batch_id, place) for place in range(1, self.rows[batch_id] + 1)}

    def collect(self) -> None:
        places, cost = self.places(), self.random.randint(0, 10**6)
        answered, batch_id = self.random.random() < 0.6, self.batch()
        if batch_id is None:
            return
        tasks = {each.place: each.task for each in self.store.provider_batches.tasks(batch_id)}
        call = an_attempt(1, started_at=NOW + batch_id, cost_nanos=cost)
        ends = []
        for place in sorted(places):
            result = a_result(tasks[place], call) if answered and place in tasks else None
            ends.append(RowEnd(place, call, result))
        if self.states[batch_id] not in TAKES_RESULTS:
            with pytest.raises(StoreError):
                self.store.batch_results.collect(batch_id, ends, NOW)
            return
        collected = self.store.batch_results.collect(batch_id, ends, NOW)
        new = {(batch_id, place) for place in places if place <= self.rows[batch_id]} - self.ended
        assert len(collected.settled) == len(new)
        assert len(collected.results) + collected.requeued == len(tasks.keys() & places)
        self.ended |= new
        self.cost_nanos += cost * len(new)
        self.late += len(collected.late)
        self.answers += len(collected.results)

    def give_back(self) -> None:
        places, defer = self.places(), self.random.random() < 0.5
        if (batch_id := self.batch()) is not None:
            new = {(batch_id, place) for place in places if place <= self.rows[batch_id]} - self.ended
            freed = self.store.batch_results.give_back(batch_id, sorted(places), now=NOW, defer=defer)
            assert len(freed) == len(new)
            self.ended |= new

    def pull(self) -> None:
        if (batch_id := self.batch()) is not None:
            waiting = len(self.store.provider_batches.tasks(batch_id))
            assert self.store.batch_results.pull(batch_id, NOW) == min(waiting, AT_ONCE)

    # ------------------------------------------------------------ kills

    def is_killed(self) -> None:
        """The next process finds the same batches, and can go on."""
        after, verb = self.random.randint(0, 3), self.random.choice(["pull", "failed", "collected", "live"])
        batch_id = self.batch()
        if batch_id is None:
            return
        before = {each.id: each.state for each in self.store.provider_batches.newest()}
        results = self.store.batch_results
        with killed_after(self.store, after), suppress(StoreError):
            match verb:
                case "pull":
                    results.pull(batch_id, NOW)
                case "failed":
                    results.failed(batch_id, "", now=NOW)
                case "collected":
                    results.collected(batch_id, NOW)
                case "live":
                    self.go_live()
        self.store = Store(self.store.database)
        self.start_orchestrator()
        now = {each.id: each for each in self.store.provider_batches.newest()}
        assert now.keys() == before.keys()
        for number, state in before.items():
            assert now[number].state is state or not now[number].state.is_open
            self.states[number] = now[number].state
        stored = rows_of(self.store, schema.provider_batch_rows)
        places = {row.place for row in stored if row.provider_batch_id == batch_id}
        self.ended |= {(batch_id, p) for p in range(1, self.rows[batch_id] + 1) if p not in places}

    # ------------------------------------------------------------ what holds

    def everything_adds_up(self) -> None:
        assert_sums_are_true(self.store)
        counts = self.store.reports.task_counts("b")
        assert sum(counts.values()) == len(self.known)
        assert counts[TaskStatus.BATCHED] == len(self.waiting_rows())
        assert self.store.reports.summary("b").cost_nanos == self.cost_nanos
        states = {each.id: each.state for each in self.store.provider_batches.newest()}
        assert states == self.states
        reserved = sum(each.nanos for each in self.store.provider_batches.reservations())
        assert reserved == sum(each.reserved_nanos for each in self.store.provider_batches.open())


@pytest.mark.parametrize("seed", range(SEEDS))
def test_batches_stay_true_whatever_happens(store: Store, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_results, "AT_ONCE", AT_ONCE)
    monkeypatch.setattr(deferrals, "AT_ONCE", AT_ONCE)
    walk = Walk(store, seed)
    for _ in range(STEPS):
        walk.step()
    assert walk.answers and walk.late, "the walk meets answers and late results"
