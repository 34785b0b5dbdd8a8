"""The first schema."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column

revision = "0001"
down_revision = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BIG, INT, TEXT, TIME = sa.BigInteger(), sa.Integer(), sa.Text(), sa.Float(53)
CALLS = (
    "calls ok failed neutral cancelled uncertain input_tokens cache_read_tokens cache_write_tokens "
    "output_tokens reasoning_tokens cost_nanos uncertain_nanos unknown_cost_calls latency_us"
)
TASKS = "tasks succeeded truncated cost_nanos unknown_cost_tasks baseline_nanos unknown_baseline_tasks"
BINS = " ".join(f"bin_{i:02}" for i in range(40))


def _sums(names: str) -> list[Column[Any]]:
    return [Column(name, BIG, nullable=False) for name in names.split()]


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    _tasks()
    _rollups()
    _control()


def _tasks() -> None:
    op.create_table(
        "batches",
        Column("id", ROW_ID, nullable=False),
        Column("name", TEXT, nullable=False),
        Column("source", TEXT, nullable=False),
        Column("output_path", TEXT, nullable=False),
        Column("options", TEXT, nullable=False),
        Column("submitter", TEXT, nullable=False),
        Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "lanes",
        Column("id", ROW_ID, nullable=False),
        Column("batch_id", ROW_ID, nullable=False),
        Column("submitter", TEXT, nullable=False),
        Column("task_type", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("batch_id", "submitter", "task_type", name="uq_lanes"),
    )
    op.create_table(
        "tasks",
        Column("task_row", ROW_ID, autoincrement=False, nullable=False),
        Column("batch_id", ROW_ID, nullable=False),
        Column("id", TEXT, nullable=False),
        Column("lane_id", ROW_ID, nullable=False),
        Column("status", TEXT, nullable=False),
        Column("priority", INT, nullable=False),
        Column("line", INT, nullable=True),
        Column("deadline_at", TIME, nullable=True),
        Column("created_at", TIME, nullable=False),
        Column("since", TIME, nullable=False),
        Column("content_hash", sa.LargeBinary(), nullable=False),
        Column("claims", INT, nullable=False),
        Column("claimed_by", ROW_ID, nullable=True),
        Column("attempts", INT, nullable=False),
        Column("cost_nanos", BIG, nullable=False),
        Column("unknown_cost_calls", INT, nullable=False),
        Column("provider", TEXT, nullable=False),
        Column("model", TEXT, nullable=False),
        Column("agent", TEXT, nullable=False),
        Column("tier", TEXT, nullable=False),
        Column("finish_reason", TEXT, nullable=False),
        Column("truncated", sa.SmallInteger(), nullable=False),
        Column("error", TEXT, nullable=False),
        Column("warnings", TEXT, nullable=False),
        Column("baseline_nanos", BIG, nullable=True),
        sa.PrimaryKeyConstraint("task_row"),
        sa.UniqueConstraint("batch_id", "id", name="uq_tasks"),
    )
    op.create_index("ix_tasks_batch", "tasks", ["batch_id", "task_row"])
    op.create_index(
        "ix_tasks_deadline",
        "tasks",
        ["status", "deadline_at"],
        **_where("status = 'queued' AND deadline_at IS NOT NULL"),
    )
    op.create_index("ix_tasks_status", "tasks", ["status", "task_row"])
    op.create_index(
        "ix_tasks_queue",
        "tasks",
        ["status", sa.literal_column("priority DESC"), "lane_id", "task_row"],
        **_where("status = 'queued'"),
    )
    op.create_table(
        "prompts",
        Column("task_row", ROW_ID, autoincrement=False, nullable=False),
        Column("preview", TEXT, nullable=False),
        Column("body", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("task_row"),
    )
    op.create_table(
        "answers",
        Column("task_row", ROW_ID, autoincrement=False, nullable=False),
        Column("output", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("task_row"),
    )
    op.create_table(
        "attempts",
        Column("task_row", ROW_ID, autoincrement=False, nullable=False),
        Column("seq", INT, autoincrement=False, nullable=False),
        Column("number", INT, nullable=False),
        Column("provider", TEXT, nullable=False),
        Column("model", TEXT, nullable=False),
        Column("agent", TEXT, nullable=False),
        Column("outcome", TEXT, nullable=False),
        Column("started_at", TIME, nullable=False),
        Column("latency_s", TIME, nullable=False),
        Column("choice", TEXT, nullable=False),
        Column("reasons", TEXT, nullable=False),
        Column("forced", sa.SmallInteger(), nullable=False),
        Column("error_kind", TEXT, nullable=False),
        Column("error", TEXT, nullable=False),
        Column("status", INT, nullable=True),
        Column("input_tokens", BIG, nullable=False),
        Column("cache_read_tokens", BIG, nullable=False),
        Column("cache_write_tokens", BIG, nullable=False),
        Column("output_tokens", BIG, nullable=False),
        Column("reasoning_tokens", BIG, nullable=False),
        Column("cost_nanos", BIG, nullable=True),
        Column("max_tokens", BIG, nullable=False),
        sa.PrimaryKeyConstraint("task_row", "seq"),
        sqlite_with_rowid=False,
    )


def _rollups() -> None:
    op.create_table(
        "counts",
        Column("batch_id", ROW_ID, autoincrement=False, nullable=False),
        Column("status", TEXT, nullable=False),
        Column("tasks", BIG, nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "status"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "usage",
        Column("minute", INT, autoincrement=False, nullable=False),
        Column("provider", TEXT, nullable=False),
        Column("model", TEXT, nullable=False),
        Column("task_type", TEXT, nullable=False),
        Column("submitter", TEXT, nullable=False),
        *_sums(CALLS),
        *_sums(BINS),
        sa.PrimaryKeyConstraint("minute", "provider", "model", "task_type", "submitter"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "batch_calls",
        Column("batch_id", ROW_ID, autoincrement=False, nullable=False),
        Column("provider", TEXT, nullable=False),
        Column("model", TEXT, nullable=False),
        *_sums(CALLS),
        *_sums(BINS),
        sa.PrimaryKeyConstraint("batch_id", "provider", "model"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "batch_tasks",
        Column("batch_id", ROW_ID, autoincrement=False, nullable=False),
        Column("agent", TEXT, nullable=False),
        Column("tier", TEXT, nullable=False),
        *_sums(TASKS),
        sa.PrimaryKeyConstraint("batch_id", "agent", "tier"),
        sqlite_with_rowid=False,
    )


def _control() -> None:
    op.create_table(
        "orchestrators",
        Column("id", ROW_ID, nullable=False),
        Column("incarnation", TEXT, nullable=False),
        Column("pid", INT, nullable=False),
        Column("host", TEXT, nullable=False),
        Column("mode", TEXT, nullable=False),
        Column("batch", TEXT, nullable=False),
        Column("started_at", TIME, nullable=False),
        Column("heartbeat_at", TIME, nullable=False),
        Column("retired_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("incarnation"),
    )
    op.create_table(
        "covers",
        Column("orchestrator_id", ROW_ID, nullable=False),
        Column("provider", TEXT, nullable=False),
        Column("batch", TEXT, nullable=False),
        Column("submitter", TEXT, nullable=False),
        Column("nanos", BIG, nullable=False),
        sa.PrimaryKeyConstraint("orchestrator_id", "provider", "batch", "submitter"),
    )
    op.create_table(
        "snapshots",
        Column("orchestrator_id", ROW_ID, autoincrement=False, nullable=False),
        Column("at", TIME, nullable=False),
        Column("body", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("orchestrator_id"),
    )
    op.create_table(
        "settings",
        Column("version", ROW_ID, nullable=False),
        Column("key", TEXT, nullable=False),
        Column("value", TEXT, nullable=False),
        Column("previous", TEXT, nullable=False),
        Column("who", TEXT, nullable=False),
        Column("at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("version"),
    )
    op.create_index("ix_settings_key", "settings", ["key", "version"])
    op.create_table(
        "commands",
        Column("id", ROW_ID, nullable=False),
        Column("kind", TEXT, nullable=False),
        Column("args", TEXT, nullable=False),
        Column("who", TEXT, nullable=False),
        Column("at", TIME, nullable=False),
        Column("taken_by", ROW_ID, nullable=True),
        Column("taken_at", TIME, nullable=True),
        Column("outcome", TEXT, nullable=False),
        Column("finished_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_commands_open", "commands", ["id"], **_where("finished_at IS NULL"))
    op.create_table(
        "events",
        Column("id", ROW_ID, nullable=False),
        Column("at", TIME, nullable=False),
        Column("kind", TEXT, nullable=False),
        Column("level", TEXT, nullable=False),
        Column("provider", TEXT, nullable=False),
        Column("task_id", TEXT, nullable=False),
        Column("message", TEXT, nullable=False),
        Column("fields", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_events_kind", "events", ["kind", "id"])
    op.create_table(
        "learned",
        Column("base_url", TEXT, nullable=False),
        Column("fingerprint", TEXT, nullable=False),
        Column("payload", TEXT, nullable=False),
        Column("at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("base_url", "fingerprint"),
    )
    op.create_table(
        "meta",
        Column("key", TEXT, nullable=False),
        Column("value", BIG, nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
