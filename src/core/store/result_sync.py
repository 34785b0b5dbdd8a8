"""What whoever keeps a copy of a batch, a results file, asks of the store, the truth.

A task that is asked again leaves a mark in `outdated`, in the same transaction: the file may hold a row of
it that is true no more. Whoever keeps the file takes these rows out, then forgets the marks, then adds what
is missing. Killed anywhere between, the same is done again and comes to the same end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import sqlalchemy as sa

from . import schema
from .loading import Loading, full_tasks
from .rows import StoredResult
from .schema import IS_FINAL
from .shared import IN_SIZE, parts

PAGE = 2_000
_T = schema.tasks.c
_O = schema.stale_results.c


class ResultSync(Loading):
    """The part of the store that results files are kept by."""

    def stale(self, batch: str) -> dict[int, str]:
        """Row and id of each task of the batch that was asked again since its marks were forgotten."""
        query = (
            sa.select(_T.task_row, _T.id)
            .join_from(schema.stale_results, schema.tasks, _T.task_row == _O.task_row)
            .where(_O.batch_id == self._streams.known_batch_id(batch))
        )
        with self._database.reading() as connection:
            return {row.task_row: row.id for row in connection.execute(query)}

    def forget_stale(self, batch: str, rows: Collection[int]) -> None:
        """These rows are in no results file any more."""
        batch_id = self._streams.known_batch_id(batch)
        for part in parts(rows, IN_SIZE):
            with self._database.writing() as connection:
                marks = sa.delete(schema.stale_results).where(_O.batch_id == batch_id, _O.task_row.in_(part))
                connection.execute(marks)

    def ended(self, batch: str) -> Iterator[tuple[int, str]]:
        """Row and id of each final task of the batch in the order of its file; a page in memory at a time."""
        of_batch = _T.batch_id == self._streams.known_batch_id(batch)
        last = 0
        while True:
            query = sa.select(_T.task_row, _T.id).where(of_batch, IS_FINAL, _T.task_row > last)
            with self._database.reading() as connection:
                page = connection.execute(query.order_by(_T.task_row).limit(PAGE)).all()
            if not page:
                return
            yield from ((row.task_row, row.id) for row in page)
            last = page[-1].task_row

    def results_at(self, rows: Collection[int]) -> list[StoredResult]:
        """The results of these rows, as far as they are final, in the order of rows; for some hundred."""
        query = full_tasks().where(_T.task_row.in_(rows), IS_FINAL).order_by(_T.task_row)
        with self._database.reading() as connection:
            return self._results(connection, query)
