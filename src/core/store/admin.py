"""Changes that people make to stored tasks: cancel and retry."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import sqlalchemy as sa

from ...records import OPEN_STATUSES, TaskStatus
from . import schema
from .batch_rows import BatchRows
from .database import Database
from .deduplication import Deduplication
from .deferrals import DeferralGroups
from .identifiers import Identifiers
from .loading import IN_SIZE, parts
from .named_rows import without_index
from .reconnecting import reconnecting
from .rows import FailureReason
from .schema import IS_FINAL
from .transitions import Transitions

_T = schema.tasks.c
_CAN_BE_CANCELLED = _T.status.in_([status.value for status in OPEN_STATUSES if status != TaskStatus.RUNNING])
_CAN_BE_RETRIED = sa.and_(IS_FINAL, sa.exists().where(schema.prompts.c.task_row == _T.task_row))


@reconnecting()
class Admin:
    """Changes to stored tasks. A large batch is changed in several transactions, so that others can write.

    Methods that name a batch raise StoreError if it does not exist.
    """

    def __init__(
        self,
        database: Database,
        ids: Identifiers,
        transitions: Transitions,
        deduplication: Deduplication,
        deferrals: DeferralGroups,
        batch_rows: BatchRows,
    ) -> None:
        self._database, self._ids = database, ids
        self._transitions, self._deduplication = transitions, deduplication
        self._deferrals, self._batch_rows = deferrals, batch_rows

    def cancel(
        self,
        batch: str,
        ids: Collection[str] | None = None,
        *,
        now: float,
        why: str = "cancelled before it was started",
        submitter: str = "",
    ) -> int:
        """Cancel tasks of a batch that wait: all, only these `ids`, or only those of one submitter.

        Returns how many were cancelled. Running tasks belong to the orchestrator, which takes a command for
        them. Those in a provider's batch are cancelled too, but what they cost there is booked. Duplicates of
        a cancelled task run themselves, unless they are cancelled too.
        """
        cancelled = 0
        for rows in self._chosen(batch, sa.and_(_CAN_BE_CANCELLED, self._of(batch, submitter)), ids):
            with self._database.writing() as connection:
                cancelled += self._cancel(connection, rows, why, now)
        self._deduplication.promote_for_cancelled()
        return cancelled

    def _cancel(self, connection: sa.Connection, rows: Sequence[int], why: str, now: float) -> int:
        these = sa.and_(_T.task_row.in_(rows), without_index(_CAN_BE_CANCELLED))
        waiting = sa.select(_T.task_row, _T.status).where(these)
        by_status: dict[TaskStatus, list[int]] = {}
        for row in connection.execute(waiting.order_by(_T.task_row).with_for_update()):
            by_status.setdefault(TaskStatus(row.status), []).append(row.task_row)
        self._deferrals.remove(connection, by_status.get(TaskStatus.DEFERRED, []))
        self._batch_rows.release(connection, by_status.get(TaskStatus.BATCHED, []))
        return sum(
            self._transitions.close(
                connection, _T.task_row.in_(of_status), was, TaskStatus.CANCELLED, error=why, now=now
            )
            for was, of_status in by_status.items()
        )

    def retry(self, batch: str, ids: Collection[str], *, now: float, retried_by: str = "") -> int:
        """Queue the final tasks among `ids` again. Returns how many.

        `retried_by` becomes the submitter of the tasks and pays for the new attempts; if it is empty, the
        submitter stays. Earlier attempts, their cost and the earlier end are kept; purged tasks stay as they
        are. `now` is in epoch seconds.
        """
        return self._retry(batch, self._chosen(batch, _CAN_BE_RETRIED, ids), now, retried_by)

    def retry_ended(
        self,
        batch: str,
        statuses: Collection[TaskStatus],
        *,
        truncated: bool = False,
        now: float,
        submitter: str = "",
        retried_by: str = "",
    ) -> int:
        """Queue tasks again that ended with these statuses or, with `truncated`, were cut short.

        `submitter` restricts this to tasks of one submitter. Otherwise like `retry`.
        """
        cut_short = (_T.truncated == 1,) if truncated else ()
        ended = sa.or_(_T.status.in_([status.value for status in statuses]), *cut_short)
        of_submitter = self._of(batch, submitter)
        chosen = self._chosen(batch, sa.and_(_CAN_BE_RETRIED, of_submitter, ended))
        return self._retry(batch, chosen, now, retried_by)

    def retry_failed(
        self, batch: str, reason: FailureReason, *, now: float, submitter: str = "", retried_by: str = ""
    ) -> int:
        """Queue tasks again that ended with the status and class of error of `reason`, like `retry_ended`.

        An empty class of error means any.
        """
        a = schema.attempts.c
        last = sa.exists().where(
            a.task_row == _T.task_row, a.seq == _T.attempts, a.error_kind == reason.error_kind
        )
        ended = (_T.status == reason.status.value, *((last,) if reason.error_kind else ()))
        chosen = self._chosen(batch, sa.and_(_CAN_BE_RETRIED, self._of(batch, submitter), *ended))
        return self._retry(batch, chosen, now, retried_by)

    def _retry(self, batch: str, chosen: Iterator[list[int]], now: float, retried_by: str) -> int:
        reopened = 0
        for rows in chosen:
            streams = self._streams_for(batch, rows, retried_by) if retried_by else {}
            with self._database.writing() as connection:
                for old, new in streams.items():
                    of_stream = sa.and_(_T.task_row.in_(rows), _T.stream_id == old, IS_FINAL)
                    connection.execute(sa.update(schema.tasks).where(of_stream).values(stream_id=new))
                reopened += self._transitions.reopen(connection, rows, now)
        return reopened

    def _streams_for(self, batch: str, rows: Collection[int], retried_by: str) -> dict[int, int]:
        """For each stream of these rows that has another submitter: the stream of `retried_by`."""
        with self._database.reading() as connection:
            query = sa.select(_T.stream_id).where(_T.task_row.in_(rows)).distinct()
            old = [self._ids.stream_by_id(number) for number in connection.execute(query).scalars()]
        others = [stream for stream in old if stream.submitter != retried_by]
        return {stream.id: self._ids.stream(batch, retried_by, stream.task_type).id for stream in others}

    def _of(self, batch: str, submitter: str) -> sa.ColumnElement[bool]:
        """The condition for tasks of this submitter; true if the name is empty."""
        if not submitter:
            return sa.true()
        streams = self._ids.streams_of_batch(self._ids.known_batch_id(batch))
        return _T.stream_id.in_([stream.id for stream in streams if stream.submitter == submitter])

    def _chosen(
        self, batch: str, condition: sa.ColumnElement[bool], ids: Collection[str] | None = None
    ) -> Iterator[list[int]]:
        """Row numbers of a batch that satisfy `condition`, and are of `ids` if given, `IN_SIZE` at a time."""
        rows_of_batch = sa.select(_T.task_row).where(_T.batch_id == self._ids.known_batch_id(batch))
        if ids is None:
            yield from self._in_parts(rows_of_batch.where(condition))
            return
        for part in parts(ids, IN_SIZE):
            query = rows_of_batch.where(_T.id.in_(part), without_index(condition))
            with self._database.reading() as connection:
                rows = list(connection.execute(query).scalars())
            yield rows

    def _in_parts(self, rows: sa.Select[int]) -> Iterator[list[int]]:
        """The row numbers that the query `rows` finds, in order, `IN_SIZE` at a time."""
        last = 0
        while True:
            query = rows.where(_T.task_row > last).order_by(_T.task_row).limit(IN_SIZE)
            with self._database.reading() as connection:
                part = list(connection.execute(query).scalars())
            if not part:
                return
            yield part
            last = part[-1]
