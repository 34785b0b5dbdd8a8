"""Sums that are kept up to date, so that no page ever sums up a million rows.

A `Rollup` collects in memory what one transaction adds to each row of one table; `write` then costs one
upsert for each of these rows, however many tasks changed it. Columns are only ever added to, including the
histogram of latencies, so nothing is read before it is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from ...records import BATCH, Attempt, Outcome, TaskStatus
from . import schema
from .database import Database
from .histogram import bin_of

CALL_SUMS = (*schema.CALL_COLUMNS, *schema.HISTOGRAM_COLUMNS, *schema.SAVED_COLUMNS)
WAIT_SUMS = (*schema.WAIT_COLUMNS, *schema.HISTOGRAM_COLUMNS)
_CALLS = {name: i for i, name in enumerate(schema.CALL_COLUMNS)}
_OUTCOMES = {outcome: _CALLS[str(outcome)] for outcome in Outcome}
_INPUT, _CACHE_READ, _CACHE_WRITE = (
    _CALLS["input_tokens"],
    _CALLS["cache_read_tokens"],
    _CALLS["cache_write_tokens"],
)
_OUTPUT, _REASONING = _CALLS["output_tokens"], _CALLS["reasoning_tokens"]
_COST, _UNCERTAIN_COST, _UNKNOWN_COST = (
    _CALLS["cost_nanos"],
    _CALLS["uncertain_nanos"],
    _CALLS["unknown_cost_calls"],
)
_LATENCY = _CALLS["latency_us"]
_CACHE_SAVED, _DISCOUNT = (CALL_SUMS.index(name) for name in schema.SAVED_COLUMNS)
MINUTES_A_DAY = 1440
_FIRST_BIN = len(schema.CALL_COLUMNS)


Key = tuple[str | int, ...]


class Rollup:
    """The sums that one transaction adds to `table`, by its primary key."""

    def __init__(self, table: sa.Table, sums: Sequence[str]) -> None:
        self._table, self._sums = table, sums
        self._rows: dict[Key, list[int]] = {}

    def row(self, key: Key) -> list[int]:
        """The sums of `key`, a list that the caller adds to."""
        found = self._rows.get(key)
        if found is None:
            found = self._rows[key] = [0] * len(self._sums)
        return found

    def add(self, key: Key, sums: Sequence[int]) -> None:
        """Add `sums` to those of `key`."""
        found = self._rows.get(key)
        self._rows[key] = list(sums) if found is None else [a + b for a, b in zip(found, sums, strict=True)]

    def items(self) -> Iterable[tuple[Key, list[int]]]:
        """The keys with their sums."""
        return self._rows.items()

    def write(self, database: Database, connection: sa.Connection) -> None:
        """Upsert all rows, in the order of their keys, so that two writers cannot deadlock."""
        rows = [(*key, *sums) for key, sums in sorted(self._rows.items())]
        database.adding(self._table, self._sums).many(connection, rows)


class CallRollups:
    """Books attempts by minute (`usage`), by day (`usage_days`) and by batch (`batch_calls`)."""

    def __init__(self) -> None:
        self._usage = Rollup(schema.usage, CALL_SUMS)
        self._batches = Rollup(schema.batch_calls, CALL_SUMS)

    def book(self, attempt: Attempt, batch_id: int, task_type: str, submitter: str) -> None:
        """Add one attempt, to the minute in which it began."""
        minute = int(attempt.started_at // 60)
        provider, model = attempt.provider, attempt.model
        add_call(self._usage.row((minute, provider, model, task_type, submitter)), attempt)
        add_call(self._batches.row((batch_id, provider, model)), attempt)

    def book_canary(self, attempt: Attempt) -> None:
        """Add a call that belongs to no task, batch or submitter; its `choice` is the task type."""
        key = (int(attempt.started_at // 60), attempt.provider, attempt.model, attempt.choice, "")
        add_call(self._usage.row(key), attempt)

    def book_uncertain(
        self, nanos: int, provider: str, batch_id: int | None, submitter: str, at: float
    ) -> None:
        """Add the possible cost of calls in flight when their orchestrator died; nothing else is known."""
        self._usage.row((int(at // 60), provider, "", "", submitter))[_UNCERTAIN_COST] += nanos
        if batch_id is not None:
            self._batches.row((batch_id, provider, ""))[_UNCERTAIN_COST] += nanos

    def write(self, database: Database, connection: sa.Connection) -> None:
        """Upsert all sums."""
        days = Rollup(schema.usage_days, CALL_SUMS)
        for (minute, *key), sums in self._usage.items():
            days.add((int(minute) // MINUTES_A_DAY, *key), sums)
        self._usage.write(database, connection)
        days.write(database, connection)
        self._batches.write(database, connection)


def add_call(sums: list[int], attempt: Attempt) -> None:
    """Add one attempt to a row of `CALL_SUMS`."""
    usage, outcome, cost = attempt.usage, attempt.outcome, attempt.cost_nanos
    sums[0] += 1
    sums[_OUTCOMES[outcome]] += 1
    sums[_INPUT] += usage.input_tokens
    sums[_CACHE_READ] += usage.cache_read_tokens
    sums[_CACHE_WRITE] += usage.cache_write_tokens
    sums[_OUTPUT] += usage.output_tokens
    sums[_REASONING] += usage.reasoning_tokens
    if cost is None:
        sums[_UNKNOWN_COST] += 1
    elif outcome is Outcome.UNCERTAIN:
        sums[_UNCERTAIN_COST] += cost
    else:
        sums[_COST] += cost
        sums[_CACHE_SAVED] += attempt.cache_saved_nanos
        sums[_DISCOUNT] += attempt.discount_nanos
    if outcome is Outcome.OK and attempt.choice != BATCH:  # a batch of an hour is no slow call
        sums[_LATENCY] += int(attempt.latency_s * 1e6)
        sums[_FIRST_BIN + bin_of(attempt.latency_s)] += 1


def add_wait(sums: list[int], wait_s: float) -> None:
    """Add the wait of one task to a row of `WAIT_SUMS`."""
    sums[0] += 1
    sums[1] += int(wait_s * 1e6)
    sums[len(schema.WAIT_COLUMNS) + bin_of(wait_s)] += 1


class FinishedTask(NamedTuple):
    """What a finished task adds to the sums of its batch. `cost_nanos` covers all its attempts."""

    status: TaskStatus
    truncated: bool
    cost_nanos: int
    unknown_cost: bool
    baseline_nanos: int | None

    @classmethod
    def of_row(cls, row: Any, status: TaskStatus, baseline_nanos: int | None) -> FinishedTask:
        """From a row of `tasks`, with this status and baseline."""
        return cls(status, bool(row.truncated), row.cost_nanos, row.unknown_cost_calls > 0, baseline_nanos)


def add_task(sums: list[int], task: FinishedTask, sign: int = 1) -> None:
    """Add a finished task to a row of `TASK_COLUMNS`, or with `sign` -1 subtract it again.

    The baseline of a task without an answer is 0 and not unknown: it has no tokens to be priced.
    """
    status, truncated, cost_nanos, unknown_cost, baseline_nanos = task
    for i, value in enumerate(
        (
            1,
            status is TaskStatus.SUCCEEDED,
            truncated,
            cost_nanos,
            unknown_cost,
            baseline_nanos or 0,
            baseline_nanos is None and status is TaskStatus.SUCCEEDED,
        )
    ):
        sums[i] += sign * value


def add_counts(
    database: Database, connection: sa.Connection, changes: Mapping[tuple[int, TaskStatus], int]
) -> None:
    """Add to the number of tasks by (batch id, status), and to the same over all batches."""
    everything: Counter[tuple[int, TaskStatus]] = Counter(changes)
    for (_, status), n in changes.items():
        everything[schema.ALL_BATCHES, status] += n
    rows = [(batch_id, status.value, n) for (batch_id, status), n in sorted(everything.items()) if n]
    database.adding(schema.task_counts, ["tasks"]).many(connection, rows)


def sums_of(row: Any) -> dict[str, Any]:
    """`CallSums` fields from a row whose columns are named like `CALL_SUMS`."""
    fields: dict[str, Any] = {
        name: int(getattr(row, name) or 0) for name in (*schema.CALL_COLUMNS, *schema.SAVED_COLUMNS)
    }
    fields["histogram"] = tuple(int(getattr(row, name) or 0) for name in schema.HISTOGRAM_COLUMNS)
    return fields
