"""Pages of tasks, single tasks, and results."""

from __future__ import annotations

from typing import Any

import pytest

from src.core.store import Store, TaskPage, TaskSelection, selection
from src.core.store import tasks as task_pages
from src.records import TaskStatus

from .makers import NOW, a_result, a_task, an_attempt, ids, register, results_of, tasks, with_claims


def all_pages(store: Store, size: int, **filters: Any) -> list[TaskPage]:
    only = TaskSelection(**filters)
    pages = [store.tasks.page(size, only)]
    while pages[-1].next_before is not None or pages[-1].next_after is not None:
        last = pages[-1]
        pages.append(store.tasks.page(size, only, before=last.next_before, after=last.next_after))
    return pages


def found(store: Store, size: int = 3, **filters: Any) -> list[str]:
    return [row.id for page in all_pages(store, size, **filters) for row in page.rows]


@pytest.fixture
def mixed(store: Store) -> Store:
    """t0000 done by openai, t0001 failed by gemini, t0002 running, t0003.. queued; q1 in another batch."""
    first = [a_task(f"t{i:04}", priority=9 - i, submitter="alice") for i in range(3)]
    store.intake.add_tasks([*first, *tasks(8, task_type="research")], now=NOW)
    store.intake.add_tasks([a_task("q1", "queue", prompt="say  'hi'\n" * 50, line=4)], now=NOW)
    register(store)
    ok, failed, _ = store.queue.claim("me", 3, now=NOW + 5)
    gemini = an_attempt(provider="gemini", model="gem-x", agent="gemini-scout")
    store.queue.finish(
        "me", [a_result(ok), a_result(failed, gemini, status=TaskStatus.FAILED, error="E", output=None)]
    )
    return store


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["q1", "t0007", "t0006", "t0005", "t0004", "t0003", "t0002", "t0001", "t0000"]),
        ({"batch": "queue"}, ["q1"]),
        ({"batch": "unknown"}, []),
        ({"statuses": [TaskStatus.SUCCEEDED]}, ["t0000"]),
        ({"statuses": [TaskStatus.RUNNING]}, ["t0002"]),
        ({"statuses": [TaskStatus.QUEUED], "batch": "b"}, ["t0007", "t0006", "t0005", "t0004", "t0003"]),
        (
            {"statuses": [TaskStatus.FAILED, TaskStatus.RUNNING, TaskStatus.QUEUED], "task_type": "general"},
            ["q1", "t0002", "t0001"],
        ),
        ({"statuses": [TaskStatus.QUEUED], "batch": "queue"}, ["q1"]),
        ({"statuses": [TaskStatus.FAILED], "batch": "queue"}, []),
        ({"task_type": "research"}, ["t0007", "t0006", "t0005", "t0004", "t0003"]),
        ({"task_type": "unknown"}, []),
        ({"submitter": "alice"}, ["t0002", "t0001", "t0000"]),
        ({"provider": "gemini"}, ["t0001"]),
        ({"id_prefix": "t000"}, ["t0007", "t0006", "t0005", "t0004", "t0003", "t0002", "t0001", "t0000"]),
        ({"id_prefix": "%"}, []),
        ({"id_prefix": "t0003"}, ["t0003"]),
        ({"id_prefix": "t0003", "statuses": [TaskStatus.SUCCEEDED]}, []),
        ({"id_prefix": "t0000", "batch": "b", "provider": "openai"}, ["t0000"]),
    ],
    ids=str,
)
def test_pages_have_the_selected_tasks_newest_first(
    mixed: Store, filters: dict[str, Any], expected: list[str]
) -> None:
    for size in (1, 3, 50):
        assert found(mixed, size, **filters) == expected


def test_a_whole_id_is_found_at_once_in_every_batch_however_old(
    mixed: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed.intake.add_tasks([a_task("t0001", batch="later"), a_task("t00010", batch="later")], now=NOW)
    monkeypatch.setattr(task_pages, "SEARCHED", 2)
    page = mixed.tasks.page(10, TaskSelection(id_prefix="t0001"))
    assert [(row.id, row.batch) for row in page.rows] == [
        ("t0001", "later"),
        ("t0001", "b"),
        ("t00010", "later"),
    ]
    assert found(mixed, 10, id_prefix="t0001") == ["t0001", "t0001", "t00010"]


def test_a_search_looks_at_a_bounded_number_of_tasks_per_page(
    mixed: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_pages, "SEARCHED", 2)
    monkeypatch.setattr(selection, "MANY_STREAMS", 0)
    pages = all_pages(mixed, 5, submitter="alice")
    assert [len(page.rows) for page in pages] == [0, 0, 0, 2, 1]


def test_open_tasks_are_passed_over_where_only_ended_ones_can_match(
    mixed: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_pages, "SEARCHED", 1)
    for filters in ({"provider": "openai"}, {"model": "gpt-x"}):
        (page,) = all_pages(mixed, 5, **filters)
        assert [row.id for row in page.rows] == ["t0000"]


@pytest.mark.parametrize("streams", [0, 50])
def test_pages_can_begin_with_the_oldest(mixed: Store, monkeypatch: pytest.MonkeyPatch, streams: int) -> None:
    monkeypatch.setattr(selection, "MANY_STREAMS", streams)
    selections: list[dict[str, Any]] = [
        {},
        {"provider": "gemini"},
        {"submitter": "alice"},
        {"task_type": "research", "statuses": [TaskStatus.QUEUED]},
        {"owner": "alice", "shared": ["queue"], "task_type": "general"},
        {"batch": "b", "submitter": "alice", "statuses": [TaskStatus.RUNNING]},
        {"id_prefix": "t000"},
    ]
    for filters in selections:
        newest_first = found(mixed, **filters)
        assert found(mixed, oldest_first=True, **filters) == newest_first[::-1]
    monkeypatch.setattr(task_pages, "SEARCHED", 2)
    assert found(mixed, oldest_first=True, provider="openai") == ["t0000"]


def test_tasks_are_found_by_model_and_truncation(store: Store) -> None:
    first, second, third = with_claims(store, *tasks(3))
    other = an_attempt(model="gpt-y")
    results = [a_result(first), a_result(second, other, truncated=True), a_result(third, other)]
    store.queue.finish("me", results)
    assert found(store, model="gpt-y") == ["t0002", "t0001"]
    assert found(store, truncated=True) == ["t0001"]
    assert found(store, truncated=True, model="gpt-x") == []
    assert found(store, truncated=True, batch="b", statuses=[TaskStatus.SUCCEEDED]) == ["t0001"]
    assert found(store, truncated=True, submitter="local") == ["t0001"]


def test_tasks_are_found_by_the_minute_in_which_they_were_added(store: Store) -> None:
    for minute in (0, 1, 1, 3):
        number = store.tasks.page(1).rows
        store.intake.add_tasks([a_task(f"m{minute}-{len(number)}")], now=NOW + 60 * minute + 30)
    assert found(store, since=NOW) == ["m3-1", "m1-1", "m0-0"], "the second one of a name is no new task"
    store.intake.add_tasks([a_task("m3-2")], now=NOW + 3 * 60)
    cases: list[tuple[dict[str, float], list[str]]] = [
        ({"since": NOW + 60}, ["m3-2", "m3-1", "m1-1"]),
        ({"since": NOW + 119}, ["m3-2", "m3-1", "m1-1"]),
        ({"since": NOW + 120}, ["m3-2", "m3-1"]),
        ({"until": NOW + 120}, ["m1-1", "m0-0"]),
        ({"until": NOW + 59}, ["m0-0"]),
        ({"since": NOW + 60, "until": NOW + 179}, ["m1-1"]),
        ({"since": NOW + 600}, []),
        ({"until": NOW - 600}, []),
    ]
    for filters, expected in cases:
        for size in (1, 50):
            assert found(store, size, **filters) == expected, filters
            assert found(store, size, oldest_first=True, **filters) == expected[::-1], filters


def test_a_retried_task_stays_at_its_time(store: Store) -> None:
    (task,) = with_claims(store, a_task(deadline_at=NOW + 50))
    store.queue.finish("me", [a_result(task)])
    store.intake.add_tasks([a_task("t2")], now=NOW + 600)
    store.admin.retry("b", ["t1"], now=NOW + 900)
    assert found(store, until=NOW) == ["t1"]


def test_new_tasks_do_not_shift_the_pages(mixed: Store) -> None:
    first = mixed.tasks.page(3)
    mixed.intake.add_tasks([a_task("new")], now=NOW)
    second = mixed.tasks.page(3, before=first.next_before)
    assert [row.id for row in second.rows] == ["t0005", "t0004", "t0003"]


def test_a_row_has_the_fields_of_a_list(mixed: Store) -> None:
    rows = {row.id: row for row in mixed.tasks.page(50).rows}
    assert rows["q1"].preview == ("say 'hi' " * 50)[:120].strip()
    assert (rows["q1"].line, rows["q1"].since, rows["q1"].finished_at) == (4, NOW, None)
    assert rows["t0002"].since == NOW + 5
    failed = rows["t0001"]
    assert (failed.provider, failed.agent, failed.error) == ("gemini", "gemini-scout", "E")
    assert (failed.attempts, failed.cost_nanos, failed.finished_at, failed.submitter) == (
        1,
        1000,
        NOW + 10,
        "alice",
    )


def test_a_task_is_found_with_content_attempts_and_result(mixed: Store) -> None:
    done = mixed.tasks.find("b", "t0000")
    assert done is not None
    assert done.result is not None
    assert done.result.attempts == done.attempts == (an_attempt(),)
    assert done.task.messages[0].content == "prompt of t0000"
    running = mixed.tasks.find("b", "t0002")
    assert running is not None
    assert (running.row.status, running.result, running.attempts) == (TaskStatus.RUNNING, None, ())
    assert mixed.tasks.find("b", "unknown") is None
    assert mixed.tasks.find("unknown", "t0000") is None


def test_an_unknown_price_is_not_zero(store: Store) -> None:
    (task,) = with_claims(store, a_task())
    store.queue.finish("me", [a_result(task, an_attempt(cost_nanos=None))])
    assert store.tasks.page().rows[0].cost_nanos is None


def test_the_statuses_of_several_tasks(mixed: Store) -> None:
    assert mixed.tasks.statuses("b", ["t0000", "t0002", "t0003", "unknown"]) == {
        "t0000": TaskStatus.SUCCEEDED,
        "t0002": TaskStatus.RUNNING,
        "t0003": TaskStatus.QUEUED,
    }
    assert mixed.tasks.statuses("unknown", ["t0000"]) == {}


def test_results_come_in_the_order_of_the_file(store: Store) -> None:
    claimed = with_claims(store, *tasks(7), a_task("x", "other"))
    mine = [task for task in claimed if task.batch == "b"]
    store.queue.finish("me", [a_result(task) for task in reversed(mine) if task.id != "t0003"])
    assert ids(row.result.task for row in results_of(store)) == [
        "t0000", "t0001", "t0002", "t0004", "t0005", "t0006",
    ]  # fmt: skip


def test_no_row_is_after_the_last_number(mixed: Store) -> None:
    for filters in ({}, {"search": "hi"}, {"id_prefix": "t"}):
        only = TaskSelection(oldest_first=True, **filters)
        assert mixed.tasks.page(3, only, after=selection.LAST_ROW) == TaskPage((), None)
