"""The prefetch window: claimed tasks that wait in the scheduler, so that placing never waits for the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Set as AbstractSet

from .claims import Owner, TaskClaims
from .completion import CompletionCheck
from .placing import Placer
from .run_end import RunEnd
from .store.queue import Claimed, ClaimLimit

IDLE_POLL_S = 0.05  # how often a run that ends with its tasks looks for more, while none wait
BUSY_POLL_S = 0.25
BATCH_POLL_S = 1.0  # while all tasks are in providers' batches; what comes back from there ends the pause
OVERTAKING_AT_MOST = 100  # tasks beyond a full window that go before those in it
CLAIM_AT_MOST = 100  # tasks in a transaction: a claim must not hold up results, nor the event loop
WINDOW_BYTES = 64_000_000  # contents in the window; a task that is larger is there alone
OVERTAKING_BYTES = 8_000_000  # contents beyond a full window


class PrefetchWindow:
    """Keeps the scheduler's window of waiting tasks filled from the store."""

    def __init__(
        self,
        claims: TaskClaims,
        completion: CompletionCheck,
        placer: Placer,
        end: RunEnd,
        prefetch_limit: int,
    ) -> None:
        self._claims, self._completion, self._placer, self._end = claims, completion, placer, end
        self._session, self._scheduler = claims.session, claims.scheduler
        self._limit = prefetch_limit
        self._written_since, self._overtaking_from = True, 0.0

    async def run(self, until_done: bool) -> None:
        """Claim until the run drains; with `until_done` end the run when no task is open.

        Returns only when cancelled: a background job that returns would end the run.
        """
        while not self._end.draining:
            await self._claims.release_blocked()
            wanted = self._wanted()
            claimed = await self._claim(ClaimLimit(wanted, self._room_bytes())) if wanted else Claimed([])
            if until_done and not wanted and self._may_overtake():
                await self._claim_overtaking()
            if len(claimed.tasks) == CLAIM_AT_MOST:
                continue
            if not claimed.tasks and await self._is_over(until_done):
                self._end.finish()
                break
            await self._wait(until_done, more=claimed.is_cut or len(claimed.tasks) == wanted)
        await asyncio.Event().wait()

    async def _is_over(self, until_done: bool) -> bool:
        await self._completion.settle_duplicates_if_idle()
        return until_done and await self._completion.check()

    async def _wait(self, until_done: bool, more: bool) -> None:
        """Wait for the moment of the next claim. `more`: the last one may have left some tasks."""
        if until_done or self._scheduler.claimed_waiting:
            busy = self._scheduler.claimed_waiting or self._claims.blocked
            idle_s = BATCH_POLL_S if self._completion.waits_for_batches else IDLE_POLL_S
            await self._pause(BUSY_POLL_S if busy else idle_s)
        if not until_done:
            await self._until_news(more)

    def _wanted(self) -> int:
        """How many tasks to claim: none while the window is more than half full."""
        return min(self._limit - self._scheduler.claimed_waiting, CLAIM_AT_MOST) if self._has_room() else 0

    def _has_room(self) -> bool:
        """Whether the window is half empty, by tasks and by bytes."""
        waiting = self._scheduler.claimed_waiting
        return waiting <= self._limit // 2 and (not waiting or 2 * self._room_bytes() >= WINDOW_BYTES)

    def _room_bytes(self) -> int:
        return WINDOW_BYTES - self._scheduler.claimed_waiting_bytes

    async def _claim(
        self, most: ClaimLimit, above: int | None = None, excluded: AbstractSet[Owner] = frozenset()
    ) -> Claimed:
        claimed = await self._claims.claim(most, above, excluded)
        if claimed.tasks:
            self._placer.place()
        return claimed

    def _may_overtake(self) -> bool:
        """Whether tasks may have been submitted since tasks last overtook, and that is BUSY_POLL_S ago."""
        self._written_since = self._session.watch.changed() or self._written_since
        now = self._session.clock.now()
        if not self._written_since or now < self._overtaking_from:
            return False
        self._written_since, self._overtaking_from = False, now + BUSY_POLL_S
        return True

    async def _claim_overtaking(self) -> None:
        """Claim tasks that go before those in a full window, a few at a time.

        These have a higher priority, or the lowest one there and an owner without a task in the window.
        """
        lowest = self._scheduler.lowest_priority()
        for above, excluded in ((lowest, frozenset[Owner]()), (lowest - 1, self._scheduler.owners())):
            over = max(0, self._scheduler.claimed_waiting - self._limit)
            left_bytes = OVERTAKING_BYTES + min(0, self._room_bytes())
            if over < OVERTAKING_AT_MOST and left_bytes > 0:
                await self._claim(ClaimLimit(OVERTAKING_AT_MOST - over, left_bytes), above, excluded)

    async def _until_news(self, more: bool) -> None:
        """Wait until tasks are queued and the window has room."""
        while not self._end.draining:
            if self._claims.blocked.fill_the_window:
                break
            has_room = self._has_room()
            if not has_room and self._may_overtake():
                await self._claim_overtaking()
                more = True  # of what was written, only tasks that overtake have been looked for
            if has_room and (more or self._session.watch.changed()):
                if (await self._session.poll()).queued:
                    break
                more = False
            await self._pause(self._session.watch.look_every_s)

    async def _pause(self, seconds: float) -> None:
        """Wait for `seconds`, or until tasks are wanted.

        A timer sets the event: `asyncio.timeout` would end fifty waits a second by exceptions.
        """
        wanted = self._placer.tasks_wanted
        wanted.clear()
        timer = asyncio.get_running_loop().call_later(seconds, wanted.set)
        try:
            await wanted.wait()
        finally:
            timer.cancel()
