"""What people change about tasks that are stored: cancel, ask again, purge what was said."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator

import sqlalchemy as sa

from ...records import TaskStatus
from . import schema
from .deduplication import Deduplication
from .schema import IS_FINAL, IS_QUEUED
from .shared import IN_SIZE

_T = schema.tasks.c
_CAN_BE_ASKED = sa.and_(IS_FINAL, sa.exists().where(schema.prompts.c.task_row == _T.task_row))


class Editing(Deduplication):
    """The part of the store that changes tasks at a person's wish."""

    def cancel(
        self,
        batch: str,
        ids: Collection[str] | None = None,
        *,
        now: float,
        why: str = "cancelled before it was started",
        submitter: str = "",
    ) -> int:
        """Cancel queued tasks: all of the batch, these `ids` of it, or those of one submitter. Returns how
        many were queued.

        Running ones are the orchestrator's: ask it with a command. Who waited for the answer of one that is
        cancelled is asked itself, unless it is cancelled as well.
        """
        cancelled = 0
        for rows in self._chosen(batch, sa.and_(IS_QUEUED, self._of(batch, submitter)), ids):
            with self._database.writing() as connection:
                cancelled += self._close(
                    connection,
                    sa.and_(IS_QUEUED, _T.task_row.in_(rows)),
                    TaskStatus.QUEUED,
                    TaskStatus.CANCELLED,
                    error=why,
                    now=now,
                )
        self._promote_for_cancelled()
        return cancelled

    def requeue(
        self,
        batch: str,
        *,
        statuses: Collection[TaskStatus] = (),
        ids: Collection[str] = (),
        truncated: bool = False,
        now: float,
        submitter: str = "",
        asked_by: str = "",
    ) -> int:
        """Ask again: final tasks of these ids or statuses, and with `truncated` those cut short; of everybody
        or of one submitter. With `asked_by` they are that one's from now on, who pays for the new attempts.

        Attempts and what they cost are kept, the answers are dropped; tasks whose content was purged stay as
        they are. Returns how many are queued again.
        """
        can_be_asked = sa.and_(_CAN_BE_ASKED, self._of(batch, submitter))
        chosen = [self._chosen(batch, can_be_asked, ids)]
        if statuses or truncated:
            cut_short = (_T.truncated == 1,) if truncated else ()
            of_these = sa.or_(_T.status.in_([status.value for status in statuses]), *cut_short)
            chosen.append(self._chosen(batch, sa.and_(can_be_asked, of_these)))
        reopened = 0
        for rows in itertools.chain(*chosen):
            streams = self._streams_for(batch, rows, asked_by) if asked_by else {}
            with self._database.writing() as connection:
                for old, new in streams.items():
                    of_stream = sa.and_(_T.task_row.in_(rows), _T.stream_id == old, IS_FINAL)
                    connection.execute(sa.update(schema.tasks).where(of_stream).values(stream_id=new))
                reopened += self._reopen(connection, rows, now)
        return reopened

    def _streams_for(self, batch: str, rows: Collection[int], asked_by: str) -> dict[int, int]:
        """TaskStream by stream that these rows are in: that of `asked_by`, where it is another."""
        with self._database.reading() as connection:
            query = sa.select(_T.stream_id).where(_T.task_row.in_(rows)).distinct()
            old = [self._streams.by_id(number) for number in connection.execute(query).scalars()]
        others = [stream for stream in old if stream.submitter != asked_by]
        return {stream.id: self._streams.stream(batch, asked_by, stream.task_type).id for stream in others}

    def _of(self, batch: str, submitter: str) -> sa.ColumnElement[bool]:
        """Tasks of this submitter in the batch; of everybody where the name is empty."""
        if not submitter:
            return sa.true()
        streams = self._streams.of_batch(self._streams.known_batch_id(batch))
        return _T.stream_id.in_([stream.id for stream in streams if stream.submitter == submitter])

    def _chosen(
        self, batch: str, condition: sa.ColumnElement[bool], ids: Collection[str] | None = None
    ) -> Iterator[list[int]]:
        """Rows of a batch for which `condition` holds, a few hundred at a time; of these `ids`, if given.

        Each part is changed in a transaction of its own: a batch of 200,000 would keep all others waiting.
        """
        rows_of_batch = sa.select(_T.task_row).where(
            _T.batch_id == self._streams.known_batch_id(batch), condition
        )
        if ids is None:
            yield from self._in_parts(rows_of_batch)
            return
        names = list(ids)
        for start in range(0, len(names), IN_SIZE):
            query = rows_of_batch.where(_T.id.in_(names[start : start + IN_SIZE]))
            with self._database.reading() as connection:
                rows = list(connection.execute(query).scalars())
            yield rows

    def _in_parts(self, rows: sa.Select[int]) -> Iterator[list[int]]:
        """The answer of `rows` in the order of rows, `IN_SIZE` at a time."""
        last = 0
        while True:
            query = rows.where(_T.task_row > last).order_by(_T.task_row).limit(IN_SIZE)
            with self._database.reading() as connection:
                part = list(connection.execute(query).scalars())
            if not part:
                return
            yield part
            last = part[-1]

    def purge(self, before: float) -> int:
        """Delete prompts and answers of tasks that ended before `before`, and events as old.

        The accounting stays, and so does the knowledge that these tasks were there. Returns how many tasks
        lost their content.
        """
        purged = 0
        for rows in self._in_parts(sa.select(_T.task_row).where(_CAN_BE_ASKED, _T.since < before)):
            with self._database.writing() as connection:
                for table in (schema.prompts, schema.answers):
                    connection.execute(sa.delete(table).where(table.c.task_row.in_(rows)))
            purged += len(rows)
        with self._database.writing() as connection:
            connection.execute(sa.delete(schema.events).where(schema.events.c.at < before))
        return purged
