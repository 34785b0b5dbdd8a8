"""Add tasks to the store: batches, streams, and tasks that are unique by (batch, id)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ...records import LOCAL, OPEN_STATUSES, Task, TaskStatus
from . import schema
from .codec import dumps, encode_task
from .database import Database
from .deduplication import DuplicateLinks
from .deferrals import DeferralGroups
from .identifiers import Identifiers, TaskStream
from .moving import count_moved
from .reconnecting import reconnecting
from .rollups import add_counts
from .row_numbers import reserve_rows
from .rows import CHANGED_SHOWN, AddReport, Preview
from .transitions import Transitions

CHUNK = 500  # tasks per transaction: memory stays bounded, and other writers get their turn
CHUNK_BYTES = 16_000_000  # of contents per transaction; a larger task is added alone
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


@dataclass(frozen=True, slots=True)
class _ChangeRule:
    """What happens to stored tasks with other content: those in `replaced` statuses get it.

    `adopts`: the others count as unchanged from then on, although they ran with the earlier content.
    """

    replaced: frozenset[TaskStatus] = frozenset()
    adopts: bool = False


_LEAVE_CHANGED = _ChangeRule()
_REPLACE_ENDED = _ChangeRule(frozenset(TaskStatus) - {TaskStatus.RUNNING, TaskStatus.BATCHED})
_REPLACE_QUEUED = _ChangeRule(frozenset([TaskStatus.QUEUED, TaskStatus.DEFERRED]), adopts=True)


@reconnecting("_add_chunk", "_store_chunk", always=("create_batch",), never=("add_tasks",))
class Intake:
    """Creates batches and adds tasks, which are unique by (batch, id)."""

    def __init__(
        self,
        database: Database,
        ids: Identifiers,
        transitions: Transitions,
        links: DuplicateLinks,
        deferrals: DeferralGroups,
    ) -> None:
        self._database, self._ids = database, ids
        self._transitions, self._links, self._deferrals = transitions, links, deferrals

    def create_batch(
        self,
        name: str,
        *,
        now: float,
        source: str = "",
        output_path: str = "",
        options: Mapping[str, Any] | None = None,
        submitter: str = LOCAL,
    ) -> None:
        """Create a batch if none has this name; an existing one stays as it is. `now` is in epoch seconds."""
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

    def set_batch_options(self, name: str, options: Mapping[str, Any]) -> None:
        """Replace the options of a batch: those with which its tasks are stored from now on."""
        batches = schema.batches
        with self._database.writing() as connection:
            connection.execute(
                sa.update(batches).where(batches.c.name == name).values(options=dumps(dict(options)))
            )

    def cap_batch(self, name: str, max_cost_nanos: int | None) -> None:
        """Set what a batch may cost in all; None: no cap. Nothing happens if it does not exist."""
        batches = schema.batches
        with self._database.writing() as connection:
            connection.execute(
                sa.update(batches).where(batches.c.name == name).values(max_cost_nanos=max_cost_nanos)
            )

    def rename_batch(self, name: str, new: str) -> None:
        """Rename a batch. No orchestrator may run: it would use the old name."""
        batches, reservations = schema.batches, schema.cost_reservations
        with self._database.writing() as connection:
            connection.execute(sa.update(batches).where(batches.c.name == name).values(name=new))
            connection.execute(sa.update(reservations).where(reservations.c.batch == name).values(batch=new))
        self._ids.forget_batch(name)

    def preview(
        self,
        tasks: Sequence[Task],
        *,
        statuses: Collection[TaskStatus] = (),
        truncated: bool = False,
        changed: bool = False,
    ) -> Preview:
        """What `add_tasks` would report for a few hundred tasks, and the tasks that would run; only reads.

        Tasks run that are new or open, that ended in one of `statuses`, that are `truncated`, or, with
        `changed`, that have other content now. Those in a batch at a provider have begun already.
        """
        again = {*OPEN_STATUSES, *statuses} - {TaskStatus.BATCHED}
        to_run, other = [], []
        cut: list[str] = []
        new = 0
        for task, known in self._look_up(tasks):
            has_changed = known is not None and known.digest != encode_task(task)[0]
            new += known is None
            if has_changed:
                other.append(task.id)
            is_again = known is None or known.status in again or (truncated and known.truncated)
            if is_again or (has_changed and changed):
                to_run.append(task)
                if known is not None and known.truncated:
                    cut.append(task.id)
        existing = len(tasks) - new - len(other)
        report = AddReport(new, existing, tuple(other[:CHANGED_SHOWN]), len(other))
        return Preview(report, to_run, frozenset(cut))

    def _look_up(self, tasks: Sequence[Task]) -> list[tuple[Task, _Known | None]]:
        """Each of these tasks with what is stored under its id, None if nothing is."""
        batches = {name: self._ids.batch_id(name) or 0 for name in {task.batch for task in tasks}}
        keys = [(batches[task.batch], task.id) for task in tasks]
        with self._database.reading() as connection:
            known = self._known(connection, keys)
        return [(task, known.get(key)) for task, key in zip(tasks, keys, strict=True)]

    def add_tasks(
        self,
        tasks: Iterable[Task],
        *,
        now: float,
        rerun_changed: bool = False,
        update_queued: bool = False,
        once: bool = False,
    ) -> AddReport:
        """Add tasks as queued or deferred, `CHUNK` of them per transaction; missing batches are created.

        Deferred are tasks with a deadline in a batch whose options have `DEFERS`.

        A task whose id exists with the same content counts as existing. With other content it is reported as
        changed and not written; with `rerun_changed` it gets the new content and is queued again unless it
        is running; with `update_queued` it gets the new content while it is queued, and counts as unchanged
        from then on if it is not. With `once` equal tasks
        run once, except those sampled at a temperature. Reads `tasks` one chunk at a time. Raises
        UnstorableError for a value that the database refuses; chunks before that one stay stored.
        """
        rule = _LEAVE_CHANGED
        if rerun_changed or update_queued:
            rule = _REPLACE_ENDED if rerun_changed else _REPLACE_QUEUED
        report = AddReport()
        for chunk in _chunks(tasks):
            report += self._add_chunk(chunk, now, rule, once)
        return report

    def _add_chunk(self, chunk: list[Task], now: float, rule: _ChangeRule, once: bool) -> AddReport:
        for batch, submitter in {task.batch: task.submitter for task in chunk}.items():
            if self._ids.batch_id(batch) is None:
                self.create_batch(batch, now=now, submitter=submitter)
        incoming = [_incoming(task, self._ids) for task in chunk]
        return self._store_chunk(chunk, incoming, now, rule, once)

    def _store_chunk(
        self,
        chunk: list[Task],
        incoming: list[_Incoming],
        now: float,
        rule: _ChangeRule,
        once: bool,
    ) -> AddReport:
        with self._database.writing() as connection:
            first_row = reserve_rows(self._database, connection, len(chunk))
            known: dict[_Key, _Incoming | _Known] = {}
            lock = once or bool(rule.replaced)  # before groups and counts, as the leader does
            known |= self._known(connection, [item.key for item in incoming], lock=lock)
            new, changed = _sorted_out(incoming, known)
            rows, counts = self._insert(connection, new, first_row, now)
            to_replace = [item for item in changed if _status(known[item.key]) in rule.replaced]
            replaced = self._replace(connection, to_replace, known, now, counts)
            left = [item for item in changed if item.key not in replaced]
            if rule.adopts:
                self._adopt(connection, left, known)
            duplicates = 0
            if once:
                rows |= {key: old.row for key, old in known.items() if isinstance(old, _Known)}
                linked = self._link_duplicates(connection, incoming, left, rows)
                queued = self._deferrals.undefer(connection, linked, now)
                count_moved(counts, queued, TaskStatus.DEFERRED, TaskStatus.QUEUED)
                duplicates = len(linked)
            add_counts(self._database, connection, counts)  # last: others wait for them
        existing = len(chunk) - len(new) - len(changed)
        shown = tuple(item.task.id for item in left[:CHANGED_SHOWN])
        return AddReport(len(new), existing, shown, len(left), len(replaced), duplicates)

    def _adopt(
        self, connection: sa.Connection, left: list[_Incoming], known: Mapping[_Key, _Incoming | _Known]
    ) -> None:
        """Take the new content of these tasks for the one that they have run with."""
        tasks = schema.tasks
        for item in left:
            if isinstance(old := known[item.key], _Known):
                changed = sa.update(tasks).where(tasks.c.task_row == old.row)
                connection.execute(changed.values(content_hash=item.digest))

    def _link_duplicates(
        self,
        connection: sa.Connection,
        incoming: list[_Incoming],
        left: list[_Incoming],
        rows: Mapping[_Key, int],
    ) -> list[int]:
        """Link equal tasks, except those sampled at a temperature and those `left` with other content."""
        stored_otherwise = {item.key for item in left}
        linked = [
            rows[item.key]
            for item in incoming
            if not item.task.temperature and item.key not in stored_otherwise
        ]
        return self._links.link(connection, linked)

    def _insert(
        self, connection: sa.Connection, new: list[_Incoming], first_row: int, now: float
    ) -> tuple[dict[_Key, int], Counter[tuple[int, TaskStatus]]]:
        """Insert new tasks; returns their row numbers, and how many to count by batch and status."""
        counts: Counter[tuple[int, TaskStatus]] = Counter()
        rows = list(enumerate(new, first_row))
        deferred = self._deferred(connection, rows)
        for row, item in rows:
            status = TaskStatus.DEFERRED if row in deferred else TaskStatus.QUEUED
            counts[item.stream.batch_id, status] += 1
        tasks = [_task_columns(item, row, now, is_deferred=row in deferred) for row, item in rows]
        self._database.inserting(schema.tasks).many(connection, tasks)
        prompts = [(row, item.preview, item.body) for row, item in rows]
        self._database.inserting(schema.prompts).many(connection, prompts)
        if rows:
            self._database.adding_missing(schema.task_minutes).many(connection, [(int(now // 60), first_row)])
        items = ((row, item.stream, item.task) for row, item in rows if row in deferred)
        self._deferrals.add(connection, items, now)
        return {item.key: row for row, item in rows}, counts

    def _deferred(self, connection: sa.Connection, rows: Sequence[tuple[int, _Incoming]]) -> set[int]:
        """Those of these new rows that may go to a provider's batch."""
        due = [(row, item.stream.batch_id) for row, item in rows if item.task.deadline_at is not None]
        batches = self._deferrals.deferring(connection, {batch_id for _, batch_id in due})
        return {row for row, batch_id in due if batch_id in batches}

    def _replace(
        self,
        connection: sa.Connection,
        changed: list[_Incoming],
        known: dict[_Key, _Incoming | _Known],
        now: float,
        counts: Counter[tuple[int, TaskStatus]],
    ) -> set[_Key]:
        """Replace the content of stored tasks that do not run; they run again. Returns their keys.

        Changes of the counts are added to `counts`.
        """
        chosen = {item.key: (item, old) for item in reversed(changed) if (old := _stored(known[item.key]))}
        ended = [old.row for _, old in chosen.values() if old.status.is_final]
        if ended:
            self._transitions.reopen(connection, ended, now, keep_ends=False, counts=counts)
        queued = self._deferrals.undefer(connection, [old.row for _, old in chosen.values()], now)
        count_moved(counts, queued, TaskStatus.DEFERRED, TaskStatus.QUEUED)
        for item, old in chosen.values():
            columns = {
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
            connection.execute(sa.update(tasks).where(tasks.c.task_row == old.row).values(columns))
            connection.execute(sa.delete(prompts).where(prompts.c.task_row == old.row))
            connection.execute(sa.insert(prompts).values(task_row=old.row, **content))
        if touched := [old.row for _, old in chosen.values()]:
            self._transitions.discount_attempts(connection, touched)
            deferred = self._links.promote_duplicates_of(connection, touched)
            deferred |= self._deferrals.defer(connection, touched, now)
            count_moved(counts, deferred, TaskStatus.QUEUED, TaskStatus.DEFERRED)
        return set(chosen)

    def _known(
        self, connection: sa.Connection, keys: Sequence[_Key], *, lock: bool = False
    ) -> dict[_Key, _Known]:
        """The tasks among `keys` that are stored already; with `lock` nothing else changes them meanwhile."""
        tasks = schema.tasks.c
        ids: dict[int, list[str]] = {}
        for batch_id, task_id in keys:
            ids.setdefault(batch_id, []).append(task_id)
        found: dict[_Key, _Known] = {}
        for batch_id, wanted in ids.items():
            query = sa.select(
                tasks.id, tasks.content_hash, tasks.task_row, tasks.status, tasks.truncated
            ).where(tasks.batch_id == batch_id, tasks.id.in_(wanted))
            if lock:
                query = query.order_by(tasks.task_row).with_for_update()
            for row in connection.execute(query):
                known = _Known(
                    bytes(row.content_hash), row.task_row, TaskStatus(row.status), bool(row.truncated)
                )
                found[batch_id, row.id] = known
        return found


def _stored(known: _Incoming | _Known) -> _Known | None:
    return known if isinstance(known, _Known) else None


def _status(known: _Incoming | _Known) -> TaskStatus | None:
    return known.status if isinstance(known, _Known) else None


def _sorted_out(
    incoming: list[_Incoming], known: dict[_Key, _Incoming | _Known]
) -> tuple[list[_Incoming], list[_Incoming]]:
    """New tasks, and tasks that exist with other content. The new ones are added to `known`."""
    new, changed = [], []
    for item in incoming:
        old = known.setdefault(item.key, item)
        if old is item:
            new.append(item)
        elif old.digest != item.digest:
            changed.append(item)
    return new, changed


def _incoming(task: Task, ids: Identifiers) -> _Incoming:
    return _Incoming(task, ids.stream(task.batch, task.submitter, task.task_type), *encode_task(task))


def _task_columns(item: _Incoming, row: int, now: float, *, is_deferred: bool) -> tuple[Any, ...]:
    """The columns of a new task, in the order of the table `tasks`."""
    task, stream = item.task, item.stream
    status = TaskStatus.DEFERRED if is_deferred else TaskStatus.QUEUED
    named = (row, stream.batch_id, task.id, stream.id, status.value)
    requested = (task.priority, task.line, task.deadline_at, now, now, item.digest)
    untouched = (0, None, 0, 0, 0, "", "", "", "", "", 0, "", "", None, None)
    return named + requested + untouched


def _chunks(tasks: Iterable[Task]) -> Iterator[list[Task]]:
    """The tasks in lists of at most `CHUNK` and about `CHUNK_BYTES`; reads no further ahead than that."""
    chunk: list[Task] = []
    size = 0
    for task in tasks:
        chunk.append(task)
        size += task.content_bytes
        if len(chunk) == CHUNK or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
