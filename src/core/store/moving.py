"""Move open tasks from one status to another, with the counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ...records import TaskStatus
from . import schema
from .database import Database
from .identifiers import Identifiers, TaskStream
from .loading import IN_SIZE, parts
from .named_rows import Among, without_index
from .rollups import add_counts

_T = schema.tasks.c


def mark(
    connection: sa.Connection,
    ids: Identifiers,
    rows: Sequence[int],
    condition: sa.ColumnElement[bool],
    values: Mapping[str, Any],
) -> dict[int, TaskStream]:
    """Update the `rows` that satisfy `condition`; return their numbers with their streams.

    They are locked in the order of their numbers, like everywhere: so two writers cannot deadlock. SQLite has
    one writer.
    """
    marked: dict[int, TaskStream] = {}
    chosen = sa.and_(Among(_T.task_row), without_index(condition))
    if connection.dialect.name == "postgresql":
        locked = sa.select(_T.task_row).where(chosen).order_by(_T.task_row).with_for_update()
        chosen = sa.and_(_T.task_row.in_(locked), without_index(condition))
    statement = sa.update(schema.tasks).where(chosen).values(values).returning(_T.task_row, _T.stream_id)
    for part in parts(sorted(rows), IN_SIZE):
        for row in connection.execute(statement, {"rows": part}).all():
            marked[row.task_row] = ids.stream_by_id(row.stream_id)
    return marked


def move(
    database: Database,
    connection: sa.Connection,
    rows: Mapping[int, TaskStream],
    old: TaskStatus,
    new: TaskStatus,
) -> None:
    """Move `rows` from the count of status `old` to that of `new`."""
    counts: Counter[tuple[int, TaskStatus]] = Counter()
    count_moved(counts, rows, old, new)
    add_counts(database, connection, counts)


def count_moved(
    counts: Counter[tuple[int, TaskStatus]],
    rows: Mapping[int, TaskStream],
    old: TaskStatus,
    new: TaskStatus,
) -> None:
    """Note in `counts` that `rows` have moved, for a transaction that locks more before it writes them."""
    for stream in rows.values():
        counts[stream.batch_id, old] -= 1
        counts[stream.batch_id, new] += 1
