"""Equal tasks of a batch that run once: the first one is the primary, the others are its duplicates.

    queued, equal to an earlier task --link--> duplicate: queued, but never claimed
    duplicate --its primary ends--> ends with the same status, output and error; no attempt, no cost
              --its primary is cancelled, or gets other content--> the oldest duplicate becomes the primary
              --retried after it has ended, and its primary is not--> runs itself

A primary ends in the transaction that ends its duplicates, up to a few hundred of them. `settle_duplicates`
ends the rest: those that come later, and those whose primary ended in some other way. Two tasks are equal if
`codec.request_of` is: messages, type, tier, model, parameters. A task whose deadline differs from that of an
open primary runs itself, and so does one whose primary's answer was purged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from ...records import OPEN_STATUSES, Result, TaskStatus
from . import schema
from .database import Database
from .deferrals import DeferralGroups
from .identifiers import Identifiers, TaskStream
from .loading import IN_SIZE, Loader, full_tasks, parts
from .moving import move
from .named_rows import Among
from .reconnecting import reconnecting
from .rollups import FinishedTask, Rollup, add_counts, add_task
from .schema import IS_DUPLICATE, IS_QUEUED
from .search_index import SearchIndex

DUPLICATES_AT_ONCE = 500  # in one transaction, and in memory
CAN_BE_PRIMARY = frozenset({*OPEN_STATUSES, TaskStatus.SUCCEEDED})
_T = schema.tasks.c
_L = schema.dedup_primaries.c
_Primary = schema.tasks.alias("primary")
_HAS_ANSWER = sa.exists().where(schema.answers.c.task_row == _T.task_row)
_IS_WAITING = sa.and_(IS_QUEUED, IS_DUPLICATE)
_PRIMARY_HAS_ENDED = _Primary.c.status.not_in(OPEN_STATUSES)

# What a duplicate takes over from its primary, in the order of `_END`.
_TAKEN = (
    "status", "since", "provider", "model", "agent", "tier", "finish_reason", "truncated", "error",
    "warnings",
)  # fmt: skip
_WAITING = (
    sa.select(
        _T.task_row,
        _T.batch_id,
        _T.cost_nanos,
        _T.unknown_cost_calls,
        _T.primary_row,
        *(_Primary.c[name].label(name) for name in _TAKEN),
    )
    .join_from(schema.tasks, _Primary, _Primary.c.task_row == _T.primary_row)
    .where(_IS_WAITING, _PRIMARY_HAS_ENDED)
    .limit(DUPLICATES_AT_ONCE)
)
_WAITING_FOR_THESE = _WAITING.where(Among(_T.primary_row, "primaries"))
_CANDIDATES = (
    sa.select(_T.task_row, _T.batch_id, _T.content_hash, _T.status, _T.priority, _T.deadline_at)
    .where(Among(_T.task_row), _T.primary_row.is_(None))
    .order_by(_T.task_row)
)
_PRIMARIES = (
    sa.select(_T.task_row, _T.batch_id, _T.content_hash, _T.status, _T.priority, _T.deadline_at)
    .join_from(schema.dedup_primaries, schema.tasks, _T.task_row == _L.task_row)
    .where(
        _L.batch_id == bindparam("batch"),
        _L.content_hash.in_(bindparam("contents", expanding=True)),
        _T.content_hash == _L.content_hash,  # it may have got other content since
        _T.primary_row.is_(None),
        sa.or_(_T.status != TaskStatus.SUCCEEDED.value, _HAS_ANSWER),  # it may be purged
    )
)


class DuplicateLinks:
    """Links between primaries and duplicates. Each method runs inside its caller's transaction."""

    def __init__(
        self, database: Database, loader: Loader, index: SearchIndex, groups: DeferralGroups
    ) -> None:
        self._database, self._loader, self._index = database, loader, index
        self._groups = groups

    def end_duplicates(self, connection: sa.Connection, primaries: Sequence[int]) -> list[Result]:
        """End up to `DUPLICATES_AT_ONCE` duplicates of these tasks, which have just ended."""
        found: list[Any] = []
        for part in parts(primaries, IN_SIZE):
            found += connection.execute(_WAITING_FOR_THESE, {"primaries": part}).all()
        return self.end_waiting(connection, found[:DUPLICATES_AT_ONCE])

    def end_waiting(self, connection: sa.Connection, waiting: Sequence[Any]) -> list[Result]:
        """End the duplicates of these rows of `_WAITING`; return the results of those that ended."""
        cancelled = {row.primary_row for row in waiting if row.status == TaskStatus.CANCELLED}
        self.promote_and_count(connection, sorted(cancelled))
        ending = [row for row in waiting if row.primary_row not in cancelled]
        if not ending:
            return []
        values = [(*(getattr(row, name) for name in _TAKEN), 0, row.task_row) for row in ending]
        end = self._database.updating(schema.tasks, [*_TAKEN, "baseline_nanos"], "task_row")
        end.many(connection, values)
        rows = [row.task_row for row in ending]
        self._copy_answers(connection, rows)
        self._index.note_ended(connection, rows)
        self._count_ended(connection, ending)
        query = full_tasks().where(_T.task_row.in_(rows)).order_by(_T.task_row)
        return [stored.result for stored in self._loader.results(connection, query)]

    def _copy_answers(self, connection: sa.Connection, rows: Collection[int]) -> None:
        a = schema.answers
        of_primaries = (
            sa.select(_T.task_row, a.c.output, a.c.parts)
            .join_from(schema.tasks, a, a.c.task_row == _T.primary_row)
            .where(_T.task_row.in_(rows))
        )
        connection.execute(sa.insert(a).from_select(["task_row", "output", "parts"], of_primaries))

    def _count_ended(self, connection: sa.Connection, ended: Sequence[Any]) -> None:
        """The cost stands with the primary; a duplicate has only the cost of attempts before it was one."""
        sums = Rollup(schema.batch_tasks, schema.TASK_COLUMNS)
        counts: Counter[tuple[int, TaskStatus]] = Counter()
        for row in ended:
            status = TaskStatus(row.status)
            counts[row.batch_id, TaskStatus.QUEUED] -= 1
            counts[row.batch_id, status] += 1
            finished = FinishedTask.of_row(row, status, baseline_nanos=0)
            add_task(sums.row((row.batch_id, row.agent, row.tier)), finished)
        sums.write(self._database, connection)
        add_counts(self._database, connection, counts)

    def promote_and_count(self, connection: sa.Connection, primaries: Collection[int]) -> None:
        deferred = self.promote(connection, primaries)
        move(self._database, connection, deferred, TaskStatus.QUEUED, TaskStatus.DEFERRED)

    def promote(self, connection: sa.Connection, primaries: Collection[int]) -> dict[int, TaskStream]:
        """Make the oldest duplicate of each of these primaries the primary of the others.

        It is deferred as its primary was, since it has the same deadline. Returns those that are deferred
        now, for the caller to count.
        """
        promoted: dict[float, list[int]] = {}
        for primary in primaries:
            waiting = sa.and_(_IS_WAITING, _T.primary_row == primary)
            first = connection.execute(sa.select(sa.func.min(_T.task_row)).where(waiting)).scalar()
            if first is None:
                continue
            connection.execute(sa.update(schema.tasks).where(_T.task_row == first).values(primary_row=None))
            connection.execute(sa.update(schema.tasks).where(waiting).values(primary_row=first))
            which = sa.select(_T.batch_id, _T.content_hash).where(_T.task_row == first)
            batch_id, content_hash = connection.execute(which).one()
            self._set_primaries(connection, [(batch_id, content_hash, first)])
            since = connection.execute(sa.select(_T.since).where(_T.task_row == primary)).scalar_one()
            promoted.setdefault(since, []).append(first)
        deferred: dict[int, TaskStream] = {}
        for since, rows in promoted.items():
            deferred |= self._groups.defer(connection, rows, since)
        return deferred

    def promote_duplicates_of(
        self, connection: sa.Connection, rows: Collection[int]
    ) -> dict[int, TaskStream]:
        """`promote` for the tasks among `rows` that have duplicates waiting."""
        primary_of_waiting = sa.select(_T.primary_row).where(_IS_WAITING, _T.primary_row.in_(rows)).distinct()
        return self.promote(connection, sorted(connection.execute(primary_of_waiting).scalars()))

    def link(self, connection: sa.Connection, rows: Sequence[int]) -> list[int]:
        """Make tasks among `rows` that wait duplicates of an equal task, if there is one; return these.

        Those that are deferred have to be queued then: a duplicate goes into no batch.
        """
        duplicates: list[tuple[int, int]] = []
        new: list[tuple[int, bytes, int]] = []
        for part in parts(rows, IN_SIZE):
            candidates = connection.execute(_CANDIDATES, {"rows": part}).all()
            primaries = self._primaries(connection, candidates)
            for task in candidates:
                key = task.batch_id, bytes(task.content_hash)
                primary = primaries.get(key)
                if primary is None or primary.status not in CAN_BE_PRIMARY:
                    if task.status in CAN_BE_PRIMARY:
                        primaries[key] = task
                        new.append((*key, task.task_row))
                elif _can_be_duplicate(task, primary):
                    duplicates.append((primary.task_row, task.task_row))
        self._set_primaries(connection, new)
        self._database.updating(schema.tasks, ["primary_row"], "task_row").many(connection, duplicates)
        return [row for _, row in duplicates]

    def _primaries(self, connection: sa.Connection, tasks: Sequence[Any]) -> dict[tuple[int, bytes], Any]:
        """The primaries of the contents of `tasks`, by batch and content hash."""
        wanted: dict[int, set[bytes]] = {}
        for task in tasks:
            wanted.setdefault(task.batch_id, set()).add(bytes(task.content_hash))
        found: dict[tuple[int, bytes], Any] = {}
        for batch_id, contents in wanted.items():
            rows = connection.execute(_PRIMARIES, {"batch": batch_id, "contents": sorted(contents)})
            found |= {(batch_id, bytes(row.content_hash)): row for row in rows}
        return found

    def _set_primaries(self, connection: sa.Connection, primaries: Sequence[tuple[int, bytes, int]]) -> None:
        """Store these (batch id, content hash, row), each replacing the primary before it."""
        self._database.replacing(schema.dedup_primaries, ["task_row"]).many(connection, primaries)


@reconnecting()
class Deduplication:
    """Settle duplicates that did not end in the transaction of their primary."""

    def __init__(self, database: Database, ids: Identifiers, links: DuplicateLinks) -> None:
        self._database, self._ids, self._links = database, ids, links

    def settle(self, batch: str | None = None) -> list[Result]:
        """End duplicates whose primary has ended before them; return up to `DUPLICATES_AT_ONCE` results.

        Of one batch, or of all. Call it again until it returns an empty list.
        """
        of_batch = () if batch is None else (_T.batch_id == self._ids.known_batch_id(batch),)
        with self._database.writing() as connection:
            return self._links.end_waiting(connection, connection.execute(_WAITING.where(*of_batch)).all())

    def promote_for_cancelled(self) -> None:
        """Choose a new primary wherever a primary was cancelled and duplicates wait for it."""
        cancelled = _Primary.c.status == TaskStatus.CANCELLED.value
        primaries_of_waiting = (
            sa.select(_T.primary_row)
            .join_from(schema.tasks, _Primary, _Primary.c.task_row == _T.primary_row)
            .where(_IS_WAITING, cancelled)
            .limit(IN_SIZE)
        )
        while True:
            with self._database.writing() as connection:
                primaries = set(connection.execute(primaries_of_waiting).scalars())
                self._links.promote_and_count(connection, sorted(primaries))
            if not primaries:
                return


def _can_be_duplicate(task: Any, primary: Any) -> bool:
    """A waiting task may wait for one that has succeeded, or that has its deadline and no lower priority."""
    if task.status not in (TaskStatus.QUEUED, TaskStatus.DEFERRED) or task.task_row == primary.task_row:
        return False
    if primary.status == TaskStatus.SUCCEEDED:
        return True
    return bool(primary.priority >= task.priority and primary.deadline_at == task.deadline_at)
