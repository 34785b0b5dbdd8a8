"""Purge prompts and answers, and put prompts back."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.core.store import Store
from src.core.store.contents import STEP
from src.core.store.loading import PURGED
from src.errors import StoreError
from src.records import Event, TaskStatus

from .makers import NOW, a_result, a_task, an_attempt, register, tasks, with_claims


def content_of(store: Store, task_id: str, batch: str = "b") -> tuple[object, ...]:
    """Messages, output and preview of a task."""
    detail = store.tasks.find(batch, task_id)
    assert detail is not None
    return detail.task.messages, detail.result and detail.result.output, detail.row.preview


def test_purged_contents_are_deleted_and_the_accounting_stays(store: Store) -> None:
    old, new = with_claims(store, *tasks(2))
    store.queue.finish("me", [a_result(old)])
    store.admin.retry("b", [old.id], now=NOW)
    store.queue.release("me", [new], now=NOW)
    store.queue.claim("me", 1, now=NOW)
    store.queue.finish("me", [a_result(old, an_attempt(started_at=NOW + 9))])
    before = store.reports.summary("b"), store.reports.usage(0, NOW + 1_000, ("provider", "minute"))

    assert store.contents.purgeable(NOW + 100) == {"b": 1}
    assert store.contents.purge(NOW + 100) == 1
    assert store.contents.purge(NOW + 100) == 0
    assert store.contents.purgeable(NOW + 100) == {}

    after = store.reports.summary("b"), store.reports.usage(0, NOW + 1_000, ("provider", "minute"))
    assert after == before
    assert content_of(store, old.id) == ((), None, "")
    detail = store.tasks.find("b", old.id)
    assert detail is not None and detail.is_purged and detail.result is not None
    assert detail.result.warnings == (PURGED,)
    assert len(detail.attempts) == 2
    other = store.tasks.find("b", new.id)
    assert other is not None and not other.is_purged


def test_open_tasks_and_newer_ones_keep_their_contents(store: Store) -> None:
    store.intake.add_tasks([a_task("cancelled"), a_task("late"), a_task("open")], now=NOW)
    store.admin.cancel("b", ["cancelled"], now=NOW)
    store.admin.cancel("b", ["late"], now=NOW + 100)
    register(store)
    store.queue.claim("me", 1, now=NOW)
    assert store.contents.purge(NOW + 50) == 1
    assert content_of(store, "cancelled")[0] == ()
    assert content_of(store, "late")[0] and content_of(store, "open")[0]


def test_a_purge_of_a_batch_leaves_the_others(store: Store) -> None:
    store.intake.add_tasks([*tasks(3), *tasks(2, "other")], now=NOW)
    for batch in ("b", "other"):
        store.admin.cancel(batch, now=NOW)
    assert store.contents.purgeable(NOW + 1) == {"b": 3, "other": 2}
    assert store.contents.purgeable(NOW + 1, "other") == {"other": 2}
    assert store.contents.purge(NOW + 1, "other") == 2
    assert store.contents.purgeable(NOW + 1) == {"b": 3}
    for call in (store.contents.purge, store.contents.purgeable):
        with pytest.raises(StoreError, match="no batch"):
            call(NOW + 1, "unknown")


def test_a_step_looks_at_a_bounded_number_of_tasks(store: Store) -> None:
    store.intake.add_tasks([*tasks(2 * STEP), a_task("open", "other")], now=NOW)
    store.admin.cancel("b", now=NOW)
    first = store.contents.purge_step(NOW + 1)
    assert first.purged == STEP and first.after is not None
    second = store.contents.purge_step(NOW + 1, first.after)
    assert second.purged == STEP and second.after is not None
    assert store.contents.purge_step(NOW + 1, second.after) == (0, None)
    assert content_of(store, "open", "other")[0], "an open task keeps its prompt"


def test_an_answer_that_equal_tasks_wait_for_stays(store: Store) -> None:
    """A duplicate whose primary has ended, and that is not settled yet, gets the answer all the same."""
    (first,) = with_claims(store, a_task("first", prompt="same"))
    store.queue.finish("me", [a_result(first)])
    store.intake.add_tasks([a_task("second", prompt="same")], now=NOW, once=False)
    store.intake.add_tasks(
        [a_task("first", prompt="same"), a_task("second", prompt="same")], now=NOW, once=True
    )
    assert store.contents.purge(NOW + 1_000) == 0
    (settled,) = store.deduplication.settle("b")
    assert settled.output == "answer to first"
    assert store.contents.purge(NOW + 1_000) == 2


def test_a_purged_task_is_known_by_its_content(store: Store) -> None:
    (task,) = with_claims(store, a_task("t", prompt="first"))
    store.queue.finish("me", [a_result(task)])
    store.contents.purge(NOW + 100)
    again = store.intake.add_tasks([a_task("t", prompt="first")], now=NOW)
    assert (again.existing, again.added) == (1, 0)
    changed = store.intake.add_tasks([a_task("t", prompt="second")], now=NOW)
    assert changed.changed == ("t",)
    assert store.admin.retry("b", ["t"], now=NOW) == 0, "there is nothing left to ask"


def test_a_purged_task_runs_again_with_its_prompt_put_back(store: Store) -> None:
    done, other = with_claims(store, a_task("failed"), a_task("changed"))
    store.queue.finish("me", [a_result(task, status=TaskStatus.FAILED) for task in (done, other)])
    assert not store.contents.has_purged("b", [TaskStatus.FAILED])
    store.contents.purge(NOW + 100)
    assert store.contents.has_purged("b", [TaskStatus.FAILED])
    assert not store.contents.has_purged("b", [TaskStatus.REFUSED])
    given = [a_task("failed"), a_task("changed", prompt="new"), a_task("unknown")]
    assert store.contents.restore(given) == 1
    assert store.contents.restore(given) == 0
    assert store.admin.retry_ended("b", [TaskStatus.FAILED], now=NOW) == 1
    assert content_of(store, "failed")[0] == a_task("failed").messages


def test_new_content_replaces_purged_content(store: Store) -> None:
    (task,) = with_claims(store, a_task("t", prompt="first"))
    store.queue.finish("me", [a_result(task)])
    store.contents.purge(NOW + 100)
    assert store.intake.add_tasks([a_task("t", prompt="second")], now=NOW, rerun_changed=True).replaced == 1
    assert content_of(store, "t")[0] == a_task("t", prompt="second").messages


def test_old_events_are_deleted(store: Store) -> None:
    store.events.add([Event(NOW, "start", "old"), Event(NOW + 500, "start", "new")])
    assert store.contents.purge_events(NOW + 100) == 1
    assert [row.event.message for row in store.events.recent()] == ["new"]


def test_the_file_becomes_smaller(store: Store, path: Path) -> None:
    store.intake.add_tasks([a_task(f"t{i}", prompt="word " * 2_000) for i in range(300)], now=NOW)
    store.admin.cancel("b", now=NOW)
    store.contents.purge(NOW + 1)
    freed = store.contents.compact()
    if store.database.is_sqlite:
        assert freed > 2_000_000
        assert path.stat().st_size < 1_000_000
    else:
        assert freed == 0
    assert store.reports.task_counts("b")[TaskStatus.CANCELLED] == 300
