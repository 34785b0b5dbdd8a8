"""The tables for providers' batch APIs: tasks that may go there, and tasks that are there.

deferral_groups       deferred tasks that are alike, with their number and the sums of their sizes
deferred_tasks        the group and the sizes of each deferred task, and of no other one
provider_batches      a batch at a provider, from the intent to the last result; see `provider_batch_states`
provider_batch_rows   the tasks of a batch that have no result yet, each with what is reserved for it
batch_reservations    what is reserved for a batch, by the stream of its tasks

Rules, beside those of `schema`:

- A task is `deferred` exactly while it has a row in `deferred_tasks`. A group has the sums of its rows, and
  is deleted with the last one.
- A task is `batched` exactly while it has a row in `provider_batch_rows` that is not `released`. A released
  row is that of a task that has gone on without the batch: its result only costs.
- `rows = left_rows + released_rows + answered + failed + unanswered + late`. The first two are the rows that
  are stored, and `reserved_nanos` is their sum, and that of the batch's reservations.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, SmallInteger, Table, Text

from .control_schema import RowId, metadata

DEFERRAL_SUMS = ("rows", "text_chars", "prompt_bytes", "max_tokens", "unstated")

deferral_groups = Table(
    "deferral_groups",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=False),  # a digest of the next three
    Column("stream_id", RowId, nullable=False),
    Column("deadline_at", Float(53), nullable=False),  # of its tasks, rounded down
    Column("shape", Text, nullable=False),  # JSON: what decides which models may answer
    Column("rows", BigInteger, nullable=False),
    Column("text_chars", BigInteger, nullable=False),
    Column("prompt_bytes", BigInteger, nullable=False),
    Column("max_tokens", BigInteger, nullable=False),  # of the tasks that state them
    Column("unstated", BigInteger, nullable=False),  # tasks that state none
)

deferred_tasks = Table(
    "deferred_tasks",
    metadata,
    Column("task_row", RowId, primary_key=True, autoincrement=False),
    Column("group_id", RowId, nullable=False),
    Column("text_chars", BigInteger, nullable=False),
    Column("prompt_bytes", BigInteger, nullable=False),
    Column("max_tokens", BigInteger),
    Index("ix_deferred_tasks_group", "group_id", "task_row"),  # the oldest tasks of a group
)

provider_batches = Table(
    "provider_batches",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("marker", Text, nullable=False, unique=True),  # written into the batch at the provider
    Column("state", Text, nullable=False),
    Column("created_at", Float(53), nullable=False),  # the intent
    Column("create_sent_at", Float(53)),
    Column("submitted_at", Float(53)),
    Column("cancel_sent_at", Float(53)),
    Column("ended_at", Float(53)),
    Column("deadline_at", Float(53), nullable=False),  # the soonest of its tasks
    Column("remote_id", Text, nullable=False),
    Column("files", Text, nullable=False),  # JSON: names of what the provider keeps of it
    Column("rows", Integer, nullable=False),
    Column("left_rows", Integer, nullable=False),
    Column("released_rows", Integer, nullable=False),
    Column("answered", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("unanswered", Integer, nullable=False),  # the batch ended before them
    Column("late", Integer, nullable=False),  # paid for after their tasks had gone on
    Column("live_s", Float(53), nullable=False),  # one task's time in the live pool, as expected
    Column("reserved_nanos", BigInteger, nullable=False),
    Column("next_poll_at", Float(53), nullable=False),
    Column("error", Text, nullable=False),
    Column("pulled_rows", Integer, nullable=False, server_default="0"),  # that went live instead
    Column("cost_nanos", BigInteger, nullable=False, server_default="0"),  # booked for its rows
    Column("cancel_asked_at", Float(53)),  # by a person: the leader cancels it
    Column("late_nanos", BigInteger, nullable=False, server_default="0"),  # of `cost_nanos`: for late rows
    Column("account", Text, nullable=False, server_default=""),  # address and key that it was created with
    Index("ix_provider_batches_state", "state"),  # those that are open
    Index("ix_provider_batches_model", "provider", "model", "id"),  # how long the last ones took
)

provider_batch_rows = Table(
    "provider_batch_rows",
    metadata,
    Column("provider_batch_id", RowId, primary_key=True, autoincrement=False),
    Column("place", Integer, primary_key=True, autoincrement=False),  # from 1, within the batch
    Column("task_row", RowId, nullable=False),
    Column("stream_id", RowId, nullable=False),  # who pays for it
    Column("number", Integer, nullable=False),  # of the attempt
    Column("max_tokens", BigInteger, nullable=False),
    Column("tier", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("reserved_nanos", BigInteger, nullable=False),
    Column("released", SmallInteger, nullable=False),
    Index("ix_provider_batch_rows_task", "task_row"),  # the batch of a task that is cancelled
    sqlite_with_rowid=False,
)

batch_reservations = Table(
    "batch_reservations",
    metadata,
    Column("provider_batch_id", RowId, primary_key=True, autoincrement=False),
    Column("stream_id", RowId, primary_key=True, autoincrement=False),
    Column("nanos", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
