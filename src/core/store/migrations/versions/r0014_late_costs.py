"""Keep what was paid for results of batches at providers that came after their tasks had gone on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    late = Column("late_nanos", sa.BigInteger(), nullable=False, server_default="0")
    op.add_column("provider_batches", late)
