"""Direct tasks: in the store from their end on, in one transaction with their attempts and their result.

They were never queued, so no orchestrator claims them. Their batch is made where it is missing: `gateway`,
the one that the request names, or `runs/SUBMITTER/ID` for a run.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam

from ...records import Result, Task
from . import schema
from .codec import encode_task
from .database import Database
from .ends import END_NAMES, EndWriter, count_finished, end_columns
from .identifiers import Identifiers, TaskStream
from .ledger import ClaimedTask, Ledger
from .loading import IN_SIZE, parts
from .reconnecting import reconnecting
from .row_numbers import reserve_rows
from .search_index import SearchIndex

STREAMS_KEPT = 1_000  # runs come and go, each with a stream of its own
_T = schema.tasks.c
_KNOWN = sa.select(_T.id).where(
    _T.batch_id == bindparam("batch"), _T.id.in_(bindparam("ids", expanding=True))
)
_COLUMNS = [column.name for column in schema.tasks.columns]
_Names = tuple[str, str, str]  # batch, submitter, task type


class DirectRecord(NamedTuple):
    """The end of a direct task. `keeps_content`: whether prompt and answer are stored."""

    result: Result
    keeps_content: bool


@reconnecting()
class DirectTasks:
    """Records direct tasks for the orchestrator that leads. Safe to repeat."""

    def __init__(self, database: Database, ids: Identifiers, index: SearchIndex) -> None:
        self._database, self._ids, self._index = database, ids, index
        self._streams: OrderedDict[_Names, TaskStream] = OrderedDict()

    def record(self, incarnation: str, records: Sequence[DirectRecord]) -> list[DirectRecord]:
        """Store tasks with their attempts, results and all sums; returns the records.

        Records of tasks that are stored already are skipped: an earlier try has committed them. Raises
        StoreError if the orchestrator is not registered.
        """
        me = self._ids.orchestrator_id(incarnation)
        if not records:
            return []
        with self._database.writing() as connection:
            streams = self._streams_of(connection, [each.result for each in records])
            known = self._known(connection, records, streams)
            new = [each for each in records if _key(each.result.task, streams) not in known]
            if new:
                self._insert(connection, new, streams)
                count_finished(self._database, connection, me, len(new))
        self._remember(streams)
        return list(records)

    def cap_run(self, batch: str, submitter: str, max_cost_nanos: int, now: float) -> None:
        """Set what a run may cost in all. Its batch is created if none of its requests has ended yet."""
        b = schema.batches
        columns = {"name": batch, "source": "", "output_path": "", "options": "{}"}
        cap = {"max_cost_nanos": max_cost_nanos}
        insert = self._database.insert(b).values(columns | cap | {"submitter": submitter, "created_at": now})
        with self._database.writing() as connection:
            connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_=cap))

    def _insert(
        self,
        connection: sa.Connection,
        records: Sequence[DirectRecord],
        streams: dict[_Names, TaskStream],
    ) -> None:
        first_row = reserve_rows(self._database, connection, len(records))
        ledger, ends = Ledger(), EndWriter()
        tasks, prompts = [], []
        for row, (result, keeps_content) in enumerate(records, first_row):
            task = result.task
            mine = ClaimedTask(row, streams[_names(task)], task.created_at, 0, 0, 0)
            ledger.book(mine, result.attempts)
            digest, preview, body = encode_task(task) if keeps_content else (b"", "", "")
            tasks.append(_task_columns(result, mine, digest))
            if keeps_content:
                prompts.append((row, preview, body))
            ends.add(result, mine, was=None, has_content=keeps_content)
        self._database.inserting(schema.tasks).many(connection, tasks)
        self._database.inserting(schema.prompts).many(connection, prompts)
        minute = int(records[0].result.finished_at // 60)
        self._database.adding_missing(schema.task_minutes).many(connection, [(minute, first_row)])
        ledger.write(self._database, connection)
        ends.write(self._database, connection, self._index)

    def _known(
        self,
        connection: sa.Connection,
        records: Sequence[DirectRecord],
        streams: dict[_Names, TaskStream],
    ) -> set[tuple[int, str]]:
        """(batch id, id) of the tasks that are stored already."""
        ids: dict[int, list[str]] = {}
        for each in records:
            batch_id, task_id = _key(each.result.task, streams)
            ids.setdefault(batch_id, []).append(task_id)
        found = set()
        for batch_id, wanted in ids.items():
            for ids_here in parts(wanted, IN_SIZE):
                rows = connection.execute(_KNOWN, {"batch": batch_id, "ids": ids_here})
                found |= {(batch_id, task_id) for task_id in rows.scalars()}
        return found

    # ------------------------------------------------------------ batches and streams

    def _streams_of(self, connection: sa.Connection, results: Iterable[Result]) -> dict[_Names, TaskStream]:
        """The stream of each task; batches and streams that are missing are created."""
        wanted = {_names(each.task): each.finished_at for each in results}
        found = {names: self._streams[names] for names in wanted if names in self._streams}
        missing = {names: at for names, at in wanted.items() if names not in found}
        if missing:
            found |= self._create(connection, missing)
        return found

    def _create(self, connection: sa.Connection, missing: dict[_Names, float]) -> dict[_Names, TaskStream]:
        b, s = schema.batches, schema.task_streams
        for (batch, submitter, _), at in sorted(missing.items()):
            columns = {"name": batch, "source": "", "output_path": "", "options": "{}"}
            insert = self._database.insert(b).values(columns | {"submitter": submitter, "created_at": at})
            connection.execute(insert.on_conflict_do_nothing())
        rows = connection.execute(sa.select(b.c.name, b.c.id).where(b.c.name.in_({n[0] for n in missing})))
        batch_ids = {row.name: row.id for row in rows}
        for batch, submitter, task_type in sorted(missing):
            names = {"batch_id": batch_ids[batch], "submitter": submitter, "task_type": task_type}
            connection.execute(self._database.insert(s).values(names).on_conflict_do_nothing())
        query = sa.select(s, b.c.name).join(b, b.c.id == s.c.batch_id)
        rows = connection.execute(query.where(s.c.batch_id.in_(batch_ids.values())))
        streams = (TaskStream(r.id, r.batch_id, r.name, r.submitter, r.task_type) for r in rows)
        return {(each.batch, each.submitter, each.task_type): each for each in streams}

    def _remember(self, streams: dict[_Names, TaskStream]) -> None:
        """Keep the streams used last, after the commit."""
        for names, stream in streams.items():
            self._streams[names] = stream
            self._streams.move_to_end(names)
        while len(self._streams) > STREAMS_KEPT:
            self._streams.popitem(last=False)


def _names(task: Task) -> _Names:
    return task.batch, task.submitter, task.task_type


def _key(task: Task, streams: dict[_Names, TaskStream]) -> tuple[int, str]:
    return streams[_names(task)].batch_id, task.id


def _task_columns(result: Result, mine: ClaimedTask, digest: bytes) -> tuple[Any, ...]:
    """The columns of a task that has ended, in the order of the table `tasks`."""
    task = result.task
    columns: dict[str, Any] = dict(zip(END_NAMES, end_columns(result, mine), strict=True))
    columns |= {
        "task_row": mine.row,
        "batch_id": mine.stream.batch_id,
        "id": task.id,
        "stream_id": mine.stream.id,
        "priority": task.priority,
        "line": None,
        "deadline_at": task.deadline_at,
        "created_at": task.created_at,
        "content_hash": digest,
        "claims": 0,
        "primary_row": None,
    }
    return tuple(columns[name] for name in _COLUMNS)
