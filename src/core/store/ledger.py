"""Attempts of claimed tasks, booked once each: as rows, and in the sums of usage and batches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from ...records import BATCH, Attempt
from . import schema
from .codec import attempt_columns
from .database import Database
from .identifiers import TaskStream
from .rollups import WAIT_SUMS, CallRollups, Rollup, add_wait

DAY_S = 86_400


@dataclass(slots=True)
class ClaimedTask:
    """The accounting of a task that this orchestrator has claimed; its sums grow as attempts are booked."""

    row: int
    stream: TaskStream
    created_at: float
    attempts: int
    cost_nanos: int
    unknown_cost_calls: int
    stored: set[tuple[int, float]] = field(default_factory=set)  # (number, started_at)


class Ledger:
    """Attempts to write in one transaction, each of them once, as rows and in the sums."""

    def __init__(self) -> None:
        self._rows: list[tuple[Any, ...]] = []
        self._calls = CallRollups()
        self._waits = Rollup(schema.queue_waits, WAIT_SUMS)

    def book(self, task: ClaimedTask, attempts: Iterable[Attempt]) -> None:
        """Add the `attempts` that are not stored yet."""
        for attempt in attempts:
            identity = (attempt.number, attempt.started_at)
            if identity in task.stored:
                continue
            task.stored.add(identity)
            if not task.attempts and attempt.choice != BATCH:
                self._book_wait(attempt.started_at, task.created_at)
            task.attempts += 1
            if attempt.cost_nanos is None:
                task.unknown_cost_calls += 1
            else:
                task.cost_nanos += attempt.cost_nanos
            self._rows.append((task.row, task.attempts, *attempt_columns(attempt)))
            self._calls.book(attempt, task.stream.batch_id, task.stream.task_type, task.stream.submitter)

    def _book_wait(self, called_at: float, created_at: float) -> None:
        """Add the time until the first call of a task's life, a live one, to the day of that call."""
        add_wait(self._waits.row((int(called_at // DAY_S),)), max(0.0, called_at - created_at))

    def write(self, database: Database, connection: sa.Connection) -> None:
        """Insert the rows and add to the sums."""
        database.inserting(schema.attempts).many(connection, self._rows)
        self._calls.write(database, connection)
        self._waits.write(database, connection)
