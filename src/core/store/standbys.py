"""The orchestrators that stand by. Each says so every few seconds, until it leads or ends."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from . import schema
from .database import Database
from .leadership import Identity, database_clock
from .reconnecting import reconnecting

SIGN_S = 2.0  # between two signs of life
SILENT_S = 10.0  # without one a standby has ended
_S = schema.standbys.c


@dataclass(frozen=True, slots=True)
class Standby:
    """One that stands by. `seen_ago_s`: since its last sign of life, by the database's clock."""

    host: str
    pid: int
    seen_ago_s: float


@reconnecting()
class Standbys:
    """The table of them: for people, and for the requests of a leader that ends.

    These wait if one is present that may answer them (`gateway/forwarding.py`). They do not decide who leads.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def sign(self, identity: Identity) -> None:
        """This one stands by. Those that have long ended are forgotten."""
        facts = {"pid": identity.pid, "host": identity.host, "seen_at": self._clock()}
        insert = self._database.insert(schema.standbys).values(incarnation=identity.incarnation, **facts)
        with self._database.writing(fenced=False) as connection:
            connection.execute(insert.on_conflict_do_update(index_elements=["incarnation"], set_=facts))
            connection.execute(sa.delete(schema.standbys).where(_S.seen_at < self._clock() - SILENT_S))

    def leave(self, incarnation: str) -> None:
        """This one leads now, or has ended."""
        with self._database.writing(fenced=False) as connection:
            connection.execute(sa.delete(schema.standbys).where(_S.incarnation == incarnation))

    def present(self) -> tuple[Standby, ...]:
        """Those that have given a sign of life lately, by host and process."""
        ago = (self._clock() - _S.seen_at).label("ago_s")
        query = sa.select(_S.host, _S.pid, ago).where(ago <= SILENT_S).order_by(_S.host, _S.pid)
        with self._database.reading() as connection:
            return tuple(Standby(row.host, row.pid, max(0.0, row.ago_s)) for row in connection.execute(query))

    def _clock(self) -> sa.ColumnElement[Any]:
        return sa.literal(time.time()) if self._database.is_sqlite else database_clock()
