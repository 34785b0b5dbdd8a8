"""A result is written once, with its attempts and all sums, or not at all."""

from __future__ import annotations

import dataclasses

import pytest

from src.core.store import Store
from src.errors import StoreError
from src.records import OPEN_STATUSES, Outcome, Result, TaskStatus

from .makers import NOW, a_result, a_task, an_attempt, ids, register, results_of, tasks, with_claims


def test_a_result_is_read_as_it_was_written(store: Store) -> None:
    (task,) = with_claims(store, a_task(metadata={"k": "v"}))
    result = a_result(
        task,
        an_attempt(1, Outcome.FAILED, error_kind="ServerError", error="boom", status=500, cost_nanos=0),
        an_attempt(2, forced=True, cost_nanos=None),
        truncated=True,
        finish_reason="length",
        warnings=("temperature was not sent",),
    )
    assert store.queue.finish("me", [result]) == [result]
    (stored,) = results_of(store)
    assert stored.result == result
    assert stored.row == task.row
    assert stored.result.cost_nanos is None


@pytest.mark.parametrize("status", [s for s in TaskStatus if s.is_final])
def test_each_final_status_is_counted(store: Store, status: TaskStatus) -> None:
    (task,) = with_claims(store, a_task())
    store.queue.finish("me", [a_result(task, status=status)])
    assert store.reports.task_counts("b") == dict.fromkeys(TaskStatus, 0) | {status: 1}


@pytest.mark.parametrize("status", OPEN_STATUSES)
def test_a_result_with_an_open_status_is_an_error(store: Store, status: TaskStatus) -> None:
    (task,) = with_claims(store, a_task())
    with pytest.raises(StoreError, match="is final, not"):
        store.queue.finish("me", [a_result(task, status=status)])
    assert store.reports.task_counts()[TaskStatus.RUNNING] == 1


def test_a_task_is_finished_once(store: Store) -> None:
    (task,) = with_claims(store, a_task())
    first, second = a_result(task, output="first"), a_result(task, output="second")
    assert store.queue.finish("me", [first, second]) == [first]
    assert store.queue.finish("me", [second]) == []
    assert [r.result.output for r in results_of(store)] == ["first"]


def test_answers_that_are_too_long_for_one_statement_are_written(store: Store) -> None:
    held = with_claims(store, *tasks(5))
    results = [a_result(task, output=task.id[-1] * 9_000_000) for task in held]
    assert store.queue.finish("me", results) == results
    assert [stored.result.output for stored in results_of(store)] == [result.output for result in results]


@pytest.mark.parametrize(
    "text", ['"', "\\", "\\\\x41", "{}[],:", "\u2028\x7f\t\r\n", "'; --", "é😀", "%s %(rows)s", "null"]
)
def test_any_text_is_read_as_it_was_written(store: Store, text: str) -> None:
    (task,) = with_claims(store, a_task(text, prompt=text))
    result = a_result(task, an_attempt(provider=text, error=text), output=text, error=text, warnings=(text,))
    assert store.queue.finish("me", [result]) == [result]
    assert [stored.result for stored in results_of(store)] == [result]
    assert task.id == task.messages[0].content == text


def test_a_task_without_a_call_is_finished(store: Store) -> None:
    (task,) = with_claims(store, a_task())
    expired = Result(task, TaskStatus.EXPIRED, NOW, error="too late")
    assert store.queue.finish("me", [expired]) == [expired]
    (stored,) = results_of(store)
    assert stored.result == expired


def test_a_task_held_by_another_is_skipped_and_the_rest_written(store: Store) -> None:
    first, second = with_claims(store, *tasks(2))
    register(store, "other", now=NOW + 60)  # "me" was silent for a minute: its claims are gone
    store.queue.claim("other", 1, now=NOW)
    assert store.queue.finish("me", [a_result(first), a_result(second)]) == []
    assert ids(r.task for r in store.queue.finish("other", [a_result(first), a_result(second)])) == [first.id]


def test_a_task_that_was_not_read_from_the_store_is_found_by_batch_and_id(store: Store) -> None:
    (task,) = with_claims(store, a_task())
    unknown = a_task("never submitted")
    nameless = a_task(batch="no such batch")
    results = [a_result(unknown), a_result(dataclasses.replace(task, row=0)), a_result(nameless)]
    assert ids(r.task for r in store.queue.finish("me", results)) == [task.id]


def test_finishing_nothing_does_nothing(store: Store) -> None:
    register(store)
    assert store.queue.finish("me", []) == []
    store.queue.record_attempts("me", [])


def test_recorded_attempts_are_not_booked_twice(store: Store) -> None:
    (task,) = with_claims(store, a_task())
    failed = an_attempt(1, Outcome.UNCERTAIN, cost_nanos=7)
    store.queue.record_attempts("me", [(task, failed)])
    store.queue.record_attempts("me", [(task, failed), (task, an_attempt(2, Outcome.NEUTRAL, cost_nanos=0))])
    assert store.reports.summary("b").calls.calls == 2
    store.queue.finish(
        "me", [a_result(task, failed, an_attempt(2, Outcome.NEUTRAL, cost_nanos=0), an_attempt(3))]
    )
    calls = store.reports.summary("b").calls
    assert (calls.calls, calls.uncertain, calls.neutral, calls.ok) == (3, 1, 1, 1)
    assert (calls.cost_nanos, calls.uncertain_nanos) == (1000, 7)


def test_attempts_of_tasks_held_by_others_are_skipped(store: Store) -> None:
    (task,) = with_claims(store, a_task())
    store.queue.release("me", [task], now=NOW)
    store.queue.record_attempts("me", [(task, an_attempt())])
    assert store.reports.summary("b").calls.calls == 0


def test_attempts_of_an_earlier_claim_stay_and_the_new_ones_follow(store: Store) -> None:
    """An orchestrator that died counted from 1, and so does the next one."""
    (task,) = with_claims(store, a_task())
    store.queue.record_attempts("me", [(task, an_attempt(1, Outcome.FAILED))])
    register(store, "next", now=NOW + 60)
    (again,) = store.queue.claim("next", 1, now=NOW + 60)
    later = an_attempt(1, started_at=NOW + 61)
    store.queue.finish("next", [a_result(again, later)])
    (stored,) = results_of(store)
    assert [(a.number, a.outcome) for a in stored.result.attempts] == [(1, Outcome.FAILED), (2, Outcome.OK)]
    assert stored.result.cost_nanos == 2000


@pytest.mark.parametrize(
    ("output", "stored_as"),
    [
        ("", ""),
        ("half a pair \ud83d.", "half a pair \ufffd."),
        ("whole \ud83d\ude00 in halves", "whole \U0001f600 in halves"),
        ("nul \0 here", "nul \ufffd here"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
    ],
    ids=["empty", "half of a surrogate pair", "two halves", "nul", "markup"],
)
def test_whatever_a_model_answers_can_be_stored(store: Store, output: str, stored_as: str) -> None:
    (task,) = with_claims(store, a_task())
    store.queue.finish("me", [a_result(task, output=output)])
    assert results_of(store)[0].result.output == stored_as


def test_every_task_is_read_exactly_as_it_was_added(store: Store) -> None:
    strange = a_task(prompt="nul \0, \u2028, 中文", metadata={"k\0": "\udc00"})
    (task,) = with_claims(store, strange)
    assert (task.messages, task.metadata) == (strange.messages, strange.metadata)
