"""The log of events that people see."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from ...records import Event
from ...storable import clean
from . import schema
from .codec import dumps, loads
from .database import Database
from .reconnecting import reconnecting
from .rows import EventRow

SEARCHED = 20_000  # events in which those of a batch are searched
_ADD_EVENT = sa.insert(schema.events)
_EVENT_NAMES = [column.name for column in schema.events.columns if column.name != "id"]


@reconnecting()
class Events:
    """Events, appended and read by number; `Admin.purge` deletes old ones."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, events: Sequence[Event]) -> None:
        """Append events."""
        rows = [
            (e.at, e.kind, e.level, e.provider, e.task_id, clean(e.message), clean(dumps(dict(e.fields))))
            for e in events
        ]
        if rows:
            with self._database.writing() as connection:
                self._database.prepared(_ADD_EVENT, _EVENT_NAMES).many(connection, rows)

    def of_batch(self, batch: str, limit: int = 50) -> list[EventRow]:
        """The newest events whose field `batch` is this one, among the last `SEARCHED` of all."""
        e = schema.events.c
        last = sa.select(sa.func.max(e.id)).scalar_subquery()
        names_it = e.fields.contains(dumps({"batch": batch})[1:-1], autoescape=True)
        query = sa.select(schema.events).where(e.id > last - SEARCHED, names_it).order_by(e.id.desc())
        with self._database.reading() as connection:
            rows = connection.execute(query.limit(limit)).all()
        found = [_event_row(row) for row in rows]
        return [row for row in found if row.event.fields.get("batch") == batch]

    def recent(
        self, limit: int = 100, *, after_id: int | None = None, kinds: Collection[str] = ()
    ) -> list[EventRow]:
        """The last `limit` events, newest first; with `after_id` the first ones after it, oldest first."""
        e = schema.events.c
        query = sa.select(schema.events).limit(limit)
        query = (
            query.order_by(e.id.desc()) if after_id is None else query.order_by(e.id).where(e.id > after_id)
        )
        if kinds:
            query = query.where(e.kind.in_(kinds))
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [_event_row(row) for row in rows]


def _event_row(row: Any) -> EventRow:
    fields = loads(row.fields)
    return EventRow(
        row.id, Event(row.at, row.kind, row.message, row.provider, row.task_id, row.level, fields)
    )
