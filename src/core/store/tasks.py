"""Look up tasks. Pages are found by key, never by offset, and cost the same at any size.

Rows are numbered in the order in which tasks are added, so a page in the order of rows needs no index of its
own. Other orders (cost, duration, end) would each need one, which every task's end would have to update.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from ...records import TaskStatus
from . import schema
from .codec import decode_parts
from .database import Database
from .identifiers import Identifiers, TaskStream
from .loading import IN_SIZE, Loader, full_tasks, parts, result_from, task_from
from .reconnecting import reconnecting
from .rows import EarlierEnd, TaskDetail, TaskPage, TaskRow
from .search_index import SearchIndex
from .search_text import terms_of
from .selection import EVERY_TASK, SEARCHED, Conditions, RowRange, RowSearch, SelectionPlanner, TaskSelection

FOUND = 2_000  # tasks with the words of a search that a page looks at
_T = schema.tasks.c
_P = schema.prompts.c


@reconnecting()
class Tasks:
    """Single tasks and pages of them, for people and programs that look something up."""

    def __init__(self, database: Database, ids: Identifiers, loader: Loader, index: SearchIndex) -> None:
        self._database, self._ids, self._loader, self._index = database, ids, loader, index
        self._planner = SelectionPlanner(database, ids)

    # ------------------------------------------------------------ pages

    def page(
        self,
        limit: int = 50,
        only: TaskSelection = EVERY_TASK,
        *,
        before: int | None = None,
        after: int | None = None,
    ) -> TaskPage:
        """A page of at most `limit` tasks, newest first.

        `before` is the `next_before` of the page before; with `oldest_first`, `after` is its `next_after`.
        A search stops after `SEARCHED` tasks (`FOUND` with these words), so a rare filter may need several
        pages, some of them empty. Statuses, batches, submitters, types, times and whole ids are found at
        once, however rare.
        """
        within = self._planner.range(only, before, after)
        streams = self._planner.streams(only)
        if streams == []:
            return TaskPage((), None)
        if only.search:
            return self._found(limit, within, only, streams)
        searches = self._planner.searches(only, streams)
        if not only.id_prefix:
            return self._page(limit, within, searches)
        is_first = before is None and after is None
        exact = self._with_id(only.id_prefix, searches, within, limit) if is_first else []
        begins = (_T.id.startswith(only.id_prefix, autoescape=True), _T.id != only.id_prefix)
        page = self._page(limit, within, [RowSearch(s.within, (*s.filters, *begins)) for s in searches])
        return replace(page, rows=(*exact, *page.rows)) if exact else page

    # ------------------------------------------------------------ by words

    def _found(
        self, limit: int, within: RowRange, only: TaskSelection, streams: list[TaskStream] | None
    ) -> TaskPage:
        """A page of the tasks that have the words of a search."""
        wanted, filters = self._planner.by_words(only, streams)
        terms = terms_of(only.search)
        found: list[TaskRow] = []
        with self._database.reading() as connection:
            rows = self._index.rows(connection, terms, wanted, within, FOUND)
            for part in parts(rows, 2 * limit):
                found += self._rows(connection, (_T.task_row.in_(part), *filters), within)
                if len(found) >= limit:
                    return within.page(tuple(found[:limit]), found[limit - 1].row)
        return within.page(tuple(found), rows[-1] if len(rows) == FOUND else None)

    def _with_id(
        self, task_id: str, searches: Sequence[RowSearch], within: RowRange, limit: int
    ) -> list[TaskRow]:
        """The tasks with exactly this id, at most one a batch, found through the index of ids."""
        b = schema.batches.c
        of_batches = sa.select(b.id, _IDS.c.task_row).join_from(
            schema.batches, _IDS, sa.and_(_IDS.c.batch_id == b.id, _IDS.c.id == task_id)
        )
        with self._database.reading() as connection:
            rows = [
                row.task_row for row in connection.execute(of_batches.order_by(b.id.desc()).limit(IN_SIZE))
            ]
            these = (_T.task_row.in_(rows), *within.conditions)
            found = [
                row
                for s in searches
                for row in self._rows(connection, (*these, *s.within, *s.filters), within)
            ]
        return within.sorted(found)[:limit]

    def _page(self, limit: int, within: RowRange, searches: Sequence[RowSearch]) -> TaskPage:
        """The first `limit` rows of all searches, or fewer if one of them reached its limit."""
        with self._database.reading() as connection:
            ends = [_searched_to(connection, s.within, within) for s in searches if s.filters]
            near = within.up_to(ends)
            found = [
                row
                for s in searches
                for row in self._rows(connection, (*s.within, *s.filters, *near.conditions), within, limit)
            ]
        rows = tuple(within.sorted(found)[:limit])
        if len(rows) == limit:
            return within.page(rows, rows[-1].row)
        return within.page(rows, None if near is within else near.last)

    def _rows(
        self,
        connection: sa.Connection,
        conditions: Conditions,
        within: RowRange,
        limit: int | None = None,
    ) -> list[TaskRow]:
        """Rows with their preview, in the order of the page; prompts are joined to these few rows only."""
        page = sa.select(schema.tasks).where(*conditions).order_by(within.order).limit(limit).subquery()
        joined = sa.outerjoin(page, schema.prompts, _P.task_row == page.c.task_row)
        query = sa.select(page, _P.preview).select_from(joined)
        found = [_task_row(row, self._ids.stream_by_id(row.stream_id)) for row in connection.execute(query)]
        return within.sorted(found)

    def find(self, batch: str, task_id: str) -> TaskDetail | None:
        """One task with its content, attempts and, once it is final, its result; None if there is none."""
        batch_id = self._ids.batch_id(batch)
        return self._detail(sa.and_(_T.batch_id == batch_id, _T.id == task_id))

    def at_row(self, row: int) -> TaskDetail | None:
        """The same, by row number: names and ids may hold characters that a URL cannot."""
        return self._detail(_T.task_row == row)

    def _detail(self, condition: sa.ColumnElement[bool]) -> TaskDetail | None:
        query = full_tasks().where(condition)
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
            if row is None:
                return None
            attempts = self._loader.attempts(connection, [row.task_row]).get(row.task_row, ())
            earlier = _earlier_ends(connection, row.task_row)
        stream = self._ids.stream_by_id(row.stream_id)
        is_final = TaskStatus(row.status).is_final
        result = result_from(row, stream, attempts) if is_final else None
        return TaskDetail(_task_row(row, stream), task_from(row, stream), attempts, result, earlier)

    def statuses(self, batch: str, ids: Collection[str]) -> dict[str, TaskStatus]:
        """The status of each of these tasks that exists, by id."""
        batch_id = self._ids.batch_id(batch)
        query = sa.select(_T.id, _T.status).where(_T.batch_id == batch_id, _T.id.in_(ids))
        with self._database.reading() as connection:
            return {row.id: TaskStatus(row.status) for row in connection.execute(query)}

    def submitters(self, batch: str, ids: Collection[str]) -> dict[str, str]:
        """The submitter of each of these tasks that exists, by id."""
        batch_id = self._ids.batch_id(batch)
        names = list(ids)
        found: dict[str, str] = {}
        for start in range(0, len(names), IN_SIZE):
            these = _T.id.in_(names[start : start + IN_SIZE])
            with self._database.reading() as connection:
                query = sa.select(_T.id, _T.stream_id).where(_T.batch_id == batch_id, these)
                rows = connection.execute(query).all()
            found |= {row.id: self._ids.stream_by_id(row.stream_id).submitter for row in rows}
        return found


_IDS = schema.tasks.alias("ids")


def _searched_to(connection: sa.Connection, conditions: Conditions, within: RowRange) -> int | None:
    """The row number at which a search stops; None if it reaches the end of its range."""
    rows = sa.select(_T.task_row).where(*conditions, *within.conditions).order_by(within.order)
    return connection.execute(rows.limit(1).offset(SEARCHED)).scalar()


def _earlier_ends(connection: sa.Connection, task_row: int) -> tuple[EarlierEnd, ...]:
    e = schema.earlier_ends
    query = sa.select(e).where(e.c.task_row == task_row).order_by(e.c.ended_at)
    return tuple(
        EarlierEnd(
            row.ended_at,
            TaskStatus(row.status),
            row.provider,
            row.model,
            row.agent,
            row.finish_reason,
            bool(row.truncated),
            row.error,
            row.output,
            decode_parts(row.parts, row.output),
        )
        for row in connection.execute(query)
    )


def _task_row(row: Any, stream: TaskStream) -> TaskRow:
    return TaskRow(
        row=row.task_row,
        batch=stream.batch,
        id=row.id,
        status=TaskStatus(row.status),
        task_type=stream.task_type,
        submitter=stream.submitter,
        priority=row.priority,
        created_at=row.created_at,
        since=row.since,
        claims=row.claims,
        attempts=row.attempts,
        provider=row.provider,
        model=row.model,
        agent=row.agent,
        tier=row.tier,
        finish_reason=row.finish_reason,
        truncated=bool(row.truncated),
        error=row.error,
        cost_nanos=None if row.unknown_cost_calls else row.cost_nanos,
        preview=row.preview or "",
        line=row.line,
    )
