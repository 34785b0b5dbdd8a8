"""Sum up what prompt caches, and batches at half price, have saved."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    for table in ("usage", "usage_days", "batch_calls"):
        for name in ("cache_saved_nanos", "discount_nanos"):
            op.add_column(table, sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
