"""No frequent query reads a whole table, so it costs the same at a thousand tasks and at a million."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from src.core.store import (
    DEFERS,
    FailureReason,
    NewBatch,
    PlannedRow,
    RowEnd,
    Store,
    TaskSelection,
    claim_order,
)
from src.core.store.events import EventSelection
from src.records import Outcome, Task, TaskStatus

from .makers import NOW, a_result, a_task, an_attempt, register, tasks

LARGE = "tasks|prompts|answers|attempts|events|deferred_tasks|provider_batch_rows"


def life_of_tasks(store: Store) -> None:
    n = len(store.orchestrators.newest())
    store.intake.add_tasks([*tasks(6), a_task("due", deadline_at=NOW)], now=NOW)
    register(store, f"o{n}", now=NOW + 60 * n)
    claimed = store.queue.claim(f"o{n}", 4, now=NOW)
    store.queue.claim(f"o{n}", 1, now=NOW, batch="b")
    store.queue.record_attempts(f"o{n}", [(task, an_attempt(1, Outcome.FAILED)) for task in claimed])
    store.queue.finish(f"o{n}", [a_result(task) for task in claimed[:2]])
    store.queue.release(f"o{n}", claimed[2:3], now=NOW)
    register(store, f"o{n + 1}", now=NOW + 60 * (n + 1))
    store.orchestrators.retire(f"o{n + 1}", now=NOW)


def editing(store: Store) -> None:
    store.admin.cancel("b", ["t0001"], now=NOW)
    store.admin.cancel("b", now=NOW)
    store.admin.retry("b", ["t0001"], now=NOW)
    store.admin.retry_ended("b", [TaskStatus.FAILED], truncated=True, now=NOW)
    store.admin.retry_failed("b", FailureReason(TaskStatus.FAILED, "ServerError", 0), now=NOW)


def pages(store: Store) -> None:
    store.tasks.page()
    store.tasks.page(50, TaskSelection(list(TaskStatus)), before=5)
    store.tasks.page(50, TaskSelection(batch="b"))
    store.tasks.page(50, TaskSelection(list(TaskStatus), batch="b"))
    store.tasks.page(50, TaskSelection(id_prefix="t0000"))
    store.tasks.page(50, TaskSelection([TaskStatus.SUCCEEDED], provider="openai", id_prefix="t"))
    store.tasks.find("b", "t0000")
    store.tasks.statuses("b", ["t0000"])
    store.result_sync.results_at([1, 2, 3])
    store.events.following(9, EventSelection(kind="alert"), 3)
    store.events.recent()
    store.events.of_batch("b")
    store.batches.page()
    store.batches.page(name="b", submitter="local", before=9)
    store.batches.costs(["b"])
    store.batches.failures("b")


def polling(store: Store) -> None:
    store.queue.poll()
    store.reports.task_counts()
    store.reports.summary("b")
    store.batches.with_open_tasks()
    store.reports.usage(NOW, NOW + 60)
    store.orchestrators.latest_snapshot()


def batches_at_providers(store: Store) -> None:
    store.intake.create_batch("d", now=NOW, options={DEFERS: 86_400.0})
    store.intake.add_tasks(tasks(8, "d", deadline_at=NOW + 86_400), now=NOW)
    (group,) = store.deferrals.groups()
    store.deferrals.go_live(group.id, 1, NOW)
    rows = [PlannedRow(task, 1, 1, "economy") for task in store.deferrals.oldest(group.id, 6)]
    batch = store.provider_batches.intend(NewBatch("openai", "gpt-x", "marker01"), rows, NOW)
    assert batch is not None
    store.provider_batches.creating(batch.id, NOW)
    store.provider_batches.submitted(batch.id, "batch_1", [], NOW)
    (first, second, *_) = store.provider_batches.tasks(batch.id)
    store.batch_results.collect(batch.id, [RowEnd(first.place, an_attempt(), a_result(first.task))], NOW)
    store.admin.cancel("d", [second.task.id], now=NOW)
    store.batch_results.give_back(batch.id, [3], now=NOW, defer=True)
    store.batch_results.pull(batch.id, NOW)
    store.provider_batches.turnarounds("openai", "gpt-x")
    store.provider_batches.reservations()
    store.provider_batches.newest()
    store.provider_batches.open()
    store.batch_results.collect(batch.id, [RowEnd(4, an_attempt())], NOW)
    store.provider_batches.ended(batch.id, [], NOW)
    store.batch_results.collected(batch.id, NOW)


@pytest.fixture
def sqlite_store(path: Path, empty_database: Path) -> Iterator[Store]:
    path.parent.mkdir()
    shutil.copy(empty_database, path)
    with Store.open(path, simulated=True) as store:
        life_of_tasks(store)
        yield store


@pytest.mark.parametrize("use", [life_of_tasks, editing, pages, polling, batches_at_providers])
def test_no_large_table_is_read_from_end_to_end(sqlite_store: Store, use: Callable[[Store], None]) -> None:
    said: list[tuple[str, Any]] = []

    def listen(_c: Any, _cursor: Any, sql: str, values: Any, _context: Any, many: bool) -> None:
        said.append((sql, values[0] if many else values))

    sa.event.listen(sqlite_store.database._engine, "before_cursor_execute", listen)
    use(sqlite_store)
    steps = [
        (step, sql)
        for sql, values in dict(said).items()
        if re.match("SELECT|UPDATE|DELETE", sql)
        for step in plan(sqlite_store, sql, values)
    ]
    assert len(steps) > 5
    scans = [sql for step, sql in steps if re.match(rf"SCAN ({LARGE})\b", step) and "LIMIT" not in sql]
    sorts = [sql for step, sql in steps if "TEMP B-TREE" in step and re.search(rf"FROM ({LARGE})\b", sql)]
    assert scans + sorts == []


@pytest.mark.parametrize(
    ("statement", "values", "index"),
    [
        (claim_order._NEXT_PRIORITY, (9, 1, 0), "ix_tasks_queue (status=? AND priority<?)"),
        (claim_order._NEXT_STREAM, (0, 1, 1, 0), "ix_tasks_queue (status=? AND priority=? AND stream_id>?)"),
        (
            claim_order._STREAM_ROWS,
            (0, 1, 0, 9, 0),
            "ix_tasks_queue (status=? AND priority=? AND stream_id=? AND task_row>?)",
        ),
        (
            claim_order._NEAR_DEADLINE,
            (NOW, 9, 0),
            "ix_tasks_deadline (status=? AND deadline_at>? AND deadline_at<?)",
        ),
    ],
    ids=["next priority", "next stream", "rows of a stream", "near deadlines"],
)
def test_a_claim_looks_only_at_what_it_takes(
    sqlite_store: Store, statement: Any, values: tuple[Any, ...], index: str
) -> None:
    (step,) = plan(sqlite_store, str(statement.compile(dialect=sqlite.dialect())), values)
    assert step.startswith("SEARCH tasks")
    assert step.endswith(index)


STATEMENTS_ON_ROWS: dict[str, Callable[[Store, list[Task]], object]] = {
    "claim": lambda store, _: store.queue.claim("me", 10, now=NOW),
    "record attempts": lambda store, held: store.queue.record_attempts(
        "me", [(task, an_attempt(1, Outcome.FAILED)) for task in held]
    ),
    "finish": lambda store, held: store.queue.finish("me", [a_result(task) for task in held]),
    "release": lambda store, held: store.queue.release("me", held, now=NOW),
    "cancel": lambda store, _: store.admin.cancel("b", [f"t{n:04}" for n in range(2_000, 2_010)], now=NOW),
}


@contextmanager
def reads_of(store: Store, relation: str) -> Iterator[list[int]]:
    """How many rows each transaction of the block reads from this index, or from this table without one."""
    read: list[int] = []
    before = 0

    def note(connection: sa.Connection) -> None:
        nonlocal before
        query = f"SELECT pg_stat_get_xact_tuples_returned('{relation}'::regclass)"
        so_far: int = connection.exec_driver_sql(query).scalar_one()  # the server begins at 0 now and then
        read.append(so_far - before if so_far >= before else so_far)
        before = so_far

    sa.event.listen(store.database._engine, "commit", note)
    store.queue.poll()
    read.clear()
    yield read
    sa.event.remove(store.database._engine, "commit", note)


@pytest.mark.parametrize("name", STATEMENTS_ON_ROWS)
def test_statements_on_ten_tasks_read_no_others_before_postgresql_has_statistics(
    postgresql_url: str, name: str
) -> None:
    with Store.open(postgresql_url, simulated=True) as store:
        store.intake.add_tasks(tasks(3_000), now=NOW)
        register(store)
        store.queue.claim("me", 1_000, now=NOW)
        held = store.queue.claim("me", 10, now=NOW)
        with reads_of(store, "ix_tasks_status") as read:
            STATEMENTS_ON_ROWS[name](store, held)
    assert read
    assert max(read) <= 50


@pytest.mark.parametrize("name", STATEMENTS_ON_ROWS)
def test_statements_on_ten_tasks_read_no_others_after_the_table_has_grown(
    postgresql_url: str, name: str
) -> None:
    with Store.open(postgresql_url, simulated=True) as store:
        register(store)
        for n in range(
            20
        ):  # psycopg prepares a statement, and the server keeps a plan that serves all values
            store.intake.add_tasks([a_task(f"early-{n}-{i}") for i in range(10)], now=NOW)
            STATEMENTS_ON_ROWS[name](store, store.queue.claim("me", 10, now=NOW))
        store.intake.add_tasks(tasks(3_000), now=NOW)
        held = store.queue.claim("me", 10, now=NOW)
        with reads_of(store, "tasks") as read:
            STATEMENTS_ON_ROWS[name](store, held)
    assert read
    assert max(read) <= 50


def test_a_preview_of_a_missing_batch_costs_no_query_per_task(sqlite_store: Store) -> None:
    said: list[str] = []
    engine = sqlite_store.database._engine
    sa.event.listen(engine, "before_cursor_execute", lambda _c, _cursor, sql, *_: said.append(sql))
    assert sqlite_store.intake.preview(tasks(400, "not there"))[0].added == 400
    assert len(said) < 10


def plan(store: Store, sql: str, values: Any) -> list[str]:
    with store.database.reading() as connection:
        return [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)]
