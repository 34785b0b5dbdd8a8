"""The log of events: a page of those that match."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.store.events import EventSelection
from ..bodies import EventsQuery
from ..context import SUMS_FRESH_S, AppContext
from .dashboard import EventView, event_views

LEVELS = ("info", "warning", "alert")


@dataclass(frozen=True, slots=True)
class EventListView:
    """Events, newest first; `next_before` is None on the last page.

    With `after` in the query they are the oldest first, and `next_before` is None.
    """

    rows: tuple[EventView, ...]
    next_before: int | None


def event_list(context: AppContext, wanted: EventsQuery) -> EventListView:
    """A page of the events that match."""
    selection = EventSelection(
        wanted.kind,
        wanted.level or "",
        wanted.provider,
        wanted.about,
        wanted.begins_at(context.now()),
        wanted.until,
    )
    events = context.store.events
    if wanted.after is not None:
        return EventListView(event_views(events.following(wanted.limit, selection, wanted.after)), None)
    page = events.page(wanted.limit, selection, before=wanted.before)
    return EventListView(event_views(list(page.rows)), page.next_before)


def event_kinds(context: AppContext) -> tuple[str, ...]:
    """The kinds of events that there are, to choose from."""
    return context.cache.get("event kinds", lambda: tuple(context.store.events.kinds()), SUMS_FRESH_S)
