"""Equal tasks that are asked once, results files' rows that are true no more, what a life has finished."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column

revision = "0002"
down_revision = "0001"

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    op.add_column("tasks", Column("leader_row", ROW_ID, nullable=True))
    op.add_column("orchestrators", Column("finished", sa.BigInteger(), nullable=False, server_default="0"))
    _indexes()
    op.create_table(
        "leaders",
        Column("batch_id", ROW_ID, autoincrement=False, nullable=False),
        Column("content_hash", sa.LargeBinary(), nullable=False),
        Column("task_row", ROW_ID, nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "content_hash"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outdated",
        Column("batch_id", ROW_ID, autoincrement=False, nullable=False),
        Column("task_row", ROW_ID, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "task_row"),
        sqlite_with_rowid=False,
    )


def _indexes() -> None:
    """What is claimed leaves out those that wait for a leader."""
    op.drop_index("ix_tasks_deadline", "tasks")
    op.create_index(
        "ix_tasks_deadline",
        "tasks",
        ["status", "deadline_at"],
        **_where("status = 'queued' AND leader_row IS NULL AND deadline_at IS NOT NULL"),
    )
    op.drop_index("ix_tasks_queue", "tasks")
    op.create_index(
        "ix_tasks_queue",
        "tasks",
        ["status", sa.literal_column("priority DESC"), "lane_id", "task_row"],
        **_where("status = 'queued' AND leader_row IS NULL"),
    )
    op.create_index(
        "ix_tasks_followers",
        "tasks",
        ["leader_row", "task_row"],
        **_where("status = 'queued' AND leader_row IS NOT NULL"),
    )
