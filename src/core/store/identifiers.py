"""Names of batches, streams and orchestrators, and the row numbers that stand for them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ...errors import StoreError
from . import schema
from .database import Database
from .reconnecting import reconnect

NAMES_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class TaskStream:
    """The tasks of one batch, submitter and type: claims take from streams in turn."""

    id: int
    batch_id: int
    batch: str
    submitter: str
    task_type: str


class Identifiers:
    """Names to row numbers and back, cached: rows are never deleted, and only `forget_batch` drops a name.

    A cache that is full is emptied: each run of the gateway is a batch with a stream of its own.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._batch_ids: dict[str, int] = {}
        self._orchestrator_ids: dict[str, int] = {}
        self._streams_by_name: dict[tuple[int, str, str], TaskStream] = {}
        self._streams_by_id: dict[int, TaskStream] = {}

    # ------------------------------------------------------------ batches and orchestrators

    def batch_id(self, name: str) -> int | None:
        """The number of a batch; None if it does not exist."""
        found = self._batch_ids.get(name)
        if found is None:
            with self._database.reading() as connection:
                query = sa.select(schema.batches.c.id).where(schema.batches.c.name == name)
                found = connection.execute(query).scalar()
            if found is not None:
                _make_room(self._batch_ids)
                self._batch_ids[name] = found
        return found

    def known_batch_id(self, name: str) -> int:
        """The number of a batch. Raises StoreError if it does not exist."""
        found = self.batch_id(name)
        if found is None:
            raise StoreError(f"there is no batch {name!r}")
        return found

    def forget_batch(self, name: str) -> None:
        """Drop a name from the cache, after the batch was renamed."""
        self._batch_ids.pop(name, None)

    def orchestrator_id(self, incarnation: str) -> int:
        """The number of an orchestrator. Raises StoreError if it is not registered."""
        found = self._orchestrator_ids.get(incarnation)
        if found is None:
            o = schema.orchestrators.c
            with self._database.reading() as connection:
                found = connection.execute(sa.select(o.id).where(o.incarnation == incarnation)).scalar()
            if found is None:
                raise StoreError(f"orchestrator {incarnation!r} is not registered")
            self._orchestrator_ids[incarnation] = found
        return found

    # ------------------------------------------------------------ streams

    def stream(self, batch: str, submitter: str, task_type: str) -> TaskStream:
        """The stream of these names, created if missing. Raises StoreError if the batch does not exist."""
        batch_id = self.known_batch_id(batch)
        found = self._streams_by_name.get((batch_id, submitter, task_type))
        if found is None:
            self._create_stream(batch_id, submitter, task_type)
            of_batch = self._load_streams(schema.task_streams.c.batch_id == batch_id)
            found = next(s for s in of_batch if s.submitter == submitter and s.task_type == task_type)
        return found

    def stream_by_id(self, stream_id: int) -> TaskStream:
        """The stream of a number that a task's row holds."""
        found = self._streams_by_id.get(stream_id)
        if found is None:
            (found,) = self._load_streams(schema.task_streams.c.id == stream_id)
        return found

    def streams_of_batch(self, batch_id: int) -> list[TaskStream]:
        """All streams of a batch."""
        return self._load_streams(schema.task_streams.c.batch_id == batch_id)

    def streams_like(self, task_type: str, submitter: str) -> list[TaskStream]:
        """Streams of this type and submitter; an empty string matches any."""
        streams = schema.task_streams.c
        of_type = streams.task_type == task_type if task_type else sa.true()
        return self._load_streams(of_type & (streams.submitter == submitter if submitter else sa.true()))

    def streams_owned(self, owner: str, shared: Collection[str]) -> list[TaskStream]:
        """Streams of this submitter, and of batches that `owner` created, except the `shared` ones."""
        b = schema.batches.c
        created = sa.and_(b.submitter == owner, b.name.not_in(list(shared)))
        return self._load_streams(sa.or_(schema.task_streams.c.submitter == owner, created))

    def _create_stream(self, batch_id: int, submitter: str, task_type: str) -> None:
        names = {"batch_id": batch_id, "submitter": submitter, "task_type": task_type}
        insert = self._database.insert(schema.task_streams).values(names).on_conflict_do_nothing()

        def write() -> None:
            with self._database.writing() as connection:
                connection.execute(insert)

        reconnect(self._database, write, always=True)

    def _load_streams(self, condition: sa.ColumnElement[bool]) -> list[TaskStream]:
        streams, batches = schema.task_streams, schema.batches
        of_batch = batches.c.id == streams.c.batch_id
        query = sa.select(streams, batches.c.name).join(batches, of_batch).where(condition)

        def read() -> Sequence[Any]:
            with self._database.reading() as connection:
                return connection.execute(query).all()

        rows = reconnect(self._database, read)
        found = [TaskStream(row.id, row.batch_id, row.name, row.submitter, row.task_type) for row in rows]
        _make_room(self._streams_by_id)
        _make_room(self._streams_by_name)
        for stream in found:
            self._streams_by_id[stream.id] = stream
            self._streams_by_name[stream.batch_id, stream.submitter, stream.task_type] = stream
        return found


def _make_room(cache: dict[Any, Any]) -> None:
    """Empty a cache that is full. Threads may share it: what was in it is looked up again."""
    if len(cache) >= NAMES_KEPT:
        cache.clear()
