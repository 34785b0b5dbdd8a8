"""Usage and summaries, added up from the rollups alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import bindparam

from . import schema
from .rollups import CALL_SUMS, sums_of
from .rows import CallSums, Summary, TaskSums, UsageRow
from .shared import Part

GroupBy = Literal["provider", "model", "task_type", "submitter", "minute", "hour", "day"]
_SECONDS = {"minute": 60, "hour": 3600, "day": 86400}


class Accounts(Part):
    """The part of the store that tells what was spent, on what, and how fast it was."""

    def usage(self, start: float, end: float, group_by: Sequence[GroupBy] = ("provider",)) -> list[UsageRow]:
        """Calls that began in [start, end), added up by `group_by`, ordered by key.

        Bounds are epoch seconds, taken down to whole minutes. A key's `minute`, `hour` or `day` is the epoch
        second at which it begins; days are UTC.
        """
        query = _usage_query(tuple(group_by))
        minutes = {"start": int(start // 60), "end": -int(-end // 60)}
        with self._database.reading() as connection:
            rows = connection.execute(query, minutes).all()
        return [UsageRow(tuple(row[: len(group_by)]), CallSums(**sums_of(row))) for row in rows]

    def summary(self, batch: str | None = None) -> Summary:
        """One batch, or with None everything since the beginning."""
        batch_id = schema.ALL_BATCHES if batch is None else self._streams.known_batch_id(batch)
        calls, tasks = schema.batch_calls, schema.batch_tasks
        with self._database.reading() as connection:
            counts = self._counts(connection, [batch_id])[batch_id]
            models = _added(connection, calls, ["provider", "model"], CALL_SUMS, batch_id)
            providers = _added(connection, calls, ["provider"], CALL_SUMS, batch_id)
            agents = _added(connection, tasks, ["agent"], schema.TASK_COLUMNS, batch_id)
            tiers = _added(connection, tasks, ["tier"], schema.TASK_COLUMNS, batch_id)
            all_calls = _added(connection, calls, [], CALL_SUMS, batch_id)
            all_tasks = _added(connection, tasks, [], schema.TASK_COLUMNS, batch_id)
        return Summary(
            counts=counts,
            providers={row.provider: CallSums(**sums_of(row)) for row in providers},
            models={(row.provider, row.model): CallSums(**sums_of(row)) for row in models},
            agents={row.agent: _task_sums(row) for row in agents},
            tiers={row.tier: _task_sums(row) for row in tiers},
            calls=CallSums(**sums_of(all_calls[0])),
            tasks=_task_sums(all_tasks[0]),
        )


@cache  # building these queries takes longer than running them
def _usage_query(group_by: tuple[GroupBy, ...]) -> sa.Select[Any]:
    u = schema.usage.c
    keys = [_group(name) for name in group_by]
    sums = [sa.func.sum(u[name]).label(name) for name in CALL_SUMS]
    query = (
        sa.select(*keys, *sums)
        .where(u.minute >= bindparam("start"), u.minute < bindparam("end"))
        .group_by(*keys)
        .order_by(*keys)
    )
    return query if keys else query.having(sa.func.count() > 0)


def _group(name: GroupBy) -> sa.ColumnElement[Any]:
    u = schema.usage.c
    if name in _SECONDS:
        minutes = _SECONDS[name] // 60
        begins = (u.minute - u.minute % minutes) * 60
        return begins.label(name)
    return u[name]


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


def _task_sums(row: Any) -> TaskSums:
    return TaskSums(**{name: int(getattr(row, name) or 0) for name in schema.TASK_COLUMNS})
