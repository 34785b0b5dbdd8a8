"""Each task is added once, however often it is submitted."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from src.core.store import AddReport, Store
from src.errors import StoreError
from src.messages import Message
from src.records import Task, TaskStatus

from .makers import NOW, a_result, a_task, ids, register, results_of, tasks, with_claims

EVERYTHING = Task(
    id="full",
    batch="b",
    messages=(Message("system", "be brief"), Message("user", "héllo \u2028 wörld")),
    task_type="analysis",
    tier="premium",
    max_tokens=77,
    temperature=0.25,
    top_p=0.5,
    seed=-7,
    stop=("END",),
    models=("gpt-x",),
    providers=("openai", "gemini"),
    deadline_at=NOW + 60,
    priority=3,
    metadata={"row": {"a": [1, None, "ü"]}},
    line=12,
    submitter="alice",
    response_schema={"type": "object"},
)


def test_a_task_is_read_as_it_was_added(store: Store) -> None:
    (claimed,) = with_claims(store, EVERYTHING)
    assert claimed == dataclasses.replace(EVERYTHING, created_at=NOW, claims=1, row=claimed.row)
    assert claimed.row > 0


def test_adding_tasks_again_adds_nothing(store: Store) -> None:
    assert store.intake.add_tasks(tasks(3), now=NOW) == AddReport(added=3)
    assert store.intake.add_tasks(tasks(4), now=NOW + 9) == AddReport(added=1, existing=3)
    assert store.reports.task_counts("b")[TaskStatus.QUEUED] == 4


def test_the_same_id_in_another_batch_is_another_task(store: Store) -> None:
    report = store.intake.add_tasks([a_task(batch="b"), a_task(batch="c")], now=NOW)
    assert report.added == 2


def test_an_id_added_twice_at_once_counts_once(store: Store) -> None:
    report = store.intake.add_tasks([a_task(), a_task(), a_task(prompt="other")], now=NOW)
    assert report == AddReport(added=1, existing=1, changed=("t1",), changed_count=1)


@pytest.mark.parametrize(
    ("changes", "is_new_content"),
    [
        ({"messages": (Message("user", "other"),)}, True),
        ({"messages": (Message("system", "prompt of t1"),)}, True),
        ({"task_type": "research"}, True),
        ({"tier": "premium"}, True),
        ({"max_tokens": 5}, True),
        ({"temperature": 0.0}, True),
        ({"top_p": 1.0}, True),
        ({"seed": 0}, True),
        ({"stop": ("x",)}, True),
        ({"models": ("m",)}, True),
        ({"providers": ("openai",)}, True),
        ({"response_schema": {}}, True),
        ({"metadata": {"x": 1}}, False),
        ({"line": 7}, False),
        ({"priority": 9}, False),
        ({"deadline_at": NOW}, False),
        ({"submitter": "bob"}, False),
        ({"created_at": 5.0}, False),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_content_is_every_field_that_decides_the_answer(
    store: Store, changes: dict[str, Any], is_new_content: bool
) -> None:
    store.intake.add_tasks([a_task()], now=NOW)
    report = store.intake.add_tasks([dataclasses.replace(a_task(), **changes)], now=NOW)
    assert report.changed_count == is_new_content
    assert report.existing == (not is_new_content)


def test_changed_tasks_are_counted_and_the_first_are_named(store: Store) -> None:
    store.intake.add_tasks(tasks(30), now=NOW)
    changed = [dataclasses.replace(task, max_tokens=1) for task in tasks(30)]
    report = store.intake.add_tasks(changed, now=NOW)
    assert report.changed_count == 30
    assert list(report.changed) == ids(tasks(20))
    assert all(task.max_tokens is None for task in with_claims(store))


def test_rerun_changed_gives_new_content_to_all_but_running_tasks(store: Store) -> None:
    queued, running, done, same = tasks(4)
    for priority, task in enumerate((queued, same, running, done)):
        store.intake.add_tasks([dataclasses.replace(task, priority=priority)], now=NOW)
    register(store)
    finished, _ = store.queue.claim("me", 2, now=NOW)
    store.queue.finish("me", [a_result(finished)])

    new = [dataclasses.replace(task, max_tokens=9) for task in (queued, running, done)]
    report = store.intake.add_tasks([*new, same], now=NOW, rerun_changed=True)

    assert report == AddReport(0, 1, (running.id,), 1, replaced=2)
    claimed = {task.id: task for task in store.queue.claim("me", 9, now=NOW)}
    assert {id: task.max_tokens for id, task in claimed.items()} == {queued.id: 9, done.id: 9, same.id: None}
    assert results_of(store) == []


def test_many_tasks_are_read_a_chunk_at_a_time(store: Store) -> None:
    read = 0

    def endless() -> Iterator[Task]:
        nonlocal read
        for task in tasks(1200):
            read += 1
            if read > 1100:
                raise RuntimeError("the file broke off")
            yield task

    with pytest.raises(RuntimeError):
        store.intake.add_tasks(endless(), now=NOW)
    assert store.reports.task_counts()[TaskStatus.QUEUED] == 1000  # whole chunks are kept


def test_a_batch_keeps_what_it_was_created_with(store: Store) -> None:
    store.intake.create_batch("b", now=NOW, source="in.jsonl", output_path="out.jsonl", options={"n": 1})
    store.intake.create_batch("b", now=NOW + 5, source="other")
    store.intake.add_tasks([a_task()], now=NOW)
    batch = store.reports.batch("b")
    assert batch is not None
    assert (batch.source, batch.output_path, batch.options) == ("in.jsonl", "out.jsonl", {"n": 1})
    assert (batch.created_at, batch.total, batch.counts[TaskStatus.QUEUED]) == (NOW, 1, 1)


def test_batches_are_listed_newest_first_and_missing_ones_are_none(store: Store) -> None:
    for name in ("one", "two"):
        store.intake.create_batch(name, now=NOW)
    assert [batch.name for batch in store.reports.batches()] == ["two", "one"]
    assert store.reports.batch("three") is None
    with pytest.raises(StoreError, match="no batch 'three'"):
        store.reports.task_counts("three")


def test_queued_tasks_get_new_content_and_the_others_keep_theirs(store: Store) -> None:
    """And from then on none of them has changed."""
    register(store, "me")
    store.intake.add_tasks(tasks(4), now=NOW)
    done, running = store.queue.claim("me", 2, now=NOW)
    store.queue.finish("me", [a_result(done)])
    new = [dataclasses.replace(task, max_tokens=9) for task in tasks(4)]
    report = store.intake.add_tasks(new, now=NOW, update_queued=True)
    assert (report.replaced, report.changed_count, report.added) == (2, 2, 0)
    assert store.intake.add_tasks(new, now=NOW) == AddReport(existing=4)
    limits = {task.id: task.max_tokens for task in store.reports.open_tasks(10)[1]}
    assert limits == {running.id: None} | {task.id: 9 for task in new if task.id not in (done.id, running.id)}
    assert store.reports.task_counts("b")[TaskStatus.SUCCEEDED] == 1
