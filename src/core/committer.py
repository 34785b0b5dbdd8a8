"""Finished work on its way to the disk: many results, one commit.

A task is done when its commit is, not before: only then is it told (`on_written`), and only then does a
row go to a results file. While one commit is under way the next results gather, so the disk sets the
pace and not the number of tasks. A store that refuses is asked again (`StoreThread.insist`); nothing is
dropped meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from ..records import Attempt, Event, Result, Task
from .store import FOLLOWERS_AT_ONCE, Store
from .store_thread import StoreThread

log = logging.getLogger(__name__)
LINGER_S = 0.02  # a commit costs a flush of the disk: worth this wait for company


class Committer:
    """See the top of the file. Everything but `run` is called on the loop and returns at once."""

    def __init__(
        self,
        store: Store,
        thread: StoreThread,
        incarnation: str,
        on_written: Callable[[Sequence[Result]], None],
    ) -> None:
        self._store, self._thread, self._incarnation = store, thread, incarnation
        self._on_written = on_written
        self._results: list[Result] = []
        self._writing: list[Result] = []
        self._attempts: list[tuple[Task, Attempt]] = []
        self._events: list[Event] = []
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def idle(self) -> bool:
        """Whether everything handed in so far is on the disk."""
        return self._idle.is_set()

    def unwritten(self) -> set[tuple[str, str]]:
        """(batch, id) of the tasks that are over and not on the disk yet."""
        return {(r.task.batch, r.task.id) for results in (self._results, self._writing) for r in results}

    def add_result(self, result: Result) -> None:
        self._results.append(result)
        self._wake()

    def add_attempt(self, task: Task, attempt: Attempt) -> None:
        """An attempt of a task that goes on: what it cost must survive a crash."""
        self._attempts.append((task, attempt))
        self._wake()

    def add_events(self, events: Sequence[Event]) -> None:
        if events:
            self._events.extend(events)
            self._wake()

    def _wake(self) -> None:
        self._idle.clear()
        self._work.set()

    async def run(self) -> None:
        """Write until cancelled; call `flush` before cancelling."""
        while True:
            await self._work.wait()
            await asyncio.sleep(LINGER_S)
            await self._commit()

    async def flush(self) -> None:
        """Wait until everything handed in is on the disk."""
        await self._idle.wait()

    async def _commit(self) -> None:
        self._work.clear()
        results, self._results = self._results, []
        self._writing = results
        attempts, self._attempts = self._attempts, []
        events, self._events = self._events, []
        written = await self._thread.insist(self._write, results, attempts, events)
        self._writing = []
        followers = sum(result.origin is not None for result in written)
        if len(written) - followers < len(results):
            log.warning(
                "some results were not mine to write any more",
                extra={"action": "finish", "results": len(results), "written": len(written) - followers},
            )
        if written:
            self._on_written(written)
        if followers >= FOLLOWERS_AT_ONCE:
            await self.settle_followers()
        if not self._work.is_set():
            self._idle.set()

    async def settle_followers(self) -> None:
        """End tasks that waited for the answer of an equal one and are left over."""
        while results := await self._thread.insist(self._store.settle_followers):
            self._on_written(results)

    def _write(
        self, results: list[Result], attempts: list[tuple[Task, Attempt]], events: list[Event]
    ) -> list[Result]:
        """On the store's thread. Each part is safe to repeat, except events, so these go last."""
        if attempts:
            self._store.record_attempts(self._incarnation, attempts)
        written = self._store.finish(self._incarnation, results) if results else []
        if events:
            self._store.add_events(events)
        return written
