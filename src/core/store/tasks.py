"""Look up tasks. Pages are found by key, never by offset, and cost the same at any size."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from ...records import TaskStatus
from . import schema
from .database import Database
from .identifiers import Identifiers, TaskStream
from .loading import IN_SIZE, Loader, full_tasks, result_from, task_counts, task_from
from .reconnecting import reconnecting
from .rows import TaskDetail, TaskPage, TaskRow

SEARCHED = 20_000  # rows that a page with a filter looks at
_Conditions = tuple[sa.ColumnElement[bool], ...]
_T = schema.tasks.c
_P = schema.prompts.c


@dataclass(frozen=True)
class _Search:
    """Conditions `within` an index in the order of rows, which cost the same at any size, and `filters`,
    which are checked row by row, for at most `SEARCHED` rows.
    """

    within: _Conditions = ()
    filters: _Conditions = ()


@dataclass(frozen=True, slots=True)
class TaskSelection:
    """Which tasks a page lists. An empty field matches all tasks.

    `id_prefix` matches the beginning of ids; a task whose whole id it is comes first. `owner` selects tasks
    that this submitter added, and those in batches that it created, except the `shared` ones. `rows`, if not
    None, are the row numbers of the only tasks that match.
    """

    statuses: Collection[TaskStatus] = ()
    task_type: str = ""
    provider: str = ""
    batch: str = ""
    submitter: str = ""
    id_prefix: str = ""
    owner: str = ""
    shared: Collection[str] = ()
    rows: Collection[int] | None = None


EVERY_TASK = TaskSelection()


@reconnecting()
class Tasks:
    """Single tasks and pages of them, for people and programs that look something up."""

    def __init__(self, database: Database, ids: Identifiers, loader: Loader) -> None:
        self._database, self._ids, self._loader = database, ids, loader

    # ------------------------------------------------------------ pages

    def page(
        self, limit: int = 50, only: TaskSelection = EVERY_TASK, *, before: int | None = None
    ) -> TaskPage:
        """A page of at most `limit` tasks, newest first; `before` is the `next_before` of the page before.

        A search stops after `SEARCHED` tasks, so a rare filter may need several pages, some of them empty.
        Statuses, batches and whole ids are found at once, however rare.
        """
        searches = self._searches(only)
        if not only.id_prefix:
            return self._page(limit, before, searches)
        exact = self._with_id(only.id_prefix, searches, limit) if before is None else []
        begins = (_T.id.startswith(only.id_prefix, autoescape=True), _T.id != only.id_prefix)
        page = self._page(limit, before, [_Search(s.within, (*s.filters, *begins)) for s in searches])
        return replace(page, rows=(*exact, *page.rows)) if exact else page

    def _searches(self, only: TaskSelection) -> list[_Search]:
        """Searches that together find the selected tasks, whatever their ids."""
        filters: list[sa.ColumnElement[bool]] = []
        if only.task_type or only.submitter:
            filters.append(_in_streams(self._ids.streams_like(only.task_type, only.submitter)))
        if only.owner:
            filters.append(_in_streams(self._ids.streams_owned(only.owner, only.shared)))
        if only.provider:
            filters.append(_T.provider == only.provider)
        in_rows = () if only.rows is None else (_T.task_row.in_(only.rows),)
        ways = self._ways(only.batch, only.statuses)
        return [_Search((*way.within, *in_rows), (*way.filters, *filters)) for way in ways]

    def _with_id(self, task_id: str, searches: Sequence[_Search], limit: int) -> list[TaskRow]:
        """The tasks with exactly this id, at most one a batch, found through the index of ids."""
        b = schema.batches.c
        of_batches = sa.select(b.id, _IDS.c.task_row).join_from(
            schema.batches, _IDS, sa.and_(_IDS.c.batch_id == b.id, _IDS.c.id == task_id)
        )
        with self._database.reading() as connection:
            rows = [
                row.task_row for row in connection.execute(of_batches.order_by(b.id.desc()).limit(IN_SIZE))
            ]
            joined = sa.outerjoin(schema.tasks, schema.prompts, _P.task_row == _T.task_row)
            query = sa.select(schema.tasks, _P.preview).select_from(joined).where(_T.task_row.in_(rows))
            found = [row for s in searches for row in connection.execute(query.where(*s.within, *s.filters))]
        found.sort(key=lambda row: row.task_row, reverse=True)
        return [_task_row(row, self._ids.stream_by_id(row.stream_id)) for row in found[:limit]]

    def _ways(self, batch: str, statuses: Collection[TaskStatus]) -> list[_Search]:
        """Searches for tasks of a batch with these statuses, each by the index of the rarer of the two."""
        of_batch = self._ids.batch_id(batch) if batch else None
        if batch and of_batch is None:
            return []
        in_batch = _T.batch_id == of_batch
        if not statuses:
            return [_Search((in_batch,) if batch else ())]
        if not batch:
            return [_Search((_T.status == status.value,)) for status in set(statuses)]
        all_counts, counts = self._counts(of_batch)
        ways = []
        for status in (status for status in set(statuses) if counts[status]):
            has_status = _T.status == status.value
            if all_counts[status] <= sum(counts.values()):
                ways.append(_Search((has_status,), (in_batch,)))
            else:
                ways.append(_Search((in_batch,), (has_status,)))
        return ways

    def _counts(self, batch_id: int | None) -> tuple[dict[TaskStatus, int], dict[TaskStatus, int]]:
        """Tasks by status in all batches, and in this one."""
        wanted = [schema.ALL_BATCHES, batch_id or 0]
        with self._database.reading() as connection:
            counts = task_counts(connection, wanted)
        return counts[wanted[0]], counts[wanted[1]]

    def _page(self, limit: int, before: int | None, searches: Sequence[_Search]) -> TaskPage:
        """The newest `limit` rows of all searches, or fewer if one of them reached its limit."""
        older = () if before is None else (_T.task_row < before,)
        with self._database.reading() as connection:
            ends = [_searched_to(connection, (*s.within, *older)) for s in searches if s.filters]
            end = max((end for end in ends if end is not None), default=None)
            not_older = () if end is None else (_T.task_row > end,)
            found = [
                row
                for search in searches
                for row in connection.execute(
                    _newest((*search.within, *search.filters, *older, *not_older), limit)
                )
            ]
        newest = sorted(found, key=lambda row: row.task_row, reverse=True)[:limit]
        rows = tuple(_task_row(row, self._ids.stream_by_id(row.stream_id)) for row in newest)
        if len(rows) == limit:
            return TaskPage(rows, rows[-1].row)
        return TaskPage(rows, None if end is None else end + 1)

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
        stream = self._ids.stream_by_id(row.stream_id)
        is_final = row.status not in (TaskStatus.QUEUED, TaskStatus.RUNNING)
        result = result_from(row, stream, attempts) if is_final else None
        return TaskDetail(_task_row(row, stream), task_from(row, stream), attempts, result)

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


def _in_streams(streams: Sequence[TaskStream]) -> sa.ColumnElement[bool]:
    return _T.stream_id.in_([stream.id for stream in streams])


_IDS = schema.tasks.alias("ids")


def _searched_to(connection: sa.Connection, conditions: _Conditions) -> int | None:
    """The row number at which a search stops; None if it reaches the end of its range."""
    rows = sa.select(_T.task_row).where(*conditions).order_by(_T.task_row.desc())
    return connection.execute(rows.limit(1).offset(SEARCHED)).scalar()


def _newest(conditions: _Conditions, limit: int) -> sa.Select[Any]:
    """Rows of tasks with their preview; the prompts are joined to these few rows only."""
    page = sa.select(schema.tasks).where(*conditions).order_by(_T.task_row.desc()).limit(limit).subquery()
    joined = sa.outerjoin(page, schema.prompts, _P.task_row == page.c.task_row)
    return sa.select(page, _P.preview).select_from(joined)


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
