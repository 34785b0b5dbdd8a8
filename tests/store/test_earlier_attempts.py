"""Attempts before the death of an orchestrator count, until the task is retried."""

from __future__ import annotations

import dataclasses

import pytest

from src.core.store import Store
from src.records import Attempt, Outcome, Task, TaskStatus

from .makers import NOW, a_result, a_task, an_attempt, register, results_of, with_claims

FAILED = an_attempt(1, Outcome.FAILED, error_kind="ServerError", error="boom", status=500)


def next_life(store: Store, name: str, at: float) -> tuple[Task, list[Attempt]]:
    """The one task as the next orchestrator gets it, the one before having died."""
    register(store, name, now=at)
    (task,) = store.queue.claim(name, 9, now=at)
    return task, store.queue.attempts_that_count([task.row]).get(task.row, [])


def test_a_claimed_task_has_its_earlier_attempts(store: Store) -> None:
    (task,) = with_claims(store, a_task())
    assert task.attempts == 0
    store.queue.record_attempts("me", [(task, FAILED)])
    again, attempts = next_life(store, "next", NOW + 60)
    assert (again.attempts, attempts) == (1, [FAILED])


def test_attempts_that_were_loaded_are_not_booked_again(store: Store) -> None:
    (task,) = with_claims(store, a_task())
    store.queue.record_attempts("me", [(task, FAILED)])
    again, attempts = next_life(store, "next", NOW + 60)
    second = an_attempt(2, Outcome.FAILED, started_at=NOW + 61)
    store.queue.record_attempts("next", [(again, second)])
    again, attempts = next_life(store, "last", NOW + 120)
    assert attempts == [FAILED, second]
    result = a_result(again, *attempts, an_attempt(3, started_at=NOW + 121))
    assert store.queue.finish("last", [result]) == [result]
    assert results_of(store)[0].result == result
    assert store.reports.summary("b").calls.calls == 3


def test_a_retried_task_counts_attempts_from_zero_and_keeps_its_cost(store: Store) -> None:
    (task,) = with_claims(store, a_task())
    store.queue.finish("me", [a_result(task, FAILED, status=TaskStatus.FAILED, output=None)])
    store.admin.retry_ended("b", [TaskStatus.FAILED], now=NOW + 20)
    again, attempts = next_life(store, "next", NOW + 60)
    assert (again.attempts, attempts) == (1, [])
    anew = an_attempt(1, Outcome.FAILED, started_at=NOW + 61)
    store.queue.record_attempts("next", [(again, anew)])
    again, attempts = next_life(store, "last", NOW + 120)
    assert attempts == [anew]
    (written,) = store.queue.finish("last", [a_result(again, *attempts, an_attempt(2, started_at=NOW + 121))])
    assert [a.number for a in written.attempts] == [1, 2, 3], "all attempts are readable"
    assert store.reports.summary("b").calls.calls == 3


@pytest.mark.parametrize("changed", [True, False])
def test_new_content_counts_attempts_from_zero(store: Store, changed: bool) -> None:
    (task,) = with_claims(store, a_task())
    store.queue.record_attempts("me", [(task, FAILED)])
    store.queue.release("me", [task], now=NOW + 5)
    new = dataclasses.replace(a_task(), max_tokens=9 if changed else None)
    store.intake.add_tasks([new], now=NOW + 6, rerun_changed=True)
    (again,) = store.queue.claim("me", 9, now=NOW + 7)
    assert store.queue.attempts_that_count([again.row]) == ({} if changed else {again.row: [FAILED]})


def test_claimed_tasks_are_listed_as_they_were_claimed(store: Store) -> None:
    first, second = with_claims(store, a_task("a"), a_task("b"))
    assert store.queue.claimed("me") == [first, second]
    store.queue.finish("me", [a_result(first)])
    assert store.queue.claimed("me") == [second]
