"""Make room for the orchestrators that stand by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "standbys",
        Column("incarnation", sa.Text(), nullable=False),
        Column("pid", sa.Integer(), nullable=False),
        Column("host", sa.Text(), nullable=False),
        Column("seen_at", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("incarnation"),
    )
