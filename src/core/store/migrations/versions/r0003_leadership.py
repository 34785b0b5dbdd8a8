"""One row says which orchestrator leads, with an epoch that every write of a leader demands."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    table = op.create_table(
        "leadership",
        Column("id", sa.Integer(), autoincrement=False, nullable=False),
        Column("epoch", sa.BigInteger(), nullable=False),
        Column("holder", sa.Text(), nullable=False),
        Column("pid", sa.Integer(), nullable=False),
        Column("host", sa.Text(), nullable=False),
        Column("lease_s", sa.Float(53), nullable=False),
        Column("renewals", sa.BigInteger(), nullable=False),
        Column("renewed_at", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    nobody = {"holder": "", "pid": 0, "host": "", "lease_s": 0.0, "renewals": 0, "renewed_at": 0.0}
    op.bulk_insert(table, [{"id": 1, "epoch": 0, **nobody}])
