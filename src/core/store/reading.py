"""What command line and web read. Lists are paged by key, never by offset, and cost the same at any size."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from ...records import Event, PoolSnapshot, TaskStatus
from . import schema
from .codec import load_record, loads
from .loading import Loading, full_tasks, result_from
from .rows import (
    BatchRow,
    EventRow,
    OrchestratorRow,
    StoredResult,
    TaskDetail,
    TaskPage,
    TaskRow,
)
from .schema import IS_FINAL
from .shared import IN_SIZE, TaskStream, orchestrator_rows, task_from

SEARCHED = 20_000  # rows a page with a filter looks at
RESULTS_CHUNK = 200
_Conditions = tuple[sa.ColumnElement[bool], ...]
_T = schema.tasks.c
_P = schema.prompts.c


@dataclass(frozen=True)
class _Search:
    """Tasks `within` what an index holds in the order of rows, so that looking costs the same at any size,
    less those that `filters` drop: these are looked at one by one, `SEARCHED` of them at most.
    """

    within: _Conditions = ()
    filters: _Conditions = ()


class Reading(Loading):
    """The part of the store that only reads."""

    # ------------------------------------------------------------ counts, batches, orchestrators

    def pending(self, batch: str | None = None) -> dict[TaskStatus, int]:
        """Tasks by status, in one batch or in all; every status is there."""
        batch_id = schema.ALL_BATCHES if batch is None else self._streams.known_batch_id(batch)
        with self._database.reading() as connection:
            return self._counts(connection, [batch_id])[batch_id]

    def batch(self, name: str) -> BatchRow | None:
        found = self._batch_rows(schema.batches.c.name == name, limit=1)
        return found[0] if found else None

    def batches(self, limit: int = 200, *, submitter: str = "") -> list[BatchRow]:
        """The newest batches, newest first; all, or those that this submitter began."""
        begun = schema.batches.c.submitter == submitter if submitter else sa.true()
        return self._batch_rows(begun, limit=limit)

    def orchestrators(self, limit: int = 20) -> list[OrchestratorRow]:
        """The last orchestrators, newest first, those that ended too."""
        with self._database.reading() as connection:
            return [row for _, row in orchestrator_rows(connection, limit=limit)]

    def latest_snapshot(self) -> tuple[PoolSnapshot | None, OrchestratorRow | None]:
        """What the newest orchestrator last showed, and its row: its heartbeat tells the age."""
        with self._database.reading() as connection:
            rows = orchestrator_rows(connection, limit=1)
            if not rows:
                return None, None
            number, row = rows[0]
            s = schema.snapshots.c
            body = connection.execute(sa.select(s.body).where(s.orchestrator_id == number)).scalar()
        return (load_record(PoolSnapshot, body) if body else None), row

    def events(
        self, limit: int = 100, *, after_id: int | None = None, kinds: Collection[str] = ()
    ) -> list[EventRow]:
        """With `after_id` what came after it, oldest first; else the last ones, newest first."""
        e = schema.events.c
        query = sa.select(schema.events).limit(limit)
        query = (
            query.order_by(e.id.desc()) if after_id is None else query.order_by(e.id).where(e.id > after_id)
        )
        if kinds:
            query = query.where(e.kind.in_(kinds))
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [
            EventRow(r.id, Event(r.at, r.kind, r.message, r.provider, r.task_id, r.level, loads(r.fields)))
            for r in rows
        ]

    def _batch_rows(self, condition: sa.ColumnElement[bool], limit: int) -> list[BatchRow]:
        b = schema.batches
        query = sa.select(b).where(condition).order_by(b.c.id.desc()).limit(limit)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
            counts = self._counts(connection, [row.id for row in rows])
        return [
            BatchRow(
                row.name,
                row.source,
                row.output_path,
                loads(row.options),
                row.submitter,
                row.created_at,
                counts[row.id],
            )
            for row in rows
        ]

    # ------------------------------------------------------------ tasks

    def tasks(
        self,
        limit: int = 50,
        *,
        before: int | None = None,
        statuses: Collection[TaskStatus] = (),
        task_type: str = "",
        provider: str = "",
        batch: str = "",
        submitter: str = "",
        id_prefix: str = "",
        owner: str = "",
        shared: Collection[str] = (),
        rows: Collection[int] | None = None,
    ) -> TaskPage:
        """A page of tasks, newest first; `before` is the last page's `next_before`.

        With `owner` those that she has submitted, and those in batches that she began, save `shared` ones.

        With `rows` only the tasks in these rows of the table.

        A search gives up after 20,000 tasks, so a rare filter may need several pages, some of them empty.
        Statuses, batches and tasks whose whole id is `id_prefix` are found at once, however rare. The first
        page begins with the latter.
        """
        filters: list[sa.ColumnElement[bool]] = []
        if task_type or submitter:
            filters.append(
                _T.stream_id.in_([stream.id for stream in self._streams.like(task_type, submitter)])
            )
        if owner:
            filters.append(_T.stream_id.in_([stream.id for stream in self._streams.owned(owner, shared)]))
        if provider:
            filters.append(_T.provider == provider)
        ways = self._ways(batch, statuses)
        if rows is not None:
            ways = [replace(way, within=(*way.within, _T.task_row.in_(rows))) for way in ways]
        exact: list[TaskRow] = []
        if id_prefix:
            if before is None:
                exact = self._with_id(
                    id_prefix, [(*way.within, *way.filters, *filters) for way in ways], limit
                )
            filters += [_T.id.startswith(id_prefix, autoescape=True), _T.id != id_prefix]
        page = self._page(limit, before, [_Search(way.within, (*way.filters, *filters)) for way in ways])
        return replace(page, rows=(*exact, *page.rows)) if exact else page

    def _with_id(self, task_id: str, ways: Sequence[_Conditions], limit: int) -> list[TaskRow]:
        """The tasks of this very id, at most one a batch: each batch is looked up in the index of its ids."""
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
            found = [row for way in ways for row in connection.execute(query.where(*way))]
        found.sort(key=lambda row: row.task_row, reverse=True)
        return [_task_row(row, self._streams.by_id(row.stream_id)) for row in found[:limit]]

    def _ways(self, batch: str, statuses: Collection[TaskStatus]) -> list[_Search]:
        """How tasks of a batch and of these statuses are found: by the rarer of the two."""
        of_batch = self._streams.batch_id(batch) if batch else None
        if batch and of_batch is None:
            return []
        in_batch = _T.batch_id == of_batch
        if not statuses:
            return [_Search((in_batch,) if batch else ())]
        if not batch:
            return [_Search((_T.status == status.value,)) for status in set(statuses)]
        all_counts, counts = self.pending(), self.pending(batch)
        ways = []
        for status in (status for status in set(statuses) if counts[status]):
            has_status = _T.status == status.value
            if all_counts[status] <= sum(counts.values()):
                ways.append(_Search((has_status,), (in_batch,)))
            else:
                ways.append(_Search((in_batch,), (has_status,)))
        return ways

    def _page(self, limit: int, before: int | None, searches: Sequence[_Search]) -> TaskPage:
        """The newest `limit` rows of all searches, or fewer where one of them gave up."""
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
        rows = tuple(_task_row(row, self._streams.by_id(row.stream_id)) for row in newest)
        if len(rows) == limit:
            return TaskPage(rows, rows[-1].row)
        return TaskPage(rows, None if end is None else end + 1)

    def task(self, batch: str, task_id: str) -> TaskDetail | None:
        """One task with its content, attempts and, once it is final, its result."""
        batch_id = self._streams.batch_id(batch)
        return self._detail(sa.and_(_T.batch_id == batch_id, _T.id == task_id))

    def task_at(self, row: int) -> TaskDetail | None:
        """The same, by the row that lists tell: batch names and ids may hold what an address can't."""
        return self._detail(_T.task_row == row)

    def _detail(self, condition: sa.ColumnElement[bool]) -> TaskDetail | None:
        query = full_tasks().where(condition)
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
            if row is None:
                return None
            attempts = self._attempts(connection, [row.task_row]).get(row.task_row, ())
        stream = self._streams.by_id(row.stream_id)
        is_final = row.status not in (TaskStatus.QUEUED, TaskStatus.RUNNING)
        result = result_from(row, stream, attempts) if is_final else None
        return TaskDetail(_task_row(row, stream), task_from(row, stream), attempts, result)

    def statuses(self, batch: str, ids: Collection[str]) -> dict[str, TaskStatus]:
        """The status of each of `ids` that exists; for whoever waits for an answer."""
        batch_id = self._streams.batch_id(batch)
        query = sa.select(_T.id, _T.status).where(_T.batch_id == batch_id, _T.id.in_(ids))
        with self._database.reading() as connection:
            return {row.id: TaskStatus(row.status) for row in connection.execute(query)}

    def submitters(self, batch: str, ids: Collection[str]) -> dict[str, str]:
        """Who has submitted each of `ids` that exists."""
        batch_id = self._streams.batch_id(batch)
        names = list(ids)
        found: dict[str, str] = {}
        for start in range(0, len(names), IN_SIZE):
            these = _T.id.in_(names[start : start + IN_SIZE])
            with self._database.reading() as connection:
                query = sa.select(_T.id, _T.stream_id).where(_T.batch_id == batch_id, these)
                rows = connection.execute(query).all()
            found |= {row.id: self._streams.by_id(row.stream_id).submitter for row in rows}
        return found

    # ------------------------------------------------------------ results

    def results(self, batch: str, after_row: int = 0, limit: int = RESULTS_CHUNK) -> list[StoredResult]:
        """Final results of a batch in the order of its file: the first `limit` behind `after_row`."""
        of_batch = _T.batch_id == self._streams.known_batch_id(batch)
        query = full_tasks().where(of_batch, _T.task_row > after_row, IS_FINAL)
        with self._database.reading() as connection:
            return self._results(connection, query.order_by(_T.task_row).limit(limit))

    def all_results(self, batch: str) -> Iterator[StoredResult]:
        """Every final result of a batch, for export: a few hundred in memory, no transaction held open."""
        after_row = 0
        while page := self.results(batch, after_row):
            yield from page
            after_row = page[-1].row


_IDS = schema.tasks.alias("ids")


def _searched_to(connection: sa.Connection, conditions: _Conditions) -> int | None:
    """The row where a search through a range gives up; None where it comes to the range's end."""
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
