"""Tasks with all that belongs to them, as they come out of a query: content, answer, attempts, origin."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ...records import Attempt, Origin, Result, TaskStatus
from . import schema
from .codec import decode_attempt, loads
from .rows import StoredResult
from .shared import Part, TaskStream, task_from

_T = schema.tasks.c
_P = schema.prompts.c
_PRIMARY = schema.tasks.alias("primary")


class Loading(Part):
    """What the parts that hand out results share."""

    def _results(self, connection: sa.Connection, query: sa.Select[Any]) -> list[StoredResult]:
        """The final tasks that `query`, one of `full_tasks`, finds."""
        rows = connection.execute(query).all()
        attempts = self._attempts(connection, [row.task_row for row in rows if row.attempts])
        return [
            StoredResult(
                row.task_row,
                result_from(row, self._streams.by_id(row.stream_id), attempts.get(row.task_row, ())),
            )
            for row in rows
        ]

    def _attempts(self, connection: sa.Connection, rows: list[int]) -> dict[int, tuple[Attempt, ...]]:
        a = schema.attempts
        query = sa.select(a).where(a.c.task_row.in_(rows)).order_by(a.c.task_row, a.c.seq)
        found: dict[int, tuple[Attempt, ...]] = {}
        for row in connection.execute(query) if rows else ():
            found[row.task_row] = (*found.get(row.task_row, ()), decode_attempt(row))
        return found


def full_tasks() -> sa.Select[Any]:
    answers = schema.answers.c
    joined = (
        schema.tasks.outerjoin(schema.prompts, _P.task_row == _T.task_row)
        .outerjoin(schema.answers, answers.task_row == _T.task_row)
        .outerjoin(_PRIMARY, _PRIMARY.c.task_row == _T.primary_row)
    )
    of_primary = _PRIMARY.c.id.label("primary_id")
    return sa.select(schema.tasks, _P.preview, _P.body, answers.output, of_primary).select_from(joined)


def result_from(row: Any, stream: TaskStream, attempts: tuple[Attempt, ...]) -> Result:
    """A Result from a row of `full_tasks`."""
    return Result(
        task=task_from(row, stream),
        status=TaskStatus(row.status),
        finished_at=row.since,
        attempts=attempts,
        output=row.output,
        finish_reason=row.finish_reason,
        truncated=bool(row.truncated),
        error=row.error,
        warnings=tuple(loads(row.warnings)) if row.warnings else (),
        tier=row.tier,
        baseline_nanos=row.baseline_nanos,
        origin=None if row.primary_id is None else Origin(row.primary_id, row.provider, row.model, row.agent),
    )
