"""Passes events on: to the log, and to subscribers such as the store and the alerts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence

from ..records import Event
from .event_text import event_text
from .supervisor import Supervisor

log = logging.getLogger(__name__)


class EventReporter:
    """Logs each event and gives it to every subscriber. One that fails does not keep events from the others.

    Events of the kinds `reported_at_end` are logged as information: the end of the run reports them.
    `supervisor` reports its own events through this object. For one event loop.
    """

    def __init__(self, now: Callable[[], float], reported_at_end: Collection[str] = ()) -> None:
        self._reported_at_end = reported_at_end
        self.supervisor = Supervisor(self.report, now)
        self._subscribers: list[Callable[[Sequence[Event]], None]] = []

    def subscribe(self, subscriber: Callable[[Sequence[Event]], None]) -> None:
        """Call `subscriber` with all further events."""
        self._subscribers.append(subscriber)

    def report(self, events: Sequence[Event]) -> None:
        """Log the events and pass them on."""
        if not events:
            return
        for subscriber in self._subscribers:
            with self.supervisor.guarding("reporting events"):
                subscriber(events)
        for event in events:
            with self.supervisor.guarding("reporting an event"):
                is_quiet = event.level == "info" or event.kind in self._reported_at_end
                level = logging.INFO if is_quiet else logging.WARNING
                log.log(level, event_text(event), extra={"action": event.kind, "provider": event.provider})
