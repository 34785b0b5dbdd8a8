"""The tables, and why each index is there: an index costs on every write.

    batches 1--n tasks 1--1 prompts, answers      contents, apart from the accounting
    batches 1--n task_streams 1--n tasks          a stream: one batch, submitter and task type
    tasks   1--n attempts                         one call each, numbered over the task's whole life
    task_counts                                   tasks per batch and status
    usage, usage_days, batch_calls, batch_tasks   sums, updated with each finished attempt or task
    search_backlog, search_index, task_minutes    find tasks by words and time; see `search_schema`
    queue_waits                                   how long tasks waited for their first call, by day
    earlier_ends                                  how tasks ended before they ran again
    orchestrators 1--1 snapshots                  each orchestrator, its heartbeat and its latest snapshot
    leadership                                    the orchestrator that leads: one row
    orchestrators 1--n cost_reservations          what its calls in flight may cost at most
    dedup_primaries, tasks.primary_row            equal tasks of a batch that share one answer
    stale_results                                 tasks that run again after a results file had their row
    deferral_groups, provider_batches, ...        providers' batch APIs; see `provider_batch_schema`
    settings, commands, events, learned, meta

Rules that every writer keeps, each within one transaction:

- `task_counts` equals the rows of `tasks`. `batch_calls` and `usage` equal the rows of `attempts` plus the
  uncertain cost of orchestrators that died; `usage` also has the canaries, which belong to no task.
  `usage_days` equals `usage`, and `batch_tasks` the final rows of `tasks`.
- A task is `running` exactly while `claimed_by` names an orchestrator. What makes it `deferred` or `batched`
  is said in `provider_batch_schema`.
- A queued task with a `primary_row` is a duplicate: it is never claimed and ends with its primary.
- Rows are only deleted from prompts, answers, earlier_ends, cost_reservations, events, stale_results, the
  tables of the search, deferral_groups, deferred_tasks and provider_batch_rows. No foreign keys are declared:
  each would cost a look-up per write, and only this package writes.

Times are UTC epoch seconds, money is integer nano-dollars, booleans are 0 and 1 (the fast path passes plain
tuples to the driver, and both databases take these as they are).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
    text,
)

from ...records import OPEN_STATUSES
from .control_schema import (
    THE_LEADERSHIP,
    RowId,
    commands,
    cost_reservations,
    events,
    leadership,
    learned,
    meta,
    metadata,
    orchestrators,
    settings,
    snapshots,
    standbys,
)
from .provider_batch_schema import (
    batch_reservations,
    deferral_groups,
    deferred_tasks,
    provider_batch_rows,
    provider_batches,
)
from .rollup_schema import (
    ALL_BATCHES,
    CALL_COLUMNS,
    HISTOGRAM_COLUMNS,
    SAVED_COLUMNS,
    TASK_COLUMNS,
    WAIT_COLUMNS,
    batch_calls,
    batch_tasks,
    queue_waits,
    task_counts,
    usage,
    usage_days,
)
from .search_schema import earlier_ends, search_backlog, task_minutes

REVISION = "0017"  # the newest migration; a test compares it with the scripts

batches = Table(
    "batches",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("source", Text, nullable=False),
    Column("output_path", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("submitter", Text, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("max_cost_nanos", BigInteger),  # what all its calls may cost together; none: no cap of its own
)
_CAPPED = text("max_cost_nanos IS NOT NULL")
Index("ix_batches_capped", batches.c.name, sqlite_where=_CAPPED, postgresql_where=_CAPPED)

task_streams = Table(
    "task_streams",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("batch_id", RowId, nullable=False),
    Column("submitter", Text, nullable=False),
    Column("task_type", Text, nullable=False),
    UniqueConstraint("batch_id", "submitter", "task_type", name="uq_task_streams"),
)

tasks = Table(
    "tasks",
    metadata,
    Column("task_row", RowId, primary_key=True, autoincrement=False),
    Column("batch_id", RowId, nullable=False),
    Column("id", Text, nullable=False),
    Column("stream_id", RowId, nullable=False),
    Column("status", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("line", Integer),
    Column("deadline_at", Float(53)),
    Column("created_at", Float(53), nullable=False),
    Column("since", Float(53), nullable=False),  # when it entered its status
    Column("content_hash", LargeBinary, nullable=False),
    Column("claims", Integer, nullable=False),
    Column("claimed_by", RowId),
    Column("attempts", Integer, nullable=False),
    Column("cost_nanos", BigInteger, nullable=False),
    Column("unknown_cost_calls", Integer, nullable=False),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("finish_reason", Text, nullable=False),
    Column("truncated", SmallInteger, nullable=False),
    Column("error", Text, nullable=False),
    Column("warnings", Text, nullable=False),
    Column("baseline_nanos", BigInteger),
    Column("primary_row", RowId),  # the equal task whose answer this one gets; NULL: it runs itself
    UniqueConstraint("batch_id", "id", name="uq_tasks"),
)

IS_QUEUED = tasks.c.status == literal_column("'queued'")  # not a parameter, which would not match the index
IS_RUNNING = tasks.c.status == literal_column("'running'")
IS_DEFERRED = tasks.c.status == literal_column("'deferred'")
IS_BATCHED = tasks.c.status == literal_column("'batched'")
RUNS_ITSELF = tasks.c.primary_row.is_(None)
IS_DUPLICATE = tasks.c.primary_row.is_not(None)
IS_TRUNCATED = tasks.c.truncated == literal_column("1")
IS_FINAL = tasks.c.status.not_in([literal_column(f"'{status}'") for status in OPEN_STATUSES])

_QUEUED = text("status = 'queued' AND primary_row IS NULL")
_QUEUED_WITH_DEADLINE = text("status = 'queued' AND primary_row IS NULL AND deadline_at IS NOT NULL")
_WAITING_FOR_PRIMARY = text("status = 'queued' AND primary_row IS NOT NULL")
_TRUNCATED = text("truncated = 1")

# The first column of the next two is always `queued`, or SQLite's planner would prefer ix_tasks_status.
# Claims: the highest priority, its streams one after the other, the oldest task of each.
Index(
    "ix_tasks_queue",
    tasks.c.status,
    tasks.c.priority.desc(),
    tasks.c.stream_id,
    tasks.c.task_row,
    sqlite_where=_QUEUED,
    postgresql_where=_QUEUED,
)
# Claims: deadlines that are near. Empty if tasks have none.
Index(
    "ix_tasks_deadline",
    tasks.c.status,
    tasks.c.deadline_at,
    sqlite_where=_QUEUED_WITH_DEADLINE,
    postgresql_where=_QUEUED_WITH_DEADLINE,
)
# The duplicates of a task that ends. Empty without deduplication.
Index(
    "ix_tasks_duplicates",
    tasks.c.primary_row,
    tasks.c.task_row,
    sqlite_where=_WAITING_FOR_PRIMARY,
    postgresql_where=_WAITING_FOR_PRIMARY,
)
# Truncated answers, which are rare.
Index("ix_tasks_truncated", tasks.c.task_row, sqlite_where=_TRUNCATED, postgresql_where=_TRUNCATED)
# Pages of one submitter or task type, and those of people who see only their own tasks.
Index("ix_tasks_stream", tasks.c.stream_id, tasks.c.task_row)
# Pages by status, and the tasks that a dead orchestrator had claimed.
Index("ix_tasks_status", tasks.c.status, tasks.c.task_row)
# Pages and exports of one batch in the order of its file; not updated after the task is added.
Index("ix_tasks_batch", tasks.c.batch_id, tasks.c.task_row)

dedup_primaries = Table(  # the first task with a content, if equal ones run once
    "dedup_primaries",
    metadata,
    Column("batch_id", RowId, primary_key=True, autoincrement=False),
    Column("content_hash", LargeBinary, primary_key=True),
    Column("task_row", RowId, nullable=False),
    sqlite_with_rowid=False,
)

stale_results = Table(  # rows of the batch's results file that may be no longer true
    "stale_results",
    metadata,
    Column("batch_id", RowId, primary_key=True, autoincrement=False),
    Column("task_row", RowId, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

prompts = Table(
    "prompts",
    metadata,
    Column("task_row", RowId, primary_key=True, autoincrement=False),
    Column("preview", Text, nullable=False),  # before the body, so that a list need not read the body
    Column("body", Text, nullable=False),
)

answers = Table(
    "answers",
    metadata,
    Column("task_row", RowId, primary_key=True, autoincrement=False),
    Column("output", Text, nullable=False),
    Column("parts", Text),  # JSON: the answer where it is more than its output, else NULL
)

attempts = Table(
    "attempts",
    metadata,
    Column("task_row", RowId, primary_key=True, autoincrement=False),
    Column("seq", Integer, primary_key=True, autoincrement=False),  # from 1, over the task's whole life
    Column("number", Integer, nullable=False),  # as orchestrators count them; 0: before the task was retried
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("started_at", Float(53), nullable=False),
    Column("latency_s", Float(53), nullable=False),
    Column("choice", Text, nullable=False),
    Column("reasons", Text, nullable=False),
    Column("forced", SmallInteger, nullable=False),
    Column("error_kind", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("status", Integer),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("cost_nanos", BigInteger),
    Column("max_tokens", BigInteger, nullable=False),
    sqlite_with_rowid=False,  # the key is the table, so there is no second tree to write
)

__all__ = [
    "ALL_BATCHES",
    "CALL_COLUMNS",
    "HISTOGRAM_COLUMNS",
    "SAVED_COLUMNS",
    "IS_BATCHED",
    "IS_DEFERRED",
    "IS_DUPLICATE",
    "IS_FINAL",
    "IS_QUEUED",
    "IS_RUNNING",
    "IS_TRUNCATED",
    "REVISION",
    "RUNS_ITSELF",
    "TASK_COLUMNS",
    "WAIT_COLUMNS",
    "THE_LEADERSHIP",
    "answers",
    "batch_reservations",
    "deferral_groups",
    "deferred_tasks",
    "provider_batch_rows",
    "provider_batches",
    "attempts",
    "batch_calls",
    "batch_tasks",
    "batches",
    "commands",
    "cost_reservations",
    "dedup_primaries",
    "earlier_ends",
    "events",
    "leadership",
    "learned",
    "meta",
    "metadata",
    "orchestrators",
    "prompts",
    "queue_waits",
    "search_backlog",
    "settings",
    "snapshots",
    "stale_results",
    "standbys",
    "task_counts",
    "task_minutes",
    "task_streams",
    "tasks",
    "usage",
    "usage_days",
]
