"""Cancel and retry tasks."""

from __future__ import annotations

import pytest

from src.core.store import Store
from src.errors import StoreError
from src.records import Outcome, TaskStatus

from .makers import NOW, a_result, a_task, an_attempt, ids, register, results_of, tasks, with_claims


def test_only_queued_tasks_are_cancelled(store: Store) -> None:
    store.intake.add_tasks([a_task("first", priority=1), *tasks(3), a_task("t0000", "other")], now=NOW)
    register(store)
    store.queue.claim("me", 1, now=NOW)
    assert store.admin.cancel("b", ["first", "t0000", "t0001", "unknown"], now=NOW + 5) == 2
    assert store.reports.task_counts("b") == dict.fromkeys(TaskStatus, 0) | {
        TaskStatus.RUNNING: 1,
        TaskStatus.QUEUED: 1,
        TaskStatus.CANCELLED: 2,
    }
    assert store.reports.task_counts("other")[TaskStatus.QUEUED] == 1
    cancelled = results_of(store)[0].result
    assert (cancelled.status, cancelled.finished_at) == (TaskStatus.CANCELLED, NOW + 5)
    assert "cancelled" in cancelled.error


def test_a_whole_batch_is_cancelled(store: Store) -> None:
    store.intake.add_tasks(tasks(4), now=NOW)
    assert store.admin.cancel("b", now=NOW) == 4
    assert store.admin.cancel("b", now=NOW) == 0
    with pytest.raises(StoreError, match="no batch"):
        store.admin.cancel("unknown", now=NOW)


def test_tasks_are_retried_by_status_id_or_truncation(store: Store) -> None:
    ok, failed, cut, refused = with_claims(store, *tasks(4))
    store.queue.finish(
        "me",
        [
            a_result(ok),
            a_result(failed, status=TaskStatus.FAILED, output=None),
            a_result(cut, truncated=True),
            a_result(refused, status=TaskStatus.REFUSED),
        ],
    )
    assert store.admin.retry_ended("b", [], now=NOW) == 0
    assert store.admin.retry_ended("b", [TaskStatus.FAILED, TaskStatus.EXPIRED], now=NOW) == 1
    assert store.admin.retry_ended("b", [], truncated=True, now=NOW) == 1
    assert store.admin.retry("b", [refused.id, failed.id, "unknown"], now=NOW) == 1
    assert ids(store.queue.claim("me", 9, now=NOW)) == [failed.id, cut.id, refused.id]
    assert ids(row.result.task for row in results_of(store)) == [ok.id]


def test_a_retried_task_keeps_its_attempts_and_their_cost(store: Store) -> None:
    (task,) = with_claims(store, a_task())
    failed = a_result(task, an_attempt(1, Outcome.FAILED), status=TaskStatus.FAILED, output="half")
    store.queue.finish("me", [failed])
    store.admin.retry_ended("b", [TaskStatus.FAILED], now=NOW + 20)
    (again,) = store.queue.claim("me", 1, now=NOW + 20)
    assert again.claims == 1  # counted anew: it is no poison for having failed
    store.queue.finish("me", [a_result(again, an_attempt(1, started_at=NOW + 30), output=None)])
    (stored,) = results_of(store)
    assert stored.result.output is None
    assert [a.outcome for a in stored.result.attempts] == [Outcome.FAILED, Outcome.OK]
    summary = store.reports.summary("b")
    assert (summary.tasks.tasks, summary.tasks.succeeded, summary.tasks.cost_nanos) == (1, 1, 2000)
    assert summary.cost_nanos == 2000


def test_many_tasks_are_retried(store: Store) -> None:
    store.intake.add_tasks(tasks(1100), now=NOW)
    store.admin.cancel("b", now=NOW)
    assert store.admin.retry_ended("b", [TaskStatus.CANCELLED], now=NOW) == 1100
