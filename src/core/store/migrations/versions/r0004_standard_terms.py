"""Rename tables, columns, constraints and indexes to the standard terms of the field."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

TABLES = {
    "lanes": "task_streams",
    "covers": "cost_reservations",
    "leaders": "dedup_primaries",
    "outdated": "stale_results",
    "counts": "task_counts",
}
_WAITS_FOR_PRIMARY = sa.text("status = 'queued' AND primary_row IS NOT NULL")


def upgrade() -> None:
    # Renaming a column renames it in the indexes and their conditions too, on both databases.
    op.alter_column("tasks", "lane_id", new_column_name="stream_id")
    op.alter_column("tasks", "leader_row", new_column_name="primary_row")
    for old, new in TABLES.items():
        op.rename_table(old, new)
    where: dict[str, Any] = {"sqlite_where": _WAITS_FOR_PRIMARY, "postgresql_where": _WAITS_FOR_PRIMARY}
    op.drop_index("ix_tasks_followers", "tasks")
    op.create_index("ix_tasks_duplicates", "tasks", ["primary_row", "task_row"], **where)
    if op.get_bind().dialect.name == "postgresql":
        _rename_what_is_named_after_tables()


def _rename_what_is_named_after_tables() -> None:
    """SQLite does not name these."""
    op.execute("ALTER TABLE task_streams RENAME CONSTRAINT uq_lanes TO uq_task_streams")
    op.execute("ALTER SEQUENCE lanes_id_seq RENAME TO task_streams_id_seq")
    for old, new in TABLES.items():
        op.execute(f"ALTER INDEX {old}_pkey RENAME TO {new}_pkey")
