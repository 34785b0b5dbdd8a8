"""Keep the parts of answers that are more than a text: tool calls and reasoning."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    for table in ("answers", "earlier_ends"):
        op.add_column(table, sa.Column("parts", sa.Text()))
