"""The log of events that people see."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ...records import Event
from ...storable import clean
from . import schema
from .codec import dumps, loads
from .database import Database
from .reconnecting import reconnecting
from .rows import EventPage, EventRow

MAX_KINDS = 200  # a list to choose from
SEARCHED = 20_000  # events that a page with a filter looks at
_E = schema.events.c
_EVENT_NAMES = [column.name for column in schema.events.columns if column.name != "id"]


@dataclass(frozen=True, slots=True)
class EventSelection:
    """Which events a page lists. An empty field matches all.

    `about` is a part of the message, or of the name of a task or batch, in any case of its letters. `since`
    and `until` are epoch seconds; the minute of `until` counts in full.
    """

    kind: str = ""
    level: str = ""
    provider: str = ""
    about: str = ""
    since: float | None = None
    until: float | None = None


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
                self._database.inserting(schema.events, _EVENT_NAMES).many(connection, rows)

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

    def page(self, limit: int, only: EventSelection, *, before: int | None = None) -> EventPage:
        """A page of events, newest first; `before` is the `next_before` of the page before.

        A search stops after `SEARCHED` events (of this kind, if one is given), so a page may be short.
        """
        within = [_E.kind == only.kind] if only.kind else []
        within += [] if before is None else [_E.id < before]
        newest = sa.select(_E.id).where(*within).order_by(_E.id.desc())
        query = sa.select(schema.events).where(*within, *_filters(only)).order_by(_E.id.desc()).limit(limit)
        with self._database.reading() as connection:
            last = connection.execute(newest.limit(1).offset(SEARCHED)).scalar()
            rows = connection.execute(query if last is None else query.where(_E.id > last)).all()
        found = tuple(_event_row(row) for row in rows)
        if len(found) == limit:
            return EventPage(found, found[-1].id)
        return EventPage(found, None if last is None else last + 1)

    def kinds(self) -> list[str]:
        """The kinds of all events, each found by its place in the index."""
        found: list[str] = []
        with self._database.reading() as connection:
            while len(found) < MAX_KINDS:
                last = found[-1] if found else ""
                following = sa.select(sa.func.min(_E.kind)).where(_E.kind > last)
                kind = connection.execute(following).scalar()
                if kind is None:
                    break
                found.append(kind)
        return found

    def following(self, limit: int, only: EventSelection, after: int) -> list[EventRow]:
        """The first `limit` events after this id that match, oldest first."""
        within = [_E.kind == only.kind] if only.kind else []
        query = sa.select(schema.events).where(_E.id > after, *within, *_filters(only)).order_by(_E.id)
        with self._database.reading() as connection:
            rows = connection.execute(query.limit(limit)).all()
        return [_event_row(row) for row in rows]

    def recent(self, limit: int = 100, *, kinds: Collection[str] = ()) -> list[EventRow]:
        """The last `limit` events, newest first."""
        query = sa.select(schema.events).order_by(_E.id.desc()).limit(limit)
        if kinds:
            query = query.where(_E.kind.in_(kinds))
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [_event_row(row) for row in rows]


def _event_row(row: Any) -> EventRow:
    fields = loads(row.fields)
    return EventRow(
        row.id, Event(row.at, row.kind, row.message, row.provider, row.task_id, row.level, fields)
    )


def _filters(only: EventSelection) -> Iterator[sa.ColumnElement[bool]]:
    if only.level:
        yield _E.level == only.level
    if only.provider:
        yield _E.provider == only.provider
    if only.since is not None:
        yield _E.at >= only.since
    if only.until is not None:
        yield _E.at < only.until + 60
    if only.about:
        in_fields = dumps(only.about)[1:-1]  # as JSON spells it
        yield sa.or_(
            _E.message.icontains(only.about, autoescape=True),
            _E.task_id.icontains(only.about, autoescape=True),
            _E.fields.icontains(in_fields, autoescape=True),
        )
