"""How a run ends: finished, drained, stopped at once, or unable to continue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from ..errors import KeyRejected, LeadershipLost, OrchestratorError, StoreError
from ..records import TaskStatus
from ..routing.cost.budgets import BudgetRule

Stopped = Literal["", "drained", "stopped", "budget", "misconfigured", "superseded", "store_lost"]


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run came to: tasks by final status, and why it stopped early (empty: it did not)."""

    counts: Mapping[TaskStatus, int]
    stopped: Stopped = ""
    why: str = ""  # one line for a person, where no person stopped it
    recovered: int = 0  # tasks requeued from an orchestrator that was killed
    spent: BudgetRule | None = None  # the budget that stopped the run

    @property
    def answered(self) -> int:
        """Tasks that succeeded."""
        return self.counts.get(TaskStatus.SUCCEEDED, 0)

    def error(self) -> OrchestratorError | None:
        """What ended the run; None if it was done, or a person or a budget ended it."""
        match self.stopped:
            case "misconfigured":
                return KeyRejected(self.why)
            case "superseded" | "store_lost":
                return StoreError(self.why)
        return None


class RunEnd:
    """Whether the run is ending, and why. For the event loop's thread.

    While `draining` nothing is claimed or placed; calls in flight have `grace_s` seconds to end. `wait`
    returns when the run no longer waits for them.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._draining = False
        self.stopped: Stopped = ""
        self.why = ""
        self.spent: BudgetRule | None = None
        self._over = asyncio.Event()
        self._on_drain: Callable[[], None] | None = None

    def when_draining(self, call: Callable[[], None]) -> None:
        """Call `call` when the run begins to end, whatever ends it."""
        self._on_drain = call

    @property
    def draining(self) -> bool:
        """Whether nothing is claimed or placed any more."""
        return self._draining

    def _begin_draining(self) -> None:
        was, self._draining = self._draining, True
        if not was and self._on_drain is not None:
            self._on_drain()

    @property
    def can_store(self) -> bool:
        """Whether the store still takes this orchestrator's results."""
        return self.stopped not in ("superseded", "store_lost")

    def drain(self, in_flight: int) -> None:
        """Start no new calls, and let those `in_flight` end. Does nothing where the run is ending already."""
        if self.draining:
            return
        self.stopped = "drained"
        self._begin_draining()
        if in_flight:
            asyncio.get_running_loop().call_later(self._grace_s, self.finish)
        else:
            self.finish()

    def stop(self) -> None:
        """End without waiting for calls in flight."""
        self.stopped = "stopped"
        self._begin_draining()
        self.finish()

    def supersede(self, lost: LeadershipLost) -> None:
        """End because another orchestrator leads: it has booked everything that is not stored yet."""
        if self.stopped != "superseded":
            self.why = f"{lost}; this orchestrator stops and stores nothing more"
            self.stop()
            self.stopped = "superseded"

    def lose_store(self, why: str, in_flight: int) -> None:
        """Drain because the database file is gone: further answers could not be kept."""
        self.why = why
        self.drain(in_flight)
        self.stopped = "store_lost"

    def complete(self, stopped: Stopped = "", why: str = "", spent: BudgetRule | None = None) -> None:
        """End because no work is left that may continue."""
        if stopped:
            self.stopped, self.why, self.spent = stopped, why, spent
        self.finish()

    def wind_up(self) -> None:
        """Claim and place nothing more, whatever ended the run."""
        self._begin_draining()

    def finish(self) -> None:
        """Stop waiting for calls in flight."""
        self._over.set()

    async def wait(self) -> None:
        """Return when the run no longer waits for calls in flight."""
        await self._over.wait()
