"""The row that names the leading orchestrator and its epoch; `core/leadership.py` has the rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from ...errors import LeadershipLost
from . import schema
from .database import Database
from .lock import HostLock
from .reconnecting import reconnecting
from .rows import Leader

_L = schema.leadership.c
_GATEWAY = (_L.gateway_url, _L.gateway_key)
_THE_ROW = _L.id == schema.THE_LEADERSHIP


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of an orchestrator, and the lease that it keeps while it leads on PostgreSQL."""

    incarnation: str
    pid: int
    host: str
    lease_s: float


class PublishedGateway(NamedTuple):
    """The base URL of a leader's gateway, and the key by which it knows requests of standbys.

    An empty URL: there is none, or it is not known.
    """

    url: str = ""
    key: str = ""


@reconnecting()
class LeadershipRow:
    """The row that names the leader. `take`, `renew` and `give_up` need a store made by `Store.fenced`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def host_lock(self) -> HostLock | None:
        """The lock that decides on SQLite; None on PostgreSQL, where the row decides."""
        path = self._database.file
        return None if path is None else HostLock(path.with_name(path.name + ".lock"))

    def leader(self) -> Leader:
        """The leader, and whether it is alive: it holds the lock, or has renewed its lease in time."""
        lock = self.host_lock
        clock = sa.literal(0.0) if lock is not None else database_clock()
        # The columns that every schema with this table has: a migration asks, too.
        known = (each for each in schema.leadership.c if not each.name.startswith("gateway_"))
        query = sa.select(*known, clock.label("clock")).where(_THE_ROW)
        with self._database.reading() as connection:
            row = connection.execute(query).one()
        ago_s = row.clock - row.renewed_at
        alive = ago_s <= row.lease_s if lock is None else lock.is_held()
        return Leader(
            row.epoch, row.holder, row.pid, row.host, row.lease_s, row.renewals,
            alive=alive and (lock is not None or bool(row.holder)), one_host=lock is not None,
            renewed_ago_s=max(0.0, ago_s) if lock is None and row.holder else None,
        )  # fmt: skip

    def gateway(self) -> PublishedGateway:
        """The gateway of the leader, or of the last one that did not end cleanly."""
        with self._database.reading() as connection:
            return PublishedGateway(*connection.execute(sa.select(*_GATEWAY).where(_THE_ROW)).one())

    def take(self, identity: Identity, *, seen: Leader | None = None) -> int | None:
        """Raise the epoch and demand it of every write of this store. Returns the new epoch.

        Returns None and changes nothing if the row has changed since it was `seen`; without `seen` the caller
        holds the lock. Waits for writes of the leader before and undoes none: the row is locked against both.
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
                "gateway_url": "",
                "gateway_key": "",
            }
            connection.execute(sa.update(schema.leadership).where(_THE_ROW).values(values))
        self._database.demand(row.epoch + 1)
        return int(row.epoch) + 1

    def renew(self) -> None:
        """Renew the lease. Raises LeadershipLost if another orchestrator leads."""
        self._change({"renewals": _L.renewals + 1, "renewed_at": self._clock()})

    def publish(self, gateway: PublishedGateway) -> None:
        """Tell where the leader's gateway is. Raises LeadershipLost if another orchestrator leads."""
        self._change({"gateway_url": gateway.url, "gateway_key": gateway.key})

    def _change(self, values: dict[str, Any]) -> None:
        mine = sa.and_(_THE_ROW, _L.epoch == self._database.epoch)
        with self._database.writing(fenced=False) as connection:
            if not connection.execute(sa.update(schema.leadership).where(mine).values(values)).rowcount:
                raise LeadershipLost

    def give_up(self) -> None:
        """Let the next orchestrator lead at once. The epoch stays; this store writes nothing more with it."""
        mine = sa.and_(_THE_ROW, _L.epoch == self._database.epoch)
        with self._database.writing(fenced=False) as connection:
            connection.execute(
                sa.update(schema.leadership)
                .where(mine)
                .values(holder="", renewals=_L.renewals + 1, gateway_url="", gateway_key="")
            )
        self._database.demand(None)

    def _clock(self) -> Any:
        return 0.0 if self._database.is_sqlite else database_clock()


def database_clock() -> sa.ColumnElement[float]:
    """Epoch seconds by the database's clock, the only one that all hosts share."""
    return sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()), sa.Float(53))
