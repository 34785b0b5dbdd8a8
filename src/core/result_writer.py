"""Finished work on its way to the disk: many results, one commit.

A task is done when its commit is, not before: only then is it told (`on_written`), and only then does a
row go to a results file. While one commit is under way the next results gather, so the disk sets the
pace and not the number of tasks. A store that refuses is asked again (`StoreThread.insist`); nothing is
dropped meanwhile.

A row that the database refuses for its content fails alone. The batch is written in halves until the row
stands by itself; it is then stored as failed, with the reason and with what its calls have cost.

`stalled` tells that what is paid cannot be stored now: the orchestrator buys nothing more until it can.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ..errors import UnstorableError
from ..records import Attempt, Event, Result, Task, TaskStatus, Usage
from .store import DUPLICATES_AT_ONCE, Store
from .store_thread import StoreThread
from .supervisor import Supervisor

T = TypeVar("T")

log = logging.getLogger(__name__)
LINGER_S = 0.02  # a commit costs a flush of the disk: worth this wait for company
NEWS_AFTER_S = 5.0
STALLED_AFTER_S = 1.0  # a commit takes some milliseconds; one that takes so long may never end
RESTARTS = 4
LARGEST = 2**31 - 1  # of a number in the narrowest column
TEXT_CHARS = 10_000  # of a reason: what was refused may be huge


class ResultWriter:
    """The queue of results, attempts and events that are not on the disk yet.

    Everything but `run` and `flush` is called on the loop and returns at once.
    """

    def __init__(
        self,
        store: Store,
        thread: StoreThread,
        incarnation: str,
        on_written: Callable[[Sequence[Result]], None],
        supervisor: Supervisor,
    ) -> None:
        self._store, self._thread, self._incarnation = store, thread, incarnation
        self._on_written, self._supervisor = on_written, supervisor
        self._results: list[Result] = []
        self._writing: list[Result] = []
        self._attempts: list[tuple[Task, Attempt]] = []
        self._events: list[Event] = []
        self._once_stored: list[Callable[[], None]] = []
        self._writing_since: float | None = None  # monotonic seconds
        self._broken = False  # the last commit has raised: what it was to write waits for the next one
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._ended = asyncio.Event()  # it writes nothing more

    @property
    def idle(self) -> bool:
        """Whether everything added so far is on the disk."""
        return self._idle.is_set()

    @property
    def stalled(self) -> bool:
        """Whether a commit is refused, or has taken so long that it may never end."""
        if (since := self._writing_since) is None:
            return self._broken
        return bool(self._thread.refusal) or time.monotonic() - since > STALLED_AFTER_S

    @property
    def stall_is_news(self) -> bool:
        """Whether a stall deserves an alert: a refusal does, a slow disk only after NEWS_AFTER_S."""
        since = self._writing_since
        took_s = 0.0 if since is None else time.monotonic() - since
        return self.stalled and (bool(self._thread.refusal) or took_s > NEWS_AFTER_S)

    @property
    def unstored(self) -> int:
        """How many answers have come in and are not on the disk yet."""
        return len(self._results) + len(self._writing)

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
        results, self._results, self._writing = [*self._writing, *self._results], [], []
        return results

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

    def once_stored(self, call: Callable[[], None]) -> None:
        """Call `call` when everything added so far is on the disk."""
        self._once_stored.append(call)
        self._wake()

    def add_events(self, events: Sequence[Event]) -> None:
        if events:
            self._events.extend(events)
            self._wake()

    def _wake(self) -> None:
        self._idle.clear()
        self._work.set()

    async def keep_running(self) -> None:
        """Run until cancelled; a failure restarts it, RESTARTS of them in a row raise StoreError."""
        try:
            await self._supervisor.keep("storing results", self.run, restarts=RESTARTS)
        finally:
            self._ended.set()

    async def run(self) -> None:
        """Write until cancelled; call `flush` before that. Where it raises, run it again: nothing is lost."""
        while True:
            await self._work.wait()
            await asyncio.sleep(LINGER_S)
            await self._commit()

    async def flush(self) -> None:
        """Wait until everything added is on the disk, or nothing more is written."""
        waits = [asyncio.create_task(event.wait()) for event in (self._idle, self._ended)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    async def _commit(self) -> None:
        self._work.clear()
        results, self._results = self._results, []
        self._writing = list(results)
        attempts, self._attempts = self._attempts, []
        events, self._events = self._events, []
        waiting, self._once_stored = self._once_stored, []
        self._writing_since, self._broken = time.monotonic(), True
        written: list[Result] = []
        try:
            if attempts:
                await self._write_attempts(attempts)
                attempts = []
            if results:
                written = await self._write(results)
            stored, waiting = waiting, []
            for call in stored:
                call()
            await self._write_events(events)
            events, self._broken = [], False
        finally:  # cancelled, or broken: what is not written yet is written by the next run
            self._writing_since = None
            self._attempts[:0], self._events[:0], self._results[:0] = attempts, events, self._writing
            self._writing, self._once_stored[:0] = [], waiting
            if attempts or events or self._results or waiting:
                self._wake()
        if sum(result.origin is not None for result in written) >= DUPLICATES_AT_ONCE:
            await self.settle_duplicates()
        if not self._work.is_set():
            self._idle.set()

    async def settle_duplicates(self) -> None:
        """End tasks that waited for the answer of an equal one and are left over."""
        while results := await self._thread.insist(self._store.deduplication.settle):
            self._on_written(results)

    # ------------------------------------------------------------------ results

    async def _write(self, results: list[Result]) -> list[Result]:
        """Write all of them, in halves where one of them is refused; what was written."""
        written, refused = await self._try(self._store.queue.finish, results)
        if written is not None:
            return self._done(results, written)
        if len(results) == 1:
            return await self._write_as_failed(results[0], refused)
        middle = len(results) // 2
        return await self._write(results[:middle]) + await self._write(results[middle:])

    async def _try(
        self, method: Callable[[str, Sequence[Any]], T], rows: Sequence[Any]
    ) -> tuple[T | None, Exception | None]:
        """Its result, or why these rows can't be written: they are refused, or our own code failed."""
        found: T | None = None
        refused: Exception | None = None
        with self._supervisor.guarding("storing results") as guarded:
            try:
                found = await self._thread.insist(method, self._incarnation, rows)
            except UnstorableError as error:
                refused = error
        return found, refused or guarded.error

    async def _write_as_failed(self, result: Result, error: Exception | None) -> list[Result]:
        """The row alone is at fault: it ends as failed, and what its calls have cost is kept."""
        why = str(error) if isinstance(error, UnstorableError) else type(error).__name__
        failed = as_failed(result, f"the answer cannot be stored: {why}")
        text = f"the answer of task {failed.task.id} cannot be stored; the task failed: {why}"
        event = Event(failed.finished_at, "answer_refused", text, failed.provider, failed.task.id, "warning")
        log.error("%s", text, extra={"action": "finish", "task_id": failed.task.id})
        self.add_events([event])
        written = await self._thread.insist(self._store.queue.finish, self._incarnation, [failed])
        return self._done([result], written)

    def _done(self, results: list[Result], written: list[Result]) -> list[Result]:
        """These are on the disk, or were not this orchestrator's to write any more."""
        done = {id(result) for result in results}
        self._writing = [each for each in self._writing if id(each) not in done]
        own = sum(result.origin is None for result in written)
        if own < len(results):
            log.warning(
                "skipped results whose claim was lost",
                extra={"action": "finish", "results": len(results), "written": own},
            )
        if written:
            self._on_written(written)
        return written

    # ------------------------------------------------------------------ attempts and events

    async def _write_attempts(self, attempts: list[tuple[Task, Attempt]]) -> None:
        """Attempts of tasks that go on; one that is refused is stored without what can be refused in it."""
        _, refused = await self._try(self._record, attempts)
        if refused is not None:
            self._log_refusal("an attempt is stored without its details", refused)
            plain = [(task, plain_attempt(attempt)) for task, attempt in attempts]
            await self._thread.insist(self._store.queue.record_attempts, self._incarnation, plain)

    def _record(self, incarnation: str, attempts: Sequence[tuple[Task, Attempt]]) -> bool:
        self._store.queue.record_attempts(incarnation, attempts)
        return True

    async def _write_events(self, events: list[Event]) -> None:
        """Not safe to repeat, so these go last. One that is refused is in the log already, and left out."""
        if not events:
            return
        _, refused = await self._try(self._note, events)
        if refused is None:
            return
        if len(events) == 1:
            self._log_refusal("an event cannot be stored", refused)
            return
        middle = len(events) // 2
        await self._write_events(events[:middle])
        await self._write_events(events[middle:])

    @staticmethod
    def _log_refusal(text: str, error: Exception) -> None:
        log.error("%s", text, extra={"action": "store", "error": str(error)})

    def _note(self, _incarnation: str, events: Sequence[Event]) -> bool:
        self._store.events.add(events)
        return True


def as_failed(result: Result, error: str) -> Result:
    """The result as failed, with nothing in it that a database could refuse. Its cost stays."""
    return Result(
        result.task,
        TaskStatus.FAILED,
        result.finished_at,
        tuple(plain_attempt(each) for each in result.attempts),
        error=_plain(error),
        tier=_plain(result.tier),
    )


def plain_attempt(attempt: Attempt) -> Attempt:
    """The attempt with storable values: numbers in range, plain text. A cost out of range is unknown."""
    usage, cost = attempt.usage, attempt.cost_nanos
    return replace(
        attempt,
        provider=_plain(attempt.provider),
        model=_plain(attempt.model),
        agent=_plain(attempt.agent),
        choice=_plain(attempt.choice),
        error_kind=_plain(attempt.error_kind),
        usage=Usage(
            *(
                _bounded(n)
                for n in (
                    usage.input_tokens,
                    usage.cache_read_tokens,
                    usage.cache_write_tokens,
                    usage.output_tokens,
                    usage.reasoning_tokens,
                )
            )
        ),
        cost_nanos=cost if cost is not None and 0 <= cost < 2**53 else None,
        latency_s=attempt.latency_s if math.isfinite(attempt.latency_s) else 0.0,
        error=_plain(attempt.error),
        status=attempt.status if attempt.status is None else _bounded(attempt.status),
        max_tokens=_bounded(attempt.max_tokens),
        reasons=(),
    )


def _bounded(number: int) -> int:
    return min(max(int(number), 0), LARGEST)


def _plain(text: object) -> str:
    return str(text)[:TEXT_CHARS].encode("ascii", "replace").decode().replace("\0", "?")
