"""Keeps background jobs running: an unexpected exception in one of them is reported and does not end the run.

    keep(name, job)    run a job as long as the pool works, and restart it where it raises
    guarding(name)     a block whose unexpected exception must not reach the code around it

A report is a line in the log with the traceback, and an event `internal_error` for the pages. The same
exception class of the same job is reported once in `REPORT_EVERY_S`; repetitions are logged at debug level.
This is the one place besides the worker loop that catches every exception: an error of a provider, a database
or this program must leave the other jobs running.

`restarts` limits the restarts of a job: after that many failures in a row `keep` raises StoreError, and the
orchestrator ends in good order.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ..errors import LeadershipLost, StoreError
from ..records import Event

log = logging.getLogger(__name__)
RESTART_S, RESTART_AT_MOST_S = 0.5, 5.0  # doubled in between: no job pauses longer
SETTLED_S = 60.0  # a job that ran this long has recovered: its next failure counts as the first
REPORT_EVERY_S = 60.0


@dataclass(slots=True)
class Guarded:
    """What a `guarding` block caught, if anything."""

    error: Exception | None = None


class Supervisor:
    """Keeps the jobs of one orchestrator running. For one event loop; `report` takes the events."""

    def __init__(self, report: Callable[[Sequence[Event]], None], now: Callable[[], float]) -> None:
        self._report, self._now = report, now
        self._reported: dict[tuple[str, str], float] = {}  # (job, exception class) -> monotonic seconds

    async def keep(
        self, name: str, job: Callable[[], Awaitable[None]], *, restarts: int | None = None
    ) -> None:
        """Run `job` until it returns or is cancelled; StoreError after `restarts` failures in a row."""
        failures = 0
        while True:
            began_at = time.monotonic()
            with self.guarding(name) as guarded:
                await job()
            if guarded.error is None:
                return
            failures = 1 if time.monotonic() - began_at >= SETTLED_S else failures + 1
            if restarts is not None and failures > restarts:
                raise StoreError(
                    f"internal error: {name} failed {failures} times in a row "
                    f"({type(guarded.error).__name__}; the log has the traceback)"
                ) from guarded.error
            await asyncio.sleep(min(RESTART_S * 2.0 ** min(failures - 1, 10), RESTART_AT_MOST_S))

    @contextmanager
    def guarding(self, name: str) -> Iterator[Guarded]:
        """Report an unexpected exception of the block and go on after it.

        Cancellation and LeadershipLost pass through: they end the run.
        """
        guarded = Guarded()
        try:
            yield guarded
        except LeadershipLost:
            raise
        except Exception as error:  # a failure of one job must not end the others
            guarded.error = error
            if self._is_news(name, error):
                log.exception("unexpected internal error in %s", name, extra={"action": "internal_error"})
                self._report([_event(name, error, self._now())])
            else:
                log.debug("the same internal error in %s", name, extra={"action": "internal_error"})

    def _is_news(self, name: str, error: Exception) -> bool:
        key, now = (name, type(error).__name__), time.monotonic()
        reported_at = self._reported.get(key)
        if reported_at is not None and now - reported_at < REPORT_EVERY_S:
            return False
        self._reported[key] = now
        return True


def _event(name: str, error: Exception, now: float) -> Event:
    """Names the class alone, since the message of an exception may quote prompts or keys."""
    text = f"unexpected internal error in {name}: {type(error).__name__} (the log has the traceback)"
    return Event(now, "internal_error", text, level="warning")
