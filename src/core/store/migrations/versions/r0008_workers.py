"""Reserve the cost of calls by the worker that makes them. The calls so far were the orchestrators' own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    names = ("provider", "batch", "submitter", "worker")
    op.rename_table("cost_reservations", "cost_reservations_before")
    if op.get_bind().dialect.name == "postgresql":  # SQLite does not name it
        op.execute("ALTER INDEX cost_reservations_pkey RENAME TO cost_reservations_before_pkey")
    op.create_table(
        "cost_reservations",
        Column("orchestrator_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        *(Column(name, sa.Text(), nullable=False) for name in names),
        Column("nanos", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("orchestrator_id", *names),
    )
    op.execute(
        "INSERT INTO cost_reservations (orchestrator_id, provider, batch, submitter, worker, nanos) "
        "SELECT orchestrator_id, provider, batch, submitter, '', nanos FROM cost_reservations_before"
    )
    op.drop_table("cost_reservations_before")
