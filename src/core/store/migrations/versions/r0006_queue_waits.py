"""Count how long tasks wait for their first call. Tasks that were called before this are not in it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column

revision = "0006"
down_revision = "0005"

BINS = 40


def upgrade() -> None:
    names = ("waits", "wait_us", *(f"bin_{i:02}" for i in range(BINS)))
    op.create_table(
        "queue_waits",
        Column("day", sa.Integer(), autoincrement=False, nullable=False),
        *(Column(name, sa.BigInteger(), nullable=False) for name in names),
        sa.PrimaryKeyConstraint("day"),
    )
