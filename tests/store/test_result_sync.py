"""Which rows of a results file are stale, and which are missing."""

from __future__ import annotations

import dataclasses

from src.core.store import AddReport, Store
from src.records import TaskStatus

from .makers import NOW, a_result, a_task, an_attempt, ids, register, tasks, with_claims


def test_a_retried_task_is_stale_until_its_mark_is_forgotten(store: Store) -> None:
    store.intake.create_batch("b", now=NOW, output_path="out.jsonl")
    first, second, _ = with_claims(store, *tasks(3))
    store.queue.finish("me", [a_result(first), a_result(second, status=TaskStatus.FAILED)])
    assert store.result_sync.stale("b") == {}
    store.admin.retry_ended("b", [TaskStatus.FAILED], now=NOW)
    assert store.result_sync.stale("b") == {second.row: second.id}
    (again,) = store.queue.claim("me", 9, now=NOW)
    store.queue.finish("me", [a_result(again, an_attempt(started_at=NOW + 9))])
    assert store.result_sync.stale("b") == {second.row: second.id}, "its old row may still be in the file"
    store.admin.retry("b", [first.id], now=NOW)
    store.result_sync.forget_stale("b", [second.row])
    assert store.result_sync.stale("b") == {first.row: first.id}


def test_new_content_makes_only_an_existing_row_stale(store: Store) -> None:
    store.intake.create_batch("b", now=NOW, output_path="out.jsonl")
    done, waiting = tasks(2)
    store.intake.add_tasks([done, waiting], now=NOW)
    register(store)
    store.queue.finish("me", [a_result(task) for task in store.queue.claim("me", 1, now=NOW)])
    changed = [dataclasses.replace(task, max_tokens=1) for task in (done, waiting)]
    store.intake.add_tasks(changed, now=NOW, rerun_changed=True)
    assert list(store.result_sync.stale("b").values()) == [done.id]


def test_a_batch_without_a_file_has_no_stale_rows(store: Store) -> None:
    for batch, output in (("queue", ""), ("stdout", "-")):
        store.intake.create_batch(batch, now=NOW, output_path=output)
        store.intake.add_tasks([a_task(batch=batch)], now=NOW)
        store.admin.cancel(batch, now=NOW)
        assert store.admin.retry_ended(batch, [TaskStatus.CANCELLED], now=NOW) == 1
        assert store.result_sync.stale(batch) == {}


def test_ended_tasks_are_listed_in_the_order_of_the_file(store: Store) -> None:
    store.intake.add_tasks([*tasks(4_100), a_task("x", "other")], now=NOW)
    store.admin.cancel("b", [task.id for task in tasks(4_100) if task.id != "t0001"], now=NOW)
    ended = list(store.result_sync.ended("b"))
    assert [task_id for _, task_id in ended] == [t.id for t in tasks(4_100) if t.id != "t0001"]
    before, first, second = (row for row, _ in ended[0:3])
    assert ids(stored.result.task for stored in store.result_sync.results_at([second, first])) == [
        "t0002",
        "t0003",
    ]
    assert store.result_sync.results_at([before + 1]) == [], "it is still open"


def test_a_preview_reports_new_and_changed_tasks_and_those_that_would_run(store: Store) -> None:
    done, cut, changed, waiting, new = tasks(5)
    assert store.intake.preview([done]) == (AddReport(added=1), [done], frozenset()), (
        "not even the batch is there"
    )
    store.intake.add_tasks([done, cut, changed], now=NOW)
    register(store)
    for task in store.queue.claim("me", 9, now=NOW):
        store.queue.finish("me", [a_result(task, truncated=task.id == cut.id)])
    store.intake.add_tasks([waiting], now=NOW)
    other = dataclasses.replace(changed, max_tokens=1)
    file = [done, cut, other, waiting, new]
    report, to_run, truncated = store.intake.preview(file)
    assert (report.added, report.existing, report.changed) == (1, 3, (changed.id,))
    assert to_run == [waiting, new]
    assert truncated == frozenset()
    assert store.intake.preview(file, truncated=True)[1:] == ([cut, waiting, new], {cut.id})
    assert store.intake.preview(file, changed=True)[1] == [other, waiting, new]
    assert store.intake.preview(file, statuses=[TaskStatus.SUCCEEDED])[1] == file
    assert store.reports.task_counts("b")[TaskStatus.QUEUED] == 1


def test_a_retried_expired_task_has_as_much_time_as_at_first(store: Store) -> None:
    store.intake.add_tasks([a_task(deadline_at=NOW + 60)], now=NOW)
    register(store)
    for claimed_at in (NOW, NOW + 1000, NOW + 5000):
        (task,) = store.queue.claim("me", 1, now=claimed_at)
        assert task.deadline_at == claimed_at + 60
        store.queue.finish("me", [a_result(task, status=TaskStatus.EXPIRED, output=None)])
        store.admin.retry_ended(
            "b", [TaskStatus.EXPIRED], now=claimed_at + (1000 if claimed_at == NOW else 4000)
        )


def test_claims_of_the_dead_are_queued_again_before_a_registration(store: Store) -> None:
    task, _ = with_claims(store, *tasks(2))
    assert store.orchestrators.release_dead("me", NOW + 1) == 0, "it is alive"
    assert store.orchestrators.release_dead("next", NOW + 60) == 2
    assert store.queue.finish("me", [a_result(task)]) == []
    register(store, "next", now=NOW + 60)
    assert {again.claims for again in store.queue.claim("next", 9, now=NOW + 60)} == {2}
