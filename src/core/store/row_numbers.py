"""Row numbers of tasks: in the order in which they were added, over all batches."""

from __future__ import annotations

import sqlalchemy as sa

from . import schema
from .database import Database

LAST_ROW = "last_task_row"


def reserve_rows(database: Database, connection: sa.Connection, n: int) -> int:
    """Reserve `n` row numbers; returns the first. Processes that add tasks wait here for each other."""
    insert = database.insert(schema.meta).values(key=LAST_ROW, value=n)
    statement = insert.on_conflict_do_update(
        index_elements=[schema.meta.c.key], set_={"value": schema.meta.c.value + n}
    ).returning(schema.meta.c.value)
    last = connection.execute(statement).scalar_one()
    return int(last) - n + 1
