"""The tables of sums, each updated with every finished attempt or task; see `schema` for the rules."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, Table, Text

from . import histogram
from .control_schema import RowId, metadata

ALL_BATCHES = 0  # in `task_counts`: the sum over all batches

HISTOGRAM_COLUMNS = tuple(f"bin_{i:02}" for i in range(histogram.BINS))

# The sums in a rollup of calls. Latency and its histogram cover answered
# (ok) live calls.
CALL_COLUMNS = (
    "calls",
    "ok",
    "failed",
    "neutral",
    "cancelled",
    "uncertain",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_nanos",  # of calls that are not uncertain and have a known price
    "uncertain_nanos",  # of calls that may or may not have been billed
    "unknown_cost_calls",  # calls without a known price, which are never counted as free
    "latency_us",
)

# Further sums of calls: what was saved on `cost_nanos`. A migration has added them.
SAVED_COLUMNS = (
    "cache_saved_nanos",  # against each prompt token at its full price; negative where writing cost more
    "discount_nanos",  # by which calls at a lower price, such as those in batches, were cheaper
)

# The sums in a rollup of finished tasks. Costs cover all attempts, uncertain ones included.
TASK_COLUMNS = (
    "tasks",
    "succeeded",
    "truncated",
    "cost_nanos",
    "unknown_cost_tasks",
    "baseline_nanos",
    "unknown_baseline_tasks",
)


# From the submission of a task to its first call.
WAIT_COLUMNS = ("waits", "wait_us")


def _sums(names: tuple[str, ...], default: str | None = None) -> list[Column[int]]:
    return [Column(name, BigInteger, nullable=False, server_default=default) for name in names]


def _call_sums() -> list[Column[int]]:
    return [*_sums(CALL_COLUMNS), *_sums(HISTOGRAM_COLUMNS), *_sums(SAVED_COLUMNS, "0")]


task_counts = Table(
    "task_counts",
    metadata,
    Column("batch_id", RowId, primary_key=True, autoincrement=False),
    Column("status", Text, primary_key=True),
    Column("tasks", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)


def _usage_by(unit: str, name: str) -> Table:
    """Sums of calls by a unit of time, counted from the epoch, and by what they were for."""
    return Table(
        name,
        metadata,
        Column(unit, Integer, primary_key=True, autoincrement=False),
        Column("provider", Text, primary_key=True),
        Column("model", Text, primary_key=True),
        Column("task_type", Text, primary_key=True),
        Column("submitter", Text, primary_key=True),
        *_call_sums(),
        sqlite_with_rowid=False,
    )


usage = _usage_by("minute", "usage")  # of the start of a call
usage_days = _usage_by("day", "usage_days")  # UTC days: a year of minutes is too much for a page to add up

queue_waits = Table(
    "queue_waits",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),  # epoch days
    *_sums(WAIT_COLUMNS),
    *_sums(HISTOGRAM_COLUMNS),
)

batch_calls = Table(
    "batch_calls",
    metadata,
    Column("batch_id", RowId, primary_key=True, autoincrement=False),
    Column("provider", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    *_call_sums(),
    sqlite_with_rowid=False,
)

batch_tasks = Table(
    "batch_tasks",
    metadata,
    Column("batch_id", RowId, primary_key=True, autoincrement=False),
    Column("agent", Text, primary_key=True),
    Column("tier", Text, primary_key=True),
    *_sums(TASK_COLUMNS),
    sqlite_with_rowid=False,
)
