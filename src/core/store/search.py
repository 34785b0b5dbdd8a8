"""Index finished tasks in small steps, beside everything else, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from . import schema
from .database import Database
from .reconnecting import reconnecting
from .search_index import Document, SearchIndex
from .search_schema import search_backlog
from .search_text import VERSION

AT_ONCE = 100  # tasks in one transaction, which keeps other writers waiting for some milliseconds
WORDS_AT_ONCE = 50_000  # a step with longer texts has fewer tasks
COUNTED = 10_000  # tasks that are counted before the answer is `more than`
_T = schema.tasks.c
_B = search_backlog.c


@dataclass(frozen=True, slots=True)
class SearchProgress:
    """How far the index is.

    It is not available if SQLite has no FTS5, and not ready until it was made for the first time. `behind`
    finished tasks are not in it yet; if there are more than `COUNTED`, it is `COUNTED` + 1.
    """

    is_available: bool
    is_ready: bool
    behind: int


@reconnecting()
class Search:
    """The index of words. `Tasks.page` searches it.

    One process at a time needs to index, but any number may: each step takes its tasks out of the backlog in
    the transaction that indexes them.
    """

    def __init__(self, database: Database, index: SearchIndex) -> None:
        self._database, self._index = database, index

    def prepare(self) -> bool:
        """Make the index if it is missing or of an earlier version. False if this SQLite has no FTS5."""
        with self._database.reading() as connection:
            if not self._index.is_available(connection):
                return False
            if self._index.version(connection) == VERSION:
                return True
        with self._database.writing() as connection:
            self._index.lock(connection)
            if self._index.version(connection) != VERSION:  # no other process was faster
                self._index.create(connection)
        return True

    def drop(self) -> None:
        """Remove the index. `prepare` makes a new one, and everything is indexed again."""
        with self._database.reading() as connection:
            is_made = self._index.version(connection) == VERSION and self._index.is_available(connection)
        if is_made:
            with self._database.writing() as connection:
                self._index.lock(connection)
                self._index.drop(connection)

    def index_some(self) -> int:
        """Index up to `AT_ONCE` tasks of the backlog, newest first; returns how many have left it."""
        with self._database.reading() as connection:
            if self._index.version(connection) != VERSION:
                return 0
            query = (
                sa.select(_B.task_row, _T.since)
                .join_from(search_backlog, schema.tasks, _T.task_row == _B.task_row)
                .order_by(_B.task_row.desc())
                .limit(AT_ONCE)
            )
            ended = {row.task_row: row.since for row in connection.execute(query)}
            documents = {each.row: each for each in self._index.documents(connection, list(ended))}
        return self._add(ended, documents) if ended else 0

    def _add(self, ended: dict[int, float], documents: dict[int, Document]) -> int:
        """Index those of the tasks that are as they were when they were read."""
        rows: list[int] = []
        words = 0
        for row in ended:
            words += len(documents[row].words) if row in documents else 0
            if rows and words > WORDS_AT_ONCE:
                break
            rows.append(row)
        query = (
            sa.select(_B.task_row, _T.since)
            .join_from(search_backlog, schema.tasks, _T.task_row == _B.task_row)
            .where(_B.task_row.in_(rows))
            .with_for_update(of=search_backlog, skip_locked=True)
        )
        with self._database.writing() as connection:
            if self._index.version(connection) != VERSION:
                return 0
            same = [row.task_row for row in connection.execute(query) if ended[row.task_row] == row.since]
            connection.execute(sa.delete(search_backlog).where(_B.task_row.in_(same)))
            self._index.add(connection, [documents[row] for row in same if row in documents])
        return len(same)

    def progress(self) -> SearchProgress:
        """How far the index is."""
        few = sa.select(_B.task_row).limit(COUNTED + 1).subquery()
        with self._database.reading() as connection:
            is_available = self._index.is_available(connection)
            is_ready = self._index.version(connection) == VERSION
            behind: Any = connection.execute(sa.select(sa.func.count()).select_from(few)).scalar_one()
        return SearchProgress(is_available, is_ready, int(behind))
