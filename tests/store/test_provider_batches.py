"""Batches at providers: what a restart must find again, and what their tasks and money become."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from src.core.store import (
    DEFERS,
    BatchExtras,
    BatchState,
    NewBatch,
    PlannedRow,
    ProviderBatch,
    RowEnd,
    Store,
    TaskSelection,
)
from src.core.store.provider_batch_states import may_follow
from src.errors import StoreError
from src.messages import Message
from src.records import BATCH, Attempt, Outcome, Task, TaskStatus

from .makers import NOW, a_result, a_task, an_attempt, ids, register, results_of, tasks

DAY_S = 86_400.0
DUE = NOW + DAY_S
RESERVED = 700
COST = 350


def deferring(store: Store, *added: Task, name: str = "b") -> None:
    store.intake.create_batch(name, now=NOW, options={DEFERS: DAY_S}, output_path="out.jsonl")
    store.intake.add_tasks(added, now=NOW)


def planned(store: Store, limit: int) -> list[PlannedRow]:
    """Rows of the oldest deferred tasks of the first group, then of the next ones."""
    found = [task for group in store.deferrals.groups() for task in store.deferrals.oldest(group.id, limit)]
    return [PlannedRow(task, RESERVED, 256, "economy", "gpt-engineer") for task in found[:limit]]


def intended(store: Store, *, limit: int = 100, marker: str = "marker01") -> ProviderBatch:
    """A batch of the oldest deferred tasks."""
    rows = planned(store, limit)
    batch = store.provider_batches.intend(NewBatch("openai", "gpt-x", marker, 2.0), rows, NOW)
    assert batch is not None
    return batch


def submitted(store: Store, **options: Any) -> ProviderBatch:
    batch = intended(store, **options)
    store.provider_batches.creating(batch.id, NOW + 1)
    store.provider_batches.submitted(batch.id, "batch_1", ["file_1"], NOW + 2)
    return found(store, batch.id)


def found(store: Store, batch_id: int) -> ProviderBatch:
    batch = store.provider_batches.find(batch_id)
    assert batch is not None
    return batch


def a_call(**fields: Any) -> Attempt:
    values = {"choice": BATCH, "started_at": NOW + 2, "latency_s": 900.0, "cost_nanos": COST}
    return an_attempt(1, **(values | fields))


def answers(store: Store, batch_id: int) -> list[RowEnd]:
    """An answer for each task that waits for one."""
    return [
        RowEnd(each.place, a_call(), a_result(each.task, a_call()))
        for each in store.provider_batches.tasks(batch_id)
    ]


def counted(store: Store) -> dict[str, int]:
    return {str(status): n for status, n in store.reports.task_counts().items() if n}


# ------------------------------------------------------------------ what is deferred


@pytest.mark.parametrize(
    ("options", "deadline_at", "status"),
    [
        ({DEFERS: DAY_S}, DUE, "deferred"),
        ({DEFERS: DAY_S}, None, "queued"),
        ({}, DUE, "queued"),
        ({DEFERS: None}, DUE, "queued"),
    ],
    ids=["asked for, with a deadline", "without a deadline", "not asked for", "asked for no longer"],
)
def test_tasks_with_a_deadline_are_deferred_where_their_batch_asks_for_it(
    store: Store, options: dict[str, Any], deadline_at: float | None, status: str
) -> None:
    store.intake.create_batch("b", now=NOW, options=options)
    store.intake.add_tasks([a_task(deadline_at=deadline_at)], now=NOW)
    assert counted(store) == {status: 1}


def test_no_orchestrator_claims_a_deferred_task(store: Store) -> None:
    deferring(store, *tasks(3, deadline_at=DUE), a_task("live"))
    register(store)
    assert ids(store.queue.claim("me", 10, now=DUE - 1)) == ["live"]
    assert store.queue.poll().queued == 0


def test_deferred_tasks_that_are_alike_form_a_group_with_their_sums(store: Store) -> None:
    alike = [
        a_task("a", prompt="12345", deadline_at=DUE, max_tokens=100),
        a_task("b", prompt="ü", deadline_at=DUE + 20, max_tokens=50),
        a_task("c", prompt="123", deadline_at=DUE),
    ]
    deferring(store, *alike)
    (group,) = store.deferrals.groups()
    assert (group.batch, group.task_type, group.tier, group.deadline_at) == ("b", "general", "auto", DUE)
    assert (group.rows, group.text_chars, group.prompt_bytes) == (3, 9, 10)
    assert (group.max_tokens, group.unstated) == (150, 1)
    assert ids(store.deferrals.oldest(group.id, 2)) == ["a", "b"]
    assert ids(store.deferrals.oldest(group.id, 2, after=alike_row(store, "b"))) == ["c"]


def alike_row(store: Store, task_id: str) -> int:
    detail = store.tasks.find("b", task_id)
    assert detail is not None
    return detail.row.row


@pytest.mark.parametrize(
    "fields",
    [
        {"task_type": "research"},
        {"tier": "premium"},
        {"models": ("gpt-x",)},
        {"providers": ("openai",)},
        {"submitter": "ann"},
        {"temperature": 0.5},
        {"deadline_at": DUE + 600},
        {"agent": "analyst"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_tasks_that_differ_in_what_may_answer_them_are_in_groups_of_their_own(
    store: Store, fields: dict[str, Any]
) -> None:
    deferring(store, a_task("a", deadline_at=DUE), a_task("b", **({"deadline_at": DUE} | fields)))
    first, second = store.deferrals.groups()
    (name, value) = next(iter(fields.items()))
    if name == "temperature":
        assert {first.parameters, second.parameters} == {(), ("temperature",)}
    else:
        assert value in {getattr(first, name), getattr(second, name)}


def test_the_oldest_tasks_of_a_group_go_live(store: Store) -> None:
    deferring(store, *tasks(5, deadline_at=DUE))
    (group,) = store.deferrals.groups()
    assert store.deferrals.go_live(group.id, 2, NOW + 5) == 2
    register(store)
    assert ids(store.queue.claim("me", 10, now=NOW)) == ["t0000", "t0001"]
    assert store.deferrals.go_live(group.id, 10, NOW + 6) == 3
    assert store.deferrals.groups() == []
    assert store.deferrals.go_live(group.id, 10, NOW + 7) == 0


def test_a_task_that_runs_again_is_deferred_again(store: Store) -> None:
    deferring(store, *tasks(2, deadline_at=DUE))
    store.admin.cancel("b", now=NOW)
    assert store.admin.retry("b", ["t0000"], now=NOW + 100) == 1
    assert counted(store) == {"deferred": 1, "cancelled": 1}
    (group,) = store.deferrals.groups()
    assert group.deadline_at == (DUE + 100) // 300 * 300


def test_a_deferred_task_takes_its_new_content_and_deadline(store: Store) -> None:
    deferring(store, a_task(deadline_at=DUE))
    store.intake.add_tasks(
        [a_task(prompt="longer than before", deadline_at=DUE)], now=NOW, rerun_changed=True
    )
    (group,) = store.deferrals.groups()
    assert (group.rows, group.text_chars) == (1, len("longer than before"))
    store.intake.add_tasks([a_task(prompt="without a deadline")], now=NOW, rerun_changed=True)
    assert counted(store) == {"queued": 1} and store.deferrals.groups() == []


def test_a_task_in_a_batch_keeps_its_content(store: Store) -> None:
    deferring(store, a_task(deadline_at=DUE))
    intended(store)
    report = store.intake.add_tasks([a_task(prompt="other", deadline_at=DUE)], now=NOW, rerun_changed=True)
    assert (report.replaced, report.changed_count) == (0, 1)


# ------------------------------------------------------------------ the life of a batch


def test_the_intent_takes_the_tasks_and_reserves_their_money_at_once(store: Store) -> None:
    deferring(store, *tasks(5, deadline_at=DUE))
    batch = intended(store, limit=3)
    assert counted(store) == {"batched": 3, "deferred": 2}
    assert (batch.rows, batch.left_rows, batch.reserved_nanos) == (3, 3, 3 * RESERVED)
    assert (batch.state, batch.deadline_at, batch.live_s) == (BatchState.INTENDED, DUE, 2.0)
    rows = store.provider_batches.tasks(batch.id)
    assert [(row.place, row.task.id, row.number, row.tier) for row in rows] == [
        (1, "t0000", 1, "economy"),
        (2, "t0001", 1, "economy"),
        (3, "t0002", 1, "economy"),
    ]
    (reserved,) = store.provider_batches.reservations()
    assert (reserved.provider, reserved.batch, reserved.submitter) == ("openai", "b", "local")
    assert (reserved.at, reserved.nanos) == (NOW, 3 * RESERVED)


def test_a_repeated_intent_is_the_same_batch(store: Store) -> None:
    deferring(store, *tasks(4, deadline_at=DUE))
    rows = planned(store, 2)
    new = NewBatch("openai", "gpt-x", "marker01", 2.0)
    first = store.provider_batches.intend(new, rows, NOW)
    assert store.provider_batches.intend(new, rows, NOW) == first
    assert counted(store) == {"batched": 2, "deferred": 2}


def test_a_batch_is_intended_in_parts_and_smaller_after_a_kill_between_two(store: Store) -> None:
    deferring(store, *tasks(5, deadline_at=DUE), a_task("soon", deadline_at=DUE - 10))
    rows = planned(store, 6)
    new = NewBatch("openai", "gpt-x", "marker01", 2.0)
    store.provider_batches.intend(new, rows[:2], NOW)
    batch = store.provider_batches.intend(new, rows, NOW)  # repeated as a whole
    assert batch is not None and batch.deadline_at == DUE - 10
    assert (batch.rows, batch.left_rows, batch.reserved_nanos) == (6, 6, 6 * RESERVED)
    assert [each.place for each in store.provider_batches.tasks(batch.id)] == [1, 2, 3, 4, 5, 6]
    assert store.provider_batches.reservations()[0].nanos == 6 * RESERVED
    assert counted(store) == {"batched": 6}


def test_a_batch_that_is_on_its_way_takes_no_more_tasks(store: Store) -> None:
    deferring(store, *tasks(4, deadline_at=DUE))
    rows = planned(store, 4)
    new = NewBatch("openai", "gpt-x", "marker01", 2.0)
    first = store.provider_batches.intend(new, rows[:2], NOW)
    assert first is not None
    store.provider_batches.creating(first.id, NOW + 1)
    batch = store.provider_batches.intend(new, rows, NOW + 2)
    assert batch is not None and batch.rows == 2
    assert counted(store) == {"batched": 2, "deferred": 2}


def test_an_intent_leaves_out_tasks_that_were_cancelled_meanwhile(store: Store) -> None:
    deferring(store, *tasks(2, deadline_at=DUE))
    (group,) = store.deferrals.groups()
    rows = [PlannedRow(task, RESERVED, 256, "economy") for task in store.deferrals.oldest(group.id, 5)]
    store.admin.cancel("b", ["t0000"], now=NOW)
    batch = store.provider_batches.intend(NewBatch("openai", "gpt-x", "marker01"), rows, NOW)
    assert batch is not None and batch.rows == 1
    assert [row.task.id for row in store.provider_batches.tasks(batch.id)] == ["t0001"]
    store.admin.cancel("b", now=NOW)
    assert store.provider_batches.intend(NewBatch("openai", "gpt-x", "marker02"), rows, NOW) is None


def test_every_transition_is_kept(store: Store) -> None:
    deferring(store, *tasks(2, deadline_at=DUE))
    batches = store.provider_batches
    batch = intended(store)
    batches.creating(batch.id, NOW + 1)
    assert found(store, batch.id).create_sent_at == NOW + 1
    batches.not_created(batch.id, "enqueued tokens", NOW + 60)
    again = found(store, batch.id)
    assert (again.state, again.create_sent_at) == (BatchState.INTENDED, None)
    assert (again.error, again.next_poll_at) == ("enqueued tokens", NOW + 60)
    batches.creating(batch.id, NOW + 61)
    batches.submitted(batch.id, "batch_1", ["file_1"], NOW + 62)
    batches.poll_at(batch.id, NOW + 90)
    batches.cancelling(batch.id, NOW + 80)
    batches.ended(batch.id, ["file_1", "file_2"], NOW + 100)
    ended = found(store, batch.id)
    assert (ended.remote_id, ended.files, ended.error) == ("batch_1", ("file_1", "file_2"), "")
    assert (ended.submitted_at, ended.cancel_sent_at, ended.ended_at) == (NOW + 62, NOW + 80, NOW + 100)
    assert ended.next_poll_at == NOW + 90
    assert batches.open() == [ended]
    store.batch_results.collected(batch.id, NOW + 101)
    assert batches.open() == []
    assert [each.state for each in batches.newest()] == [BatchState.COLLECTED]


def moves(store: Store) -> dict[BatchState, Callable[[int], Any]]:
    """How a batch comes into each state."""
    batches, results = store.provider_batches, store.batch_results
    return {
        BatchState.CREATING: lambda i: batches.creating(i, NOW),
        BatchState.INTENDED: lambda i: batches.not_created(i, "", NOW),
        BatchState.SUBMITTED: lambda i: batches.submitted(i, "batch_1", [], NOW),
        BatchState.CANCELLING: lambda i: batches.cancelling(i, NOW),
        BatchState.ENDED: lambda i: batches.ended(i, [], NOW),
        BatchState.COLLECTED: lambda i: results.collected(i, NOW),
        BatchState.FAILED: lambda i: results.failed(i, "", now=NOW),
    }


WAYS = {
    BatchState.INTENDED: (),
    BatchState.CREATING: (BatchState.CREATING,),
    BatchState.SUBMITTED: (BatchState.CREATING, BatchState.SUBMITTED),
    BatchState.CANCELLING: (BatchState.CREATING, BatchState.SUBMITTED, BatchState.CANCELLING),
    BatchState.ENDED: (BatchState.CREATING, BatchState.SUBMITTED, BatchState.ENDED),
    BatchState.COLLECTED: (
        BatchState.CREATING,
        BatchState.SUBMITTED,
        BatchState.ENDED,
        BatchState.COLLECTED,
    ),
    BatchState.FAILED: (BatchState.FAILED,),
}


@pytest.mark.parametrize("state", BatchState)
def test_a_state_takes_what_may_follow_it_and_nothing_else(store: Store, state: BatchState) -> None:
    deferring(store, a_task(deadline_at=DUE))
    batch = intended(store)
    for step in WAYS[state]:
        moves(store)[step](batch.id)
    before = found(store, batch.id)
    for new, go in moves(store).items():
        if new is state:
            go(batch.id)
            assert found(store, batch.id) == before, "a repetition changes nothing"
        elif not may_follow(state, new):
            with pytest.raises(StoreError, match=f"is {state}"):
                go(batch.id)
            assert found(store, batch.id) == before
    legal = [new for new in moves(store) if may_follow(state, new)]
    for new in legal[:1]:
        moves(store)[new](batch.id)
        assert found(store, batch.id).state is new


def test_the_turnaround_is_that_of_the_last_batches_that_were_not_cancelled(store: Store) -> None:
    deferring(store, *tasks(3, deadline_at=DUE))
    for i, cancel in enumerate([False, True, False]):
        batch = submitted(store, limit=1, marker=f"marker0{i}")
        if cancel:
            store.provider_batches.cancelling(batch.id, NOW + 3)
        store.provider_batches.ended(batch.id, [], NOW + 102 + i)
    assert store.provider_batches.turnarounds("openai", "gpt-x") == [100.0, 102.0]
    assert store.provider_batches.turnarounds("openai", "gpt-y") == []


# ------------------------------------------------------------------ results


def test_results_are_stored_with_their_cost_like_those_of_live_calls(store: Store) -> None:
    deferring(store, *tasks(2, deadline_at=DUE))
    batch = submitted(store)
    collected = store.batch_results.collect(batch.id, answers(store, batch.id), NOW + 900)
    assert ids(result.task for result in collected.results) == ["t0000", "t0001"]
    assert [(row.reserved_nanos, row.cost_nanos) for row in collected.settled] == [(RESERVED, COST)] * 2
    first, _ = results_of(store)
    assert (first.result.output, first.result.cost_nanos) == ("answer to t0000", COST)
    summary = store.reports.summary("b")
    assert (summary.calls.calls, summary.cost_nanos) == (2, 2 * COST)
    after = found(store, batch.id)
    assert (after.answered, after.left_rows, after.reserved_nanos) == (2, 0, 0)
    assert store.provider_batches.reservations() == []


def test_the_time_in_a_batch_is_neither_latency_nor_a_wait_for_a_call(store: Store) -> None:
    deferring(store, *tasks(2, deadline_at=DUE), a_task("live"))
    batch = submitted(store)
    store.batch_results.collect(batch.id, answers(store, batch.id), NOW + 900)
    register(store)
    (live,) = store.queue.claim("me", 1, now=NOW)
    store.queue.finish("me", [a_result(live, an_attempt(1, latency_s=0.5))])
    calls = store.reports.summary("b").calls
    assert (calls.ok, calls.average_s, calls.p95_s) == (3, 0.5, 0.5)
    assert store.reports.queue_waits().waits == 1


def test_a_result_is_collected_once(store: Store) -> None:
    deferring(store, *tasks(2, deadline_at=DUE))
    batch = submitted(store)
    ends = answers(store, batch.id)
    store.batch_results.collect(batch.id, ends[:1], NOW + 900)
    again = store.batch_results.collect(batch.id, ends, NOW + 901)
    assert ids(result.task for result in again.results) == ["t0001"]
    assert store.reports.summary("b").cost_nanos == 2 * COST
    assert store.batch_results.collect(batch.id, ends, NOW + 902).results == []


def test_a_row_that_failed_runs_again_live_and_its_attempt_counts(store: Store) -> None:
    deferring(store, a_task(deadline_at=DUE))
    batch = submitted(store)
    error = a_call(outcome=Outcome.FAILED, error_kind="ServerError", cost_nanos=0)
    collected = store.batch_results.collect(batch.id, [RowEnd(1, error)], NOW + 900)
    assert (collected.requeued, collected.results) == (1, [])
    register(store)
    (task,) = store.queue.claim("me", 1, now=NOW)
    assert task.attempts == 1
    (earlier,) = store.queue.attempts_that_count([task.row])[task.row]
    assert (earlier.choice, earlier.error_kind) == ("batch", "ServerError")
    assert found(store, batch.id).failed == 1


def test_a_row_that_ends_without_an_answer_counts_as_failed(store: Store) -> None:
    deferring(store, a_task(deadline_at=DUE))
    batch = submitted(store)
    (each,) = store.provider_batches.tasks(batch.id)
    refused = a_result(each.task, a_call(outcome=Outcome.NEUTRAL), status=TaskStatus.REFUSED, output=None)
    store.batch_results.collect(batch.id, [RowEnd(1, a_call(outcome=Outcome.NEUTRAL), refused)], NOW + 9)
    assert counted(store) == {"refused": 1}
    assert found(store, batch.id).failed == 1


@pytest.mark.parametrize("state", [BatchState.INTENDED, BatchState.CREATING, BatchState.COLLECTED])
def test_no_result_comes_before_a_batch_is_submitted_or_after_it_is_closed(
    store: Store, state: BatchState
) -> None:
    deferring(store, a_task(deadline_at=DUE))
    batch = intended(store)
    ends = answers(store, batch.id)
    for step in WAYS[state]:
        moves(store)[step](batch.id)
    with pytest.raises(StoreError, match=f"is {state}"):
        store.batch_results.collect(batch.id, ends, NOW)


def test_an_open_result_is_an_error(store: Store) -> None:
    deferring(store, a_task(deadline_at=DUE))
    batch = submitted(store)
    (each,) = store.provider_batches.tasks(batch.id)
    open_result = a_result(each.task, status=TaskStatus.QUEUED)
    with pytest.raises(StoreError, match="final"):
        store.batch_results.collect(batch.id, [RowEnd(1, a_call(), open_result)], NOW)
    assert counted(store) == {"batched": 1}


# ------------------------------------------------------------------ without results


@pytest.mark.parametrize(("defer", "status"), [(False, "queued"), (True, "deferred")])
def test_rows_without_a_result_are_given_back_and_their_money_is_free(
    store: Store, defer: bool, status: str
) -> None:
    deferring(store, *tasks(3, deadline_at=DUE))
    batch = submitted(store)
    freed = store.batch_results.give_back(batch.id, [1, 3], now=NOW + 9, defer=defer)
    assert [row.reserved_nanos for row in freed] == [RESERVED] * 2
    assert counted(store) == {"batched": 1, status: 2}
    after = found(store, batch.id)
    assert (after.unanswered, after.left_rows, after.reserved_nanos) == (2, 1, RESERVED)


def test_a_batch_that_failed_gives_all_its_tasks_back(store: Store) -> None:
    deferring(store, *tasks(3, deadline_at=DUE))
    batch = submitted(store)
    assert len(store.batch_results.failed(batch.id, "rejected", now=NOW + 9, defer=True)) == 3
    assert counted(store) == {"deferred": 3}
    after = found(store, batch.id)
    assert (after.state, after.error, after.reserved_nanos) == (BatchState.FAILED, "rejected", 0)


def test_rows_that_are_missing_at_the_end_are_given_back(store: Store) -> None:
    deferring(store, *tasks(3, deadline_at=DUE))
    batch = submitted(store)
    store.batch_results.collect(batch.id, answers(store, batch.id)[:2], NOW + 8)
    store.provider_batches.ended(batch.id, [], NOW + 9)
    assert len(store.batch_results.collected(batch.id, NOW + 10)) == 1
    assert counted(store) == {"succeeded": 2, "queued": 1}


# ------------------------------------------------------------------ tasks that go on without their batch


def test_a_late_result_costs_but_is_no_second_answer(store: Store) -> None:
    deferring(store, *tasks(2, deadline_at=DUE))
    batch = submitted(store)
    ends = answers(store, batch.id)
    assert store.batch_results.pull(batch.id, NOW + 100) == 2
    assert counted(store) == {"queued": 2}
    assert found(store, batch.id).reserved_nanos == 2 * RESERVED
    register(store)
    first, _ = store.queue.claim("me", 2, now=NOW)
    store.queue.finish("me", [a_result(first, an_attempt(1, cost_nanos=1000))])
    collected = store.batch_results.collect(batch.id, ends, NOW + 200)
    assert (collected.results, collected.requeued) == ([], 0)
    assert [attempt.cost_nanos for attempt in collected.late] == [COST, COST]
    assert counted(store) == {"succeeded": 1, "running": 1}
    assert store.reports.summary("b").cost_nanos == 1000 + 2 * COST
    assert store.reports.summary("b").tasks.cost_nanos == 1000 + COST
    detail = store.tasks.find("b", "t0000")
    assert detail is not None and detail.result is not None
    assert (detail.result.output, detail.result.cost_nanos) == ("answer to t0000", 1000 + COST)
    assert [attempt.outcome for attempt in detail.attempts] == [Outcome.OK, Outcome.NEUTRAL]
    after = found(store, batch.id)
    assert (after.late, after.released_rows, after.reserved_nanos) == (2, 0, 0)
    assert after.late_nanos == after.cost_nanos == 2 * COST
    assert store.provider_batch_lists.extras("b") == BatchExtras(2 * COST, {"openai": 1})
    store.provider_batches.ended(batch.id, [], NOW + 250)
    store.batch_results.collected(batch.id, NOW + 300)
    assert store.provider_batch_lists.extras("b") == BatchExtras(2 * COST)
    assert store.provider_batch_lists.extras("another") == BatchExtras()


def test_a_running_task_ends_with_the_cost_of_a_late_result(store: Store) -> None:
    deferring(store, a_task(deadline_at=DUE))
    batch = submitted(store)
    ends = answers(store, batch.id)
    store.batch_results.pull(batch.id, NOW + 100)
    register(store)
    (task,) = store.queue.claim("me", 2, now=NOW)
    store.batch_results.collect(batch.id, ends, NOW + 200)
    (result,) = store.queue.finish("me", [a_result(task, an_attempt(1, cost_nanos=1000))])
    assert result.cost_nanos == 1000 + COST
    assert store.queue.attempts_that_count([task.row])[task.row][-1].cost_nanos == 1000


def test_tasks_in_a_batch_can_be_cancelled_and_what_they_cost_is_booked(store: Store) -> None:
    deferring(store, *tasks(3, deadline_at=DUE))
    batch = submitted(store, limit=2)
    ends = answers(store, batch.id)
    assert store.admin.cancel("b", now=NOW + 3) == 3
    assert counted(store) == {"cancelled": 3}
    assert store.provider_batches.tasks(batch.id) == []
    store.batch_results.collect(batch.id, ends[:1], NOW + 200)
    assert store.reports.summary("b").tasks.cost_nanos == COST
    store.provider_batches.ended(batch.id, [], NOW + 201)
    (freed,) = store.batch_results.collected(batch.id, NOW + 202)
    assert freed.reserved_nanos == RESERVED
    assert counted(store) == {"cancelled": 3}


@pytest.mark.parametrize("pulled", [False, True], ids=["that waits", "that has gone on"])
def test_a_row_whose_result_is_lost_runs_again_and_may_have_cost_all_that_was_reserved(
    store: Store, pulled: bool
) -> None:
    deferring(store, a_task(deadline_at=DUE))
    batch = submitted(store)
    if pulled:
        store.batch_results.pull(batch.id, NOW + 10)
    lost = RowEnd(1, a_call(outcome=Outcome.UNCERTAIN, cost_nanos=RESERVED))
    (settled,) = store.batch_results.collect(batch.id, [lost], NOW + 20).settled
    assert (settled.cost_nanos, settled.is_uncertain) == (RESERVED, True)
    assert counted(store) == {"queued": 1}
    calls = store.reports.summary("b").calls
    assert (calls.cost_nanos, calls.uncertain_nanos) == (0, RESERVED)


def test_a_pulled_task_may_go_into_another_batch(store: Store) -> None:
    deferring(store, a_task(deadline_at=DUE))
    first = submitted(store)
    late = answers(store, first.id)
    store.batch_results.pull(first.id, NOW + 10)
    store.admin.cancel("b", now=NOW + 11)
    store.admin.retry("b", ["t1"], now=NOW + 12)
    second = submitted(store, marker="marker02")
    store.batch_results.collect(first.id, late, NOW + 20)
    assert counted(store) == {"batched": 1}
    store.batch_results.collect(second.id, answers(store, second.id), NOW + 30)
    assert counted(store) == {"succeeded": 1}
    assert store.reports.summary("b").tasks.cost_nanos == 2 * COST


def test_orchestrators_come_and_go_without_touching_a_batch(store: Store) -> None:
    deferring(store, *tasks(2, deadline_at=DUE))
    register(store, "first")
    batch = submitted(store)
    assert register(store, "second", now=NOW + 60).recovered == 0
    store.orchestrators.retire("second", now=NOW + 70)
    assert counted(store) == {"batched": 2}
    assert store.provider_batches.open() == [batch]


def test_pages_find_tasks_by_their_batch_status(store: Store) -> None:
    deferring(store, *tasks(3, deadline_at=DUE))
    intended(store, limit=1)
    for status, expected in ((TaskStatus.BATCHED, ["t0000"]), (TaskStatus.DEFERRED, ["t0002", "t0001"])):
        page = store.tasks.page(10, TaskSelection([status], batch="b"))
        assert ids(page.rows) == expected
        assert all(row.finished_at is None for row in page.rows)
    assert store.batches.with_open_tasks()[0].open_tasks == 3


def test_what_is_deferred_or_batched_is_never_purged(store: Store) -> None:
    deferring(store, *tasks(2, deadline_at=DUE))
    intended(store, limit=1)
    assert store.contents.purge(NOW + 10 * DAY_S) == 0
    assert store.reports.open_tasks(10)[0] == 1  # of the other one nothing is left to pay


def test_a_message_with_parts_is_deferred_too(store: Store) -> None:
    task = Task("t", "b", (Message("system", "short"), Message("user", "hello")), deadline_at=DUE)
    deferring(store, task)
    (group,) = store.deferrals.groups()
    assert group.text_chars == len("shorthello")
