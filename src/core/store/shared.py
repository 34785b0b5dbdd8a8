"""What the parts of the store share: the database, and names to numbers and back."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import bindparam

from ...errors import StoreError
from ...records import Task, TaskStatus
from . import schema
from .codec import decode_task
from .database import Database
from .repeating import once_more
from .rows import OrchestratorRow

_T = schema.tasks.c
_Item = TypeVar("_Item")
IN_SIZE = 500  # values in one IN list: one cached statement per size

_TASKS = (
    sa.select(
        _T.task_row,
        _T.id,
        _T.stream_id,
        _T.priority,
        _T.line,
        _T.deadline_at,
        _T.created_at,
        _T.claims,
        _T.attempts,
        schema.prompts.c.body,
    )
    .join_from(schema.tasks, schema.prompts, schema.prompts.c.task_row == _T.task_row, isouter=True)
    .where(_T.task_row.in_(bindparam("rows", expanding=True)))
)


@dataclass(frozen=True, slots=True)
class TaskStream:
    """Tasks of one batch, submitter and type: claims go round the streams."""

    id: int
    batch_id: int
    batch: str
    submitter: str
    task_type: str


class TaskStreams:
    """Names to numbers and back, remembered: neither is deleted, and only `forget` knows of a change."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._batch_ids: dict[str, int] = {}
        self._by_name: dict[tuple[int, str, str], TaskStream] = {}
        self._by_id: dict[int, TaskStream] = {}

    def batch_id(self, name: str) -> int | None:
        found = self._batch_ids.get(name)
        if found is None:
            with self._database.reading() as connection:
                query = sa.select(schema.batches.c.id).where(schema.batches.c.name == name)
                found = connection.execute(query).scalar()
            if found is not None:
                self._batch_ids[name] = found
        return found

    def forget(self, name: str) -> None:
        """A batch that has another name now."""
        self._batch_ids.pop(name, None)

    def known_batch_id(self, name: str) -> int:
        """The number of a batch. Raises StoreError for one that does not exist."""
        found = self.batch_id(name)
        if found is None:
            raise StoreError(f"there is no batch {name!r}")
        return found

    def stream(self, batch: str, submitter: str, task_type: str) -> TaskStream:
        """The stream of these names, made where it is missing. The batch exists."""
        batch_id = self.known_batch_id(batch)
        found = self._by_name.get((batch_id, submitter, task_type))
        if found is None:
            self._make(batch_id, submitter, task_type)
            self._load(schema.task_streams.c.batch_id == batch_id)
            found = self._by_name[batch_id, submitter, task_type]
        return found

    def by_id(self, stream_id: int) -> TaskStream:
        if stream_id not in self._by_id:
            self._load(schema.task_streams.c.id == stream_id)
        return self._by_id[stream_id]

    def of_batch(self, batch_id: int) -> list[TaskStream]:
        return self._load(schema.task_streams.c.batch_id == batch_id)

    def like(self, task_type: str, submitter: str) -> list[TaskStream]:
        """TaskStreams of this type and submitter; empty means any."""
        streams = schema.task_streams.c
        of_type = streams.task_type == task_type if task_type else sa.true()
        return self._load(of_type & (streams.submitter == submitter if submitter else sa.true()))

    def owned(self, owner: str, shared: Collection[str]) -> list[TaskStream]:
        """Streams of this submitter, and of batches that `owner` created, except the `shared` ones."""
        b = schema.batches.c
        began = sa.and_(b.submitter == owner, b.name.not_in(list(shared)))
        return self._load(sa.or_(schema.task_streams.c.submitter == owner, began))

    def _make(self, batch_id: int, submitter: str, task_type: str) -> None:
        names = {"batch_id": batch_id, "submitter": submitter, "task_type": task_type}
        insert = self._database.insert(schema.task_streams).values(names).on_conflict_do_nothing()

        def write() -> None:
            with self._database.writing() as connection:
                connection.execute(insert)

        once_more(self._database, write, always=True)

    def _load(self, condition: sa.ColumnElement[bool]) -> list[TaskStream]:
        streams, batches = schema.task_streams, schema.batches
        query = (
            sa.select(streams, batches.c.name)
            .join(batches, batches.c.id == streams.c.batch_id)
            .where(condition)
        )

        def read() -> Sequence[Any]:
            with self._database.reading() as connection:
                return connection.execute(query).all()

        rows = once_more(self._database, read)
        found = [TaskStream(row.id, row.batch_id, row.name, row.submitter, row.task_type) for row in rows]
        for stream in found:
            self._by_id[stream.id] = self._by_name[stream.batch_id, stream.submitter, stream.task_type] = (
                stream
            )
        return found


class Part:
    """The base of the store's parts. It holds no state but what is never changed in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._streams = TaskStreams(database)
        self._orchestrator_ids: dict[str, int] = {}

    def _orchestrator_id(self, incarnation: str) -> int:
        """Raises StoreError for an incarnation that is not registered."""
        found = self._orchestrator_ids.get(incarnation)
        if found is None:
            o = schema.orchestrators.c
            with self._database.reading() as connection:
                found = connection.execute(sa.select(o.id).where(o.incarnation == incarnation)).scalar()
            if found is None:
                raise StoreError(f"orchestrator {incarnation!r} is not registered")
            self._orchestrator_ids[incarnation] = found
        return found

    def _rows_of(self, connection: sa.Connection, tasks: Sequence[Task]) -> list[int]:
        """Row numbers; tasks that did not come from the store are looked up by (batch, id)."""
        rows = [task.row for task in tasks if task.row]
        for task in tasks:
            if not task.row:
                batch_id = self._streams.batch_id(task.batch)
                query = sa.select(_T.task_row).where(_T.batch_id == batch_id, _T.id == task.id)
                rows += connection.execute(query).scalars()
        return rows

    def _load_tasks(self, connection: sa.Connection, rows: Iterable[int]) -> dict[int, Task]:
        loaded = {}
        wanted = list(rows)
        for start in range(0, len(wanted), IN_SIZE):
            for row in connection.execute(_TASKS, {"rows": wanted[start : start + IN_SIZE]}):
                loaded[row.task_row] = task_from(row, self._streams.by_id(row.stream_id))
        return loaded

    def _counts(self, connection: sa.Connection, batch_ids: list[int]) -> dict[int, dict[TaskStatus, int]]:
        """Tasks by status, for each of these batches; every status is there."""
        c = schema.task_counts
        counts = {batch_id: dict.fromkeys(TaskStatus, 0) for batch_id in batch_ids}
        for row in connection.execute(sa.select(c).where(c.c.batch_id.in_(batch_ids))):
            counts[row.batch_id][TaskStatus(row.status)] = row.tasks
        return counts


def parts(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """The items, `size` at a time, reading no further than that."""
    iterator = iter(items)
    while part := list(itertools.islice(iterator, size)):
        yield part


def orchestrator_rows(
    connection: sa.Connection, *conditions: sa.ColumnElement[bool], limit: int | None = None
) -> list[tuple[int, OrchestratorRow]]:
    """`(number, row)` of orchestrators, newest first."""
    o = schema.orchestrators
    names = [field.name for field in dataclasses.fields(OrchestratorRow)]
    query = sa.select(o).where(*conditions).order_by(o.c.id.desc()).limit(limit)
    return [
        (row.id, OrchestratorRow(**{name: getattr(row, name) for name in names}))
        for row in connection.execute(query)
    ]


def task_from(row: Any, stream: TaskStream) -> Task:
    """A Task from a row of tasks joined with its prompt's body."""
    return decode_task(
        row.body,
        id=row.id,
        batch=stream.batch,
        task_type=stream.task_type,
        submitter=stream.submitter,
        priority=row.priority,
        line=row.line,
        deadline_at=row.deadline_at,
        created_at=row.created_at,
        claims=row.claims,
        attempts=row.attempts,
        row=row.task_row,
    )
