"""Equal tasks of a batch that are asked once: a leader is asked, its followers get its answer.

    queued, equal to an earlier task --follow--> follower: queued, but never claimed
    follower --its leader ends--> ended likewise: same status, output and error; no attempt, no cost
             --its leader is cancelled, or gets other content--> the oldest follower leads the others
             --asked again when it had ended, and its leader is not--> asked itself

A leader ends in the transaction that ends its followers, a few hundred of them; `settle_followers` ends the
others: those that come later, and those whose leader was ended in some other way. Equal is what is equal to
`codec.request_of`: messages, type, tier, model, parameters. A task with a deadline of its own is always asked
itself, and so is one whose leader's answer was purged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from ...records import Result, TaskStatus
from . import schema
from .loading import Loading, full_tasks
from .rollups import Rollup, add_counts, add_task
from .schema import IS_FOLLOWER, IS_QUEUED
from .shared import IN_SIZE, parts
from .transitions import Transitions

FOLLOWERS_AT_ONCE = 500  # in one transaction, and in memory
CAN_LEAD = frozenset({TaskStatus.QUEUED, TaskStatus.RUNNING, TaskStatus.SUCCEEDED})
_T = schema.tasks.c
_L = schema.leaders.c
_Leader = schema.tasks.alias("leader")
_HAS_ANSWER = sa.exists().where(schema.answers.c.task_row == _T.task_row)
_IS_WAITING = sa.and_(IS_QUEUED, IS_FOLLOWER)
_LEADER_HAS_ENDED = _Leader.c.status.not_in([TaskStatus.QUEUED.value, TaskStatus.RUNNING.value])

# What a follower takes over from its leader, in the order of `_END`.
_TAKEN = (
    "status", "since", "provider", "model", "agent", "tier", "finish_reason", "truncated", "error",
    "warnings",
)  # fmt: skip
_WAITING = (
    sa.select(
        _T.task_row,
        _T.batch_id,
        _T.cost_nanos,
        _T.unknown_cost_calls,
        _T.leader_row,
        *(_Leader.c[name].label(name) for name in _TAKEN),
    )
    .join_from(schema.tasks, _Leader, _Leader.c.task_row == _T.leader_row)
    .where(_IS_WAITING, _LEADER_HAS_ENDED)
    .limit(FOLLOWERS_AT_ONCE)
)
_WAITING_FOR_THESE = _WAITING.where(_T.leader_row.in_(bindparam("leaders", expanding=True)))
_END = (
    sa.update(schema.tasks)
    .where(_T.task_row == bindparam("which"))
    .ordered_values(
        *((_T[name], bindparam(f"new_{name}", type_=_T[name].type)) for name in _TAKEN),
        (_T.baseline_nanos, bindparam("new_baseline_nanos", type_=_T.baseline_nanos.type)),
    )
)
_FOLLOW = (
    sa.update(schema.tasks).where(_T.task_row == bindparam("which")).values(leader_row=bindparam("leader"))
)
_CANDIDATES = (
    sa.select(_T.task_row, _T.batch_id, _T.content_hash, _T.status, _T.priority)
    .where(
        _T.task_row.in_(bindparam("rows", expanding=True)), _T.leader_row.is_(None), _T.deadline_at.is_(None)
    )
    .order_by(_T.task_row)
)
_LEADERS = (
    sa.select(_T.task_row, _T.batch_id, _T.content_hash, _T.status, _T.priority)
    .join_from(schema.leaders, schema.tasks, _T.task_row == _L.task_row)
    .where(
        _L.batch_id == bindparam("batch"),
        _L.content_hash.in_(bindparam("contents", expanding=True)),
        _T.content_hash == _L.content_hash,  # it may have got other content since
        _T.leader_row.is_(None),
        sa.or_(_T.status != TaskStatus.SUCCEEDED.value, _HAS_ANSWER),  # it may be purged
    )
)


class Following(Transitions, Loading):
    """What the parts share in which tasks begin to follow, or leaders end."""

    def settle_followers(self, batch: str | None = None) -> list[Result]:
        """End followers whose leader has ended without them; the results of a few hundred of them.

        Those of one batch, or all. Ask again until it returns none.
        """
        of_batch = () if batch is None else (_T.batch_id == self._lanes.known_batch_id(batch),)
        with self._database.writing() as connection:
            return self._end(connection, connection.execute(_WAITING.where(*of_batch)).all())

    def _end_followers(self, connection: sa.Connection, leaders: Sequence[int]) -> list[Result]:
        """End those that wait for these tasks, which have just ended: `FOLLOWERS_AT_ONCE` at most."""
        found: list[Any] = []
        for part in parts(leaders, IN_SIZE):
            found += connection.execute(_WAITING_FOR_THESE, {"leaders": part}).all()
        return self._end(connection, found[:FOLLOWERS_AT_ONCE])

    def _end(self, connection: sa.Connection, waiting: Sequence[Any]) -> list[Result]:
        """`waiting` are rows of `_WAITING`; the results of those that ended."""
        cancelled = {row.leader_row for row in waiting if row.status == TaskStatus.CANCELLED}
        self._promote(connection, sorted(cancelled))
        ending = [row for row in waiting if row.leader_row not in cancelled]
        if not ending:
            return []
        names = [*(f"new_{name}" for name in _TAKEN), "new_baseline_nanos", "which"]
        values = [(*(getattr(row, name) for name in _TAKEN), 0, row.task_row) for row in ending]
        self._database.prepared(_END, names).many(connection, values)
        rows = [row.task_row for row in ending]
        self._copy_answers(connection, rows)
        self._count_ended(connection, ending)
        query = full_tasks().where(_T.task_row.in_(rows)).order_by(_T.task_row)
        return [stored.result for stored in self._results(connection, query)]

    def _copy_answers(self, connection: sa.Connection, rows: Collection[int]) -> None:
        a = schema.answers
        of_leaders = (
            sa.select(_T.task_row, a.c.output)
            .join_from(schema.tasks, a, a.c.task_row == _T.leader_row)
            .where(_T.task_row.in_(rows))
        )
        connection.execute(sa.insert(a).from_select(["task_row", "output"], of_leaders))

    def _count_ended(self, connection: sa.Connection, ended: Sequence[Any]) -> None:
        """The money stands with the leader; only what a follower had cost in an earlier life is its own."""
        sums = Rollup(schema.batch_tasks, schema.TASK_COLUMNS)
        counts: Counter[tuple[int, TaskStatus]] = Counter()
        for row in ended:
            status = TaskStatus(row.status)
            counts[row.batch_id, TaskStatus.QUEUED] -= 1
            counts[row.batch_id, status] += 1
            add_task(
                sums.row((row.batch_id, row.agent, row.tier)),
                sign=1,
                status=status,
                truncated=bool(row.truncated),
                cost_nanos=row.cost_nanos,
                unknown_cost=row.unknown_cost_calls > 0,
                baseline_nanos=0,
            )
        sums.write(self._database, connection)
        add_counts(self._database, connection, counts)

    def _promote_for_cancelled(self) -> None:
        """`_promote` wherever a leader was cancelled."""
        cancelled = _Leader.c.status == TaskStatus.CANCELLED.value
        leading = (
            sa.select(_T.leader_row)
            .join_from(schema.tasks, _Leader, _Leader.c.task_row == _T.leader_row)
            .where(_IS_WAITING, cancelled)
            .limit(IN_SIZE)
        )
        while True:
            with self._database.writing() as connection:
                leaders = set(connection.execute(leading).scalars())
                self._promote(connection, sorted(leaders))
            if not leaders:
                return

    def _promote(self, connection: sa.Connection, leaders: Collection[int]) -> None:
        """The oldest follower of each of these leads the others: their leader will answer for nobody."""
        for leader in leaders:
            waiting = sa.and_(_IS_WAITING, _T.leader_row == leader)
            first = connection.execute(sa.select(sa.func.min(_T.task_row)).where(waiting)).scalar()
            if first is None:
                continue
            connection.execute(sa.update(schema.tasks).where(_T.task_row == first).values(leader_row=None))
            connection.execute(sa.update(schema.tasks).where(waiting).values(leader_row=first))
            which = sa.select(_T.batch_id, _T.content_hash).where(_T.task_row == first)
            batch_id, content_hash = connection.execute(which).one()
            self._lead(connection, [(batch_id, content_hash, first)])

    def _promote_after(self, connection: sa.Connection, rows: Collection[int]) -> None:
        """`_promote` for those of `rows` that lead anybody."""
        leading = sa.select(_T.leader_row).where(_IS_WAITING, _T.leader_row.in_(rows)).distinct()
        self._promote(connection, sorted(connection.execute(leading).scalars()))

    def _follow(self, connection: sa.Connection, rows: Sequence[int]) -> int:
        """Let those of `rows` that nobody has begun follow an equal task; returns how many do now."""
        followers: list[tuple[int, int]] = []
        new: list[tuple[int, bytes, int]] = []
        for part in parts(rows, IN_SIZE):
            candidates = connection.execute(_CANDIDATES, {"rows": part}).all()
            leaders = self._leaders(connection, candidates)
            for task in candidates:
                key = task.batch_id, bytes(task.content_hash)
                leader = leaders.get(key)
                if leader is None or leader.status not in CAN_LEAD:
                    if task.status in CAN_LEAD:
                        leaders[key] = task
                        new.append((*key, task.task_row))
                elif _may_follow(task, leader):
                    followers.append((leader.task_row, task.task_row))
        self._lead(connection, new)
        self._database.prepared(_FOLLOW, ["leader", "which"]).many(connection, followers)
        return len(followers)

    def _leaders(self, connection: sa.Connection, tasks: Sequence[Any]) -> dict[tuple[int, bytes], Any]:
        """Who leads the contents of `tasks`, by batch and content."""
        wanted: dict[int, set[bytes]] = {}
        for task in tasks:
            wanted.setdefault(task.batch_id, set()).add(bytes(task.content_hash))
        found: dict[tuple[int, bytes], Any] = {}
        for batch_id, contents in wanted.items():
            rows = connection.execute(_LEADERS, {"batch": batch_id, "contents": sorted(contents)})
            found |= {(batch_id, bytes(row.content_hash)): row for row in rows}
        return found

    def _lead(self, connection: sa.Connection, leaders: Sequence[tuple[int, bytes, int]]) -> None:
        """Remember these (batch id, content, row), each instead of who led before."""
        self._database.replacing(schema.leaders, ["task_row"]).many(connection, leaders)


def _may_follow(task: Any, leader: Any) -> bool:
    """A task that waits follows one that has answered, or whose turn comes no later than its own."""
    if task.status != TaskStatus.QUEUED or task.task_row == leader.task_row:
        return False
    return bool(leader.status == TaskStatus.SUCCEEDED or leader.priority >= task.priority)
