"""Keep what batches at providers have cost, how many rows were pulled back, and the wish to cancel one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("provider_batches", Column("pulled_rows", sa.Integer(), nullable=False, server_default="0"))
    op.add_column(
        "provider_batches", Column("cost_nanos", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.add_column("provider_batches", Column("cancel_asked_at", sa.Float(53)))
