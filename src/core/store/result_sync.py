"""Keep results files consistent with the store.

A task that runs again leaves a mark in `stale_results`, in the same transaction: the file may hold a row that
is no longer true. The owner of the file removes these rows, then forgets the marks, then appends what is
missing. After a kill at any point, the same steps lead to the same file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import sqlalchemy as sa

from . import schema
from .database import Database
from .identifiers import Identifiers
from .loading import IN_SIZE, Loader, full_tasks, parts
from .reconnecting import reconnecting
from .rows import StoredResult
from .schema import IS_FINAL

IDS_PAGE = 2_000  # rows in memory at a time
_T = schema.tasks.c
_O = schema.stale_results.c


@reconnecting()
class ResultSync:
    """The results of a batch, in the order of its file, and which of them have become stale.

    Methods that name a batch raise StoreError if it does not exist.
    """

    def __init__(self, database: Database, ids: Identifiers, loader: Loader) -> None:
        self._database, self._ids, self._loader = database, ids, loader

    def stale(self, batch: str) -> dict[int, str]:
        """Row number and id of each task of the batch that was retried since `forget_stale`."""
        query = (
            sa.select(_T.task_row, _T.id)
            .join_from(schema.stale_results, schema.tasks, _T.task_row == _O.task_row)
            .where(_O.batch_id == self._ids.known_batch_id(batch))
        )
        with self._database.reading() as connection:
            return {row.task_row: row.id for row in connection.execute(query)}

    def forget_stale(self, batch: str, rows: Collection[int]) -> None:
        """Remove the marks of these rows, which no results file holds any more."""
        batch_id = self._ids.known_batch_id(batch)
        for part in parts(rows, IN_SIZE):
            with self._database.writing() as connection:
                marks = sa.delete(schema.stale_results).where(_O.batch_id == batch_id, _O.task_row.in_(part))
                connection.execute(marks)

    def ended(self, batch: str) -> Iterator[tuple[int, str]]:
        """Row number and id of each final task of the batch; holds `IDS_PAGE` of them in memory."""
        of_batch = _T.batch_id == self._ids.known_batch_id(batch)
        last = 0
        while True:
            query = sa.select(_T.task_row, _T.id).where(of_batch, IS_FINAL, _T.task_row > last)
            with self._database.reading() as connection:
                page = connection.execute(query.order_by(_T.task_row).limit(IDS_PAGE)).all()
            if not page:
                return
            yield from ((row.task_row, row.id) for row in page)
            last = page[-1].task_row

    def results_of(self, batch: str, ids: Collection[str]) -> list[StoredResult]:
        """The results of the final tasks among a few hundred `ids` of a batch."""
        of_batch = _T.batch_id == self._ids.known_batch_id(batch)
        query = full_tasks().where(of_batch, _T.id.in_(ids), IS_FINAL)
        with self._database.reading() as connection:
            return self._loader.results(connection, query)

    def results_at(self, rows: Collection[int]) -> list[StoredResult]:
        """The results of the final tasks among a few hundred `rows`, in the order of row numbers."""
        query = full_tasks().where(_T.task_row.in_(rows), IS_FINAL).order_by(_T.task_row)
        with self._database.reading() as connection:
            return self._loader.results(connection, query)
