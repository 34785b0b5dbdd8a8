"""One orchestrator's session with its workers: from the attach after a takeover to the end of the lead.

open     the lead is taken: attach the workers; what they hold is kept from the store's clean-up
adopt    the store has said which calls are still this pool's: they go on
run      workers come and go, see `workers/remote.py`
close    what is left to cancel or to acknowledge is sent
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from ..records import Attempt, Event, Outcome, Placement, Task, WorkerSnapshot
from ..routing.scheduler import Scheduler
from ..workers.local import LocalWorker
from ..workers.plain import decode_placement
from ..workers.port import Description, Fleet
from ..workers.remote import Workers
from .calls import CallRunner
from .event_reporter import EventReporter
from .placing import Placer
from .remote_calls import RemoteCall, RemoteCalls
from .result_writer import ResultWriter
from .store.rows import HeldByWorker, Inventories
from .store_session import StoreSession

OpenFleet = Callable[[], Awaitable[Fleet]]


class WorkerSession:
    """The workers of an orchestrator; without `open_fleet` there are none, and its methods do nothing.

    `describe`: what workers are compared with. `falls_back`: the orchestrator makes calls itself while no
    worker takes any.
    """

    def __init__(
        self,
        open_fleet: OpenFleet | None,
        session: StoreSession,
        describe: Callable[[], Description],
        reporter: EventReporter,
        *,
        falls_back: bool,
    ) -> None:
        self._open_fleet, self._session, self._describe = open_fleet, session, describe
        self._reporter, self._falls_back = reporter, falls_back
        self._calls: RemoteCalls | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether calls are made by workers."""
        return self._open_fleet is not None

    @property
    def can_make_calls(self) -> bool:
        """Whether calls may be placed now."""
        return self._calls is None or self._calls.can_make_calls

    def snapshots(self) -> tuple[WorkerSnapshot, ...]:
        """The workers right now."""
        return () if self._calls is None else self._calls.workers.snapshots()

    async def open(self, local: LocalWorker, placer: Placer) -> Inventories:
        """Join the cluster and attach its workers, after the lead was taken; returns what they hold.

        Raises ConfigError where the cluster can't be joined, LeadershipLost where another one leads.
        """
        if self._open_fleet is None:
            return Inventories()
        leadership, clock = self._session.leadership, self._session.clock
        fleet = await self._open_fleet()
        workers = Workers(fleet, leadership, self._describe, clock.now, leadership.me.lease_s)
        workers.report, workers.changed = self._report, placer.place_anew
        self._calls = RemoteCalls(workers, local, leadership, falls_back=self._falls_back)
        return await self._calls.look()

    def _report(self, text: str, level: str) -> None:
        self._reporter.report([Event(self._session.clock.now(), "worker", text, level=level)])

    async def adopt(
        self,
        adopted: Sequence[HeldByWorker],
        scheduler: Scheduler,
        calls: CallRunner,
        result_writer: ResultWriter,
    ) -> None:
        """Go on with these calls, whose tasks this orchestrator has claimed."""
        if self._calls is None:
            return
        calls.remote = self._calls
        session = self._session
        tasks = {}
        if adopted:
            claimed = await session.thread.insist(session.store.queue.claimed, session.incarnation)
            tasks = {task.row: task for task in claimed}
        attempts = await session.thread.insist(session.store.queue.attempts_that_count, list(tasks))
        now = session.clock.now()
        for call, held in self._calls.adopt(adopted):
            placed = decode_placement(held["facts"], tasks[call.row], now - held["age_s"])
            placement = scheduler.adopt(placed, now, attempts.get(call.row, ()))
            if placement is None:
                self._calls.stored(RemoteCall(call.worker, call.key))
                result_writer.add_attempt(*_lost(placed, now))
            else:
                calls.adopt(placement, RemoteCall(call.worker, call.key), held["age_s"])
        self._calls.workers.start()
        if adopted:
            text = f"{len(adopted):,} calls in flight on workers go on"
            self._report(text, "info")

    def keys_changed(self) -> None:
        """Keys of this orchestrator may have changed."""
        if self._calls is not None:
            self._calls.workers.keys_changed()

    async def run(self) -> None:
        """Follow the workers until cancelled. Raises LeadershipLost."""
        if self._calls is not None:
            await self._calls.workers.run()

    async def close(self) -> None:
        """Leave the workers; calls that are not stored stay theirs."""
        if self._calls is not None:
            await self._calls.workers.close()


def _lost(placed: Placement, now: float) -> tuple[Task, Attempt]:
    """The attempt of a call whose provider or model is not configured any more."""
    return placed.task, Attempt(
        placed.attempt, placed.provider, placed.model, placed.agent, Outcome.UNCERTAIN, placed.at,
        now - placed.at, placed.choice, placed.reasons, placed.forced, "WorkerLost",
        "given up: its provider or model is not configured any more", cost_nanos=placed.reserved_nanos,
        max_tokens=placed.max_tokens,
    )  # fmt: skip
