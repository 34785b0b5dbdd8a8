"""How the tasks of a provider's batch go on: with a result, or without one.

    collect     results are stored like those of live calls, with their cost, once for each row
    give_back   rows without a result: their tasks are queued, or deferred once more
    pull        the tasks are queued although the batch has not ended

After `pull`, and after a task was cancelled, its row stays with what is reserved for it. A result that still
comes is booked as an attempt that costs, but is no answer. A row that has its end is deleted in the same
transaction, so that a repetition finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from ...errors import StoreError
from ...records import Attempt, Outcome, Result, TaskStatus
from . import schema
from .batch_rows import BatchRows, is_waited_for
from .database import Database
from .deduplication import DuplicateLinks
from .deferrals import AT_ONCE, DeferralGroups
from .ends import with_earlier_attempts, write_ends, write_sums
from .identifiers import Identifiers
from .ledger import ClaimedTask, Ledger
from .loading import Loader
from .moving import mark, move
from .provider_batch_schema import provider_batches
from .provider_batch_states import TAKES_RESULTS, BatchState
from .provider_batch_values import Collected, RowEnd, SettledRow
from .provider_batches import change, check
from .reconnecting import reconnecting
from .rollups import FinishedTask, Rollup, add_task
from .schema import IS_BATCHED
from .search_index import SearchIndex

LATE = "the answer came after the task had gone on without it"
_B = provider_batches.c


@reconnecting()
class BatchResults:
    """Ends the stay of tasks in batches, for the leader."""

    def __init__(
        self,
        database: Database,
        ids: Identifiers,
        loader: Loader,
        groups: DeferralGroups,
        links: DuplicateLinks,
        index: SearchIndex,
    ) -> None:
        self._database, self._ids, self._loader = database, ids, loader
        self._groups, self._links, self._index = groups, links, index
        self._rows = BatchRows(database)

    # ------------------------------------------------------------ results

    def collect(self, batch_id: int, ends: Sequence[RowEnd], now: float) -> Collected:
        """Store how rows came back, in one transaction: a few hundred at a time.

        Rows that have their end already are skipped. Raises StoreError for a result that is not final, and
        where the batch is not at its provider.
        """
        by_place = {end.place: end for end in ends}
        if any(end.result is not None and not end.result.status.is_final for end in ends):
            raise StoreError("a result is final")
        with self._database.writing() as connection:
            state = connection.execute(sa.select(_B.state).where(_B.id == batch_id)).scalar()
            if state not in TAKES_RESULTS:
                raise StoreError(f"batch number {batch_id} at its provider is {state}: it has no results")
            rows = self._rows.at(connection, batch_id, by_place)
            found = _Sorted(self._ids)
            for row in rows:
                found.add(row, by_place[row.place])
            if not rows:
                return Collected()
            cost_nanos = sum(each.cost_nanos or 0 for each in found.freed)
            self._rows.settle(connection, batch_id, found.settled, cost_nanos, found.late_nanos)
            found.ledger.write(self._database, connection)
            self._write(connection, found, now)
            results = with_earlier_attempts(connection, self._loader, found.ended)
            results += self._links.end_duplicates(connection, [mine.row for _, mine in found.ended])
        return Collected(results, len(found.again), found.late, found.freed)

    def _write(self, connection: sa.Connection, found: _Sorted, now: float) -> None:
        write_ends(self._database, connection, self._index, found.ended, was=TaskStatus.BATCHED)
        write_sums(self._database, connection, [*found.again, *found.gone_on])
        found.more_cost.write(self._database, connection)
        self._queue(connection, [mine.row for mine in found.again], now)

    def _queue(
        self, connection: sa.Connection, rows: Sequence[int], now: float, *, defer: bool = False
    ) -> int:
        """Queue batched tasks for live calls, or defer them; returns how many."""
        values = {"status": TaskStatus.QUEUED.value, "since": now}
        moved = mark(connection, self._ids, rows, IS_BATCHED, values)
        deferred = self._groups.defer(connection, sorted(moved), now) if defer else {}
        queued = {row: stream for row, stream in moved.items() if row not in deferred}
        move(self._database, connection, deferred, TaskStatus.BATCHED, TaskStatus.DEFERRED)
        move(self._database, connection, queued, TaskStatus.BATCHED, TaskStatus.QUEUED)
        return len(moved)

    # ------------------------------------------------------------ without results

    def give_back(
        self, batch_id: int, places: Sequence[int] | None = None, *, now: float, defer: bool = False
    ) -> list[SettledRow]:
        """End rows that have no result and get none: the first `AT_ONCE`, or those at `places`.

        Nothing was paid for them. Their tasks are queued or, with `defer`, deferred once more. Returns what
        was reserved for them; empty where no row is left.
        """
        with self._database.writing() as connection:
            if places is None:
                rows = self._rows.first(connection, batch_id, AT_ONCE)
            else:
                rows = self._rows.at(connection, batch_id, places)
            if rows:
                self._rows.settle(connection, batch_id, [(row, "unanswered") for row in rows])
                waiting = [row.task_row for row in rows if is_waited_for(row)]
                self._queue(connection, waiting, now, defer=defer)
        return [self._freed(row) for row in rows]

    def _freed(self, row: Any) -> SettledRow:
        stream = self._ids.stream_by_id(row.stream_id)
        return SettledRow(stream.batch, stream.submitter, row.reserved_nanos)

    def pull(self, batch_id: int, now: float) -> int:
        """Queue tasks that wait for a result of the batch, up to `AT_ONCE`; returns how many."""
        with self._database.writing() as connection:
            rows = self._rows.waiting(connection, batch_id, AT_ONCE)
            self._rows.release(connection, rows)
            queued = self._queue(connection, rows, now)
            more = sa.update(provider_batches).where(_B.id == batch_id)
            connection.execute(more.values(pulled_rows=_B.pulled_rows + queued))
        return queued

    def collected(self, batch_id: int, now: float, *, defer: bool = False) -> list[SettledRow]:
        """Close a batch that has ended. Rows that are left are given back first, see there.

        Many are better given back before this call, which takes the time of them all.
        """
        return self._close(batch_id, BatchState.COLLECTED, now=now, defer=defer)

    def failed(self, batch_id: int, why: str, *, now: float, defer: bool = False) -> list[SettledRow]:
        """Close a batch of which the provider has done no row, and give all rows back, see there."""
        return self._close(batch_id, BatchState.FAILED, now=now, defer=defer, error=why)

    def _close(
        self, batch_id: int, new: BatchState, *, now: float, defer: bool = False, **values: Any
    ) -> list[SettledRow]:
        with self._database.reading() as connection:
            check(connection, batch_id, new)
        freed: list[SettledRow] = []
        while part := self.give_back(batch_id, now=now, defer=defer):
            freed += part
        with self._database.writing() as connection:
            change(connection, batch_id, new, **values)
        return freed


class _Sorted:
    """Rows that came back, by what becomes of their tasks."""

    def __init__(self, ids: Identifiers) -> None:
        self._ids = ids
        self.ledger = Ledger()
        self.ended: list[tuple[Result, ClaimedTask]] = []
        self.again: list[ClaimedTask] = []  # queued once more
        self.gone_on: list[ClaimedTask] = []  # without the batch
        self.late: list[Attempt] = []
        self.more_cost = Rollup(schema.batch_tasks, schema.TASK_COLUMNS)  # of tasks that had ended
        self.settled: list[tuple[Any, Any]] = []
        self.freed: list[SettledRow] = []

    @property
    def late_nanos(self) -> int:
        """What the answers that came too late have cost."""
        return sum(attempt.cost_nanos or 0 for attempt in self.late)

    def add(self, row: Any, end: RowEnd) -> None:
        """A row that came back."""
        stream = self._ids.stream_by_id(row.stream_id)
        mine = ClaimedTask(
            row.task_row, stream, row.created_at, row.attempts, row.cost_nanos, row.unknown_cost_calls
        )
        cost = end.attempt.cost_nanos if end.attempt is not None else 0
        uncertain = end.attempt is not None and end.attempt.outcome is Outcome.UNCERTAIN
        self.freed.append(SettledRow(stream.batch, stream.submitter, row.reserved_nanos, cost, uncertain))
        if not is_waited_for(row):
            self._add_late(row, mine, end.attempt)
            return
        if end.attempt is not None:
            self.ledger.book(mine, [end.attempt])
        if end.result is not None:
            self.ended.append((end.result, mine))
        else:
            self.again.append(mine)
        answered = end.result is not None and end.result.status is TaskStatus.SUCCEEDED
        outcome = "answered" if answered else "failed" if end.attempt is not None else "unanswered"
        self.settled.append((row, outcome))

    def _add_late(self, row: Any, mine: ClaimedTask, attempt: Attempt | None) -> None:
        """The task has gone on: only what the row has cost is left to book."""
        if attempt is None or attempt.cost_nanos == 0:
            self.settled.append((row, "unanswered"))
            return
        uncertain = attempt.outcome is Outcome.UNCERTAIN
        outcome, error = (Outcome.UNCERTAIN, attempt.error) if uncertain else (Outcome.NEUTRAL, LATE)
        late = replace(attempt, number=0, outcome=outcome, error=error)
        self.ledger.book(mine, [late])
        self.late.append(late)
        self.gone_on.append(mine)
        self.settled.append((row, "late"))
        status = TaskStatus(row.status)
        if status.is_final:
            before = FinishedTask.of_row(row, status, row.baseline_nanos)
            after = before._replace(cost_nanos=mine.cost_nanos, unknown_cost=mine.unknown_cost_calls > 0)
            sums = self.more_cost.row((row.batch_id, row.final_agent, row.final_tier))
            add_task(sums, before, sign=-1)
            add_task(sums, after)
