"""Changes of a task's status without a call. Each keeps the counts and sums true.

give_back   running -> queued              claims given back
close       open -> final                  tasks that nobody will work on
reopen      final -> queued or deferred    to run again
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ...records import OPEN_STATUSES, TaskStatus
from . import schema
from .database import Database
from .deferrals import DeferralGroups
from .identifiers import Identifiers
from .moving import count_moved, mark, move
from .rollups import FinishedTask, Rollup, add_counts, add_task
from .schema import IS_DUPLICATE, IS_FINAL, IS_RUNNING
from .search_index import SearchIndex

_T = schema.tasks.c
_ANSWER = ("output", "parts")  # of `answers`
_NOT_ANSWERED = {
    "provider": "",
    "model": "",
    "agent": "",
    "tier": "",
    "finish_reason": "",
    "truncated": 0,
    "error": "",
    "warnings": "",
    "baseline_nanos": None,
}


class Transitions:
    """Each method runs inside its caller's transaction."""

    def __init__(
        self, database: Database, ids: Identifiers, index: SearchIndex, deferrals: DeferralGroups
    ) -> None:
        self._database, self._ids, self._index = database, ids, index
        self._deferrals = deferrals

    def give_back(
        self, connection: sa.Connection, rows: Sequence[int], orchestrator_id: int, now: float
    ) -> int:
        """Queue running tasks of this orchestrator again, without counting the claim. Returns how many."""
        queued = {
            "status": TaskStatus.QUEUED.value,
            "since": now,
            "claimed_by": None,
            "claims": _T.claims - 1,
        }
        mine = sa.and_(IS_RUNNING, _T.claimed_by == orchestrator_id)
        released = mark(connection, self._ids, rows, mine, queued)
        move(self._database, connection, released, TaskStatus.RUNNING, TaskStatus.QUEUED)
        return len(released)

    def close(
        self,
        connection: sa.Connection,
        condition: sa.ColumnElement[bool],
        was: TaskStatus,
        status: TaskStatus,
        *,
        error: str,
        now: float,
    ) -> int:
        """End all tasks that satisfy `condition`, all of which are in status `was`. Returns how many."""
        values = {"status": status.value, "error": error, "since": now, "claimed_by": None}
        statement = (
            sa.update(schema.tasks)
            .where(condition)
            .values(values | {"baseline_nanos": 0})
            .returning(_T.task_row, _T.batch_id, _T.cost_nanos, _T.unknown_cost_calls)
        )
        counts: Counter[tuple[int, TaskStatus]] = Counter()
        sums = Rollup(schema.batch_tasks, schema.TASK_COLUMNS)
        rows = connection.execute(statement).all()
        for row in rows:
            counts[row.batch_id, was] -= 1
            counts[row.batch_id, status] += 1
            finished = FinishedTask(status, False, row.cost_nanos, row.unknown_cost_calls > 0, 0)
            add_task(sums.row((row.batch_id, "", "")), finished)
        self._index.note_ended(connection, [row.task_row for row in rows])
        sums.write(self._database, connection)
        add_counts(self._database, connection, counts)
        return len(rows)

    def reopen(
        self,
        connection: sa.Connection,
        rows: Sequence[int],
        now: float,
        *,
        keep_ends: bool = True,
        counts: Counter[tuple[int, TaskStatus]] | None = None,
    ) -> int:
        """Queue or defer the final tasks among `rows`, as if they had never been claimed. Returns how many.

        They leave the sums of finished tasks and the search. Attempts and their cost are kept. Their end
        moves to `earlier_ends`. Without `keep_ends` all ends are deleted, since they belong to other content,
        and the tasks are queued: the new content decides whether they are deferred. A deadline is as far away
        again as it was when the task was added. Changes of the counts are added to `counts` if it is given,
        for the caller to write.
        """
        these = sa.and_(_T.task_row.in_(rows), IS_FINAL)
        changes: Counter[tuple[int, TaskStatus]] = Counter() if counts is None else counts
        sums = Rollup(schema.batch_tasks, schema.TASK_COLUMNS)
        locked = sa.select(schema.tasks).where(these).order_by(_T.task_row).with_for_update()
        final = connection.execute(locked).all()
        for row in final:
            status = TaskStatus(row.status)
            changes[row.batch_id, status] -= 1
            changes[row.batch_id, TaskStatus.QUEUED] += 1
            finished = FinishedTask.of_row(row, status, baseline_nanos=row.baseline_nanos)
            add_task(sums.row((row.batch_id, row.agent, row.tier)), finished, sign=-1)
        queued = {"status": TaskStatus.QUEUED.value, "since": now, "claimed_by": None, "claims": 0}
        reopened = [row.task_row for row in final]
        self._index.forget(connection, reopened)
        self._keep_ends(connection, reopened, keep_ends)
        connection.execute(sa.delete(schema.answers).where(schema.answers.c.task_row.in_(reopened)))
        self.discount_attempts(connection, [row.task_row for row in final if row.attempts])
        connection.execute(sa.update(schema.tasks).where(these).values(queued | _NOT_ANSWERED | _anew(now)))
        self._detach_from_primaries(connection, reopened)
        self.mark_stale(connection, reopened)
        deferred = self._deferrals.defer(connection, reopened, now) if keep_ends else {}
        count_moved(changes, deferred, TaskStatus.QUEUED, TaskStatus.DEFERRED)
        sums.write(self._database, connection)
        if counts is None:
            add_counts(self._database, connection, changes)
        return len(final)

    def _keep_ends(self, connection: sa.Connection, rows: Sequence[int], keep: bool) -> None:
        earlier, a = schema.earlier_ends, schema.answers.c
        if not keep:
            connection.execute(sa.delete(earlier).where(earlier.c.task_row.in_(rows)))
            return
        names = [each.name for each in earlier.c if each.name not in ("task_row", "ended_at", *_ANSWER)]
        ends = (
            sa.select(_T.task_row, _T.since, *(_T[name] for name in names), *(a[name] for name in _ANSWER))
            .join_from(schema.tasks, schema.answers, a.task_row == _T.task_row, isouter=True)
            .where(_T.task_row.in_(rows))
        )
        insert = self._database.insert(earlier).from_select(["task_row", "ended_at", *names, *_ANSWER], ends)
        connection.execute(insert.on_conflict_do_nothing())

    def discount_attempts(self, connection: sa.Connection, rows: Sequence[int]) -> None:
        """Keep earlier attempts, but stop counting them towards the limit of attempts."""
        if rows:
            earlier = schema.attempts.c.task_row.in_(rows)
            connection.execute(sa.update(schema.attempts).where(earlier).values(number=0))

    def _detach_from_primaries(self, connection: sa.Connection, rows: Sequence[int]) -> None:
        """Let duplicates run themselves, unless their primary runs again."""
        primary = schema.tasks.alias("primary")
        is_open = sa.and_(
            primary.c.task_row == _T.primary_row,
            primary.c.content_hash == _T.content_hash,
            primary.c.status.in_(OPEN_STATUSES),
        )
        alone = sa.and_(_T.task_row.in_(rows), IS_DUPLICATE, ~sa.exists().where(is_open))
        connection.execute(sa.update(schema.tasks).where(alone).values(primary_row=None))

    def mark_stale(self, connection: sa.Connection, rows: Sequence[int]) -> None:
        """Note that results files may hold rows of these tasks; see `result_sync`."""
        b = schema.batches.c
        with_file = (
            sa.select(_T.batch_id, _T.task_row)
            .join_from(schema.tasks, schema.batches, b.id == _T.batch_id)
            .where(_T.task_row.in_(rows), b.output_path.not_in(["", "-"]))
        )
        insert = self._database.insert(schema.stale_results).from_select(["batch_id", "task_row"], with_file)
        connection.execute(insert.on_conflict_do_nothing())


def _anew(now: float) -> dict[str, Any]:
    """A deadline counts from `now`, with as much time as the task had at first."""
    return {
        "deadline_at": _T.deadline_at + (now - _T.created_at),
        "created_at": sa.case((_T.deadline_at.is_(None), _T.created_at), else_=now),
    }
