"""Find tasks by words, time, submitter and truncation; keep earlier ends; sums of usage by day."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column

revision = "0005"
down_revision = "0004"

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
KEYS = ("provider", "model", "task_type", "submitter")
FIRST_SUM = 5  # of the columns of `usage`: the keys stand before


def upgrade() -> None:
    truncated: dict[str, Any] = {
        "sqlite_where": sa.text("truncated = 1"),
        "postgresql_where": sa.text("truncated = 1"),
    }
    op.create_index("ix_tasks_truncated", "tasks", ["task_row"], **truncated)
    op.create_index("ix_tasks_stream", "tasks", ["stream_id", "task_row"])
    _create_tables()
    _create_usage_days()
    op.execute(
        "INSERT INTO search_backlog (task_row) "
        "SELECT task_row FROM tasks WHERE status NOT IN ('queued', 'running')"
    )
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    whole = "created_at / 60" if is_sqlite else "floor(created_at / 60)"  # SQLite's CAST does not round
    tasks = sa.table("tasks", sa.column("task_row"))
    minutes = sa.table("task_minutes", sa.column("minute"), sa.column("first_row"))
    minute: sa.ColumnElement[int] = sa.literal_column(f"CAST({whole} AS INTEGER)")
    first_rows = sa.select(minute, sa.func.min(tasks.c.task_row)).select_from(tasks).group_by(minute)
    op.execute(minutes.insert().from_select(["minute", "first_row"], first_rows))


def _create_tables() -> None:
    op.create_table(
        "search_backlog",
        Column("task_row", ROW_ID, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("task_row"),
    )
    op.create_table(
        "task_minutes",
        Column("minute", sa.Integer(), autoincrement=False, nullable=False),
        Column("first_row", ROW_ID, nullable=False),
        sa.PrimaryKeyConstraint("minute"),
    )
    op.create_table(
        "earlier_ends",
        Column("task_row", ROW_ID, autoincrement=False, nullable=False),
        Column("ended_at", sa.Float(53), autoincrement=False, nullable=False),
        *(Column(name, sa.Text(), nullable=False) for name in ("status", "provider", "model", "agent")),
        Column("finish_reason", sa.Text(), nullable=False),
        Column("truncated", sa.SmallInteger(), nullable=False),
        Column("error", sa.Text(), nullable=False),
        Column("output", sa.Text()),
        sa.PrimaryKeyConstraint("task_row", "ended_at"),
        sqlite_with_rowid=False,
    )


def _create_usage_days() -> None:
    names = [column["name"] for column in sa.inspect(op.get_bind()).get_columns("usage")][FIRST_SUM:]
    op.create_table(
        "usage_days",
        Column("day", sa.Integer(), autoincrement=False, nullable=False),
        *(Column(name, sa.Text(), nullable=False) for name in KEYS),
        *(Column(name, sa.BigInteger(), nullable=False) for name in names),
        sa.PrimaryKeyConstraint("day", *KEYS),
        sqlite_with_rowid=False,
    )
    usage = sa.table("usage", *(sa.column(name) for name in ("minute", *KEYS, *names)))
    days = sa.table("usage_days", *(sa.column(name) for name in ("day", *KEYS, *names)))
    day = (usage.c.minute // sa.literal_column("1440", sa.Integer())).label("day")
    keys = [usage.c[name] for name in KEYS]
    sums = [sa.func.sum(usage.c[name]) for name in names]
    op.execute(
        days.insert().from_select(days.columns.keys(), sa.select(day, *keys, *sums).group_by(day, *keys))
    )
