"""One orchestrator's session with the store: registration, heartbeats, sign-off."""

from __future__ import annotations

import asyncio

from ..records import PoolSnapshot
from .clock import Clock
from .leadership import Leadership
from .store import PollResult, Registrant
from .store.rows import Inventories, Registration
from .store_thread import StoreThread


class StoreSession:
    """The store an orchestrator writes through while it leads, and the thread that all its calls run on."""

    def __init__(self, leadership: Leadership, clock: Clock, *, mode: str, batch: str | None) -> None:
        self.leadership, self.clock = leadership, clock
        self.store, self.thread = leadership.store, StoreThread()
        self.watch = self.store.watch()
        self.mode = mode  # simulated or live
        self.batch = batch  # the one batch that is served; None: the whole queue

    @property
    def incarnation(self) -> str:
        """The name under which this orchestrator registers and claims."""
        return self.leadership.incarnation

    async def take_lead(self) -> None:
        """Raises StoreError where another orchestrator leads."""
        await asyncio.to_thread(self.leadership.acquire)

    async def register(
        self, max_claims: int, uncertain_at_most: int | None, found: Inventories
    ) -> Registration:
        """Register after `take_lead`. Requeues tasks of orchestrators that were killed.

        `uncertain_at_most`: nano-dollars that their calls in flight can have cost; None: no bound. `found`:
        calls that workers hold.
        """
        me = self.leadership.me
        return await self.thread.insist(
            self.store.orchestrators.register,
            Registrant(self.incarnation, me.pid, me.host, self.mode, self.batch or ""),
            now=self.clock.now(),
            max_claims=max_claims,
            uncertain_at_most=uncertain_at_most,
            found=found,
        )

    async def poll(self) -> PollResult:
        """Queued tasks, commands and the version of the settings."""
        return await self.thread.insist(self.store.queue.poll, self.batch)

    async def heartbeat(self, snapshot: PoolSnapshot) -> None:
        """Show that this orchestrator is alive, and what its pool looks like."""
        await self.thread.insist(self._write_heartbeat, snapshot)

    def _write_heartbeat(self, snapshot: PoolSnapshot) -> None:
        """On the store's thread: it gets values, since the loop changes everything else meanwhile."""
        self.store.orchestrators.heartbeat(self.incarnation, now=self.clock.now(), snapshot=snapshot)

    async def sign_off(self, snapshot: PoolSnapshot) -> None:
        """Write a last heartbeat and retire. Raises StoreError where the store does not take it."""
        await self.thread(self._write_heartbeat, snapshot)
        await self.thread(self.store.orchestrators.retire, self.incarnation, now=self.clock.now())

    async def close(self) -> None:
        """Give up the lead and end the thread. The store itself stays open."""
        await asyncio.to_thread(self.leadership.release)
        self.thread.close()
        self.watch.close()
