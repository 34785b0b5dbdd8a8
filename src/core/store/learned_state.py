"""What was learned about providers, kept for the next start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from . import schema
from .codec import dumps, loads
from .database import Database
from .reconnecting import reconnecting


@reconnecting()
class LearnedState:
    """A JSON object for each base URL and fingerprint of a key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self, base_url: str, fingerprint: str) -> dict[str, Any] | None:
        """What was learned about a provider at this address with this key; None if nothing was."""
        c = schema.learned.c
        query = sa.select(c.payload).where(c.base_url == base_url, c.fingerprint == fingerprint)
        with self._database.reading() as connection:
            payload = connection.execute(query).scalar()
        return loads(payload) if payload else None

    def save(self, base_url: str, fingerprint: str, payload: Mapping[str, Any], now: float) -> None:
        """Replace what was learned, at `now` in epoch seconds. `fingerprint` is a digest of the key."""
        values = {"payload": dumps(dict(payload)), "at": now}
        insert = self._database.insert(schema.learned).values(
            base_url=base_url, fingerprint=fingerprint, **values
        )
        with self._database.writing() as connection:
            connection.execute(
                insert.on_conflict_do_update(index_elements=["base_url", "fingerprint"], set_=values)
            )
