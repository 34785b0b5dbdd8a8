"""Tasks come in: batches, streams, and tasks unique by (batch, id)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ...records import Task, TaskStatus
from . import schema
from .codec import dumps, encode_task
from .deduplication import Deduplication
from .rollups import add_counts
from .rows import CHANGED_SHOWN, AddReport
from .shared import TaskStream, TaskStreams, parts

CHUNK = 500  # tasks per transaction: memory stays bounded, and other writers get their turn
LAST_ROW = "last_task_row"


_Key = tuple[int, str]  # batch id, task id


@dataclass(frozen=True, slots=True)
class _Incoming:
    task: Task
    stream: TaskStream
    digest: bytes
    preview: str
    body: str

    @property
    def key(self) -> _Key:
        return self.stream.batch_id, self.task.id


@dataclass(frozen=True, slots=True)
class _Known:
    digest: bytes
    row: int
    status: TaskStatus
    truncated: bool


class Intake(Deduplication):
    """The part of the store through which tasks come in."""

    def create_batch(
        self,
        name: str,
        *,
        now: float,
        source: str = "",
        output_path: str = "",
        options: Mapping[str, Any] | None = None,
        submitter: str = "local",
    ) -> None:
        """Make a batch where none has this name; an existing one stays as it is."""
        columns = {
            "name": name,
            "source": source,
            "output_path": output_path,
            "options": dumps(dict(options or {})),
            "submitter": submitter,
            "created_at": now,
        }
        with self._database.writing() as connection:
            connection.execute(self._database.insert(schema.batches).values(columns).on_conflict_do_nothing())

    def rename_batch(self, name: str, new: str) -> None:
        """Give a batch another name. No orchestrator runs: one that does knows it by the old one."""
        batches, covers = schema.batches, schema.cost_reservations
        with self._database.writing() as connection:
            connection.execute(sa.update(batches).where(batches.c.name == name).values(name=new))
            connection.execute(sa.update(covers).where(covers.c.batch == name).values(batch=new))
        self._streams.forget(name)

    def survey(
        self,
        tasks: Sequence[Task],
        *,
        statuses: Collection[TaskStatus] = (),
        truncated: bool = False,
        changed: bool = False,
    ) -> tuple[AddReport, list[Task]]:
        """What `add_tasks` would say of some hundred tasks, and which a run would ask; writes nothing.

        To be asked are new and open ones, and those that are asked again for how they ended.
        """
        again = {TaskStatus.QUEUED, TaskStatus.RUNNING, *statuses}
        to_ask, other = [], []
        new = 0
        for task, known in self._look_up(tasks):
            has_changed = known is not None and known.digest != encode_task(task)[0]
            new += known is None
            if has_changed:
                other.append(task.id)
            is_again = known is None or known.status in again or (truncated and known.truncated)
            if is_again or (has_changed and changed):
                to_ask.append(task)
        existing = len(tasks) - new - len(other)
        return AddReport(new, existing, tuple(other[:CHANGED_SHOWN]), len(other)), to_ask

    def _look_up(self, tasks: Sequence[Task]) -> list[tuple[Task, _Known | None]]:
        """Each of these tasks, and what is stored under its id."""
        batches = {name: self._streams.batch_id(name) or 0 for name in {task.batch for task in tasks}}
        keys = [(batches[task.batch], task.id) for task in tasks]
        with self._database.reading() as connection:
            known = self._known(connection, keys)
        return [(task, known.get(key)) for task, key in zip(tasks, keys, strict=True)]

    def add_tasks(
        self, tasks: Iterable[Task], *, now: float, rerun_changed: bool = False, once: bool = False
    ) -> AddReport:
        """Store tasks as queued, a chunk per transaction, reading `tasks` no further than it has to.

        The same id with the same content counts as existing; with other content it is reported as changed
        and not written. With `rerun_changed` such a task gets the new content and is queued again, unless
        it is being worked on. With `once` equal tasks are asked once, see `duplicates`: unless they are to be
        sampled at a temperature. Batches that are missing are made.
        """
        report = AddReport()
        for chunk in parts(tasks, CHUNK):
            report += self._add_chunk(chunk, now, rerun_changed, once)
        return report

    def _add_chunk(self, chunk: list[Task], now: float, rerun_changed: bool, once: bool) -> AddReport:
        for batch, submitter in {task.batch: task.submitter for task in chunk}.items():
            if self._streams.batch_id(batch) is None:
                self.create_batch(batch, now=now, submitter=submitter)
        incoming = [_incoming(task, self._streams) for task in chunk]
        return self._store_chunk(chunk, incoming, now, rerun_changed, once)

    def _store_chunk(
        self, chunk: list[Task], incoming: list[_Incoming], now: float, rerun_changed: bool, once: bool
    ) -> AddReport:
        with self._database.writing() as connection:
            first_row = self._reserve_rows(connection, len(chunk))
            known: dict[_Key, _Incoming | _Known] = {}
            known |= self._known(connection, [item.key for item in incoming])
            new, changed = [], []
            for item in incoming:
                old = known.setdefault(item.key, item)
                if old is item:
                    new.append(item)
                elif old.digest != item.digest:
                    changed.append(item)
            rows = self._insert(connection, new, first_row, now)
            replaced = self._replace(connection, changed, known, now) if rerun_changed else set()
            duplicates = 0
            if once:
                rows |= {key: old.row for key, old in known.items() if isinstance(old, _Known)}
                untouched = {item.key for item in changed} - replaced
                alike = [rows[i.key] for i in incoming if not i.task.temperature and i.key not in untouched]
                duplicates = self._link_duplicates(connection, alike)
        left = [item.task.id for item in changed if item.key not in replaced]
        existing = len(chunk) - len(new) - len(changed)
        shown = tuple(left[:CHANGED_SHOWN])
        return AddReport(len(new), existing, shown, len(left), len(replaced), duplicates)

    def _insert(
        self, connection: sa.Connection, new: list[_Incoming], first_row: int, now: float
    ) -> dict[_Key, int]:
        """Where they stand now."""
        counts: Counter[tuple[int, TaskStatus]] = Counter()
        for item in new:
            counts[item.stream.batch_id, TaskStatus.QUEUED] += 1
        rows = list(enumerate(new, first_row))
        tasks = [_task_columns(item, row, now) for row, item in rows]
        self._database.inserting(schema.tasks).many(connection, tasks)
        prompts = [(row, item.preview, item.body) for row, item in rows]
        self._database.inserting(schema.prompts).many(connection, prompts)
        add_counts(self._database, connection, counts)
        return {item.key: row for row, item in rows}

    def _replace(
        self,
        connection: sa.Connection,
        changed: list[_Incoming],
        known: dict[_Key, _Incoming | _Known],
        now: float,
    ) -> set[_Key]:
        """Give stored tasks their new content and queue them again; the keys of those for which it worked."""
        replaced: set[_Key] = set()
        touched: list[int] = []
        ended: list[int] = []
        for item in changed:
            old = known[item.key]
            if isinstance(old, _Incoming) or old.status is TaskStatus.RUNNING or item.key in replaced:
                continue
            replaced.add(item.key)
            touched.append(old.row)
            if old.status is not TaskStatus.QUEUED:
                ended.append(old.row)
            wishes = {
                "stream_id": item.stream.id,
                "priority": item.task.priority,
                "line": item.task.line,
                "deadline_at": item.task.deadline_at,
                "created_at": now,
                "content_hash": item.digest,
                "primary_row": None,
            }
            content = {"preview": item.preview, "body": item.body}
            tasks, prompts = schema.tasks, schema.prompts
            connection.execute(sa.update(tasks).where(tasks.c.task_row == old.row).values(wishes))
            connection.execute(sa.delete(prompts).where(prompts.c.task_row == old.row))
            connection.execute(sa.insert(prompts).values(task_row=old.row, **content))
        if touched:
            self._uncount(connection, touched)
            self._promote_after(connection, touched)
        if ended:
            self._reopen(connection, ended, now)
        return replaced

    def _reserve_rows(self, connection: sa.Connection, n: int) -> int:
        """The first of `n` row numbers. Taking them first also makes adders wait for each other."""
        insert = self._database.insert(schema.meta).values(key=LAST_ROW, value=n)
        statement = insert.on_conflict_do_update(
            index_elements=[schema.meta.c.key], set_={"value": schema.meta.c.value + n}
        ).returning(schema.meta.c.value)
        last = connection.execute(statement).scalar_one()
        return int(last) - n + 1

    def _known(self, connection: sa.Connection, keys: Sequence[_Key]) -> dict[_Key, _Known]:
        """Those that are stored already."""
        tasks = schema.tasks.c
        ids: dict[int, list[str]] = {}
        for batch_id, task_id in keys:
            ids.setdefault(batch_id, []).append(task_id)
        found: dict[_Key, _Known] = {}
        for batch_id, wanted in ids.items():
            query = sa.select(
                tasks.id, tasks.content_hash, tasks.task_row, tasks.status, tasks.truncated
            ).where(tasks.batch_id == batch_id, tasks.id.in_(wanted))
            for row in connection.execute(query):
                known = _Known(
                    bytes(row.content_hash), row.task_row, TaskStatus(row.status), bool(row.truncated)
                )
                found[batch_id, row.id] = known
        return found


def _incoming(task: Task, streams: TaskStreams) -> _Incoming:
    return _Incoming(task, streams.stream(task.batch, task.submitter, task.task_type), *encode_task(task))


def _task_columns(item: _Incoming, row: int, now: float) -> tuple[Any, ...]:
    """All columns of `tasks` in the table's order: a queued task that nobody has touched."""
    task, stream = item.task, item.stream
    named = (row, stream.batch_id, task.id, stream.id, "queued")
    wished = (task.priority, task.line, task.deadline_at, now, now, item.digest)
    untouched = (0, None, 0, 0, 0, "", "", "", "", "", 0, "", "", None, None)
    return named + wished + untouched
