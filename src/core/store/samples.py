"""What a plan is made from: recent prompts in characters and in tokens, and the tasks that are open."""

from __future__ import annotations

import math

import sqlalchemy as sa

from ...records import Outcome, Task
from . import schema
from .codec import decode_task
from .rows import PromptSize
from .schema import IS_ASKED, IS_QUEUED, IS_RUNNING
from .shared import Part


class Samples(Part):
    """The part of the store that a forecast looks single calls up in."""

    def open_tasks(self, at_most: int) -> tuple[int, list[Task]]:
        """How many open tasks a server would call providers for, and every n-th of them, up to `at_most`.

        Tasks that wait for the answer of an equal one are left out: they cost nothing.
        """
        row = schema.tasks.c.task_row
        query = sa.select(row).where(sa.or_(IS_QUEUED, IS_RUNNING), IS_ASKED).order_by(row)
        with self._database.reading() as connection:
            rows = list(connection.execute(query).scalars())
            every = max(1, math.ceil(len(rows) / at_most))
            return len(rows), list(self._load_tasks(connection, rows[::every]).values())

    def prompt_sizes(self, limit: int = 300) -> list[PromptSize]:
        """The prompts of the tasks last handed in that were answered and not purged, newest first."""
        a, p = schema.attempts, schema.prompts
        tokens = a.c.input_tokens + a.c.cache_read_tokens + a.c.cache_write_tokens
        query = (
            sa.select(a.c.provider, tokens.label("tokens"), p.c.body)
            .join_from(a, p, p.c.task_row == a.c.task_row)
            .where(a.c.outcome == Outcome.OK)
            .order_by(a.c.task_row.desc(), a.c.seq.desc())
            .limit(limit)
        )
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        found = []
        for row in rows:
            task = decode_task(row.body, id="", batch="")
            found.append(PromptSize(row.provider, task.prompt_chars, len(task.messages), row.tokens))
        return found
