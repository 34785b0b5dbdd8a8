"""Look up batches at providers: a page, the one that a task is in, those of a batch of tasks, and sums.

A batch at a provider has the tasks of one batch of tasks; `batch_reservations` names their stream, also after
the end.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from ...errors import StoreError
from .database import Database
from .identifiers import Identifiers, TaskStream
from .provider_batch_schema import batch_reservations, provider_batch_rows, provider_batches
from .provider_batch_states import OPEN_STATES, BatchState
from .provider_batch_values import BatchExtras, ProviderBatch, ProviderBatchPage, ProviderBatchSums
from .provider_batches import batch_of
from .reconnecting import reconnecting

OF_BATCH = 50  # of one batch of tasks, the newest
_B, _R, _N = provider_batches.c, provider_batch_rows.c, batch_reservations.c


@reconnecting()
class ProviderBatchLists:
    """Batches at providers, for people and programs that look something up or ask for an end."""

    def __init__(self, database: Database, ids: Identifiers) -> None:
        self._database, self._ids = database, ids

    def page(
        self, limit: int = 50, *, provider: str = "", is_open: bool = False, before: int | None = None
    ) -> ProviderBatchPage:
        """A page of batches, newest first; `is_open` leaves out those that are done with."""
        query = sa.select(provider_batches).order_by(_B.id.desc()).limit(limit + 1)
        if provider:
            query = query.where(_B.provider == provider)
        if is_open:
            query = query.where(_B.state.in_(OPEN_STATES))
        if before is not None:
            query = query.where(_B.id < before)
        found = self._batches(query)
        rows = tuple(found[:limit])
        return ProviderBatchPage(rows, rows[-1].id if len(found) > limit else None)

    def of_task(self, task_row: int) -> ProviderBatch | None:
        """The batch that has the task and that it waits for; None if there is none."""
        waits = sa.and_(_R.task_row == task_row, _R.released == 0)
        query = sa.select(provider_batches).join(provider_batch_rows, _R.provider_batch_id == _B.id)
        return next(iter(self._batches(query.where(waits))), None)

    def of_batch(self, name: str) -> list[ProviderBatch]:
        """The newest batches at providers with tasks of this batch. Raises StoreError if there is none."""
        streams = self._ids.streams_of_batch(self._ids.known_batch_id(name))
        theirs = sa.select(_N.provider_batch_id).where(_N.stream_id.in_([stream.id for stream in streams]))
        query = sa.select(provider_batches).where(_B.id.in_(theirs)).order_by(_B.id.desc())
        return self._batches(query.limit(OF_BATCH))

    def extras(self, name: str) -> BatchExtras:
        """What those with tasks of this batch add to its sums."""
        number = self._ids.batch_id(name)
        streams = [] if number is None else self._ids.streams_of_batch(number)
        theirs = sa.select(_N.provider_batch_id).where(_N.stream_id.in_([stream.id for stream in streams]))
        is_open = sa.case((_B.state.in_(OPEN_STATES), 1), else_=0)
        sums = (sa.func.sum(_B.late_nanos), sa.func.sum(is_open), sa.func.sum(_B.reserved_nanos))
        query = sa.select(_B.provider, *sums).where(_B.id.in_(theirs)).group_by(_B.provider)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(_B.provider)).all()
        late, reserved = sum(int(row[1]) for row in rows), sum(int(row[3]) for row in rows)
        return BatchExtras(late, {row.provider: int(row[2]) for row in rows if row[2]}, reserved)

    def owners(self, batch_ids: Collection[int]) -> dict[int, TaskStream]:
        """Whose tasks are in these batches."""
        query = sa.select(_N.provider_batch_id, _N.stream_id).where(_N.provider_batch_id.in_(batch_ids))
        with self._database.reading() as connection:
            rows = connection.execute(query).all() if batch_ids else []
        return {row.provider_batch_id: self._ids.stream_by_id(row.stream_id) for row in rows}

    def sums(self) -> list[ProviderBatchSums]:
        """All batches by provider and state: as many rows as the table has, of which there are few."""
        left = sa.case((_B.cancel_sent_at.is_(None), _B.unanswered), else_=0)
        columns: dict[str, Any] = {
            "batches": sa.func.count(),
            "expired": sa.func.sum(left),
            "oldest_at": sa.func.min(_B.created_at),
        }
        for name in ("left_rows", "answered", "failed", "late", "pulled_rows"):
            columns[name] = sa.func.sum(_B[name])
        query = sa.select(_B.provider, _B.state, *(value.label(name) for name, value in columns.items()))
        with self._database.reading() as connection:
            rows = connection.execute(query.group_by(_B.provider, _B.state)).all()
        return [
            ProviderBatchSums(
                row.provider,
                BatchState(row.state),
                **{name: int(getattr(row, name)) for name in columns if name != "oldest_at"},
                oldest_at=row.oldest_at,
            )
            for row in sorted(rows, key=lambda row: (row.provider, row.state))
        ]

    def ask_cancel(self, batch_id: int, now: float) -> ProviderBatch:
        """Ask the leader to cancel a batch; its rows that are not done go live.

        Raises StoreError if there is no such batch, or if it has ended.
        """
        this = sa.and_(_B.id == batch_id, _B.state.in_(OPEN_STATES), _B.state != BatchState.ENDED.value)
        asked = sa.func.coalesce(_B.cancel_asked_at, now)
        update = sa.update(provider_batches).where(this).values(cancel_asked_at=asked)
        with self._database.writing() as connection:
            changed = connection.execute(update).rowcount
        found = self._batches(sa.select(provider_batches).where(_B.id == batch_id))
        if not found:
            raise StoreError(f"there is no batch number {batch_id} at a provider")
        if not changed:
            raise StoreError(
                f"batch number {batch_id} at {found[0].provider} has ended: it is {found[0].state}"
            )
        return found[0]

    def _batches(self, query: sa.Select[Any]) -> list[ProviderBatch]:
        with self._database.reading() as connection:
            return [batch_of(row) for row in connection.execute(query)]
