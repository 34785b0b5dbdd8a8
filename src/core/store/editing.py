"""What people change about tasks that are stored: cancel, ask again, purge what was said."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from ...records import TaskStatus
from . import schema
from .schema import IS_FINAL, IS_QUEUED
from .shared import IN_SIZE
from .transitions import Transitions

_T = schema.tasks.c
_HAS_CONTENT = sa.exists().where(schema.prompts.c.task_row == _T.task_row)


class Editing(Transitions):
    """The part of the store that changes tasks at a person's wish."""

    def cancel(self, batch: str, ids: Collection[str] | None = None, *, now: float) -> int:
        """Cancel queued tasks, all of the batch where `ids` is None. Returns how many were queued.

        Running ones are the orchestrator's: ask it with a command.
        """
        batch_id = self._lanes.known_batch_id(batch)
        conditions = [IS_QUEUED, _T.batch_id == batch_id]
        if ids is not None:
            conditions.append(_T.id.in_(list(ids)))
        with self._database.writing() as connection:
            return self._close(
                connection,
                sa.and_(*conditions),
                TaskStatus.QUEUED,
                TaskStatus.CANCELLED,
                error="cancelled before it was started",
                now=now,
            )

    def requeue(
        self,
        batch: str,
        *,
        statuses: Collection[TaskStatus] = (),
        ids: Collection[str] = (),
        truncated: bool = False,
        now: float,
    ) -> int:
        """Ask again: final tasks of these statuses or ids, and with `truncated` those cut short.

        Attempts and what they cost are kept, the answers are dropped; tasks whose content was purged stay as
        they are. Returns how many are queued again.
        """
        wanted: list[sa.ColumnElement[bool]] = []
        if statuses:
            wanted.append(_T.status.in_([status.value for status in statuses]))
        if ids:
            wanted.append(_T.id.in_(list(ids)))
        if truncated:
            wanted.append(_T.truncated == 1)
        batch_id = self._lanes.known_batch_id(batch)
        if not wanted:
            return 0
        chosen = sa.select(_T.task_row).where(
            IS_FINAL, _HAS_CONTENT, _T.batch_id == batch_id, sa.or_(*wanted)
        )
        with self._database.writing() as connection:
            rows = list(connection.execute(chosen).scalars())
            for start in range(0, len(rows), IN_SIZE):
                self._reopen(connection, rows[start : start + IN_SIZE], now)
        return len(rows)

    def purge(self, before: float) -> int:
        """Delete prompts and answers of tasks that ended before `before`, and events as old.

        The accounting stays, and so does the knowledge that these tasks were there. Returns how many tasks
        lost their content.
        """
        old = sa.select(_T.task_row).where(IS_FINAL, _HAS_CONTENT, _T.since < before).limit(IN_SIZE)
        purged = 0
        while True:
            with self._database.writing() as connection:
                rows = list(connection.execute(old).scalars())
                for table in (schema.prompts, schema.answers):
                    connection.execute(sa.delete(table).where(table.c.task_row.in_(rows)))
                if len(rows) < IN_SIZE:
                    connection.execute(sa.delete(schema.events).where(schema.events.c.at < before))
                    return purged + len(rows)
            purged += len(rows)
