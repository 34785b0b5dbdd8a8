"""Which tasks a page lists, as conditions that cost the same at any size, and others that do not."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from ...records import OPEN_STATUSES, TaskStatus
from . import schema
from .database import Database
from .identifiers import Identifiers, TaskStream
from .loading import task_counts
from .rows import TaskPage, TaskRow

SEARCHED = 20_000  # rows that a page with a filter looks at
SEARCHED_STREAMS = 500  # in the index of words; more are checked row by row
MANY_STREAMS = 50  # more are not looked up one by one, but checked row by row
LAST_ROW = 2**63 - 1
Conditions = tuple[sa.ColumnElement[bool], ...]
_T = schema.tasks.c


@dataclass(frozen=True)
class RowSearch:
    """Conditions `within` an index in the order of rows, which cost the same at any size, and `filters`,
    which are checked row by row, for at most `SEARCHED` rows.
    """

    within: Conditions = ()
    filters: Conditions = ()


@dataclass(frozen=True, slots=True)
class TaskSelection:
    """Which tasks a page lists. An empty field matches all tasks.

    `id_prefix` matches the beginning of ids; a task whose whole id it is comes first. `owner` selects tasks
    that this submitter added, and those in batches that it created, except the `shared` ones. `rows`, if not
    None, are the row numbers of the only tasks that match. `search` has words that prompt and answer of a
    finished task must have, see `search_text`. `since` and `until` bound when tasks were added, in epoch
    seconds; the minutes that they fall into count in full. With `oldest_first` pages go the other way.
    """

    statuses: Collection[TaskStatus] = ()
    task_type: str = ""
    provider: str = ""
    model: str = ""
    batch: str = ""
    submitter: str = ""
    id_prefix: str = ""
    owner: str = ""
    shared: Collection[str] = ()
    rows: Collection[int] | None = None
    truncated: bool = False
    search: str = ""
    since: float | None = None
    until: float | None = None
    oldest_first: bool = False


EVERY_TASK = TaskSelection()
ENDED = tuple(status for status in TaskStatus if status not in OPEN_STATUSES)


@dataclass(frozen=True, slots=True)
class RowRange:
    """Rows from `low` up to and without `high`, and the order of a page."""

    low: int = 0
    high: int = LAST_ROW
    oldest_first: bool = False

    @property
    def conditions(self) -> Conditions:
        """What a query needs besides its order."""
        low: Conditions = (_T.task_row >= self.low,) if self.low > 0 else ()
        return low if self.high == LAST_ROW else (*low, _T.task_row < self.high)

    @property
    def last(self) -> int:
        """The last row of the range in its order."""
        return self.high - 1 if self.oldest_first else self.low

    def up_to(self, ends: Collection[int | None]) -> RowRange:
        """The part before the first of these rows, in the order of the page; all of it if they are None."""
        rows = [end for end in ends if end is not None]
        if not rows:
            return self
        return replace(self, high=min(rows)) if self.oldest_first else replace(self, low=max(rows) + 1)

    @property
    def order(self) -> Any:
        """The order of a query."""
        return _T.task_row.asc() if self.oldest_first else _T.task_row.desc()

    def sorted(self, rows: list[TaskRow]) -> list[TaskRow]:
        """The rows of several queries in the order of the page."""
        return sorted(rows, key=lambda row: row.row, reverse=not self.oldest_first)

    def page(self, rows: tuple[TaskRow, ...], last: int | None) -> TaskPage:
        """A page of `rows`; `last` is the last row number that was looked at, None at the end."""
        if last is None:
            return TaskPage(rows, None)
        return TaskPage(rows, None, last) if self.oldest_first else TaskPage(rows, last)


class SelectionPlanner:
    """Turns a selection into searches."""

    def __init__(self, database: Database, ids: Identifiers) -> None:
        self._database, self._ids = database, ids

    def range(self, only: TaskSelection, before: int | None, after: int | None) -> RowRange:
        """The rows of the times of the selection, beyond the end of the page before."""
        low = 0 if only.since is None else self._first_row_since(only.since)
        low = low if after is None else min(max(low, after + 1), LAST_ROW)
        highs = [] if only.until is None else [self._first_row_since(only.until + 60)]
        highs += [] if before is None else [before]
        return RowRange(low, min(highs, default=LAST_ROW), only.oldest_first)

    def _first_row_since(self, at: float) -> int:
        """The first row of the minute of `at` or of a later one; above every row if there is none."""
        m = schema.task_minutes.c
        query = sa.select(m.first_row).where(m.minute >= int(at // 60)).order_by(m.minute).limit(1)
        with self._database.reading() as connection:
            found: int | None = connection.execute(query).scalar()
        return LAST_ROW if found is None else found

    def streams(self, only: TaskSelection) -> list[TaskStream] | None:
        """The streams of the selected tasks; None if only status, batch and the task itself matter."""
        wanted: list[TaskStream] | None = None
        if only.task_type or only.submitter:
            wanted = self._ids.streams_like(only.task_type, only.submitter)
        if only.owner:
            owned = self._ids.streams_owned(only.owner, only.shared)
            of_owner = {stream.id for stream in owned}
            wanted = owned if wanted is None else [each for each in wanted if each.id in of_owner]
        if wanted is None or not only.batch:
            return wanted
        return [stream for stream in wanted if stream.batch == only.batch]

    def filters(self, only: TaskSelection) -> Conditions:
        """What is checked row by row."""
        filters: list[sa.ColumnElement[bool]] = []
        if only.provider:
            filters.append(_T.provider == only.provider)
        if only.model:
            filters.append(_T.model == only.model)
        if only.truncated:
            filters.append(schema.IS_TRUNCATED)
        if only.rows is not None:
            filters.append(_T.task_row.in_(only.rows))
        return tuple(filters)

    def by_words(
        self, only: TaskSelection, streams: list[TaskStream] | None
    ) -> tuple[list[int] | None, Conditions]:
        """The streams to search for words, None for all, and what is checked row by row."""
        filters = self.filters(only)
        if only.statuses:
            filters += (_T.status.in_([status.value for status in only.statuses]),)
        if only.id_prefix:
            filters += (_T.id.startswith(only.id_prefix, autoescape=True),)
        if only.batch and streams is None:
            batch_id = self._ids.batch_id(only.batch)
            streams = [] if batch_id is None else self._ids.streams_of_batch(batch_id)
        wanted = None if streams is None else [stream.id for stream in streams]
        if wanted is not None and len(wanted) > SEARCHED_STREAMS:
            return None, (*filters, _T.stream_id.in_(wanted))
        return wanted, filters

    def searches(self, only: TaskSelection, streams: list[TaskStream] | None) -> list[RowSearch]:
        """Searches that together find the selected tasks, whatever their ids."""
        if (only.provider or only.model) and not only.statuses:
            only = replace(only, statuses=ENDED)  # no open task has them, and a million may be open
        filters = self.filters(only)
        ways = self._ways_by_streams(only, streams)
        if ways is None:
            ways = self._ways(only.batch, only.statuses)
            if streams is not None:
                filters += (_T.stream_id.in_([stream.id for stream in streams]),)
        if only.truncated:  # an index has the truncated ones alone
            return [RowSearch((schema.IS_TRUNCATED,), (*way.within, *way.filters, *filters)) for way in ways]
        return [RowSearch(way.within, (*way.filters, *filters)) for way in ways]

    def _ways_by_streams(
        self, only: TaskSelection, streams: list[TaskStream] | None
    ) -> list[RowSearch] | None:
        """A search for each stream; None if there are none or too many, or the statuses are rarer."""
        if streams is None or len(streams) > MANY_STREAMS:
            return None
        of_status: Conditions = ()
        if only.statuses:
            counts, _ = self._counts(None)
            if sum(counts[status] for status in set(only.statuses)) <= SEARCHED:
                return None
            of_status = (_T.status.in_([status.value for status in only.statuses]),)
        return [RowSearch((_T.stream_id == stream.id,), of_status) for stream in streams]

    def _ways(self, batch: str, statuses: Collection[TaskStatus]) -> list[RowSearch]:
        """Searches for tasks of a batch with these statuses, each by the index of the rarer of the two."""
        of_batch = self._ids.batch_id(batch) if batch else None
        if batch and of_batch is None:
            return []
        in_batch = _T.batch_id == of_batch
        if not statuses:
            return [RowSearch((in_batch,) if batch else ())]
        if not batch:
            return [RowSearch((_T.status == status.value,)) for status in set(statuses)]
        all_counts, counts = self._counts(of_batch)
        ways = []
        for status in (status for status in set(statuses) if counts[status]):
            has_status = _T.status == status.value
            if all_counts[status] <= sum(counts.values()):
                ways.append(RowSearch((has_status,), (in_batch,)))
            else:
                ways.append(RowSearch((in_batch,), (has_status,)))
        return ways

    def _counts(self, batch_id: int | None) -> tuple[dict[TaskStatus, int], dict[TaskStatus, int]]:
        """Tasks by status in all batches, and in this one."""
        wanted = [schema.ALL_BATCHES, batch_id or 0]
        with self._database.reading() as connection:
            counts = task_counts(connection, wanted)
        return counts[wanted[0]], counts[wanted[1]]
