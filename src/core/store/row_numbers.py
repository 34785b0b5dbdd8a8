"""Row numbers of tasks: in the order in which they were added, over all batches."""

from __future__ import annotations

import sqlalchemy as sa

from . import schema
from .database import Database

LAST_ROW = "last_task_row"
_LAST = sa.select(schema.meta.c.value).where(schema.meta.c.key == sa.literal_column(f"'{LAST_ROW}'"))


def reserve_rows(database: Database, connection: sa.Connection, n: int) -> int:
    """Reserve `n` row numbers; returns the first. Processes that add tasks wait here for each other."""
    database.adding(schema.meta, ["value"]).many(connection, [(LAST_ROW, n)])
    last = database.prepared(_LAST, []).one(connection, ()).scalar_one()
    return int(last) - n + 1
