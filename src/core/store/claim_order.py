"""The order in which a claim takes queued tasks.

1. Tasks whose deadline is near, however young, up to half of the claim: they are served in time, or expire
   when their time comes and not when their turn does.
2. The highest priority. Within it owners (one batch and submitter) take turns, the least recently served
   first; within an owner its task types take turns too; within a stream the oldest task comes first.

So a file of 200,000 rows does not make a single question wait for its end. Streams are found by jumping
through the index from one to the next: a claim costs the same with a thousand tasks queued and with a
million. When a stream was last served is kept in memory only; after a start all are equal again.

Owners that the caller excludes (their budget is spent) are skipped as if they had no tasks.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence

import sqlalchemy as sa
from sqlalchemy import bindparam

from . import schema
from .database import Database
from .identifiers import Identifiers, TaskStream
from .schema import IS_QUEUED, RUNS_ITSELF

NEAR_S = 120.0  # a task whose deadline is this close goes first
STREAMS_SEEN = 32  # compare at least this many, however small the claim
_T = schema.tasks.c

_NEAR_DEADLINE = (
    sa.select(_T.task_row, _T.stream_id)
    .where(IS_QUEUED, RUNS_ITSELF, _T.deadline_at.is_not(None), _T.deadline_at < bindparam("soon"))
    .order_by(_T.deadline_at)
    .limit(bindparam("n"))
)
_NEXT_PRIORITY = (
    sa.select(_T.priority)
    .where(IS_QUEUED, RUNS_ITSELF, _T.priority < bindparam("below"))
    .order_by(_T.priority.desc())
    .limit(1)
)
_NEXT_STREAM = (
    sa.select(_T.stream_id)
    .where(IS_QUEUED, RUNS_ITSELF, _T.priority == bindparam("priority"), _T.stream_id > bindparam("after"))
    .order_by(_T.stream_id)
    .limit(1)
)
_STREAM_ROWS = (
    sa.select(_T.task_row)
    .where(
        IS_QUEUED,
        RUNS_ITSELF,
        _T.priority == bindparam("priority"),
        _T.stream_id == bindparam("stream"),
        _T.task_row > bindparam("after"),
    )
    .order_by(_T.task_row)
    .limit(bindparam("n"))
)
_STREAMS_OF_BATCH = sa.select(schema.task_streams.c.id).where(
    schema.task_streams.c.batch_id == bindparam("which")
)
_Owner = tuple[int, str]  # batch id, submitter
_Item = tuple[int, TaskStream]  # row, its stream


class ClaimOrder:
    """Chooses rows inside the caller's transaction; it does not claim them."""

    def __init__(self, database: Database, ids: Identifiers) -> None:
        self._database, self._ids = database, ids
        self._tick = 0
        self._served: dict[_Owner | int, int] = {}  # owner or stream -> when it was served last
        self._excluded: Collection[tuple[str, str]] = ()
        self._looked_at = 0  # the last stream seen, if there were too many to see all

    def next_rows(
        self,
        connection: sa.Connection,
        limit: int,
        only: int | None,
        now: float,
        excluded: Collection[tuple[str, str]] = (),
        above: int | None = None,
    ) -> list[int]:
        """Up to `limit` row numbers of queued tasks, in the order to claim them; only of the batch `only`.

        `excluded` are owners, as (batch, submitter); with `above` only tasks of a higher priority are taken.
        """
        self._excluded = excluded
        streams_of = self._database.prepared(_STREAMS_OF_BATCH, ["which"])
        only_of = None if only is None else streams_of.one(connection, (only,)).scalars().all()
        near = self._near_deadline(connection, (limit + 1) // 2, only_of, now) if above is None else []
        found: list[_Item] = []
        for priority in self._priorities(connection):
            if above is not None and priority <= above:
                break
            streams = self._waiting_streams(connection, priority, limit, only_of)
            in_turn = self._in_turn(connection, priority, streams, limit)
            found += itertools.islice(in_turn, limit - len(found))
            if len(found) == limit:
                break
        self._note(stream for _, stream in found)
        return list(dict.fromkeys(near + [row for row, _ in found]))[:limit]

    def _near_deadline(
        self, connection: sa.Connection, limit: int, only: Sequence[int] | None, now: float
    ) -> list[int]:
        statement = self._database.prepared(_NEAR_DEADLINE, ["soon", "n"])
        rows = statement.one(connection, (now + NEAR_S, limit)).all()
        return [
            row.task_row
            for row in rows
            if (only is None or row.stream_id in only) and not self._passed_over(row.stream_id)
        ]

    def _passed_over(self, stream_id: int) -> bool:
        if not self._excluded:
            return False
        stream = self._ids.stream_by_id(stream_id)
        return (stream.batch, stream.submitter) in self._excluded

    def _priorities(self, connection: sa.Connection) -> Iterator[int]:
        """The priorities of queued tasks, highest first, each found by one index search."""
        statement = self._database.prepared(_NEXT_PRIORITY, ["below"])
        below = 2**31 - 1
        while (priority := statement.one(connection, (below,)).scalar()) is not None:
            yield priority
            below = priority

    def _waiting_streams(
        self, connection: sa.Connection, priority: int, limit: int, only: Sequence[int] | None
    ) -> list[TaskStream]:
        """Streams with queued tasks of this priority; if there are too many, other ones each time."""
        if only is not None:
            return [
                self._ids.stream_by_id(each)
                for each in only
                if not self._passed_over(each) and self._next_stream(connection, priority, each - 1) == each
            ]
        start, enough = self._looked_at, max(limit, STREAMS_SEEN)
        behind = self._stream_ids(connection, priority, start)
        before = itertools.takewhile(lambda i: i <= start, self._stream_ids(connection, priority, 0))
        ids = list(itertools.islice(itertools.chain(behind, before), enough))
        self._looked_at = ids[-1] if len(ids) == enough else 0
        return [self._ids.stream_by_id(i) for i in ids]

    def _stream_ids(self, connection: sa.Connection, priority: int, after: int) -> Iterator[int]:
        while (found := self._next_stream(connection, priority, after)) is not None:
            if not self._passed_over(found):
                yield found
            after = found

    def _next_stream(self, connection: sa.Connection, priority: int, after: int) -> int | None:
        statement = self._database.prepared(_NEXT_STREAM, ["priority", "after"])
        found: int | None = statement.one(connection, (priority, after)).scalar()
        return found

    def _in_turn(
        self, connection: sa.Connection, priority: int, streams: Sequence[TaskStream], limit: int
    ) -> Iterator[_Item]:
        """Tasks of these streams, owners in turn and within each its streams in turn."""
        per_query = max(8, limit // max(1, len(streams)))
        owners: dict[_Owner, list[TaskStream]] = {}
        for stream in sorted(streams, key=lambda stream: self._served.get(stream.id, 0)):
            owners.setdefault((stream.batch_id, stream.submitter), []).append(stream)
        waited_longest = sorted(owners, key=lambda owner: self._served.get(owner, 0))
        return _take_turns(
            [
                _take_turns(
                    [self._stream_items(connection, priority, stream, per_query) for stream in owners[owner]]
                )
                for owner in waited_longest
            ]
        )

    def _stream_items(
        self, connection: sa.Connection, priority: int, stream: TaskStream, per_query: int
    ) -> Iterator[_Item]:
        """The stream's queued tasks, oldest first."""
        statement = self._database.prepared(_STREAM_ROWS, ["priority", "stream", "after", "n"])
        after = 0
        while rows := statement.one(connection, (priority, stream.id, after, per_query)).scalars().all():
            yield from ((row, stream) for row in rows)
            after = rows[-1]

    def _note(self, streams: Iterator[TaskStream]) -> None:
        for stream in streams:
            self._tick += 1
            self._served[stream.id] = self._served[stream.batch_id, stream.submitter] = self._tick


def _take_turns(iterators: Sequence[Iterator[_Item]]) -> Iterator[_Item]:
    """One item of each in turn, until all are at their end."""
    waiting = list(iterators)
    while waiting:
        alive = []
        for iterator in waiting:
            for item in iterator:
                yield item
                alive.append(iterator)
                break
        waiting = alive
