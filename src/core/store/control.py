"""Who runs, what they are told, and what is noted: orchestrators, settings, commands, events, learned."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ...records import Event, PoolSnapshot, TaskStatus
from ...storable import clean
from . import schema
from .codec import dump_record, dumps, loads
from .rollups import CallRollups
from .rows import Command, News, OrchestratorRow, Registration, SettingChange
from .schema import IS_RUNNING
from .shared import orchestrator_rows
from .transitions import Transitions

_ADD_EVENT = sa.insert(schema.events)
_EVENT_NAMES = [column.name for column in schema.events.columns if column.name != "id"]
_O = schema.orchestrators.c
_T = schema.tasks.c


class Control(Transitions):
    """The part of the store where orchestrators sign on and web and orchestrator talk."""

    # ------------------------------------------------------------ orchestrators

    def register(
        self,
        incarnation: str,
        *,
        pid: int,
        host: str,
        mode: str,
        batch: str,
        now: float,
        max_claims: int = 4,
        uncertain_at_most: int | None = None,
    ) -> Registration:
        """Sign on. All others that have not signed off are dead: the caller leads.

        What the dead had claimed is queued again; a task claimed `max_claims` times or more fails as
        `poison`. Only claims of orchestrators count that died before they had finished anything: others were
        not killed by their tasks. Commands they had taken and not finished are open again. What calls of
        theirs may have cost is booked as uncertain, but not more than `uncertain_at_most` nano-dollars.
        Safe to repeat.
        """
        with self._database.writing() as connection:
            dead = self._dead(connection, incarnation)
            ids = [i for i, _ in dead]
            barren = [i for i, row in dead if not row.finished]
            poisoned = self._poison(connection, barren, max_claims, now)
            recovered = self._requeue_claims(connection, dead, now)
            self._retire(connection, ids, now)
            row = OrchestratorRow(incarnation, pid, host, mode, batch, now, now)
            insert = self._database.insert(schema.orchestrators).values(dataclasses.asdict(row))
            connection.execute(insert.on_conflict_do_nothing(index_elements=["incarnation"]))
            uncertain = self._book_reservations(connection, ids, now, uncertain_at_most)
        return Registration(recovered, poisoned, uncertain)

    def _dead(self, connection: sa.Connection, incarnation: str) -> list[tuple[int, OrchestratorRow]]:
        return orchestrator_rows(connection, _O.retired_at.is_(None), _O.incarnation != incarnation)

    def heartbeat(self, incarnation: str, *, now: float, snapshot: PoolSnapshot | None) -> None:
        """Tell what this orchestrator sees, and when."""
        me = self._orchestrator_id(incarnation)
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
        """Sign off: claims still held are given back. Returns how many."""
        me = self._orchestrator_id(incarnation)
        with self._database.writing() as connection:
            mine = sa.select(_T.task_row).where(IS_RUNNING, _T.claimed_by == me)
            rows = list(connection.execute(mine).scalars())
            released = self._give_back(connection, rows, me, now)
            connection.execute(
                sa.delete(schema.cost_reservations).where(schema.cost_reservations.c.orchestrator_id == me)
            )
            self._retire(connection, [me], now)
        return released

    def release_dead(self, incarnation: str, now: float) -> int:
        """Queue again what dead orchestrators had claimed, before the leader signs on. Returns how many."""
        with self._database.writing() as connection:
            return self._requeue_claims(connection, self._dead(connection, incarnation), now)

    def _poison(
        self, connection: sa.Connection, orchestrator_ids: list[int], max_claims: int, now: float
    ) -> int:
        condition = sa.and_(IS_RUNNING, _T.claimed_by.in_(orchestrator_ids), _T.claims >= max_claims)
        error = f"poison: claimed {max_claims} times, and each time its orchestrator died"
        return self._close(connection, condition, TaskStatus.RUNNING, TaskStatus.FAILED, error=error, now=now)

    def _requeue_claims(
        self, connection: sa.Connection, dead: Sequence[tuple[int, OrchestratorRow]], now: float
    ) -> int:
        """Queue again what the dead had claimed. A claim counts where the task may be the one that kills."""
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
            streams = {row.task_row: self._streams.by_id(row.stream_id) for row in rows}
            self._move(connection, streams, TaskStatus.RUNNING, TaskStatus.QUEUED)
            requeued += len(rows)
        return requeued

    def _retire(self, connection: sa.Connection, orchestrator_ids: list[int], now: float) -> None:
        gone = _O.id.in_(orchestrator_ids)
        connection.execute(sa.update(schema.orchestrators).where(gone).values(retired_at=now))
        c = schema.commands.c
        taken = sa.update(schema.commands).where(c.finished_at.is_(None), c.taken_by.in_(orchestrator_ids))
        connection.execute(taken.values(taken_by=None, taken_at=None))

    def reserve_cost(self, incarnation: str, accounts: Mapping[tuple[str, str, str], int]) -> None:
        """Replace what the calls in flight may cost at most: nano-dollars by (provider, batch, submitter)."""
        me = self._orchestrator_id(incarnation)
        c = schema.cost_reservations
        rows = [
            {"orchestrator_id": me, "provider": p, "batch": b, "submitter": s, "nanos": nanos}
            for (p, b, s), nanos in accounts.items()
        ]
        with self._database.writing() as connection:
            connection.execute(sa.delete(c).where(c.c.orchestrator_id == me))
            if rows:
                connection.execute(sa.insert(c), rows)

    def _book_reservations(
        self, connection: sa.Connection, orchestrator_ids: list[int], now: float, at_most: int | None
    ) -> int:
        """What the dead had in flight may have been billed: book it as uncertain, once. Returns the sum."""
        c = schema.cost_reservations
        rows = connection.execute(sa.select(c).where(c.c.orchestrator_id.in_(orchestrator_ids))).all()
        total = sum(row.nanos for row in rows)
        booked: int = total if at_most is None else min(total, at_most)
        calls = CallRollups()
        for row in rows:
            batch_id = self._streams.batch_id(row.batch)
            nanos = row.nanos * booked // total if total else 0
            calls.book_uncertain(nanos, row.provider, batch_id, row.submitter, now)
        calls.write(self._database, connection)
        connection.execute(sa.delete(c).where(c.c.orchestrator_id.in_(orchestrator_ids)))
        return booked

    # ------------------------------------------------------------ settings

    def settings_version(self) -> int:
        """The number of the last change; 0 before the first."""
        with self._database.reading() as connection:
            return connection.execute(sa.select(sa.func.max(schema.settings.c.version))).scalar() or 0

    def current_settings(self) -> dict[str, Any]:
        """The newest value of each key. A key set to None counts as unset."""
        s = schema.settings.c
        newest = sa.select(sa.func.max(s.version)).group_by(s.key)
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(s.key, s.value).where(s.version.in_(newest))).all()
        values = {row.key: loads(row.value) for row in rows}
        return {key: value for key, value in values.items() if value is not None}

    def put_setting(self, key: str, value: Any, *, who: str, now: float) -> int:
        """Set `key` to a JSON value (None: unset) and return the new version."""
        s = schema.settings.c
        last = sa.select(s.value).where(s.key == key).order_by(s.version.desc()).limit(1)
        with self._database.writing() as connection:
            previous = connection.execute(last).scalar() or "null"
            row = {"key": key, "value": dumps(value), "previous": previous, "who": who, "at": now}
            insert = sa.insert(schema.settings).values(row).returning(s.version)
            return int(connection.execute(insert).scalar_one())

    def settings_history(self, limit: int = 50) -> list[SettingChange]:
        """The last changes, newest first."""
        s = schema.settings
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(s).order_by(s.c.version.desc()).limit(limit)).all()
        return [SettingChange(r.version, r.key, loads(r.value), loads(r.previous), r.who, r.at) for r in rows]

    # ------------------------------------------------------------ commands

    def add_command(self, kind: str, args: Mapping[str, Any], *, who: str, now: float) -> int:
        """Ask something of the orchestrator; the answer is the command's number."""
        row = {"kind": kind, "args": dumps(dict(args)), "who": who, "at": now, "outcome": ""}
        with self._database.writing() as connection:
            insert = sa.insert(schema.commands).values(row).returning(schema.commands.c.id)
            return int(connection.execute(insert).scalar_one())

    def take_commands(self, incarnation: str, now: float) -> list[Command]:
        """Commands nobody has taken, oldest first. Each is finished with `finish_command`."""
        me = self._orchestrator_id(incarnation)
        c = schema.commands.c
        statement = (
            sa.update(schema.commands)
            .where(c.finished_at.is_(None), c.taken_by.is_(None))
            .values(taken_by=me, taken_at=now)
            .returning(*c)
        )
        with self._database.writing() as connection:
            rows = connection.execute(statement).all()
        return [_command(row) for row in sorted(rows, key=lambda row: row.id)]

    def finish_command(self, command_id: int, outcome: str, now: float) -> None:
        c = schema.commands.c
        with self._database.writing() as connection:
            connection.execute(
                sa.update(schema.commands).where(c.id == command_id).values(outcome=outcome, finished_at=now)
            )

    def command(self, command_id: int) -> Command | None:
        """One command, for whoever waits for its outcome."""
        query = sa.select(schema.commands).where(schema.commands.c.id == command_id)
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        return _command(row) if row else None

    def news(self, batch: str | None = None) -> News:
        """What changed for an orchestrator that waits: cheap enough to ask twenty times a second."""
        k, c = schema.task_counts.c, schema.commands.c
        batch_id = schema.ALL_BATCHES if batch is None else self._streams.known_batch_id(batch)
        query = sa.select(
            sa.select(k.tasks).where(k.batch_id == batch_id, k.status == "queued").scalar_subquery(),
            sa.select(sa.func.max(schema.settings.c.version)).scalar_subquery(),
            sa.select(sa.func.count()).where(c.finished_at.is_(None), c.taken_by.is_(None)).scalar_subquery(),
        )
        with self._database.reading() as connection:
            queued, version, commands = connection.execute(query).one()
        return News(queued or 0, version or 0, commands)

    # ------------------------------------------------------------ events and what is learned

    def add_events(self, events: Sequence[Event]) -> None:
        rows = [
            (e.at, e.kind, e.level, e.provider, e.task_id, clean(e.message), clean(dumps(dict(e.fields))))
            for e in events
        ]
        if rows:
            with self._database.writing() as connection:
                self._database.prepared(_ADD_EVENT, _EVENT_NAMES).many(connection, rows)

    def learned(self, base_url: str, fingerprint: str) -> dict[str, Any] | None:
        """What is known about a provider at this address under this key; None for nothing."""
        c = schema.learned.c
        query = sa.select(c.payload).where(c.base_url == base_url, c.fingerprint == fingerprint)
        with self._database.reading() as connection:
            payload = connection.execute(query).scalar()
        return loads(payload) if payload else None

    def save_learned(self, base_url: str, fingerprint: str, payload: Mapping[str, Any], now: float) -> None:
        """Replace what is known. `fingerprint` is a digest of the key, never the key."""
        values = {"payload": dumps(dict(payload)), "at": now}
        insert = self._database.insert(schema.learned).values(
            base_url=base_url, fingerprint=fingerprint, **values
        )
        with self._database.writing() as connection:
            connection.execute(
                insert.on_conflict_do_update(index_elements=["base_url", "fingerprint"], set_=values)
            )


def _command(row: Any) -> Command:
    return Command(row.id, row.kind, loads(row.args), row.who, row.at, row.outcome, row.finished_at)
