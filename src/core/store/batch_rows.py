"""The rows of batches at providers, and what is reserved for them. Each method runs inside a transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import bindparam

from ...records import TaskStatus
from . import schema
from .database import Database
from .loading import IN_SIZE, parts
from .provider_batch_schema import batch_reservations, provider_batch_rows, provider_batches
from .rollups import Rollup

_R, _B, _N, _T = provider_batch_rows.c, provider_batches.c, batch_reservations.c, schema.tasks.c
Outcome = Literal["answered", "failed", "unanswered", "late"]  # columns of `provider_batches`

_WITH_TASKS = (
    sa.select(
        provider_batch_rows,
        _T.batch_id,
        _T.status,
        _T.created_at,
        _T.attempts,
        _T.cost_nanos,
        _T.unknown_cost_calls,
        _T.truncated,
        _T.baseline_nanos,
        _T.agent.label("final_agent"),
        _T.tier.label("final_tier"),
    )
    .join_from(provider_batch_rows, schema.tasks, _T.task_row == _R.task_row)
    .where(_R.provider_batch_id == bindparam("batch"))
    .with_for_update(of=schema.tasks)
)
_AT_PLACES = _WITH_TASKS.where(_R.place.in_(bindparam("places", expanding=True)))
_FIRST = _WITH_TASKS.order_by(_R.place).limit(bindparam("n"))
_WAITING = _FIRST.where(_R.released == 0)


class BatchRows:
    """Reads, releases and settles rows, and keeps the sums of their batches."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def insert(self, connection: sa.Connection, batch_id: int, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows, without their batch, and their reservations."""
        values = [(batch_id, *row) for row in rows]
        self._database.inserting(provider_batch_rows).many(connection, values)
        reserved = Rollup(batch_reservations, ["nanos"])
        for _, _, stream_id, *_, nanos, _ in rows:
            reserved.row((batch_id, stream_id))[0] += nanos
        reserved.write(self._database, connection)

    def at(self, connection: sa.Connection, batch_id: int, places: Iterable[int]) -> list[Any]:
        """The rows at these places, with their tasks, which are locked."""
        found: list[Any] = []
        for part in parts(sorted(places), IN_SIZE):
            found += connection.execute(_AT_PLACES, {"batch": batch_id, "places": part})
        return found

    def first(self, connection: sa.Connection, batch_id: int, n: int) -> list[Any]:
        """The first `n` rows that are stored, with their tasks, which are locked."""
        return list(connection.execute(_FIRST, {"batch": batch_id, "n": n}))

    def waiting(self, connection: sa.Connection, batch_id: int, n: int) -> list[int]:
        """The first `n` tasks that wait for a result of the batch, by row, locked."""
        return [row.task_row for row in connection.execute(_WAITING, {"batch": batch_id, "n": n})]

    def release(self, connection: sa.Connection, task_rows: Sequence[int]) -> None:
        """Let tasks go on without their batch. What is reserved for their rows stays so."""
        released: Counter[int] = Counter()
        for part in parts(task_rows, IN_SIZE):
            mine = sa.and_(_R.task_row.in_(part), _R.released == 0)
            statement = sa.update(provider_batch_rows).where(mine).values(released=1)
            released.update(connection.execute(statement.returning(_R.provider_batch_id)).scalars())
        for batch_id, n in sorted(released.items()):
            less = {"left_rows": _B.left_rows - n, "released_rows": _B.released_rows + n}
            connection.execute(sa.update(provider_batches).where(_B.id == batch_id).values(less))

    def settle(
        self,
        connection: sa.Connection,
        batch_id: int,
        settled: Sequence[tuple[Any, Outcome]],
        cost_nanos: int = 0,
        late_nanos: int = 0,
    ) -> None:
        """Delete rows that have their end, with what was reserved for them, and count how they ended.

        `cost_nanos` is what they have cost together, `late_nanos` of it those that came too late.
        """
        counts: Counter[str] = Counter()
        nanos: Counter[int] = Counter()
        for row, outcome in settled:
            counts[outcome] += 1
            counts["left_rows" if is_waited_for(row) else "released_rows"] -= 1
            nanos[row.stream_id] += row.reserved_nanos
        for part in parts([row.place for row, _ in settled], IN_SIZE):
            gone = sa.and_(_R.provider_batch_id == batch_id, _R.place.in_(part))
            connection.execute(sa.delete(provider_batch_rows).where(gone))
        changes = {name: _B[name] + n for name, n in counts.items()}
        changes["reserved_nanos"] = _B.reserved_nanos - nanos.total()
        changes["cost_nanos"] = _B.cost_nanos + cost_nanos
        changes["late_nanos"] = _B.late_nanos + late_nanos
        connection.execute(sa.update(provider_batches).where(_B.id == batch_id).values(changes))
        for stream_id, less in sorted(nanos.items()):
            of_stream = sa.and_(_N.provider_batch_id == batch_id, _N.stream_id == stream_id)
            connection.execute(sa.update(batch_reservations).where(of_stream).values(nanos=_N.nanos - less))


def is_waited_for(row: Any) -> bool:
    """Whether the task of a row still waits for its result.

    By its status too: a task may be cancelled between the reading of its row and the lock on it.
    """
    return not row.released and row.status == TaskStatus.BATCHED
