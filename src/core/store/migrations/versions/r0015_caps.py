"""Keep what a batch may cost in its row, instead of among the settings."""

from __future__ import annotations

import json
from decimal import Decimal

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
KEY = "max_cost_usd:"  # with the name of the batch
NANOS_PER_USD = 1_000_000_000
_IS_CAPPED = sa.text("max_cost_nanos IS NOT NULL")


def upgrade() -> None:
    op.add_column("batches", sa.Column("max_cost_nanos", sa.BigInteger()))
    op.create_index(
        "ix_batches_capped", "batches", ["name"], sqlite_where=_IS_CAPPED, postgresql_where=_IS_CAPPED
    )
    connection = op.get_bind()
    settings = sa.table("settings", *map(sa.column, ("version", "key", "value")))
    batches = sa.table("batches", sa.column("name"), sa.column("max_cost_nanos"))
    is_cap = settings.c.key.startswith(KEY, autoescape=True)
    rows = connection.execute(sa.select(settings).where(is_cap).order_by(settings.c.version)).all()
    newest = {row.key.removeprefix(KEY): json.loads(row.value) for row in rows}
    for name, usd in newest.items():
        nanos = None if usd is None else max(1, int(Decimal(str(usd)) * NANOS_PER_USD))
        connection.execute(sa.update(batches).where(batches.c.name == name).values(max_cost_nanos=nanos))
    connection.execute(sa.delete(settings).where(is_cap))
