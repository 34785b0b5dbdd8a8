"""The one row that says which orchestrator leads, and its epoch; see `core/leadership.py` for the rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ...errors import LeadershipLost
from . import schema
from .lock import HostLock
from .rows import Leader
from .shared import Part

_L = schema.leadership.c
_THE_ROW = _L.id == schema.THE_LEADERSHIP


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an orchestrator is, and the lease that it keeps while it leads, where there are leases."""

    incarnation: str
    pid: int
    host: str
    lease_s: float


class Leading(Part):
    """The part of the store that knows who leads. `take_lead` is for a store made by `Store.fenced`."""

    @property
    def host_lock(self) -> HostLock | None:
        """The lock that decides on SQLite; None on PostgreSQL, where the row decides."""
        path = self._database.file
        return None if path is None else HostLock(path.with_name(path.name + ".lock"))

    def leader(self) -> Leader:
        """Who leads, and whether it is alive: it holds the lock, or has renewed its lease in time."""
        lock = self.host_lock
        clock = sa.literal(0.0) if lock is not None else _database_clock()
        query = sa.select(schema.leadership, clock.label("clock")).where(_THE_ROW)
        with self._database.reading() as connection:
            row = connection.execute(query).one()
        alive = row.clock - row.renewed_at <= row.lease_s if lock is None else lock.is_held()
        return Leader(
            row.epoch, row.holder, row.pid, row.host, row.lease_s, row.renewals,
            alive=alive and (lock is not None or bool(row.holder)), one_host=lock is not None,
        )  # fmt: skip

    def take_lead(self, identity: Identity, *, seen: Leader | None = None) -> int | None:
        """Lead from now on: raise the epoch and demand it of every write of this store. Returns the epoch.

        None, and nothing is changed: the row is not as it was `seen`. Without `seen` the caller holds the
        lock. Waits for writes of the leader before, and undoes none of them: the row is locked against both.
        """
        query = sa.select(schema.leadership).where(_THE_ROW).with_for_update()
        with self._database.writing(fenced=False) as connection:
            row = connection.execute(query).one()
            if seen is not None and (row.epoch, row.renewals) != (seen.epoch, seen.renewals):
                return None
            values: dict[str, Any] = {
                "epoch": row.epoch + 1,
                "holder": identity.incarnation,
                "pid": identity.pid,
                "host": identity.host,
                "lease_s": identity.lease_s,
                "renewals": row.renewals + 1,
                "renewed_at": self._clock(),
            }
            connection.execute(sa.update(schema.leadership).where(_THE_ROW).values(values))
        self._database.demand(row.epoch + 1)
        return int(row.epoch) + 1

    def renew_lead(self) -> None:
        """Say that the leader is alive. Raises LeadershipLost where another one leads."""
        values = {"renewals": _L.renewals + 1, "renewed_at": self._clock()}
        mine = sa.and_(_THE_ROW, _L.epoch == self._database.epoch)
        with self._database.writing(fenced=False) as connection:
            if not connection.execute(sa.update(schema.leadership).where(mine).values(values)).rowcount:
                raise LeadershipLost

    def give_up_lead(self) -> None:
        """Let the next one lead at once. The epoch stays, and nothing is written with it any more."""
        mine = sa.and_(_THE_ROW, _L.epoch == self._database.epoch)
        with self._database.writing(fenced=False) as connection:
            connection.execute(
                sa.update(schema.leadership).where(mine).values(holder="", renewals=_L.renewals + 1)
            )
        self._database.demand(None)

    def _clock(self) -> Any:
        return 0.0 if self._database.is_sqlite else _database_clock()


def _database_clock() -> sa.ColumnElement[float]:
    """Now, by the one clock that all hosts of a PostgreSQL share."""
    return sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()), sa.Float(53))
