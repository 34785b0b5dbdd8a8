"""The choice reads the sums of groups, then takes the oldest tasks of one: a million cost it no more."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from src.core.store import DEFERS, NewBatch, PlannedRow, Store, schema

from .makers import NOW, a_task

FEW, MANY = 1_000, 100_000
DUE = NOW + 86_400
EVERY = 10  # instructions of SQLite between two counts


def multiplied(store: Store, n: int) -> None:
    """Add `n` copies of the one deferred task, in a few statements."""
    changed = {
        schema.tasks: {"task_row": "task_row + i", "id": "'copy' || i"},
        schema.prompts: {"task_row": "task_row + i"},
        schema.deferred_tasks: {"task_row": "task_row + i"},
    }
    with store.database.writing() as connection:
        for table, values in changed.items():
            columns = ", ".join(values.get(column.name, column.name) for column in table.columns)
            connection.exec_driver_sql(
                f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {n}) "  # noqa: S608
                f"INSERT INTO {table.name} SELECT {columns} FROM {table.name}, n"
            )
        sums = ("rows", "text_chars", "prompt_bytes", "max_tokens", "unstated")
        more = ", ".join(f"{name} = {name} * {n + 1}" for name in sums)
        connection.exec_driver_sql(f"UPDATE deferral_groups SET {more}")  # noqa: S608
        connection.exec_driver_sql(f"UPDATE task_counts SET tasks = tasks * {n + 1}")  # noqa: S608


def with_deferred(path: Path, template: Path, n: int) -> Store:
    shutil.copy(template, path)
    store = Store.open(path, simulated=True)
    store.intake.create_batch("b", now=NOW, options={DEFERS: 86_400.0})
    store.intake.add_tasks([a_task(deadline_at=DUE)], now=NOW)
    multiplied(store, n - 1)
    return store


def instructions(store: Store, call: Callable[[], Any]) -> int:
    """How many instructions SQLite runs for a call, in steps of `EVERY`."""
    steps = [0]

    def count() -> None:
        steps[0] += 1

    def listen(connection: Any, *_: Any) -> None:
        connection.set_progress_handler(count, EVERY)

    engine = store.database._engine
    sa.event.listen(engine, "checkout", listen)
    try:
        call()
    finally:
        sa.event.remove(engine, "checkout", listen)
    return steps[0] * EVERY


def groups(store: Store) -> Any:
    (group,) = store.deferrals.groups()
    return group


def oldest(store: Store) -> None:
    assert len(store.deferrals.oldest(groups(store).id, 500)) == 500


def intend(store: Store) -> None:
    found = store.deferrals.oldest(groups(store).id, 500)
    rows = [PlannedRow(task, 100, 256, "economy") for task in found]
    batch = store.provider_batches.intend(NewBatch("openai", "gpt-x", "marker01"), rows, NOW)
    assert batch is not None and batch.rows == 500


def go_live(store: Store) -> None:
    assert store.deferrals.go_live(groups(store).id, 500, NOW) == 500


@pytest.mark.parametrize("use", [groups, oldest, intend, go_live])
def test_the_number_of_deferred_tasks_does_not_matter(
    tmp_path: Path, empty_database: Path, use: Callable[[Store], Any]
) -> None:
    measured = {}
    for n in (FEW, MANY):
        with with_deferred(tmp_path / f"{n}.db", empty_database, n) as store:
            assert groups(store).rows == n
            measured[n] = instructions(store, lambda: use(store))
    assert 0 < measured[MANY] <= 1.3 * measured[FEW] + EVERY, measured
