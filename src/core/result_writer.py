"""Writes finished work to the store: many results in one commit.

A task is done when its commit is. Only then is it reported (`on_written`) and appended to a results file.
During a commit the next results accumulate, so the number of commits depends on the disk, not on the number
of tasks. Direct answers have been delivered, and what they cost is reserved; answers of workers are kept
there until they are stored. Both wait longer for others to share their commit, unless something else is due.

While the store is unavailable the commit is retried (`StoreThread.insist`); nothing is dropped meanwhile.
`stalled` says that answers cannot be stored now: the orchestrator then makes no further calls.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ..records import Attempt, Event, Result, Task
from .isolating_writer import IsolatingWriter
from .store import DUPLICATES_AT_ONCE, DirectRecord, Store
from .store_thread import StoreThread
from .supervisor import Supervisor

LINGER_S = 0.02  # a commit costs a flush of the disk: worth this wait for more results
LONG_LINGER_S = 0.1  # a commit of a few answers costs more processor time than their calls
STALLED_AFTER_S = 1.0  # a commit takes some milliseconds; one that takes this long may never end
NEWS_AFTER_S = 5.0
RESTARTS = 4


@dataclass(slots=True)
class _Outbox:
    """What is not on the disk yet. `once_stored`: what to call when the rest is."""

    attempts: list[tuple[Task, Attempt]] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    direct: list[DirectRecord] = field(default_factory=list)
    once_stored: list[Callable[[], None]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.attempts or self.results or self.direct or self.once_stored or self.events)

    def put_first(self, other: _Outbox) -> None:
        """Add what is older than all of this."""
        self.attempts[:0], self.results[:0] = other.attempts, other.results
        self.direct[:0] = other.direct
        self.once_stored[:0], self.events[:0] = other.once_stored, other.events


class ResultWriter:
    """The queue of results, attempts and events that are not on the disk yet.

    `on_written` gets the results that have been stored. The methods that are not coroutines return at once.
    """

    def __init__(
        self,
        store: Store,
        thread: StoreThread,
        incarnation: str,
        on_written: Callable[[Sequence[Result]], None],
        supervisor: Supervisor,
    ) -> None:
        self._store, self._thread = store, thread
        self._on_written, self._supervisor = on_written, supervisor
        self._rows = IsolatingWriter(store, thread, incarnation, supervisor, self.add_events)
        self._waiting, self._writing = _Outbox(), _Outbox()
        self._stall = _Stall()
        self._work, self._idle, self._ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._is_due = asyncio.Event()  # something is to be written that may not wait longer
        self._idle.set()

    @property
    def idle(self) -> bool:
        """Whether everything added so far is on the disk."""
        return self._idle.is_set()

    @property
    def stalled(self) -> bool:
        """Whether the last commit failed, or one takes so long that it may never end."""
        return self._stall.is_stalled(unavailable=bool(self._thread.refusal))

    @property
    def stall_is_news(self) -> bool:
        """Whether a stall is worth an alert: an unavailable store is, a slow disk only after NEWS_AFTER_S."""
        return self.stalled and (bool(self._thread.refusal) or self._stall.lasted_s > NEWS_AFTER_S)

    @property
    def unstored(self) -> int:
        """How many answers are not on the disk yet."""
        return sum(len(box.results) + len(box.direct) for box in (self._waiting, self._writing))

    @property
    def unstored_text(self) -> str:
        """`3 answers are not stored yet (why)` while the store takes none; else empty."""
        if not self.stalled:
            return ""
        number = self.unstored
        answers = "1 answer is" if number == 1 else f"{number:,} answers are" if number else "attempts are"
        return f"{answers} not stored yet ({self._thread.refusal or 'the database does not answer'})"

    def take_unwritten(self) -> list[Result]:
        """Remove and return the results that can no longer be stored: the caller keeps them elsewhere."""
        results = [*self._writing.results, *self._waiting.results]
        self._writing.results, self._waiting.results = [], []
        return results

    def unwritten(self) -> set[tuple[str, str]]:
        """(batch, id) of the tasks that are over and not on the disk yet."""
        boxes = (self._waiting, self._writing)
        return {(result.task.batch, result.task.id) for box in boxes for result in box.results}

    # ------------------------------------------------------------------ in

    def add_result(self, result: Result, *, kept: bool = False) -> None:
        """The end of a task, with the attempts that are not stored yet.

        `kept`: its answer would survive this process, at the worker that made the call.
        """
        self._waiting.results.append(result)
        if kept:
            self._wake()
        else:
            self._wake_soon()

    def add_direct(self, record: DirectRecord) -> None:
        """The end of a direct task, with all its attempts: the store gets the task with it."""
        self._waiting.direct.append(record)
        self._wake()

    def add_attempt(self, task: Task, attempt: Attempt) -> None:
        """An attempt of a task that goes on: its cost must survive a crash."""
        self._waiting.attempts.append((task, attempt))
        self._wake_soon()

    def once_stored(self, call: Callable[[], None]) -> None:
        """Call `call` when everything added so far is on the disk."""
        self._waiting.once_stored.append(call)
        self._wake()

    def add_events(self, events: Sequence[Event]) -> None:
        """Events for the pages. They are written last."""
        if events:
            self._waiting.events.extend(events)
            self._wake_soon()

    def _wake(self) -> None:
        self._idle.clear()
        self._work.set()

    def _wake_soon(self) -> None:
        self._wake()
        self._is_due.set()

    # ------------------------------------------------------------------ out

    async def keep_running(self) -> None:
        """Run until cancelled; a failure restarts it, RESTARTS of them in a row raise StoreError."""
        try:
            await self._supervisor.keep("storing results", self.run, restarts=RESTARTS)
        finally:
            self._ended.set()

    async def run(self) -> None:
        """Write until cancelled. Where it raises or is cancelled, the next `run` goes on: nothing is lost.

        A commit that is cancelled may still be carried out: its results are then stored and not reported, and
        the next `run` stores its events again.
        """
        while True:
            await self._work.wait()
            await self._linger()
            await self._commit()

    async def _linger(self) -> None:
        """Wait for more that may share the commit."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LONG_LINGER_S - LINGER_S):
                await self._is_due.wait()
        await asyncio.sleep(LINGER_S)

    async def flush(self) -> None:
        """Wait until everything added is on the disk, or nothing more is written."""
        self._is_due.set()
        await self._first_of(self._idle)

    async def settled(self) -> None:
        """Wait until everything added so far is on the disk, though more may come, or nothing is written."""
        stored = asyncio.Event()
        self.once_stored(stored.set)
        self._is_due.set()
        await self._first_of(stored)

    async def _first_of(self, event: asyncio.Event) -> None:
        waits = [asyncio.create_task(each.wait()) for each in (event, self._ended)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    async def _commit(self) -> None:
        self._work.clear()
        self._is_due.clear()
        self._writing, self._waiting = self._waiting, _Outbox()
        self._stall.begin()
        try:
            written = await self._write(self._writing)
            self._stall.succeed()
        finally:  # the next run writes what is left
            self._stall.end()
            left, self._writing = self._writing, _Outbox()
            self._waiting.put_first(left)
            if left:
                self._wake_soon()
        if sum(result.origin is not None for result in written) >= DUPLICATES_AT_ONCE:
            await self.settle_duplicates()
        if not self._work.is_set():
            self._idle.set()

    async def _write(self, box: _Outbox) -> list[Result]:
        """Write what is in the box, and take each kind out once it is stored. Returns the stored results."""
        if box.attempts:
            await self._rows.write_attempts(box.attempts)
            box.attempts = []
        written = await self._rows.write_results(list(box.results), self._done) if box.results else []
        if box.direct:
            await self._rows.write_direct(list(box.direct), self._done_direct)
        calls, box.once_stored = box.once_stored, []
        for call in calls:
            call()
        await self._rows.write_events(box.events)
        box.events = []
        return written

    def _done(self, results: list[Result], stored: list[Result]) -> None:
        done = {id(result) for result in results}
        self._writing.results = [each for each in self._writing.results if id(each) not in done]
        if stored:
            self._on_written(stored)

    def _done_direct(self, records: list[DirectRecord]) -> None:
        done = {id(record) for record in records}
        self._writing.direct = [each for each in self._writing.direct if id(each) not in done]
        self._on_written([record.result for record in records])

    async def settle_duplicates(self) -> None:
        """End tasks that waited for the answer of an equal one and are left over."""
        while results := await self._thread.insist(self._store.deduplication.settle):
            self._on_written(results)


class _Stall:
    """How long the current commit has taken, and whether the last one failed. Monotonic seconds."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._failed = False

    def begin(self) -> None:
        """A commit begins."""
        self._since, self._failed = time.monotonic(), True

    def succeed(self) -> None:
        """The commit has stored everything."""
        self._failed = False

    def end(self) -> None:
        """The commit is over, however it went."""
        self._since = None

    @property
    def lasted_s(self) -> float:
        """Since the commit began; 0 between commits."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    def is_stalled(self, *, unavailable: bool) -> bool:
        """Between commits: whether the last one failed."""
        if self._since is None:
            return self._failed
        return unavailable or self.lasted_s > STALLED_AFTER_S
