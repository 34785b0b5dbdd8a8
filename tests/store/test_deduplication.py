"""Equal tasks of a batch run once, and each of them ends."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from src.core.store import DEFERS, NewBatch, PlannedRow, RowEnd, Store, schema
from src.core.store.deduplication import DUPLICATES_AT_ONCE
from src.records import Origin, Outcome, Task, TaskStatus

from .makers import (
    NOW,
    a_result,
    a_task,
    an_attempt,
    assert_sums_are_true,
    ids,
    register,
    results_of,
    rows_of,
)


def same(*names: str, **values: Any) -> list[Task]:
    return [a_task(name, prompt="the same", **values) for name in names]


def added(store: Store, *tasks: Task, **options: Any) -> Any:
    return store.intake.add_tasks(tasks, now=NOW, once=True, **options)


def claimed(store: Store, name: str = "me", limit: int = 1000) -> list[Task]:
    if name not in {row.incarnation for row in store.orchestrators.newest()}:
        register(store, name)
    return store.queue.claim(name, limit, now=NOW)


def statuses(store: Store, *names: str) -> list[TaskStatus]:
    found = store.tasks.statuses("b", names)
    return [found[name] for name in names]


def test_equal_tasks_are_claimed_once_and_all_get_the_answer(store: Store) -> None:
    assert added(store, *same("a", "b", "c"), a_task("other")).duplicates == 2
    leader, other = claimed(store)
    assert ids([leader, other]) == ["a", "other"]
    written = store.queue.finish("me", [a_result(leader, output="yes", truncated=True, warnings=("w",))])
    assert [result.task.id for result in written] == ["a", "b", "c"]
    origin = Origin("a", "openai", "gpt-x", "gpt-engineer")
    for result in written[1:]:
        assert (result.output, result.truncated, result.warnings) == ("yes", True, ("w",))
        assert (result.origin, result.attempts, result.cost_nanos) == (origin, (), 0)
    assert [stored.result for stored in results_of(store)][1:] == written[1:]
    assert store.reports.summary("b").cost_nanos == 1000, "what it cost is counted once"
    assert store.reports.summary("b").tasks.succeeded == 3


def test_each_task_keeps_its_own_metadata(store: Store) -> None:
    added(store, *same("a", metadata={"row": 1}), *same("b", metadata={"row": 2}))
    (leader,) = claimed(store)
    _, duplicate = store.queue.finish("me", [a_result(leader)])
    assert duplicate.task.metadata == {"row": 2}


@pytest.mark.parametrize(
    ("changes", "follows"),
    [
        ({}, True),
        ({"temperature": 0.0}, False),  # it says another thing than nothing
        ({"temperature": 0.5}, False),
        ({"top_p": 0.5}, False),
        ({"seed": 1}, False),
        ({"task_type": "research"}, False),
        ({"tier": "premium"}, False),
        ({"models": ("m",)}, False),
        ({"max_tokens": 5}, False),
        ({"batch": "another"}, False),
        ({"deadline_at": NOW + 60}, False),
        ({"priority": 1}, False),  # it would wait longer than it has to
        ({"priority": -1}, True),
        ({"line": 7}, True),
    ],
    ids=lambda value: next(iter(value), "nothing") if isinstance(value, dict) else None,
)
def test_only_an_equal_task_becomes_a_duplicate(store: Store, changes: dict[str, Any], follows: bool) -> None:
    added(store, *same("a"))
    assert added(store, a_task("b", **({"prompt": "the same"} | changes))).duplicates == follows


@pytest.mark.parametrize(
    ("deadline_at", "follows"), [(NOW + 60, True), (NOW + 61, False), (None, False)], ids=repr
)
def test_tasks_with_one_deadline_run_once(store: Store, deadline_at: float | None, follows: bool) -> None:
    added(store, *same("a", deadline_at=NOW + 60))
    assert added(store, *same("b", deadline_at=deadline_at)).duplicates == follows


def test_an_answer_that_is_there_serves_any_deadline(store: Store) -> None:
    added(store, *same("a"))
    store.queue.finish("me", [a_result(task) for task in claimed(store)])
    assert added(store, *same("b", deadline_at=NOW + 60)).duplicates == 1


def test_duplicates_are_queued_while_their_primary_is_deferred_or_in_a_batch(store: Store) -> None:
    store.intake.create_batch("b", now=NOW, options={DEFERS: 86_400.0})
    due = same("a", "b", "c", deadline_at=NOW + 86_400)
    assert added(store, *due).duplicates == 2
    assert statuses(store, "a", "b", "c") == [TaskStatus.DEFERRED, TaskStatus.QUEUED, TaskStatus.QUEUED]
    assert claimed(store) == []
    (group,) = store.deferrals.groups()
    rows = [PlannedRow(task, 0, 100, "economy") for task in store.deferrals.oldest(group.id, 9)]
    batch = store.provider_batches.intend(NewBatch("openai", "gpt-x", "marker01"), rows, NOW)
    assert batch is not None and batch.rows == 1
    assert store.deduplication.settle() == []
    store.provider_batches.creating(batch.id, NOW)
    store.provider_batches.submitted(batch.id, "batch_1", [], NOW)
    ends = [RowEnd(1, an_attempt(), a_result(rows[0].task))]
    collected = store.batch_results.collect(batch.id, ends, NOW)
    assert [result.task.id for result in collected.results] == ["a", "b", "c"]
    assert statuses(store, "a", "b", "c") == [TaskStatus.SUCCEEDED] * 3


@pytest.mark.parametrize("batched", [False, True], ids=["deferred", "in a batch"])
def test_the_duplicate_of_a_cancelled_task_may_wait_for_a_batch_as_that_did(
    store: Store, batched: bool
) -> None:
    store.intake.create_batch("b", now=NOW, options={DEFERS: 86_400.0})
    added(store, *same("a", "b", "c", deadline_at=NOW + 86_400))
    if batched:
        (group,) = store.deferrals.groups()
        rows = [PlannedRow(task, 0, 100, "economy") for task in store.deferrals.oldest(group.id, 9)]
        assert store.provider_batches.intend(NewBatch("openai", "gpt-x", "marker01"), rows, NOW)
    store.admin.cancel("b", ["a"], now=NOW + 1)
    assert statuses(store, "a", "b", "c") == [TaskStatus.CANCELLED, TaskStatus.DEFERRED, TaskStatus.QUEUED]
    (group,) = store.deferrals.groups()
    assert [task.id for task in store.deferrals.oldest(group.id, 9)] == ["b"]
    assert claimed(store) == []


@pytest.mark.parametrize(("temperature", "follows"), [(None, True), (0.0, True), (0.7, False)])
def test_tasks_with_a_temperature_run_each_time(
    store: Store, temperature: float | None, follows: bool
) -> None:
    assert added(store, *same("a", "b", temperature=temperature)).duplicates == follows


def test_without_deduplication_equal_tasks_all_run(store: Store) -> None:
    store.intake.add_tasks(same("a", "b"), now=NOW)
    assert len(claimed(store)) == 2


def test_adding_again_with_deduplication_links_tasks_that_still_wait(store: Store) -> None:
    store.intake.add_tasks(same("a", "b", "c"), now=NOW)
    (first,) = claimed(store, limit=1)
    assert added(store, *same("a", "b", "c", "d")).duplicates == 3
    assert claimed(store) == []
    assert len(store.queue.finish("me", [a_result(first)])) == 4
    assert added(store, *same("a", "b", "c", "d")).duplicates == 0
    assert statuses(store, "a", "b", "c", "d") == [TaskStatus.SUCCEEDED] * 4


def test_a_task_equal_to_an_answered_one_needs_no_call(store: Store) -> None:
    added(store, *same("a"))
    store.queue.finish("me", [a_result(task) for task in claimed(store)])
    assert added(store, *same("late")).duplicates == 1
    assert claimed(store) == []
    store.intake.create_batch("other", now=NOW)
    assert store.deduplication.settle("other") == []
    assert [result.task.id for result in store.deduplication.settle("b")] == ["late"]


@pytest.mark.parametrize("end", [TaskStatus.FAILED, TaskStatus.REFUSED, TaskStatus.EXPIRED])
def test_duplicates_end_as_their_primary_did(store: Store, end: TaskStatus) -> None:
    added(store, *same("a", "b"))
    (leader,) = claimed(store)
    failed = a_result(leader, status=end, output=None, error="each provider refused")
    duplicate = store.queue.finish("me", [failed])[1]
    assert (duplicate.status, duplicate.error, duplicate.output) == (end, "each provider refused", None)


def test_a_task_equal_to_one_that_failed_earlier_runs(store: Store) -> None:
    added(store, *same("a"))
    store.queue.finish("me", [a_result(task, status=TaskStatus.FAILED) for task in claimed(store)])
    assert added(store, *same("b", "c")).duplicates == 1
    assert ids(claimed(store)) == ["b"]


def test_a_task_equal_to_one_whose_answer_was_purged_runs(store: Store) -> None:
    added(store, *same("a"))
    store.queue.finish("me", [a_result(task) for task in claimed(store)])
    assert store.contents.purge(NOW + 1_000) == 1
    assert added(store, *same("b", "c")).duplicates == 1
    assert ids(claimed(store)) == ["b"]


@pytest.mark.parametrize("running", [False, True], ids=["while it waits", "while it runs"])
def test_the_duplicates_of_a_cancelled_primary_run_once(store: Store, running: bool) -> None:
    added(store, *same("a", "b", "c"))
    if running:
        (leader,) = claimed(store)
        assert (
            len(store.queue.finish("me", [a_result(leader, status=TaskStatus.CANCELLED, output=None)])) == 1
        )
    else:
        store.admin.cancel("b", ["a"], now=NOW)
    (next_leader,) = claimed(store)
    assert next_leader.id == "b"
    assert len(store.queue.finish("me", [a_result(next_leader)])) == 2
    assert statuses(store, "a", "b", "c") == [
        TaskStatus.CANCELLED,
        TaskStatus.SUCCEEDED,
        TaskStatus.SUCCEEDED,
    ]


def test_a_cancelled_batch_leaves_no_task_open(store: Store) -> None:
    added(store, *same(*(f"t{n}" for n in range(1200))))
    assert store.admin.cancel("b", now=NOW) == 1200
    assert claimed(store) == [] and store.deduplication.settle() == []


def test_new_content_detaches_a_primary_from_its_duplicates(store: Store) -> None:
    added(store, *same("a", "b", "c"))
    added(store, a_task("a", prompt="something else"), rerun_changed=True)
    assert ids(claimed(store)) == ["a", "b"]


def test_new_content_detaches_a_duplicate_from_its_primary(store: Store) -> None:
    added(store, *same("a", "b"))
    (leader,) = claimed(store)
    added(store, a_task("b", prompt="something else"), rerun_changed=True)
    assert ids(claimed(store)) == ["b"]
    assert len(store.queue.finish("me", [a_result(leader)])) == 1


def test_retried_together_equal_tasks_run_once(store: Store) -> None:
    added(store, *same("a", "b"))
    store.queue.finish("me", [a_result(task, status=TaskStatus.FAILED) for task in claimed(store)])
    store.admin.retry_ended("b", [TaskStatus.FAILED], now=NOW)
    (leader,) = claimed(store)
    assert len(store.queue.finish("me", [a_result(leader, an_attempt(1, started_at=NOW + 50))])) == 2


def test_a_duplicate_retried_alone_runs_itself(store: Store) -> None:
    added(store, *same("a", "b"))
    store.queue.finish("me", [a_result(task) for task in claimed(store)])
    store.admin.retry("b", ["b"], now=NOW)
    (again,) = claimed(store)
    (result,) = store.queue.finish("me", [a_result(again, output="mine")])
    assert (again.id, result.output, result.origin) == ("b", "mine", None)


def test_more_duplicates_than_one_transaction_takes_end_in_parts(store: Store) -> None:
    added(store, *same(*(f"t{n}" for n in range(2 * DUPLICATES_AT_ONCE + 3))))
    (leader,) = claimed(store)
    ended = [len(store.queue.finish("me", [a_result(leader)])) - 1]
    while more := store.deduplication.settle():
        ended.append(len(more))
    assert ended == [DUPLICATES_AT_ONCE, DUPLICATES_AT_ONCE, 2]


def test_duplicates_of_a_poisoned_task_fail_with_it(store: Store) -> None:
    added(store, *same("a", "b"))
    for number in range(4):
        assert len(claimed(store, f"o{number}")) == 1
        register(store, f"o{number + 1}", now=NOW + 60 * (number + 1), max_claims=4)
    (duplicate,) = store.deduplication.settle()
    assert duplicate.status is TaskStatus.FAILED and "poison" in duplicate.error


# ------------------------------------------------------------------ in whatever order

IDS = [f"t{i}" for i in range(9)]
FINAL = [s for s in TaskStatus if s.is_final]
some_ids = st.sets(st.sampled_from(IDS), min_size=1, max_size=5)
prompts = st.sampled_from(["one", "two"])


class DeduplicationMachine(RuleBasedStateMachine):
    """Whatever is done to tasks of few contents: in the end each of them has ended."""

    template: Path

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "simulated.db"
        shutil.copy(self.template, path)
        self.store = Store.open(path, simulated=True)
        self.store.intake.create_batch("b", now=NOW, output_path="out.jsonl")
        self.claimed: dict[str, Task] = {}
        self.lives = 0
        self.die()

    @rule(ids=some_ids, prompt=prompts, once=st.booleans(), rerun=st.booleans())
    def add(self, ids: set[str], prompt: str, once: bool, rerun: bool) -> None:
        tasks = [a_task(id, prompt=prompt) for id in sorted(ids)]
        self.store.intake.add_tasks(tasks, now=NOW, once=once, rerun_changed=rerun)

    @rule(limit=st.integers(1, 4))
    def claim(self, limit: int) -> None:
        for task in self.store.queue.claim(self.me, limit, now=NOW):
            self.claimed[task.id] = task

    @rule(ids=some_ids, status=st.sampled_from(FINAL))
    def finish(self, ids: set[str], status: TaskStatus) -> None:
        mine = [self.claimed.pop(id) for id in sorted(ids & self.claimed.keys())]
        self.store.queue.finish(self.me, [a_result(task, status=status) for task in mine])

    @rule(ids=some_ids)
    def cancel(self, ids: set[str]) -> None:
        self.store.admin.cancel("b", ids, now=NOW)

    @rule(ids=some_ids, statuses=st.sets(st.sampled_from(FINAL), max_size=2))
    def retry(self, ids: set[str], statuses: set[TaskStatus]) -> None:
        self.store.admin.retry("b", ids, now=NOW)
        self.store.admin.retry_ended("b", statuses, now=NOW)

    @rule()
    def die(self) -> None:
        self.lives += 1
        self.me = f"o{self.lives}"
        register(self.store, self.me, now=NOW + 60 * self.lives, max_claims=3)
        self.claimed = {}

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        self.finish(set(IDS), TaskStatus.SUCCEEDED)
        self.die()
        while True:
            tasks = self.store.queue.claim(self.me, 100, now=NOW)
            self.store.queue.finish(self.me, [a_result(task) for task in tasks])
            if not tasks and not self.store.deduplication.settle() and not self.store.queue.poll().queued:
                break
        counts = self.store.reports.task_counts("b")
        assert counts[TaskStatus.QUEUED] == counts[TaskStatus.RUNNING] == 0
        assert all(row.output for row in rows_of(self.store, schema.answers))
        assert_sums_are_true(self.store)
        self.store.close()
        self.folder.cleanup()


def test_every_task_ends_whatever_happens(empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeduplicationMachine, "template", empty_database, raising=False)
    run_state_machine_as_test(
        DeduplicationMachine,
        settings=settings(
            max_examples=25,
            stateful_step_count=20,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


def test_a_duplicate_keeps_its_earlier_attempts(store: Store) -> None:
    """It was asked itself, got new content, and follows now: its cost is its own, its answer is not."""
    store.intake.add_tasks([a_task("a", prompt="the same"), a_task("b", prompt="old")], now=NOW)
    leader, other = claimed(store)
    store.queue.finish("me", [a_result(other, an_attempt(1, Outcome.OK, cost_nanos=7))])
    added(store, *same("a", "b"), rerun_changed=True)
    duplicate = store.queue.finish("me", [a_result(leader)])[1]
    assert duplicate.cost_nanos == 7 and duplicate.origin is not None and len(duplicate.attempts) == 1
    assert duplicate.answered_by is duplicate.origin
