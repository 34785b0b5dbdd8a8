"""After any sequence of calls the sums equal the rows, and each task has the right status."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from src.core.store import Store
from src.records import Attempt, Outcome, Task, TaskStatus

from .makers import NOW, a_result, a_task, an_attempt, assert_sums_are_true, register

FINAL = [s for s in TaskStatus if s.is_final]
IDS = [f"t{i}" for i in range(12)]
MAX_CLAIMS = 3

some_ids = st.sets(st.sampled_from(IDS), min_size=1, max_size=5)
calls = st.builds(
    an_attempt,
    number=st.integers(1, 4),
    outcome=st.sampled_from(Outcome),
    provider=st.sampled_from(["openai", "gemini"]),
    started_at=st.sampled_from([NOW, NOW + 30, NOW + 90]),
    latency_s=st.floats(0, 1000),
    cost_nanos=st.none() | st.integers(0, 10**12),
)


class StoreMachine(RuleBasedStateMachine):
    """One store and a model of it: each task's status."""

    template: Path  # an empty database to copy: migrating takes longer than the whole example

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "simulated.db"
        shutil.copy(self.template, path)
        self.store = Store.open(path, simulated=True)
        self.store.intake.create_batch("b", now=NOW)
        self.status: dict[str, TaskStatus] = {}
        self.claimed: dict[str, Task] = {}
        self.orchestrators = 0
        self.has_finished = False
        self.start_orchestrator()

    def start_orchestrator(self) -> None:
        self.orchestrators += 1
        self.me = f"o{self.orchestrators}"
        now = NOW + 60 * self.orchestrators
        answer = register(self.store, self.me, now=now, max_claims=MAX_CLAIMS)
        suspects = {} if self.has_finished else self.claimed
        poisoned = [id for id, task in suspects.items() if task.claims >= MAX_CLAIMS]
        assert (answer.poisoned, answer.recovered) == (len(poisoned), len(self.claimed) - len(poisoned))
        for id in self.claimed:
            self.status[id] = TaskStatus.FAILED if id in poisoned else TaskStatus.QUEUED
        self.claimed = {}
        self.has_finished = False

    @rule(ids=some_ids, kind=st.sampled_from(["general", "research"]), rerun=st.booleans())
    def add(self, ids: set[str], kind: str, rerun: bool) -> None:
        submitted = [a_task(id, task_type=kind) for id in sorted(ids)]
        report = self.store.intake.add_tasks(submitted, now=NOW, rerun_changed=rerun)
        new = ids - self.status.keys()
        assert report.added == len(new)
        assert report.added + report.existing + report.changed_count + report.replaced == len(ids)
        if report.replaced:
            for id, status in self.stored_statuses(ids).items():
                assert status is self.status.get(id, status) or status is TaskStatus.QUEUED
                self.status[id] = status
        self.status |= dict.fromkeys(new, TaskStatus.QUEUED)

    @rule(limit=st.integers(1, 6))
    def claim(self, limit: int) -> None:
        queued = [id for id, status in self.status.items() if status is TaskStatus.QUEUED]
        claimed = self.store.queue.claim(self.me, limit, now=NOW)
        assert len(claimed) == min(limit, len(queued))
        for task in claimed:
            assert task.id in queued
            self.claimed[task.id] = task
            self.status[task.id] = TaskStatus.RUNNING

    @rule(ids=some_ids, attempt=calls)
    def record(self, ids: set[str], attempt: Attempt) -> None:
        tasks = [self.claimed.get(id, a_task(id)) for id in sorted(ids)]
        self.store.queue.record_attempts(self.me, [(task, attempt) for task in tasks])

    @rule(
        ids=some_ids,
        status=st.sampled_from(FINAL),
        attempts=st.lists(calls, max_size=3),
        rest=st.fixed_dictionaries(
            {
                "tier": st.sampled_from(["", "economy"]),
                "truncated": st.booleans(),
                "output": st.none() | st.text(),
                "baseline_nanos": st.none() | st.integers(0, 10**9),
            }
        ),
    )
    def finish(
        self, ids: set[str], status: TaskStatus, attempts: list[Attempt], rest: dict[str, Any]
    ) -> None:
        tasks = [self.claimed.get(id, a_task(id)) for id in sorted(ids)]
        results = [
            dataclasses.replace(a_result(task, status=status, **rest), attempts=tuple(attempts))
            for task in tasks
        ]
        written = {result.task.id for result in self.store.queue.finish(self.me, results)}
        assert written == ids & self.claimed.keys()
        self.has_finished |= bool(written)
        for id in written:
            del self.claimed[id]
            self.status[id] = status

    @rule(ids=some_ids)
    def release(self, ids: set[str]) -> None:
        mine = ids & self.claimed.keys()
        tasks = [self.claimed.get(id, a_task(id)) for id in sorted(ids)]
        assert self.store.queue.release(self.me, tasks, now=NOW) == len(mine)
        for id in mine:
            del self.claimed[id]
            self.status[id] = TaskStatus.QUEUED

    @rule(ids=some_ids)
    def cancel(self, ids: set[str]) -> None:
        queued = {id for id in ids if self.status.get(id) is TaskStatus.QUEUED}
        assert self.store.admin.cancel("b", ids, now=NOW) == len(queued)
        self.status |= dict.fromkeys(queued, TaskStatus.CANCELLED)

    @rule(ids=some_ids, statuses=st.sets(st.sampled_from(FINAL)))
    def retry(self, ids: set[str], statuses: set[TaskStatus]) -> None:
        again = {i for i, s in self.status.items() if s in FINAL and (i in ids or s in statuses)}
        retried = self.store.admin.retry("b", ids, now=NOW)
        assert retried + self.store.admin.retry_ended("b", statuses, now=NOW) == len(again)
        self.status |= dict.fromkeys(again, TaskStatus.QUEUED)

    @rule()
    def die(self) -> None:
        self.start_orchestrator()

    @rule()
    def stop(self) -> None:
        assert self.store.orchestrators.retire(self.me, now=NOW) == len(self.claimed)
        self.status |= dict.fromkeys(self.claimed, TaskStatus.QUEUED)
        self.claimed = {}
        self.start_orchestrator()

    @invariant()
    def everything_adds_up(self) -> None:
        if not hasattr(self, "store"):
            return
        assert self.stored_statuses(set(IDS)) == self.status
        expected = dict.fromkeys(TaskStatus, 0) | Counter(self.status.values())
        assert self.store.reports.task_counts("b") == self.store.reports.task_counts() == expected
        assert_sums_are_true(self.store)

    def stored_statuses(self, ids: set[str]) -> dict[str, TaskStatus]:
        return self.store.tasks.statuses("b", ids)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()


def test_sums_stay_true_whatever_happens(empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StoreMachine, "template", empty_database, raising=False)
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=15,
            stateful_step_count=20,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
