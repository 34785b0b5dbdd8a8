"""When a run that ends with its tasks is over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..records import OPEN_STATUSES, TaskStatus
from .calls import CallRunner
from .claims import TaskClaims
from .result_writer import ResultWriter
from .run_end import RunEnd


class CompletionCheck:
    """Whether every task has ended, or no remaining one may continue."""

    def __init__(
        self, claims: TaskClaims, calls: CallRunner, result_writer: ResultWriter, end: RunEnd
    ) -> None:
        self._claims, self._calls, self._result_writer, self._end = claims, calls, result_writer, end
        self._session, self._scheduler = claims.session, claims.scheduler
        self._batches_may_end: Callable[[], Awaitable[bool]] | None = None
        self._is_collecting: Callable[[], bool] = lambda: False
        self.waits_for_batches = False  # whether no task is left but in batches, or for one

    def watch_batches(
        self, may_end: Callable[[], Awaitable[bool]], is_collecting: Callable[[], bool]
    ) -> None:
        """Ask the batches at providers too, before the run is over.

        `may_end`: whether nothing is left to ask of providers. `is_collecting`: whether results are stored.
        """
        self._batches_may_end, self._is_collecting = may_end, is_collecting

    @property
    def is_idle(self) -> bool:
        """Whether every claimed task is over and stored."""
        return not self._scheduler.claimed and self._result_writer.idle

    async def settle_duplicates_if_idle(self) -> None:
        """End tasks that wait for the answer of an equal one, where none of those is left to run."""
        if self.is_idle and (await self._session.poll()).queued:
            await self._result_writer.settle_duplicates()

    async def is_stuck(self) -> bool:
        """Whether no task that is left may go on; then `end` says why, and the run is over."""
        registry = self._scheduler.balancer.registry
        if registry.all_misconfigured:
            self._end.complete("misconfigured", "; ".join(p.key.rejection for p in registry.providers))
            return True
        quiet = not self._calls and self._result_writer.idle
        budget = self._claims.blocked.spent_budget() if quiet else None
        if budget is not None and (self._scheduler.claimed_waiting or (await self._session.poll()).queued):
            self._end.complete("budget", str(budget), budget.rule)
            return True
        return False

    async def check(self) -> bool:
        """Whether the run is over; where tasks are left, `end` says why."""
        self.waits_for_batches = False
        if await self.is_stuck():
            return True
        if not self.is_idle or self._is_collecting():
            return False
        session = self._session
        counts = await session.thread.insist(session.store.reports.task_counts, session.batch)
        left = {status for status in OPEN_STATUSES if counts[status]}
        self.waits_for_batches = bool(left) and left <= {TaskStatus.DEFERRED, TaskStatus.BATCHED}
        if left:
            return False
        return self._batches_may_end is None or await self._batches_may_end()
