"""Tasks with all that belongs to them, as they come out of a query: content, answer, attempts, origin."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ...records import Attempt, Origin, Result, TaskStatus
from . import schema
from .codec import decode_attempt, loads
from .rows import StoredResult
from .shared import Lane, Part, task_from

_T = schema.tasks.c
_P = schema.prompts.c
_LEADER = schema.tasks.alias("leader")


class Loading(Part):
    """What the parts that hand out results share."""

    def _results(self, connection: sa.Connection, query: sa.Select[Any]) -> list[StoredResult]:
        """The final tasks that `query`, one of `full_tasks`, finds."""
        rows = connection.execute(query).all()
        attempts = self._attempts(connection, [row.task_row for row in rows if row.attempts])
        return [
            StoredResult(
                row.task_row,
                result_from(row, self._lanes.by_id(row.lane_id), attempts.get(row.task_row, ())),
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
        .outerjoin(_LEADER, _LEADER.c.task_row == _T.leader_row)
    )
    of_leader = _LEADER.c.id.label("leader_id")
    return sa.select(schema.tasks, _P.preview, _P.body, answers.output, of_leader).select_from(joined)


def result_from(row: Any, lane: Lane, attempts: tuple[Attempt, ...]) -> Result:
    """A Result from a row of `full_tasks`."""
    return Result(
        task=task_from(row, lane),
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
        origin=None if row.leader_id is None else Origin(row.leader_id, row.provider, row.model, row.agent),
    )
