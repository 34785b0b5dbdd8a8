"""Writes rows to the store so that one that the database refuses does not keep the others from it.

A batch with a refused row is written in halves until that row is alone. A refused result is stored as failed,
with the reason and the cost of its calls; a refused attempt is stored without its details; a refused event is
in the log and left out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..errors import UnstorableError
from ..records import Attempt, Event, Result, Task
from .plain_rows import as_failed, plain_attempt
from .store import DirectRecord, Store
from .store_thread import StoreThread
from .supervisor import Supervisor

T = TypeVar("T")
_OnDone = Callable[[list[Result], list[Result]], None]

log = logging.getLogger(__name__)


class IsolatingWriter:
    """Writes the rows of one orchestrator. `report` gets an event for each result that is refused."""

    def __init__(
        self,
        store: Store,
        thread: StoreThread,
        incarnation: str,
        supervisor: Supervisor,
        report: Callable[[Sequence[Event]], None],
    ) -> None:
        self._store, self._thread, self._incarnation = store, thread, incarnation
        self._supervisor, self._report = supervisor, report

    async def write_results(self, results: list[Result], on_done: _OnDone) -> list[Result]:
        """Write all of them; returns those that are stored now, of duplicates too.

        `on_done` is called with some of `results` and what is stored of them, as soon as they need no other
        try.
        """
        stored, error = await self._try(self._store.queue.finish, results)
        if stored is None and len(results) > 1:
            middle = len(results) // 2
            first = await self.write_results(results[:middle], on_done)
            return first + await self.write_results(results[middle:], on_done)
        if stored is None:
            failed = self._as_failed(results[0], error)
            stored = await self._thread.insist(self._store.queue.finish, self._incarnation, [failed])
        own = sum(result.origin is None for result in stored)
        if own < len(results):
            log.warning(
                "skipped results whose claim was lost",
                extra={"action": "finish", "results": len(results), "written": own},
            )
        on_done(results, stored)
        return stored

    async def write_direct(
        self, records: list[DirectRecord], on_done: Callable[[list[DirectRecord]], None]
    ) -> None:
        """Write all of them; one that is refused without its content. `on_done` as for `write_results`."""
        record = self._store.direct_tasks.record
        stored, error = await self._try(record, records)
        if stored is None and len(records) > 1:
            middle = len(records) // 2
            await self.write_direct(records[:middle], on_done)
            await self.write_direct(records[middle:], on_done)
            return
        if stored is None:
            failed = DirectRecord(self._as_failed(records[0].result, error), keeps_content=False)
            await self._thread.insist(record, self._incarnation, [failed])
        on_done(records)

    def _as_failed(self, result: Result, error: Exception | None) -> Result:
        """The result as one that can be stored, with an event that says so."""
        why = str(error) if isinstance(error, UnstorableError) else type(error).__name__
        failed = as_failed(result, f"the answer cannot be stored: {why}")
        text = f"the answer of task {failed.task.id} cannot be stored; the task failed: {why}"
        event = Event(failed.finished_at, "answer_refused", text, failed.provider, failed.task.id, "warning")
        log.error("%s", text, extra={"action": "finish", "task_id": failed.task.id})
        self._report([event])
        return failed

    async def write_attempts(self, attempts: list[tuple[Task, Attempt]]) -> None:
        """Write attempts of tasks that go on, without details where the database refuses one of them."""
        _, error = await self._try(self._record_attempts, attempts)
        if error is not None:
            _log_refusal("an attempt is stored without its details", error)
            plain = [(task, plain_attempt(attempt)) for task, attempt in attempts]
            await self._thread.insist(self._record_attempts, self._incarnation, plain)

    def _record_attempts(self, incarnation: str, attempts: Sequence[tuple[Task, Attempt]]) -> bool:
        self._store.queue.record_attempts(incarnation, attempts)
        return True

    async def write_events(self, events: list[Event]) -> None:
        """Write events. After a lost connection they may be written twice."""
        if not events:
            return
        _, error = await self._try(self._add_events, events)
        if error is not None and len(events) == 1:
            _log_refusal("an event cannot be stored", error)
        elif error is not None:
            middle = len(events) // 2
            await self.write_events(events[:middle])
            await self.write_events(events[middle:])

    def _add_events(self, _incarnation: str, events: Sequence[Event]) -> bool:
        self._store.events.add(events)
        return True

    async def _try(
        self, method: Callable[[str, Sequence[Any]], T], rows: Sequence[Any]
    ) -> tuple[T | None, Exception | None]:
        """What `method` returns, or why these rows cannot be written: refused, or an internal error."""
        found: T | None = None
        refused: Exception | None = None
        with self._supervisor.guarding("storing results") as guarded:
            try:
                found = await self._thread.insist(method, self._incarnation, rows)
            except UnstorableError as error:
                refused = error
        return found, refused or guarded.error


def _log_refusal(text: str, error: Exception) -> None:
    log.error("%s", text, extra={"action": "store", "error": str(error)})
