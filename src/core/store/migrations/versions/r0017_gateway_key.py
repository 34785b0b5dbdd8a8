"""Let the leader publish the key by which its gateway knows requests that standbys have passed on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.add_column("leadership", sa.Column("gateway_key", sa.Text(), nullable=False, server_default=""))
