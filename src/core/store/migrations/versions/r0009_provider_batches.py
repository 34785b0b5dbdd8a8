"""Make room for batches at providers: the tasks that wait for one, those that are in one, and their money."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column

revision = "0009"
down_revision = "0008"

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _deferred()
    _batches()
    _rows()


def _deferred() -> None:
    op.create_table(
        "deferral_groups",
        Column("id", ROW_ID, autoincrement=False, nullable=False),
        Column("stream_id", ROW_ID, nullable=False),
        Column("deadline_at", sa.Float(53), nullable=False),
        Column("shape", sa.Text(), nullable=False),
        *(
            Column(name, sa.BigInteger(), nullable=False)
            for name in ("rows", "text_chars", "prompt_bytes", "max_tokens", "unstated")
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "deferred_tasks",
        Column("task_row", ROW_ID, autoincrement=False, nullable=False),
        Column("group_id", ROW_ID, nullable=False),
        Column("text_chars", sa.BigInteger(), nullable=False),
        Column("prompt_bytes", sa.BigInteger(), nullable=False),
        Column("max_tokens", sa.BigInteger()),
        sa.PrimaryKeyConstraint("task_row"),
    )
    op.create_index("ix_deferred_tasks_group", "deferred_tasks", ["group_id", "task_row"])


def _batches() -> None:
    times = ("create_sent_at", "submitted_at", "cancel_sent_at", "ended_at")
    counts = ("rows", "left_rows", "released_rows", "answered", "failed", "unanswered", "late")
    op.create_table(
        "provider_batches",
        Column("id", ROW_ID, nullable=False),
        *(Column(name, sa.Text(), nullable=False) for name in ("provider", "model", "marker", "state")),
        Column("created_at", sa.Float(53), nullable=False),
        *(Column(name, sa.Float(53)) for name in times),
        Column("deadline_at", sa.Float(53), nullable=False),
        *(Column(name, sa.Text(), nullable=False) for name in ("remote_id", "files")),
        *(Column(name, sa.Integer(), nullable=False) for name in counts),
        Column("live_s", sa.Float(53), nullable=False),
        Column("reserved_nanos", sa.BigInteger(), nullable=False),
        Column("next_poll_at", sa.Float(53), nullable=False),
        Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("marker"),
    )
    op.create_index("ix_provider_batches_state", "provider_batches", ["state"])
    op.create_index("ix_provider_batches_model", "provider_batches", ["provider", "model", "id"])


def _rows() -> None:
    op.create_table(
        "provider_batch_rows",
        Column("provider_batch_id", ROW_ID, autoincrement=False, nullable=False),
        Column("place", sa.Integer(), autoincrement=False, nullable=False),
        Column("task_row", ROW_ID, nullable=False),
        Column("stream_id", ROW_ID, nullable=False),
        Column("number", sa.Integer(), nullable=False),
        Column("max_tokens", sa.BigInteger(), nullable=False),
        Column("tier", sa.Text(), nullable=False),
        Column("agent", sa.Text(), nullable=False),
        Column("reserved_nanos", sa.BigInteger(), nullable=False),
        Column("released", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("provider_batch_id", "place"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_provider_batch_rows_task", "provider_batch_rows", ["task_row"])
    op.create_table(
        "batch_reservations",
        Column("provider_batch_id", ROW_ID, autoincrement=False, nullable=False),
        Column("stream_id", ROW_ID, autoincrement=False, nullable=False),
        Column("nanos", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("provider_batch_id", "stream_id"),
        sqlite_with_rowid=False,
    )
