"""Let the leader publish the address of its gateway."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("leadership", sa.Column("gateway_url", sa.Text(), nullable=False, server_default=""))
