"""Prompts and answers, which may be purged. What they cost, ids and fingerprints of contents stay.

A task keeps its contents while it is open, and while an equal task waits for its answer (`deduplication`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from ...records import Task, TaskStatus
from . import schema
from .codec import encode_task
from .database import Database
from .identifiers import Identifiers
from .loading import IN_SIZE, parts
from .reconnecting import reconnecting
from .schema import IS_FINAL
from .search_index import SearchIndex

STEP = 200  # tasks that one step looks at: other writers wait for some milliseconds
CONTENT_TABLES = (schema.prompts, schema.answers, schema.earlier_ends)
_T, _P = schema.tasks.c, schema.prompts.c
_DUPLICATE = schema.tasks.alias("duplicate")
_IS_AWAITED = sa.exists().where(
    _DUPLICATE.c.primary_row == _T.task_row,
    _DUPLICATE.c.status == TaskStatus.QUEUED.value,
)
_WITH_CONTENT = schema.tasks.join(schema.prompts, _P.task_row == _T.task_row)


class PurgeStep(NamedTuple):
    """What one step purged, and the row to go on `after`; None: no task is left to look at."""

    purged: int
    after: int | None


@reconnecting()
class Contents:
    """Deletes the prompts and answers of ended tasks, and puts prompts back.

    Methods that name a batch raise StoreError if it does not exist.
    """

    def __init__(self, database: Database, ids: Identifiers, index: SearchIndex) -> None:
        self._database, self._ids, self._index = database, ids, index

    def purgeable(self, before: float, batch: str | None = None) -> dict[str, int]:
        """How many tasks would lose their contents, by batch; `before` is in epoch seconds."""
        found = (
            sa.select(schema.batches.c.name, sa.func.count().label("tasks"))
            .select_from(_WITH_CONTENT.join(schema.batches, schema.batches.c.id == _T.batch_id))
            .where(self._of(batch), *_may_go(before))
            .group_by(schema.batches.c.name)
            .order_by(schema.batches.c.name)
        )
        with self._database.reading() as connection:
            return {row.name: row.tasks for row in connection.execute(found)}

    def purge(self, before: float, batch: str | None = None) -> int:
        """Purge all tasks that ended before `before`; returns how many. Others can write in between."""
        purged, after = 0, 0
        while True:
            step = self.purge_step(before, after, batch)
            purged += step.purged
            if step.after is None:
                return purged
            after = step.after

    def purge_step(self, before: float, after: int = 0, batch: str | None = None) -> PurgeStep:
        """Look at the next `STEP` tasks with contents, and purge those that ended before `before`."""
        row = (_P if batch is None else _T).task_row  # the way to go through: all contents, or one batch
        seen = (
            sa.select(_T.task_row, sa.and_(*_may_go(before)).label("may_go"))
            .select_from(_WITH_CONTENT)
            .where(self._of(batch), row > after)
            .order_by(row)
            .limit(STEP)
        )
        with self._database.reading() as connection:
            rows = connection.execute(seen).all()
        old = [each.task_row for each in rows if each.may_go]
        purged = self._purge(old, before) if old else 0
        return PurgeStep(purged, rows[-1].task_row if len(rows) == STEP else None)

    def _purge(self, rows: Sequence[int], before: float) -> int:
        """Purge those of `rows` that may go. The check and the deletion are one transaction."""
        may_go = sa.select(_T.task_row).where(_T.task_row.in_(rows), *_may_go(before)).with_for_update()
        with self._database.writing() as connection:
            found = list(connection.execute(may_go).scalars())
            self._index.forget(connection, found)
            for table in CONTENT_TABLES if found else ():
                connection.execute(sa.delete(table).where(table.c.task_row.in_(found)))
        return len(found)

    def purge_events(self, before: float) -> int:
        """Delete events, and earlier ends of tasks, that are older than `before`; returns how many events."""
        earlier = schema.earlier_ends
        with self._database.writing() as connection:
            connection.execute(sa.delete(earlier).where(earlier.c.ended_at < before))
            old = sa.delete(schema.events).where(schema.events.c.at < before)
            return connection.execute(old).rowcount

    def has_purged(self, batch: str, statuses: Collection[TaskStatus], *, truncated: bool = False) -> bool:
        """Whether ended tasks with these statuses, or truncated ones, have lost their contents."""
        wanted: sa.ColumnElement[bool] = _T.status.in_([status.value for status in statuses])
        if truncated:
            wanted = sa.or_(wanted, _T.truncated == 1)
        purged = ~sa.exists().where(_P.task_row == _T.task_row)
        found = sa.select(_T.task_row).where(self._of(batch), IS_FINAL, wanted, purged).limit(1)
        with self._database.reading() as connection:
            return connection.execute(found).first() is not None

    def restore(self, tasks: Sequence[Task]) -> int:
        """Give purged tasks their prompts back, if these have the same content; returns how many tasks.

        Their answers are gone, but they can run again.
        """
        restored = 0
        for part in parts(tasks, IN_SIZE):
            by_id = {(self._ids.batch_id(task.batch), task.id): encode_task(task) for task in part}
            lost = (
                sa.select(_T.task_row, _T.batch_id, _T.id, _T.content_hash)
                .outerjoin_from(schema.tasks, schema.prompts, _P.task_row == _T.task_row)
                .where(
                    _T.batch_id.in_({batch_id for batch_id, _ in by_id}),
                    _T.id.in_({task_id for _, task_id in by_id}),
                    _P.task_row.is_(None),
                )
            )
            with self._database.writing() as connection:
                rows = []
                for row in connection.execute(lost):
                    digest, preview, body = by_id.get((row.batch_id, row.id), (b"", "", ""))
                    if digest == bytes(row.content_hash):
                        rows.append((row.task_row, preview, body))
                self._database.inserting(schema.prompts).many(connection, rows)
                self._index.note_ended(connection, [row for row, *_ in rows])
            restored += len(rows)
        return restored

    def compact(self) -> int:
        """Make SQLite's file smaller by the space that is free in it; returns by how many bytes.

        The file is written anew, which takes as long as copying it, and as much space. No orchestrator may
        run. PostgreSQL does this by itself, and gives space back to the system with `VACUUM FULL`.
        """
        return self._database.compact()

    def _of(self, batch: str | None) -> sa.ColumnElement[bool]:
        return sa.true() if batch is None else _T.batch_id == self._ids.known_batch_id(batch)


def _may_go(before: float) -> tuple[sa.ColumnElement[bool], ...]:
    return IS_FINAL, _T.since < before, ~_IS_AWAITED
