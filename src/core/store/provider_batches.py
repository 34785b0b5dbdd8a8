"""Batches at providers, from the intent to the last result: what a restart must find again.

    deferred --intend--> batched --collect--> final, or queued to run again
                            |
                            +--give_back, pull--> queued          see `batch_results`

Each change is one transaction. A batch belongs to the store, not to an orchestrator: whichever leads goes on
with it. What is reserved for its tasks counts against budgets until they are settled, in the period of the
intent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ...errors import StoreError
from ...records import TaskStatus
from .batch_rows import BatchRows
from .codec import dumps, loads
from .database import Database
from .deferrals import DeferralGroups
from .identifiers import Identifiers
from .loading import IN_SIZE, Loader, parts
from .moving import mark, move
from .provider_batch_schema import batch_reservations, provider_batch_rows, provider_batches
from .provider_batch_states import OPEN_STATES, BatchState, may_follow
from .provider_batch_values import (
    BatchedTask,
    NewBatch,
    OpenReservation,
    PlannedRow,
    ProviderBatch,
)
from .reconnecting import reconnecting
from .schema import IS_DEFERRED

TURNAROUNDS = 50  # batches that tell how long one takes
_B, _R, _N = provider_batches.c, provider_batch_rows.c, batch_reservations.c


@reconnecting()
class ProviderBatches:
    """The life of batches at providers, for the leader, and what pages show of them."""

    def __init__(
        self,
        database: Database,
        ids: Identifiers,
        loader: Loader,
        groups: DeferralGroups,
        rows: BatchRows,
    ) -> None:
        self._database, self._ids, self._loader = database, ids, loader
        self._groups, self._rows = groups, rows

    # ------------------------------------------------------------ the intent

    def intend(self, new: NewBatch, rows: Sequence[PlannedRow], now: float) -> ProviderBatch | None:
        """Put deferred tasks into a batch, and reserve what they may cost. Nothing is sent yet.

        A marker that exists adds them to its batch, while that is intended: so a large batch is put together
        in several calls of up to `AT_ONCE` tasks, and a call can be repeated. Tasks that are no
        longer deferred are left out; None where the batch has no task then.
        """
        with self._database.writing() as connection:
            this = sa.select(provider_batches).where(_B.marker == new.marker)
            known = connection.execute(this).first()
            if known is not None and known.state != BatchState.INTENDED:
                return batch_of(known)
            values = {"status": TaskStatus.BATCHED.value, "since": now}
            numbers = [row.task.row for row in rows]
            taken = mark(connection, self._ids, numbers, IS_DEFERRED, values)
            if not taken:
                return None if known is None else batch_of(known)
            self._groups.remove(connection, sorted(taken))
            kept = [row for row in rows if row.task.row in taken]
            if known is None:
                batch_id, first = self._insert(connection, new, kept, now), 1
            else:
                batch_id, first = known.id, known.rows + 1
                self._extend(connection, batch_id, kept)
            tail = [
                (
                    place,
                    row.task.row,
                    taken[row.task.row].id,
                    row.task.attempts + 1,
                    row.max_tokens,
                    row.tier,
                    row.agent,
                    row.reserved_nanos,
                    0,
                )
                for place, row in enumerate(kept, first)
            ]
            self._rows.insert(connection, batch_id, tail)
            move(self._database, connection, taken, TaskStatus.DEFERRED, TaskStatus.BATCHED)
            return batch_of(connection.execute(this).one())

    def _insert(
        self, connection: sa.Connection, new: NewBatch, rows: Sequence[PlannedRow], now: float
    ) -> int:
        columns = {
            "provider": new.provider,
            "model": new.model,
            "marker": new.marker,
            "state": BatchState.INTENDED.value,
            "created_at": now,
            "deadline_at": _next_deadline(rows),
            "remote_id": "",
            "files": "[]",
            "rows": len(rows),
            "left_rows": len(rows),
            **dict.fromkeys(("released_rows", "answered", "failed", "unanswered", "late"), 0),
            "live_s": new.live_s,
            "reserved_nanos": sum(row.reserved_nanos for row in rows),
            "next_poll_at": now,
            "error": "",
            "pulled_rows": 0,
            "cost_nanos": 0,
            "late_nanos": 0,
            "account": "",
        }
        insert = sa.insert(provider_batches).values(columns).returning(_B.id)
        return int(connection.execute(insert).scalar_one())

    @staticmethod
    def _extend(connection: sa.Connection, batch_id: int, rows: Sequence[PlannedRow]) -> None:
        next_deadline = _next_deadline(rows)
        more = {
            "deadline_at": sa.case((_B.deadline_at > next_deadline, next_deadline), else_=_B.deadline_at),
            "rows": _B.rows + len(rows),
            "left_rows": _B.left_rows + len(rows),
            "reserved_nanos": _B.reserved_nanos + sum(row.reserved_nanos for row in rows),
        }
        connection.execute(sa.update(provider_batches).where(_B.id == batch_id).values(more))

    def tasks(self, batch_id: int, after: int = 0, limit: int = IN_SIZE) -> list[BatchedTask]:
        """The tasks that wait for a result of the batch, beyond the place `after`, in the order of places."""
        query = (
            sa.select(provider_batch_rows)
            .where(_R.provider_batch_id == batch_id, _R.place > after, _R.released == 0)
            .order_by(_R.place)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return self._loaded(connection, connection.execute(query).all())

    def tasks_at(self, batch_id: int, places: Sequence[int]) -> list[BatchedTask]:
        """The tasks at these places that have no result yet, those that have gone on without it included."""
        with self._database.reading() as connection:
            rows: list[Any] = []
            for part in parts(sorted(places), IN_SIZE):
                of_batch = sa.and_(_R.provider_batch_id == batch_id, _R.place.in_(part))
                rows += connection.execute(sa.select(provider_batch_rows).where(of_batch)).all()
            return self._loaded(connection, rows)

    def _loaded(self, connection: sa.Connection, rows: Sequence[Any]) -> list[BatchedTask]:
        tasks = self._loader.tasks(connection, [row.task_row for row in rows])
        return [
            BatchedTask(
                row.place,
                tasks[row.task_row],
                row.number,
                row.max_tokens,
                row.tier,
                row.agent,
                row.reserved_nanos,
            )
            for row in rows
            if row.task_row in tasks
        ]

    # ------------------------------------------------------------ transitions

    def creating(self, batch_id: int, now: float, account: str = "") -> None:
        """Commit that the request which creates the batch is about to be sent, to this account."""
        self._change(batch_id, BatchState.CREATING, create_sent_at=now, account=account)

    def not_created(self, batch_id: int, why: str, next_poll_at: float) -> None:
        """The provider has no such batch, or takes none now: it may be sent again from `next_poll_at` on."""
        self._change(batch_id, BatchState.INTENDED, create_sent_at=None, error=why, next_poll_at=next_poll_at)

    def submitted(self, batch_id: int, remote_id: str, files: Sequence[str], now: float) -> None:
        """The provider has the batch, under this id."""
        self._change(
            batch_id,
            BatchState.SUBMITTED,
            remote_id=remote_id,
            files=dumps(list(files)),
            submitted_at=now,
            error="",
        )

    def cancelling(self, batch_id: int, now: float) -> None:
        """Commit that the request which cancels the batch is about to be sent."""
        self._change(batch_id, BatchState.CANCELLING, cancel_sent_at=now)

    def ended(self, batch_id: int, files: Sequence[str], now: float) -> None:
        """The provider works on no row any more."""
        self._change(batch_id, BatchState.ENDED, ended_at=now, files=dumps(list(files)))

    def poll_at(self, batch_id: int, next_poll_at: float) -> None:
        """Note when to ask the provider again."""
        with self._database.writing() as connection:
            this = sa.update(provider_batches).where(_B.id == batch_id)
            connection.execute(this.values(next_poll_at=next_poll_at))

    def _change(self, batch_id: int, new: BatchState, **values: Any) -> None:
        """Raises StoreError, with nothing changed, where the state of the batch does not take this."""
        with self._database.writing() as connection:
            change(connection, batch_id, new, **values)

    # ------------------------------------------------------------ reading

    def find(self, batch_id: int) -> ProviderBatch | None:
        """One batch; None if there is none."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(provider_batches).where(_B.id == batch_id)).first()
        return None if row is None else batch_of(row)

    def open(self) -> list[ProviderBatch]:
        """The batches for which something is left to do, the oldest first."""
        query = sa.select(provider_batches).where(_B.state.in_(OPEN_STATES)).order_by(_B.id)
        with self._database.reading() as connection:
            return [batch_of(row) for row in connection.execute(query)]

    def newest(self, limit: int = 50) -> list[ProviderBatch]:
        """The last batches, the newest first, closed ones included."""
        query = sa.select(provider_batches).order_by(_B.id.desc()).limit(limit)
        with self._database.reading() as connection:
            return [batch_of(row) for row in connection.execute(query)]

    def turnarounds(self, provider: str, model: str) -> list[float]:
        """How long the last batches of a model took until they ended, in seconds, the newest last.

        Batches that were cancelled are left out.
        """
        of_model = sa.and_(_B.provider == provider, _B.model == model)
        ended = sa.and_(_B.ended_at.is_not(None), _B.submitted_at.is_not(None), _B.cancel_sent_at.is_(None))
        query = sa.select(_B.ended_at - _B.submitted_at).where(of_model, ended)
        with self._database.reading() as connection:
            found = connection.execute(query.order_by(_B.id.desc()).limit(TURNAROUNDS)).scalars().all()
        return [max(0.0, seconds) for seconds in reversed(found)]

    def reservations(self, only: int | None = None) -> list[OpenReservation]:
        """What open batches, or the `only` one, may still cost, by batch and payer."""
        query = (
            sa.select(_B.id, _B.provider, _B.created_at, _N.stream_id, _N.nanos)
            .join_from(provider_batches, batch_reservations, _N.provider_batch_id == _B.id)
            .where(_B.state.in_(OPEN_STATES), _N.nanos > 0)
            .order_by(_B.id, _N.stream_id)
        )
        if only is not None:
            query = query.where(_B.id == only)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        found = []
        for row in rows:
            stream = self._ids.stream_by_id(row.stream_id)
            found.append(
                OpenReservation(
                    row.id, row.provider, stream.batch, stream.submitter, row.created_at, row.nanos
                )
            )
        return found


def change(connection: sa.Connection, batch_id: int, new: BatchState, **values: Any) -> None:
    """Bring a batch into another state, see `check`. A repetition changes nothing."""
    if check(connection, batch_id, new):
        this = sa.update(provider_batches).where(_B.id == batch_id)
        connection.execute(this.values(values | {"state": new.value}))


def check(connection: sa.Connection, batch_id: int, new: BatchState) -> bool:
    """Whether this is a change: a batch may be in the `new` state already.

    Raises StoreError where there is no such batch, or its state does not take this.
    """
    found = connection.execute(sa.select(_B.state).where(_B.id == batch_id)).scalar()
    if found is None:
        raise StoreError(f"there is no batch number {batch_id} at a provider")
    state = BatchState(found)
    if state is not new and not may_follow(state, new):
        raise StoreError(f"batch number {batch_id} at its provider is {state}: it can't become {new}")
    return state is not new


def _next_deadline(rows: Sequence[PlannedRow]) -> float:
    return min(row.task.deadline_at or 0.0 for row in rows)


def batch_of(row: Any) -> ProviderBatch:
    """A batch from its row."""
    columns = dict(row._mapping)
    columns |= {"state": BatchState(row.state), "files": tuple(loads(row.files))}
    return ProviderBatch(**columns)
