"""Deletes prompts and answers of tasks that ended more than `retention_days` ago, beside the calls.

One step a second looks at 200 tasks, which takes the store's thread some milliseconds. A sweep
through all contents is followed by a pause.
"""

from __future__ import annotations

import asyncio

from ..formatting import plural
from ..records import Event
from .event_reporter import EventReporter
from .store_session import StoreSession

DAY_S = 86_400.0
STEP_EVERY_S = 1.0
SWEEP_EVERY_S = 3_600.0


class Retention:
    """The job of the orchestrator that leads."""

    def __init__(self, session: StoreSession, reporter: EventReporter, retention_days: float) -> None:
        self._session, self._reporter, self._days = session, reporter, retention_days

    @property
    def is_wanted(self) -> bool:
        """Whether contents are to be deleted at all."""
        return self._days > 0

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(STEP_EVERY_S)
            await self.sweep()
            await asyncio.sleep(SWEEP_EVERY_S)

    async def sweep(self) -> int:
        """Go through all contents once; returns how many tasks lost theirs."""
        insist, contents = self._session.thread.insist, self._session.store.contents
        before = self._session.clock.now() - self._days * DAY_S
        purged = 0
        step = await insist(contents.purge_step, before)
        while True:
            purged += step.purged
            if step.after is None:
                break
            await asyncio.sleep(STEP_EVERY_S)
            step = await insist(contents.purge_step, before, step.after)
        await insist(contents.purge_events, before)
        if purged:
            self._report(purged)
        return purged

    def _report(self, purged: int) -> None:
        ended = f"that ended more than {self._days:g} days ago"
        text = f"purged prompts and answers of {plural(purged, 'task')} {ended}"
        event = Event(self._session.clock.now(), "purged", text, fields={"tasks": purged})
        self._reporter.report([event])
