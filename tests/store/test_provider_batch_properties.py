"""After any sequence of calls, and kills between transactions, tasks, sums and reservations are true."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from src.core.store import DEFERS, BatchState, NewBatch, PlannedRow, RowEnd, Store, batch_results, deferrals
from src.core.store.engine import WRITING
from src.core.store.provider_batch_states import TAKES_RESULTS, may_follow
from src.errors import StoreError
from src.records import TaskStatus

from .makers import NOW, a_result, a_task, an_attempt, assert_sums_are_true, register

DAY_S = 86_400.0
IDS = [f"t{i}" for i in range(10)]
some_ids = st.sets(st.sampled_from(IDS), min_size=1, max_size=5)
places = st.sets(st.integers(1, 6), min_size=1, max_size=4)
which = st.integers(0, 3)  # of the batches, the newest first


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


class BatchMachine(RuleBasedStateMachine):
    """One store, and a model of it: the state of each batch, and the rows that have their end."""

    template: Path

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "simulated.db"
        shutil.copy(self.template, self.path)
        self.store = Store.open(self.path, simulated=True)
        self.store.intake.create_batch("b", now=NOW, options={DEFERS: DAY_S})
        self.states: dict[int, BatchState] = {}
        self.rows: dict[int, int] = {}
        self.ended: set[tuple[int, int]] = set()  # (batch, place) of rows that are booked
        self.cost_nanos = 0
        self.known: set[str] = set()
        self.orchestrators = 0
        self.start_orchestrator()

    def start_orchestrator(self) -> None:
        self.orchestrators += 1
        self.me = f"o{self.orchestrators}"
        register(self.store, self.me, now=NOW + self.orchestrators)

    def batch(self, index: int) -> int | None:
        found = sorted(self.states, reverse=True)
        return found[index % len(found)] if found else None

    # ------------------------------------------------------------ tasks

    @rule(ids=some_ids, due=st.sampled_from([None, NOW + DAY_S, NOW + 1_000]), rerun=st.booleans())
    def add(self, ids: set[str], due: float | None, rerun: bool) -> None:
        added = [a_task(id, prompt=f"{id} {due}", deadline_at=due) for id in sorted(ids)]
        self.store.intake.add_tasks(added, now=NOW, rerun_changed=rerun)
        self.known |= ids

    @rule(limit=st.integers(1, 4), n=st.integers(1, 4))
    def claim_and_finish(self, limit: int, n: int) -> None:
        claimed = self.store.queue.claim(self.me, limit, now=NOW)
        assert all(task.row not in self.waiting_rows() for task in claimed)
        done = [a_result(task, an_attempt(9, started_at=NOW)) for task in claimed[:n]]
        self.cost_nanos += 1000 * len(self.store.queue.finish(self.me, done))

    def waiting_rows(self) -> set[int]:
        batches = self.store.provider_batches
        return {each.task.row for batch in batches.open() for each in batches.tasks(batch.id)}

    @rule(ids=some_ids)
    def cancel(self, ids: set[str]) -> None:
        self.store.admin.cancel("b", ids, now=NOW)

    @rule(ids=some_ids)
    def retry(self, ids: set[str]) -> None:
        self.store.admin.retry("b", ids, now=NOW)

    @rule(n=st.integers(1, 5))
    def go_live(self, n: int) -> None:
        for group in self.store.deferrals.groups()[:1]:
            assert self.store.deferrals.go_live(group.id, n, NOW) == min(n, group.rows)

    # ------------------------------------------------------------ batches

    @rule(n=st.integers(1, 6), nanos=st.integers(0, 10**9))
    def intend(self, n: int, nanos: int) -> None:
        for group in self.store.deferrals.groups()[:1]:
            found = self.store.deferrals.oldest(group.id, n)
            rows = [PlannedRow(task, nanos, 100, "economy") for task in found]
            new = NewBatch("openai", "gpt-x", f"marker{len(self.states):04}")
            batch = self.store.provider_batches.intend(new, rows, NOW)
            assert batch is not None and batch.rows == min(n, group.rows)
            assert batch.reserved_nanos == nanos * batch.rows
            self.states[batch.id], self.rows[batch.id] = BatchState.INTENDED, batch.rows

    @rule(index=which, new=st.sampled_from(BatchState))
    def change(self, index: int, new: BatchState) -> None:
        batch_id = self.batch(index)
        if batch_id is None:
            return
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

    @rule(index=which, places=places, cost=st.integers(0, 10**6), answered=st.booleans())
    def collect(self, index: int, places: set[int], cost: int, answered: bool) -> None:
        batch_id = self.batch(index)
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

    @rule(index=which, places=places, defer=st.booleans())
    def give_back(self, index: int, places: set[int], defer: bool) -> None:
        if (batch_id := self.batch(index)) is not None:
            new = {(batch_id, place) for place in places if place <= self.rows[batch_id]} - self.ended
            freed = self.store.batch_results.give_back(batch_id, sorted(places), now=NOW, defer=defer)
            assert len(freed) == len(new)
            self.ended |= new

    @rule(index=which)
    def pull(self, index: int) -> None:
        if (batch_id := self.batch(index)) is not None:
            waiting = len(self.store.provider_batches.tasks(batch_id))
            assert self.store.batch_results.pull(batch_id, NOW) == waiting

    # ------------------------------------------------------------ kills

    @rule(index=which, after=st.integers(0, 3), verb=st.sampled_from(["pull", "failed", "collected", "live"]))
    def is_killed(self, index: int, after: int, verb: str) -> None:
        """The next process finds the same batches, and can go on."""
        batch_id = self.batch(index)
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
                    self.go_live(5)
        self.store.close()
        self.store = Store.open(self.path, simulated=True)
        self.start_orchestrator()
        now = {each.id: each for each in self.store.provider_batches.newest()}
        assert now.keys() == before.keys()
        for number, state in before.items():
            assert now[number].state is state or not now[number].state.is_open
            self.states[number] = now[number].state
        stored = {row.place for row in self.stored_rows(batch_id)}
        self.ended |= {(batch_id, p) for p in range(1, self.rows[batch_id] + 1) if p not in stored}

    def stored_rows(self, batch_id: int) -> list[Any]:
        with self.store.database.reading() as connection:
            query = "SELECT place FROM provider_batch_rows WHERE provider_batch_id = ?"
            return list(connection.exec_driver_sql(query, (batch_id,)))

    # ------------------------------------------------------------ what holds

    @invariant()
    def everything_adds_up(self) -> None:
        if not hasattr(self, "store"):
            return
        assert_sums_are_true(self.store)
        counts = self.store.reports.task_counts("b")
        assert sum(counts.values()) == len(self.known)
        assert counts[TaskStatus.BATCHED] == len(self.waiting_rows())
        assert self.store.reports.summary("b").cost_nanos == self.cost_nanos
        states = {each.id: each.state for each in self.store.provider_batches.newest()}
        assert states == self.states
        reserved = sum(each.nanos for each in self.store.provider_batches.reservations())
        assert reserved == sum(each.reserved_nanos for each in self.store.provider_batches.open())

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()


def test_batches_stay_true_whatever_happens(empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BatchMachine, "template", empty_database, raising=False)
    monkeypatch.setattr(batch_results, "AT_ONCE", 2)  # several transactions for a few rows
    monkeypatch.setattr(deferrals, "AT_ONCE", 2)
    run_state_machine_as_test(
        BatchMachine,
        settings=settings(
            max_examples=20,
            stateful_step_count=25,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
