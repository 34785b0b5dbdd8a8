"""Deferred tasks, which may go to a provider's batch, in groups of those that are alike.

A task is deferred when it is stored, or runs again, with a deadline in a batch whose options have `DEFERS`.
The choice between batches and live calls works on the sums of the groups, and then takes the oldest tasks of
a group. A group is known by a digest of what its tasks have in common.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from ...records import DEFERS, Task, TaskStatus
from . import schema
from .codec import dumps, loads
from .database import Database
from .identifiers import Identifiers, TaskStream
from .loading import IN_SIZE, Loader, parts
from .moving import mark, move
from .named_rows import Among, without_index
from .provider_batch_schema import DEFERRAL_SUMS, deferral_groups, deferred_tasks
from .provider_batch_values import DeferredGroup
from .reconnecting import reconnecting
from .schema import IS_DEFERRED, IS_QUEUED, RUNS_ITSELF

NEAR_S = 3_600.0  # of deadlines nearer than this a group spans a minute, of others five
AT_ONCE = 500  # tasks that change in one transaction: some 20 ms, in which nothing else is stored
_T, _G, _D = schema.tasks.c, deferral_groups.c, deferred_tasks.c
_TAKE = (
    sa.update(deferral_groups)
    .where(_G.id == bindparam("which"))
    .values({name: _G[name] - bindparam(f"less_{name}") for name in DEFERRAL_SUMS})
)
_CAN_BE_DEFERRED = (
    sa.select(_T.task_row, _T.batch_id)
    .where(
        Among(_T.task_row),
        without_index(sa.and_(IS_QUEUED, RUNS_ITSELF, _T.deadline_at.is_not(None))),
    )
    .order_by(_T.task_row)
)
Item = tuple[int, TaskStream, Task]  # row, its stream, the task


class DeferralGroups:
    """Keeps the groups. Each method runs inside its caller's transaction."""

    def __init__(self, database: Database, ids: Identifiers, loader: Loader) -> None:
        self._database, self._ids, self._loader = database, ids, loader

    def deferring(self, connection: sa.Connection, batch_ids: Collection[int]) -> frozenset[int]:
        """Those of these batches whose tasks are deferred if they have a deadline."""
        b = schema.batches.c
        rows = connection.execute(sa.select(b.id, b.options).where(b.id.in_(batch_ids))) if batch_ids else ()
        return frozenset(row.id for row in rows if loads(row.options).get(DEFERS) is not None)

    def add(self, connection: sa.Connection, items: Iterable[Item], now: float) -> None:
        """Put tasks whose status is `deferred` into their groups."""
        groups: dict[int, list[Any]] = {}
        rows = []
        for row, stream, task in items:
            deadline_at, shape = _deadline_of(task, now), _shape_of(task)
            group = _digest(stream.id, deadline_at, shape)
            size = (task.text_chars, task.prompt_bytes, task.max_tokens)
            rows.append((row, group, *size))
            sums = groups.setdefault(group, [group, stream.id, deadline_at, shape, 0, 0, 0, 0, 0])
            for place, value in enumerate(_sums(*size), 4):
                sums[place] += value
        self._database.inserting(deferred_tasks).many(connection, rows)
        values = [tuple(groups[group]) for group in sorted(groups)]
        self._database.adding(deferral_groups, DEFERRAL_SUMS).many(connection, values)

    def defer(self, connection: sa.Connection, rows: Sequence[int], now: float) -> dict[int, TaskStream]:
        """Defer the queued tasks among `rows` that may be; returns them, for the caller to count."""
        deferred: dict[int, TaskStream] = {}
        for part in parts(rows, IN_SIZE):
            found = connection.execute(_CAN_BE_DEFERRED, {"rows": part}).all()
            batches = self.deferring(connection, {row.batch_id for row in found})
            chosen = [row.task_row for row in found if row.batch_id in batches]
            if not chosen:
                continue
            values = {"status": TaskStatus.DEFERRED.value, "since": now}
            marked = mark(connection, self._ids, chosen, IS_QUEUED, values)
            tasks = self._loader.tasks(connection, sorted(marked))
            self.add(connection, ((row, marked[row], tasks[row]) for row in sorted(marked)), now)
            deferred |= marked
        return deferred

    def undefer(self, connection: sa.Connection, rows: Sequence[int], now: float) -> dict[int, TaskStream]:
        """Queue the deferred tasks among `rows`; returns them, for the caller to count."""
        values = {"status": TaskStatus.QUEUED.value, "since": now}
        queued = mark(connection, self._ids, rows, IS_DEFERRED, values)
        self.remove(connection, sorted(queued))
        return queued

    def remove(self, connection: sa.Connection, rows: Sequence[int]) -> None:
        """Take tasks out of their groups, whose status has changed or does so in this transaction."""
        less: dict[int, list[int]] = {}
        for part in parts(rows, IN_SIZE):
            gone = sa.delete(deferred_tasks).where(_D.task_row.in_(part)).returning(*deferred_tasks.columns)
            for row in connection.execute(gone):
                sums = less.setdefault(row.group_id, [0] * len(DEFERRAL_SUMS))
                for place, value in enumerate(_sums(row.text_chars, row.prompt_bytes, row.max_tokens)):
                    sums[place] += value
        names = [*(f"less_{name}" for name in DEFERRAL_SUMS), "which"]
        values = [(*less[group], group) for group in sorted(less)]
        self._database.prepared(_TAKE, names).many(connection, values)
        for part in parts(sorted(less), IN_SIZE):
            empty = sa.delete(deferral_groups).where(_G.id.in_(part), _G.rows == 0)
            connection.execute(empty)


@reconnecting()
class Deferrals:
    """The deferred tasks, for the leader, which chooses between batches and live calls."""

    def __init__(self, database: Database, ids: Identifiers, loader: Loader, groups: DeferralGroups) -> None:
        self._database, self._ids, self._loader, self._groups = database, ids, loader, groups

    def groups(self) -> list[DeferredGroup]:
        """All groups, the soonest deadline first. Costs nothing per task."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(deferral_groups).order_by(_G.deadline_at, _G.id)).all()
        return [_group(row, self._ids.stream_by_id(row.stream_id)) for row in rows]

    def oldest(self, group_id: int, limit: int, after: int = 0) -> list[Task]:
        """The oldest tasks of a group, beyond the row `after`."""
        with self._database.reading() as connection:
            rows = _oldest(connection, group_id, limit, after)
            tasks = self._loader.tasks(connection, rows)
        return [tasks[row] for row in rows if row in tasks]

    def go_live(self, group_id: int, limit: int, now: float) -> int:
        """Queue the oldest tasks of a group for live calls, up to `AT_ONCE`; returns how many."""
        with self._database.writing() as connection:
            rows = _oldest(connection, group_id, min(AT_ONCE, limit))
            moved = self._groups.undefer(connection, rows, now)
            move(self._database, connection, moved, TaskStatus.DEFERRED, TaskStatus.QUEUED)
        return len(moved)


def _oldest(connection: sa.Connection, group_id: int, limit: int, after: int = 0) -> list[int]:
    of_group = sa.select(_D.task_row).where(_D.group_id == group_id, _D.task_row > after)
    return list(connection.execute(of_group.order_by(_D.task_row).limit(limit)).scalars())


def _sums(text_chars: int, prompt_bytes: int, max_tokens: int | None) -> tuple[int, ...]:
    """What one task adds to `DEFERRAL_SUMS`."""
    return 1, text_chars, prompt_bytes, max_tokens or 0, int(max_tokens is None)


def _shape_of(task: Task) -> str:
    """What decides which models may answer, for `_group` to read."""
    values = (task.tier, task.models, task.providers, task.agent, task.parameters, task.needs)
    return dumps([list(value) if isinstance(value, tuple) else value for value in values])


def _deadline_of(task: Task, now: float) -> float:
    """The deadline rounded down, so that tasks that came one by one are still alike."""
    deadline_at = task.deadline_at or 0.0
    width_s = 60.0 if deadline_at - now < NEAR_S else 300.0
    return deadline_at // width_s * width_s


def _digest(stream_id: int, deadline_at: float, shape: str) -> int:
    key = f"{stream_id} {deadline_at!r} {shape}"
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) >> 1


def _group(row: Any, stream: TaskStream) -> DeferredGroup:
    tier, models, providers, agent, parameters, needs = loads(row.shape)
    return DeferredGroup(
        id=row.id,
        batch=stream.batch,
        submitter=stream.submitter,
        task_type=stream.task_type,
        deadline_at=row.deadline_at,
        tier=tier,
        models=tuple(models),
        providers=tuple(providers),
        agent=agent,
        parameters=tuple(parameters),
        needs=tuple(needs),
        rows=row.rows,
        text_chars=row.text_chars,
        prompt_bytes=row.prompt_bytes,
        max_tokens=row.max_tokens,
        unstated=row.unstated,
    )
