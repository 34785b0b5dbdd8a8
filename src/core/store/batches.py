"""Look up batches: a page, those with open tasks; their cost, and why tasks of one failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from ...records import OPEN_STATUSES, RUNS, TaskStatus
from . import schema
from .database import Database
from .identifiers import Identifiers
from .loading import batch_rows, task_counts
from .reconnecting import reconnecting
from .rows import BatchPage, BatchRow, FailureReason
from .sums import CallSums

SEARCHED = 4_000  # rows that a search for failures looks at
_B, _C, _T, _A = schema.batches.c, schema.task_counts.c, schema.tasks.c, schema.attempts.c
_WITH_ERROR = (TaskStatus.FAILED, TaskStatus.REFUSED)


@reconnecting()
class Batches:
    """Batches, for people and programs that look something up. It only reads."""

    def __init__(self, database: Database, ids: Identifiers) -> None:
        self._database, self._ids = database, ids

    def page(
        self, limit: int = 50, *, name: str = "", submitter: str = "", before: int | None = None
    ) -> BatchPage:
        """A page of batches whose name contains `name`, newest first, in any case of its letters.

        `submitter` selects those that this submitter created.
        """
        query = sa.select(schema.batches).order_by(_B.id.desc()).limit(limit + 1)
        if name:
            query = query.where(_B.name.icontains(name, autoescape=True))
        if submitter:
            query = query.where(_B.submitter == submitter)
        if before is not None:
            query = query.where(_B.id < before)
        found = self._rows(query)
        rows = tuple(row for _, row in found[:limit])
        return BatchPage(rows, found[limit - 1][0] if len(found) > limit else None)

    def with_open_tasks(self, limit: int = 20, *, submitter: str = "") -> list[BatchRow]:
        """The batches that have tasks to be answered, the oldest first."""
        has_open = sa.select(_C.batch_id).where(
            _C.status.in_(OPEN_STATUSES), _C.tasks > 0, _C.batch_id != schema.ALL_BATCHES
        )
        query = sa.select(schema.batches).where(_B.id.in_(has_open)).order_by(_B.id).limit(limit)
        if submitter:
            query = query.where(_B.submitter == submitter)
        return [row for _, row in self._rows(query)]

    def costs(self, names: Collection[str]) -> dict[str, CallSums]:
        """The calls of these batches and what they cost; without latencies and tokens."""
        calls = schema.batch_calls.c
        sums = ("calls", "ok", "failed", "uncertain", "cost_nanos", "uncertain_nanos", "unknown_cost_calls")
        query = (
            sa.select(
                _B.name, *(sa.cast(sa.func.sum(calls[each]), sa.BigInteger).label(each) for each in sums)
            )
            .join_from(schema.batches, schema.batch_calls, calls.batch_id == _B.id)
            .where(_B.name.in_(names))
            .group_by(_B.name)
        )
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return {row.name: CallSums(**{each: getattr(row, each) for each in sums}) for row in rows}

    def caps(self) -> dict[str, int]:
        """What batches may cost at most, in nano-dollars by name. Without runs, whose number has no end."""
        query = sa.select(_B.name, _B.max_cost_nanos).where(
            _B.max_cost_nanos.is_not(None), sa.not_(_B.name.startswith(RUNS, autoescape=True))
        )
        with self._database.reading() as connection:
            return {row.name: row.max_cost_nanos for row in connection.execute(query)}

    def cap(self, name: str) -> int | None:
        """What this batch may cost at most, nano-dollars; None without a cap."""
        with self._database.reading() as connection:
            query = sa.select(_B.max_cost_nanos).where(_B.name == name)
            found: int | None = connection.execute(query).scalar()
            return found

    def capped_runs(self, limit: int) -> set[str]:
        """The names of runs that have a cap, as batches; at most so many."""
        query = sa.select(_B.name).where(
            _B.max_cost_nanos.is_not(None), _B.name.startswith(RUNS, autoescape=True)
        )
        with self._database.reading() as connection:
            return set(connection.execute(query.limit(limit)).scalars())

    def failures(self, name: str) -> list[FailureReason]:
        """Why tasks of a batch failed or were refused, the most frequent reason first.

        It looks at the newest `SEARCHED` tasks of the batch or, if these are fewer, of those that failed.
        Raises StoreError if the batch does not exist.
        """
        batch_id = self._ids.known_batch_id(name)
        found: Counter[tuple[TaskStatus, str]] = Counter()
        with self._database.reading() as connection:
            counts = task_counts(connection, [schema.ALL_BATCHES, batch_id])
            of_all, of_batch = counts[schema.ALL_BATCHES], counts[batch_id]
            for status in (each for each in _WITH_ERROR if of_batch[each]):
                by_status = of_all[status] <= sum(of_batch.values())
                for row in connection.execute(_reasons(batch_id, status, by_status)):
                    found[status, row.error_kind or ""] += row.tasks
        return [FailureReason(status, kind, n) for (status, kind), n in found.most_common()]

    def _rows(self, query: sa.Select[Any]) -> list[tuple[int, BatchRow]]:
        with self._database.reading() as connection:
            return batch_rows(connection, query)


def _reasons(batch_id: int, status: TaskStatus, by_status: bool) -> sa.Select[Any]:
    """Tasks by the class of error of their last call, searched through the index of the rarer condition."""
    within = _T.status == status.value if by_status else _T.batch_id == batch_id
    newest = sa.select(_T.task_row, _T.batch_id, _T.status, _T.attempts).where(within)
    searched = newest.order_by(_T.task_row.desc()).limit(SEARCHED).subquery()
    last = sa.and_(_A.task_row == searched.c.task_row, _A.seq == searched.c.attempts)
    return (
        sa.select(_A.error_kind, sa.func.count().label("tasks"))
        .select_from(sa.outerjoin(searched, schema.attempts, last))
        .where(searched.c.batch_id == batch_id, searched.c.status == status.value)
        .group_by(_A.error_kind)
    )
