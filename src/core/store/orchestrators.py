"""Orchestrators register, send heartbeats, reserve the cost of calls, and retire."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from ...records import PoolSnapshot, TaskStatus
from ...storable import clean
from . import schema
from .adoption import Account, Adoption
from .codec import dump_record, load_record
from .database import Database
from .identifiers import Identifiers
from .moving import move
from .reconnecting import reconnecting
from .rollups import CallRollups
from .rows import Inventories, OrchestratorRow, Registrant, Registration
from .schema import IS_RUNNING
from .transitions import Transitions

_O = schema.orchestrators.c
_T = schema.tasks.c
NOTHING = Inventories()


@reconnecting()
class Orchestrators:
    """The orchestrators of this database, dead ones included.

    `incarnation` names one life of an orchestrator. Methods raise StoreError if it is not registered.
    """

    def __init__(self, database: Database, ids: Identifiers, transitions: Transitions) -> None:
        self._database, self._ids, self._transitions = database, ids, transitions

    def newest(self, limit: int = 20) -> list[OrchestratorRow]:
        """The last orchestrators, newest first, including those that have ended."""
        with self._database.reading() as connection:
            return [row for _, row in _rows(connection, limit=limit)]

    def latest_snapshot(self) -> tuple[PoolSnapshot | None, OrchestratorRow | None]:
        """The newest orchestrator's last snapshot, and its row, whose heartbeat gives the age."""
        with self._database.reading() as connection:
            rows = _rows(connection, limit=1)
            if not rows:
                return None, None
            number, row = rows[0]
            s = schema.snapshots.c
            body = connection.execute(sa.select(s.body).where(s.orchestrator_id == number)).scalar()
        return (load_record(PoolSnapshot, body) if body else None), row

    def register(
        self,
        registrant: Registrant,
        *,
        now: float,
        max_claims: int = 4,
        uncertain_at_most: int | None = None,
        found: Inventories = NOTHING,
    ) -> Registration:
        """Register the orchestrator that leads. All others that have not retired are dead. Safe to repeat.

        Tasks that the dead had claimed are queued again; a task claimed `max_claims` times or more fails as
        `poison`. Only claims of orchestrators that died before they finished any task count: the others were
        not killed by their tasks. Commands that the dead had taken and not finished are open again. The
        possible cost of their calls in flight is booked as uncertain, up to `uncertain_at_most` nano-dollars.
        Calls that were `found` on workers are adopted, see `adoption.py`.
        """
        with self._database.writing() as connection:
            dead = self._dead(connection, registrant.incarnation)
            ids = [i for i, _ in dead]
            barren = [i for i, row in dead if not row.finished]
            row = OrchestratorRow(**dataclasses.asdict(registrant), started_at=now, heartbeat_at=now)
            insert = self._database.insert(schema.orchestrators).values(dataclasses.asdict(row))
            connection.execute(insert.on_conflict_do_nothing(index_elements=["incarnation"]))
            own = sa.select(_O.id).where(_O.incarnation == registrant.incarnation)
            me = connection.execute(own).scalar_one()
            adoption = Adoption(connection, me, ids, found, registrant.batch)
            poisoned = self._poison(connection, barren, max_claims, now)
            recovered = self._requeue_claims(connection, dead, now)
            self._retire(connection, ids, now)
            uncertain = self._book_uncertain(connection, adoption.uncertain(), now, uncertain_at_most)
            self._reserve(connection, [me, *ids], me, adoption.reserved())
        return Registration(recovered, poisoned, uncertain, adoption.calls)

    def _dead(self, connection: sa.Connection, incarnation: str) -> list[tuple[int, OrchestratorRow]]:
        return _rows(connection, _O.retired_at.is_(None), _O.incarnation != incarnation)

    def heartbeat(self, incarnation: str, *, now: float, snapshot: PoolSnapshot | None) -> None:
        """Store that this orchestrator is alive at `now`, and its latest snapshot if there is one."""
        me = self._ids.orchestrator_id(incarnation)
        with self._database.writing() as connection:
            unretired = sa.and_(_O.id == me, _O.retired_at.is_(None))
            connection.execute(sa.update(schema.orchestrators).where(unretired).values(heartbeat_at=now))
            if snapshot is not None:
                body = {"at": snapshot.at, "body": clean(dump_record(snapshot))}
                insert = self._database.insert(schema.snapshots).values(orchestrator_id=me, **body)
                connection.execute(
                    insert.on_conflict_do_update(index_elements=["orchestrator_id"], set_=body)
                )

    def retire(self, incarnation: str, *, now: float) -> int:
        """End an orchestrator cleanly: tasks that it still holds are queued again. Returns how many."""
        me = self._ids.orchestrator_id(incarnation)
        with self._database.writing() as connection:
            mine = sa.select(_T.task_row).where(IS_RUNNING, _T.claimed_by == me)
            rows = list(connection.execute(mine).scalars())
            released = self._transitions.give_back(connection, rows, me, now)
            connection.execute(
                sa.delete(schema.cost_reservations).where(schema.cost_reservations.c.orchestrator_id == me)
            )
            self._retire(connection, [me], now)
        return released

    def release_dead(self, incarnation: str, now: float) -> int:
        """Queue tasks of dead orchestrators again, before the leader registers. Returns how many."""
        with self._database.writing() as connection:
            return self._requeue_claims(connection, self._dead(connection, incarnation), now)

    def _poison(
        self, connection: sa.Connection, orchestrator_ids: list[int], max_claims: int, now: float
    ) -> int:
        condition = sa.and_(IS_RUNNING, _T.claimed_by.in_(orchestrator_ids), _T.claims >= max_claims)
        error = f"poison: claimed {max_claims} times, and each time its orchestrator died"
        return self._transitions.close(
            connection, condition, TaskStatus.RUNNING, TaskStatus.FAILED, error=error, now=now
        )

    def _requeue_claims(
        self, connection: sa.Connection, dead: Sequence[tuple[int, OrchestratorRow]], now: float
    ) -> int:
        """Queue claimed tasks of the dead again. A claim counts if the task may have killed it."""
        requeued = 0
        for number, row in dead:
            queued = {"status": TaskStatus.QUEUED.value, "since": now, "claimed_by": None}
            if row.finished:
                queued["claims"] = _T.claims - 1
            mine = sa.and_(IS_RUNNING, _T.claimed_by == number)
            statement = (
                sa.update(schema.tasks).where(mine).values(queued).returning(_T.task_row, _T.stream_id)
            )
            rows = connection.execute(statement).all()
            streams = {row.task_row: self._ids.stream_by_id(row.stream_id) for row in rows}
            move(self._database, connection, streams, TaskStatus.RUNNING, TaskStatus.QUEUED)
            requeued += len(rows)
        return requeued

    def _retire(self, connection: sa.Connection, orchestrator_ids: list[int], now: float) -> None:
        gone = _O.id.in_(orchestrator_ids)
        connection.execute(sa.update(schema.orchestrators).where(gone).values(retired_at=now))
        c = schema.commands.c
        taken = sa.update(schema.commands).where(c.finished_at.is_(None), c.taken_by.in_(orchestrator_ids))
        connection.execute(taken.values(taken_by=None, taken_at=None))

    def reserve_cost(self, incarnation: str, accounts: Mapping[Account, int]) -> None:
        """Replace the reserved cost of all calls in flight: nano-dollars by (provider, batch, submitter,
        worker)."""
        me = self._ids.orchestrator_id(incarnation)
        with self._database.writing() as connection:
            self._reserve(connection, [me], me, accounts)

    @staticmethod
    def _reserve(
        connection: sa.Connection, replaced: Sequence[int], me: int, accounts: Mapping[Account, int]
    ) -> None:
        """Replace what these orchestrators have reserved by what `me` reserves."""
        c = schema.cost_reservations
        rows = [
            {"orchestrator_id": me, "provider": p, "batch": b, "submitter": s, "worker": w, "nanos": nanos}
            for (p, b, s, w), nanos in accounts.items()
        ]
        connection.execute(sa.delete(c).where(c.c.orchestrator_id.in_(replaced)))
        if rows:
            connection.execute(sa.insert(c), rows)

    def _book_uncertain(
        self,
        connection: sa.Connection,
        accounts: Sequence[tuple[Account, int]],
        now: float,
        at_most: int | None,
    ) -> int:
        """Book these costs as uncertain, once: they may have been billed. Returns the sum."""
        total = sum(nanos for _, nanos in accounts)
        booked: int = total if at_most is None else min(total, at_most)
        calls = CallRollups()
        for (provider, batch, submitter, _), nanos in accounts:
            batch_id = self._batch_id(connection, batch, submitter, now)
            calls.book_uncertain(nanos * booked // total, provider, batch_id, submitter, now)
        calls.write(self._database, connection)
        return booked

    def _batch_id(self, connection: sa.Connection, batch: str, submitter: str, now: float) -> int | None:
        """The number of a batch, which is made for a run that was killed before any of its requests ended.

        None for calls without a batch.
        """
        if not batch:
            return None
        b = schema.batches
        columns = {"name": batch, "source": "", "output_path": "", "options": "{}"}
        insert = self._database.insert(b).values(columns | {"submitter": submitter, "created_at": now})
        connection.execute(insert.on_conflict_do_nothing())
        return int(connection.execute(sa.select(b.c.id).where(b.c.name == batch)).scalar_one())


def _rows(
    connection: sa.Connection, *conditions: sa.ColumnElement[bool], limit: int | None = None
) -> list[tuple[int, OrchestratorRow]]:
    """The number and row of each orchestrator that satisfies `conditions`, newest first."""
    o = schema.orchestrators
    names = [field.name for field in dataclasses.fields(OrchestratorRow)]
    query = sa.select(o).where(*conditions).order_by(o.c.id.desc()).limit(limit)
    return [
        (row.id, OrchestratorRow(**{name: getattr(row, name) for name in names}))
        for row in connection.execute(query)
    ]
