"""Tasks and results as records, read with their content, answer, attempts and origin."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from ...records import Attempt, Origin, Result, Task, TaskStatus
from . import schema
from .codec import decode_attempt, decode_parts, decode_task, loads
from .identifiers import Identifiers, TaskStream
from .named_rows import Among
from .rows import BatchRow, StoredResult

IN_SIZE = 500  # values in one IN list: one cached statement per size
FIRST_PART = 32  # tasks read while nothing is known of their size
PURGED = "prompt and answer are not stored"
_Item = TypeVar("_Item")
_T = schema.tasks.c
_P = schema.prompts.c
_PRIMARY = schema.tasks.alias("primary")


def _tasks(claims: sa.ColumnElement[int]) -> sa.Select[Any]:
    return (
        sa.select(
            _T.task_row,
            _T.id,
            _T.stream_id,
            _T.priority,
            _T.line,
            _T.deadline_at,
            _T.created_at,
            claims,
            _T.attempts,
            _P.body,
        )
        .join_from(schema.tasks, schema.prompts, _P.task_row == _T.task_row, isouter=True)
        .where(Among(_T.task_row))
    )


_TASKS = _tasks(_T.claims)
_TO_CLAIM = _tasks((_T.claims + 1).label("claims")).order_by(_T.task_row)


class Loader:
    """Reads records inside its caller's transaction."""

    def __init__(self, ids: Identifiers) -> None:
        self._ids = ids
        self._usual_bytes = 0.0  # of a task's content, in the last part read; 0.0: not known yet

    def tasks(self, connection: sa.Connection, rows: Iterable[int]) -> dict[int, Task]:
        """The tasks of these row numbers that exist, by row number."""
        loaded = {}
        for part in parts(rows, IN_SIZE):
            for row in connection.execute(_TASKS, {"rows": part}):
                loaded[row.task_row] = task_from(row, self._ids.stream_by_id(row.stream_id))
        return loaded

    def to_claim(
        self, connection: sa.Connection, rows: Sequence[int], most_bytes: int
    ) -> tuple[dict[int, Task], bool]:
        """The tasks of these row numbers as they are once claimed, and whether some are left out.

        Left out are the last ones, where the contents together have more than `most_bytes`; the first one
        never is. Rows are read in parts of the size that fits, by the contents of the last part. SQLite reads
        row by row within a part, PostgreSQL a whole part.
        """
        loaded: dict[int, Task] = {}
        left, done = most_bytes, 0
        while done < len(rows):
            part = rows[done : done + self._part_size(left)]
            read = count = 0
            with connection.execute(_TO_CLAIM, {"rows": part}) as found:
                for row in found:
                    count += 1
                    read += len(row.body or "")
                    if loaded and read > left:
                        self._usual_bytes = read / count
                        return loaded, True
                    loaded[row.task_row] = task_from(row, self._ids.stream_by_id(row.stream_id))
            if count:
                self._usual_bytes = max(1.0, read / count)
            left, done = left - read, done + len(part)
        return loaded, False

    def _part_size(self, most_bytes: int) -> int:
        if not self._usual_bytes:
            return FIRST_PART
        return max(1, min(IN_SIZE, int(most_bytes / self._usual_bytes)))

    def results(self, connection: sa.Connection, query: sa.Select[Any]) -> list[StoredResult]:
        """The results of the final tasks that `query` finds; `query` is based on `full_tasks`."""
        rows = connection.execute(query).all()
        attempts = self.attempts(connection, [row.task_row for row in rows if row.attempts])
        return [
            StoredResult(
                row.task_row,
                result_from(row, self._ids.stream_by_id(row.stream_id), attempts.get(row.task_row, ())),
            )
            for row in rows
        ]

    def attempts(self, connection: sa.Connection, rows: list[int]) -> dict[int, tuple[Attempt, ...]]:
        """All attempts of these tasks, oldest first, by the task's row number."""
        a = schema.attempts
        query = sa.select(a).where(a.c.task_row.in_(rows)).order_by(a.c.task_row, a.c.seq)
        found: dict[int, tuple[Attempt, ...]] = {}
        for row in connection.execute(query) if rows else ():
            found[row.task_row] = (*found.get(row.task_row, ()), decode_attempt(row))
        return found

    def row_numbers(self, connection: sa.Connection, tasks: Sequence[Task]) -> list[int]:
        """The tasks' row numbers; tasks that were not read from the store are looked up by (batch, id)."""
        rows = [task.row for task in tasks if task.row]
        for task in tasks:
            if not task.row:
                batch_id = self._ids.batch_id(task.batch)
                query = sa.select(_T.task_row).where(_T.batch_id == batch_id, _T.id == task.id)
                rows += connection.execute(query).scalars()
        return rows


def task_counts(connection: sa.Connection, batch_ids: list[int]) -> dict[int, dict[TaskStatus, int]]:
    """Tasks by status, for each of these batches; every status is a key."""
    c = schema.task_counts
    counts = {batch_id: dict.fromkeys(TaskStatus, 0) for batch_id in batch_ids}
    for row in connection.execute(sa.select(c).where(c.c.batch_id.in_(batch_ids))):
        counts[row.batch_id][TaskStatus(row.status)] = row.tasks
    return counts


def parts(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """The items in lists of at most `size`; reads no further ahead than that."""
    iterator = iter(items)
    while part := list(itertools.islice(iterator, size)):
        yield part


def batch_rows(connection: sa.Connection, query: sa.Select[Any]) -> list[tuple[int, BatchRow]]:
    """The batches that `query` finds, each with its number, in the order of the query."""
    rows = connection.execute(query).all()
    counts = task_counts(connection, [row.id for row in rows])
    return [
        (
            row.id,
            BatchRow(
                row.name,
                row.source,
                row.output_path,
                loads(row.options),
                row.submitter,
                row.created_at,
                row.max_cost_nanos,
                counts[row.id],
            ),
        )
        for row in rows
    ]


def full_tasks() -> sa.Select[Any]:
    """A query for tasks joined with their preview, content, answer and the id of their primary."""
    answers = schema.answers.c
    joined = (
        schema.tasks.outerjoin(schema.prompts, _P.task_row == _T.task_row)
        .outerjoin(schema.answers, answers.task_row == _T.task_row)
        .outerjoin(_PRIMARY, _PRIMARY.c.task_row == _T.primary_row)
    )
    of_primary = _PRIMARY.c.id.label("primary_id")
    return sa.select(
        schema.tasks, _P.preview, _P.body, answers.output, answers.parts, of_primary
    ).select_from(joined)


def task_from(row: Any, stream: TaskStream) -> Task:
    """A Task from a row of tasks joined with its prompt's body."""
    return decode_task(
        row.body,
        id=row.id,
        batch=stream.batch,
        task_type=stream.task_type,
        submitter=stream.submitter,
        priority=row.priority,
        line=row.line,
        deadline_at=row.deadline_at,
        created_at=row.created_at,
        claims=row.claims,
        attempts=row.attempts,
        row=row.task_row,
    )


def result_from(row: Any, stream: TaskStream, attempts: tuple[Attempt, ...]) -> Result:
    """A Result from a row of `full_tasks`."""
    warnings = tuple(loads(row.warnings)) if row.warnings else ()
    return Result(
        task=task_from(row, stream),
        status=TaskStatus(row.status),
        finished_at=row.since,
        attempts=attempts,
        output=row.output,
        finish_reason=row.finish_reason,
        truncated=bool(row.truncated),
        error=row.error,
        warnings=warnings if row.body else (*warnings, PURGED),
        tier=row.tier,
        baseline_nanos=row.baseline_nanos,
        origin=None if row.primary_id is None else Origin(row.primary_id, row.provider, row.model, row.agent),
        parts=decode_parts(row.parts, row.output),
    )
