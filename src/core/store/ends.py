"""The ends of tasks, written in one transaction: columns of the task, its answer, the sums of its batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from ...records import Result, TaskStatus
from ...storable import clean
from . import schema
from .codec import dumps, encode_parts
from .database import Database
from .ledger import ClaimedTask
from .loading import Loader, full_tasks
from .rollups import FinishedTask, Rollup, add_counts, add_task
from .search_index import SearchIndex

END_NAMES = (  # columns of a task, in the order of `end_columns`
    "status",
    "claimed_by",
    "attempts",
    "cost_nanos",
    "unknown_cost_calls",
    "since",
    "provider",
    "model",
    "agent",
    "tier",
    "finish_reason",
    "truncated",
    "error",
    "warnings",
    "baseline_nanos",
)
_SUM_NAMES = ("attempts", "cost_nanos", "unknown_cost_calls")
_T = schema.tasks.c


Written = Sequence[tuple[Result, ClaimedTask]]


def write_ends(
    database: Database, connection: sa.Connection, index: SearchIndex, written: Written, *, was: TaskStatus
) -> None:
    """Write the ends of tasks whose attempts are booked, all of which are in status `was`."""
    ends = EndWriter()
    for result, mine in written:
        ends.add(result, mine, was=was)
    rows = [(*end_columns(result, mine), mine.row) for result, mine in written]
    database.updating(schema.tasks, END_NAMES, "task_row").many(connection, rows)
    ends.write(database, connection, index)


def write_sums(database: Database, connection: sa.Connection, tasks: Iterable[ClaimedTask]) -> None:
    """Write the sums of tasks that go on, after attempts were booked."""
    rows = [(mine.attempts, mine.cost_nanos, mine.unknown_cost_calls, mine.row) for mine in tasks]
    database.updating(schema.tasks, _SUM_NAMES, "task_row").many(connection, rows)


def with_earlier_attempts(connection: sa.Connection, loader: Loader, written: Written) -> list[Result]:
    """The results with all their stored attempts: those before a retry cost money too."""
    longer = [mine.row for result, mine in written if mine.attempts > len(result.attempts)]
    if not longer:
        return [result for result, _ in written]
    query = full_tasks().where(_T.task_row.in_(longer))
    stored = {each.row: each.result for each in loader.results(connection, query)}
    return [stored.get(mine.row, result) for result, mine in written]


_ORCHESTRATORS = schema.orchestrators
_COUNT = (
    sa.update(_ORCHESTRATORS)
    .where(_ORCHESTRATORS.c.id == bindparam("which"))
    .values(finished=_ORCHESTRATORS.c.finished + bindparam("more"))
)


def count_finished(database: Database, connection: sa.Connection, orchestrator_id: int, more: int) -> None:
    """Add to the number of tasks that an orchestrator has finished."""
    database.prepared(_COUNT, ["more", "which"]).one(connection, (more, orchestrator_id))


def end_columns(result: Result, mine: ClaimedTask) -> tuple[Any, ...]:
    """The values of `END_NAMES`."""
    final = result.final
    return (
        result.status.value,
        None,
        mine.attempts,
        mine.cost_nanos,
        mine.unknown_cost_calls,
        result.finished_at,
        final.provider if final else "",
        final.model if final else "",
        final.agent if final else "",
        result.tier,
        str(result.finish_reason),
        int(result.truncated),
        clean(result.error),
        dumps(list(result.warnings)) if result.warnings else "",
        result.baseline_nanos,
    )


class EndWriter:
    """What the ends of some tasks add to other tables than `tasks`. For one transaction."""

    def __init__(self) -> None:
        self._by_agent = Rollup(schema.batch_tasks, schema.TASK_COLUMNS)
        self._counts: Counter[tuple[int, TaskStatus]] = Counter()
        self._answers: list[tuple[int, str, str | None]] = []
        self._to_index: list[int] = []

    def add(
        self, result: Result, mine: ClaimedTask, *, was: TaskStatus | None, has_content: bool = True
    ) -> None:
        """A task has ended. `was`: its status before, None for one that is new in the store."""
        batch_id = mine.stream.batch_id
        if was is not None:
            self._counts[batch_id, was] -= 1
        self._counts[batch_id, result.status] += 1
        finished = FinishedTask(
            result.status,
            result.truncated,
            mine.cost_nanos,
            mine.unknown_cost_calls > 0,
            result.baseline_nanos,
        )
        agent = result.final.agent if result.final else ""
        add_task(self._by_agent.row((batch_id, agent, result.tier)), finished)
        if has_content:
            self._to_index.append(mine.row)
            if result.output is not None:
                parts = encode_parts(result.parts, result.output)
                self._answers.append((mine.row, clean(result.output), parts))

    def write(self, database: Database, connection: sa.Connection, index: SearchIndex) -> None:
        """Insert the answers, and add to the sums and the backlog of the search."""
        database.inserting(schema.answers).many(connection, self._answers)
        index.note_ended(connection, self._to_index)
        self._by_agent.write(database, connection)
        add_counts(database, connection, self._counts)
