"""Keep with which address and key a batch at a provider was created."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.add_column("provider_batches", Column("account", sa.Text(), nullable=False, server_default=""))
