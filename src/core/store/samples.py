"""What recent prompts were in characters and in the providers' own tokens: what a plan learns from."""

from __future__ import annotations

import sqlalchemy as sa

from ...records import Outcome
from . import schema
from .codec import decode_task
from .rows import PromptSize
from .shared import Part


class Samples(Part):
    """The part of the store that a forecast looks single calls up in."""

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
