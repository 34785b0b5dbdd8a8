"""Reports from the rollups: they cost the same at any number of tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal, TypeVar

import sqlalchemy as sa
from sqlalchemy import bindparam

from ...records import REQUEST_BATCHES, Outcome, Task, TaskStatus
from . import schema
from .codec import decode_task
from .database import Database
from .identifiers import Identifiers
from .loading import Loader, batch_rows, task_counts
from .reconnecting import reconnecting
from .rollups import CALL_SUMS, MINUTES_A_DAY, WAIT_SUMS, sums_of
from .rows import BatchRow, PromptSize
from .schema import IS_DEFERRED, IS_QUEUED, IS_RUNNING, RUNS_ITSELF
from .sums import CallSums, Summary, TaskSums, UsageRow, WaitSums

GroupBy = Literal["provider", "model", "task_type", "submitter", "minute", "half_hour", "hour", "day"]
_Sums = TypeVar("_Sums", CallSums, TaskSums)
_WITHIN_DAYS = frozenset({"minute", "half_hour", "hour"})
_END_OF_TIME = 1e11  # epoch seconds
_SECONDS = {"minute": 60, "half_hour": 1800, "hour": 3600, "day": 86400}


@reconnecting()
class Reports:
    """Counts, batches, usage, summaries, and samples for forecasts. It only reads.

    Methods that name a batch raise StoreError if it does not exist, unless they say otherwise.
    """

    def __init__(self, database: Database, ids: Identifiers, loader: Loader) -> None:
        self._database, self._ids, self._loader = database, ids, loader

    def task_counts(self, batch: str | None = None) -> dict[TaskStatus, int]:
        """Tasks by status, in one batch or in all; every status is a key."""
        batch_id = schema.ALL_BATCHES if batch is None else self._ids.known_batch_id(batch)
        with self._database.reading() as connection:
            return task_counts(connection, [batch_id])[batch_id]

    def batch(self, name: str) -> BatchRow | None:
        """One batch; None if it does not exist."""
        found = self._batches(schema.batches.c.name == name, limit=1)
        return found[0] if found else None

    def batches(self, limit: int = 200, *, submitter: str = "") -> list[BatchRow]:
        """The newest batches, newest first; all, or those that this submitter created."""
        created = schema.batches.c.submitter == submitter if submitter else sa.true()
        return self._batches(created, limit=limit)

    def usage(self, start: float, end: float, group_by: Sequence[GroupBy] = ("provider",)) -> list[UsageRow]:
        """Sums of the calls that began in [start, end), grouped by `group_by` and ordered by key.

        The bounds are epoch seconds; the minutes that they fall into count in full. A `minute`, `half_hour`,
        `hour` or `day` in a key is the epoch second at which it begins; days are UTC. Whole days come from
        `usage_days`, unless the key has a smaller unit, so that a year costs little more than a day.
        """
        first, last = int(start // 60), -int(-end // 60)
        days = (-(-first // MINUTES_A_DAY), last // MINUTES_A_DAY)  # from midnight to midnight
        by_minute = not _WITHIN_DAYS.isdisjoint(group_by) or days[0] >= days[1]
        bounds = {"start": first, "end": last}
        if not by_minute:
            bounds |= {"from_day": days[0], "to_day": days[1]}
            bounds |= {"midnight": days[0] * MINUTES_A_DAY, "last_midnight": days[1] * MINUTES_A_DAY}
        query = _usage_query(tuple(group_by), by_minute)
        with self._database.reading() as connection:
            rows = connection.execute(query, bounds).all()
        return [UsageRow(tuple(row[: len(group_by)]), CallSums(**sums_of(row))) for row in rows]

    def cost_of_requests(self, start: float) -> tuple[int, int]:
        """(certain, uncertain) nano-dollars of the gateway's requests in calls that began since `start`.

        What calls of killed orchestrators may have cost counts in full, since their tasks are not known.
        """
        a, t, b = schema.attempts.c, schema.tasks.c, schema.batches.c
        names = sa.or_(*(b.name.startswith(each, autoescape=True) for each in REQUEST_BATCHES))
        query = (
            sa.select(a.outcome, sa.func.sum(sa.func.coalesce(a.cost_nanos, 0)))
            .select_from(schema.attempts)
            .join(schema.tasks, t.task_row == a.task_row)
            .where(t.batch_id.in_(sa.select(b.id).where(names)), a.started_at >= start)
            .group_by(a.outcome)
        )
        with self._database.reading() as connection:
            sums = {outcome: int(nanos) for outcome, nanos in connection.execute(query)}
        uncertain = sums.pop(Outcome.UNCERTAIN, 0)
        calls = self.usage(start, _END_OF_TIME, ("model", "task_type"))
        lost = sum(row.sums.uncertain_nanos for row in calls if row.key == ("", ""))
        return sum(sums.values()), uncertain + lost

    def queue_waits(self) -> WaitSums:
        """How long tasks waited for their first call, since the database was created or migrated to this."""
        w = schema.queue_waits.c
        sums = [sa.func.coalesce(sa.func.sum(w[name]), 0) for name in WAIT_SUMS]
        with self._database.reading() as connection:
            waits, wait_us, *histogram = map(int, connection.execute(sa.select(*sums)).one())
        return WaitSums(waits, wait_us, tuple(histogram))

    def summary(self, batch: str | None = None) -> Summary:
        """The totals of one batch, or of all batches since the database was created."""
        batch_id = schema.ALL_BATCHES if batch is None else self._ids.known_batch_id(batch)
        calls, tasks = schema.batch_calls, schema.batch_tasks
        with self._database.reading() as connection:
            counts = task_counts(connection, [batch_id])[batch_id]
            calls_read = _added(connection, calls, ["provider", "model"], CALL_SUMS, batch_id)
            tasks_read = _added(connection, tasks, ["agent", "tier"], schema.TASK_COLUMNS, batch_id)
        models = {(row.provider, row.model): CallSums(**sums_of(row)) for row in calls_read}
        ended = {(row.agent, row.tier): _task_sums(row) for row in tasks_read}
        return Summary(
            counts=counts,
            providers=_by(models, 0, CallSums()),
            models={key: sums for key, sums in models.items() if sums.calls},
            agents=_by(ended, 0, TaskSums()),
            tiers=_by(ended, 1, TaskSums()),
            calls=sum(models.values(), start=CallSums()),
            tasks=sum(ended.values(), start=TaskSums()),
        )

    def open_tasks(self, at_most: int) -> tuple[int, list[Task]]:
        """The number of open tasks that need a call, and an even sample of up to `at_most` of them.

        Duplicates that wait for their primary are left out, since they cost nothing, and so are tasks in a
        provider's batch, which are paid for.
        """
        row = schema.tasks.c.task_row
        query = sa.select(row).where(sa.or_(IS_QUEUED, IS_RUNNING, IS_DEFERRED), RUNS_ITSELF).order_by(row)
        with self._database.reading() as connection:
            rows = list(connection.execute(query).scalars())
            every = max(1, math.ceil(len(rows) / at_most))
            return len(rows), list(self._loader.tasks(connection, rows[::every]).values())

    def prompt_sizes(self, limit: int = 300) -> list[PromptSize]:
        """The sizes of answered prompts, newest task first, without purged ones and those with images."""
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
            if task.media:  # only text shows how many tokens a character has
                continue
            found.append(PromptSize(row.provider, task.text_chars, len(task.messages), row.tokens))
        return found

    def _batches(self, condition: sa.ColumnElement[bool], limit: int) -> list[BatchRow]:
        b = schema.batches
        query = sa.select(b).where(condition).order_by(b.c.id.desc()).limit(limit)
        with self._database.reading() as connection:
            return [row for _, row in batch_rows(connection, query)]


@cache  # building these queries takes longer than running them
def _usage_query(group_by: tuple[GroupBy, ...], by_minute: bool) -> sa.Select[Any]:
    u, d = schema.usage.c, schema.usage_days.c
    minutes = _columns(u, u.minute, group_by)
    if by_minute:
        parts = minutes.where(u.minute >= bindparam("start"), u.minute < bindparam("end")).subquery()
    else:
        days = _columns(d, d.day * MINUTES_A_DAY, group_by)
        parts = sa.union_all(
            minutes.where(u.minute >= bindparam("start"), u.minute < bindparam("midnight")),
            days.where(d.day >= bindparam("from_day"), d.day < bindparam("to_day")),
            minutes.where(u.minute >= bindparam("last_midnight"), u.minute < bindparam("end")),
        ).subquery()
    keys = [parts.c[name] for name in group_by]
    sums = [sa.func.sum(parts.c[name]).label(name) for name in CALL_SUMS]
    query = sa.select(*keys, *sums).group_by(*keys).order_by(*keys)
    return query if keys else query.having(sa.func.count() > 0)


def _columns(c: Any, minute: sa.ColumnElement[int], group_by: Sequence[GroupBy]) -> sa.Select[Any]:
    """The keys and sums of one table; `minute` is the epoch minute at which a row begins."""
    keys = [_key(c, minute, name).label(name) for name in group_by]
    return sa.select(*keys, *(c[name] for name in CALL_SUMS))


def _key(c: Any, minute: sa.ColumnElement[int], name: GroupBy) -> sa.ColumnElement[Any]:
    if name in _SECONDS:
        minutes = _SECONDS[name] // 60
        return (minute - minute % minutes) * 60
    found: sa.ColumnElement[Any] = c[name]
    return found


def _added(
    connection: sa.Connection,
    table: sa.Table,
    keys: Sequence[str],
    sums: Sequence[str],
    batch_id: int,
) -> Sequence[Any]:
    """Rows of `keys` and the sums of `sums`, of one batch or of all."""
    of_all = batch_id == schema.ALL_BATCHES
    query = _added_query(table, tuple(keys), tuple(sums), of_all)
    return connection.execute(query, {} if of_all else {"batch": batch_id}).all()


@cache
def _added_query(
    table: sa.Table, keys: tuple[str, ...], sums: tuple[str, ...], of_all: bool
) -> sa.Select[Any]:
    columns = [table.c[key] for key in keys]
    query = sa.select(*columns, *(sa.func.sum(table.c[name]).label(name) for name in sums))
    if not of_all:
        query = query.where(table.c.batch_id == bindparam("batch"))
    return query.group_by(*columns).order_by(*columns)


def _by(sums: Mapping[tuple[str, str], _Sums], place: int, none: _Sums) -> dict[str, _Sums]:
    """The sums by one of the two parts of their keys."""
    found: dict[str, _Sums] = {}
    for key in sorted(sums, key=lambda key: key[place]):
        found[key[place]] = found.get(key[place], none) + sums[key]
    return found


def _task_sums(row: Any) -> TaskSums:
    return TaskSums(**{name: int(getattr(row, name) or 0) for name in schema.TASK_COLUMNS})
