"""The work of an orchestrator: claim tasks, give them back, finish them.

    queued --claim--> running --finish--> succeeded, failed, refused, expired, cancelled
      ^                  |
      +---- release -----+        and by `Orchestrators.register` for an orchestrator that died

Tasks that may go to a provider's batch are not queued but deferred, and are never claimed: see `deferrals`.

Every write demands `claimed_by = me and running` inside its transaction. So an orchestrator that was declared
dead meanwhile writes nothing, and no task is finished twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam

from ...errors import StoreError
from ...records import Attempt, Result, Task, TaskStatus
from . import schema
from .claim_order import ClaimOrder
from .codec import decode_attempt
from .database import Database
from .deduplication import DuplicateLinks
from .ends import count_finished, with_earlier_attempts, write_ends, write_sums
from .identifiers import Identifiers
from .ledger import ClaimedTask, Ledger
from .loading import IN_SIZE, Loader, parts
from .moving import mark, move
from .named_rows import Among, without_index
from .reconnecting import reconnecting
from .rollups import CallRollups
from .rows import PollResult
from .schema import IS_QUEUED, IS_RUNNING
from .search_index import SearchIndex
from .transitions import Transitions

_T = schema.tasks.c
CLAIM_BYTES = 64_000_000  # of contents in a claim, where the caller names no limit
_CLAIMED = (
    sa.select(
        _T.task_row,
        _T.id,
        _T.stream_id,
        _T.created_at,
        _T.attempts,
        _T.cost_nanos,
        _T.unknown_cost_calls,
    )
    .where(
        Among(_T.task_row),
        without_index(sa.and_(IS_RUNNING, _T.claimed_by == bindparam("me"))),
    )
    .with_for_update()
)
_K, _C = schema.task_counts.c, schema.commands.c
_IS_QUEUED_COUNT = _K.status == sa.literal_column(f"'{TaskStatus.QUEUED}'")
_QUEUED = sa.select(_K.tasks).where(_K.batch_id == bindparam("which"), _IS_QUEUED_COUNT)
_NEWS = sa.select(  # queued tasks of a batch, the version of the settings, new commands
    _QUEUED.scalar_subquery(),
    sa.select(sa.func.max(schema.settings.c.version)).scalar_subquery(),
    sa.select(sa.func.count()).where(_C.finished_at.is_(None), _C.taken_by.is_(None)).scalar_subquery(),
)


class ClaimLimit(NamedTuple):
    """How many tasks a claim takes at most, and how much content they have together."""

    tasks: int
    content_bytes: int


class Claimed(NamedTuple):
    """Tasks that were claimed.

    `is_cut`: their contents are so large that others had to wait. `behind`: how many are queued still.
    """

    tasks: list[Task]
    is_cut: bool = False
    behind: int = 0


@reconnecting()
class Queue:
    """The queued and running tasks, for the orchestrator that leads.

    `incarnation` names the orchestrator. Methods raise StoreError if it is not registered.
    """

    def __init__(
        self,
        database: Database,
        ids: Identifiers,
        loader: Loader,
        transitions: Transitions,
        links: DuplicateLinks,
        index: SearchIndex,
    ) -> None:
        self._database, self._ids, self._loader, self._index = database, ids, loader, index
        self._transitions, self._links = transitions, links
        self._claim_order = ClaimOrder(database, ids)

    # ------------------------------------------------------------ claim and release

    def claim(
        self,
        incarnation: str,
        limit: int,
        *,
        now: float,
        batch: str | None = None,
        excluded: Collection[tuple[str, str]] = (),
        above: int | None = None,
    ) -> list[Task]:
        """`claim_part` with contents of up to `CLAIM_BYTES`."""
        most = ClaimLimit(limit, CLAIM_BYTES)
        return self.claim_part(incarnation, most, now=now, batch=batch, excluded=excluded, above=above).tasks

    def claim_part(
        self,
        incarnation: str,
        most: ClaimLimit,
        *,
        now: float,
        batch: str | None = None,
        excluded: Collection[tuple[str, str]] = (),
        above: int | None = None,
    ) -> Claimed:
        """Claim queued tasks, in the order of `claim_order`.

        As many as `most` says, but at least one, however large. The cost depends on that number and the
        number of streams with queued tasks, not on the number of tasks. `batch` restricts the claim to one
        batch. Tasks of an `excluded` (batch, submitter) stay queued, and so do, with `above`, tasks whose
        priority is not higher. `now` is in epoch seconds.
        """
        me = self._ids.orchestrator_id(incarnation)
        only = None if batch is None else self._ids.known_batch_id(batch)
        if most.tasks <= 0:
            return Claimed([])
        with self._database.writing() as connection:
            rows = self._claim_order.next_rows(connection, most.tasks, only, now, excluded, above)
            tasks, is_cut = self._loader.to_claim(connection, rows, most.content_bytes)
            claimed = mark(
                connection,
                self._ids,
                list(tasks),
                IS_QUEUED,
                {"status": TaskStatus.RUNNING.value, "since": now, "claimed_by": me, "claims": _T.claims + 1},
            )
            move(self._database, connection, claimed, TaskStatus.QUEUED, TaskStatus.RUNNING)
            which = schema.ALL_BATCHES if only is None else only
            behind = self._database.prepared(_QUEUED, ["which"]).one(connection, (which,)).scalar()
        return Claimed([tasks[row] for row in rows if row in claimed], is_cut, behind or 0)

    def claimed(self, incarnation: str) -> list[Task]:
        """All tasks that this orchestrator has claimed and not finished, oldest first."""
        me = self._ids.orchestrator_id(incarnation)
        query = sa.select(_T.task_row).where(IS_RUNNING, _T.claimed_by == me).order_by(_T.task_row)
        with self._database.reading() as connection:
            rows = list(connection.execute(query).scalars())
            tasks = self._loader.tasks(connection, rows)
        return [tasks[row] for row in rows if row in tasks]

    def attempts_that_count(self, rows: Sequence[int]) -> dict[int, list[Attempt]]:
        """Attempts of these tasks since they were added or retried, oldest first, by the task's row number.

        Each has the number under which it was recorded, by which `finish` recognises it.
        """
        a = schema.attempts
        found: dict[int, list[Attempt]] = {}
        with self._database.reading() as connection:
            for part in parts(rows, IN_SIZE):
                query = sa.select(a).where(a.c.task_row.in_(part), a.c.number > 0)
                for row in connection.execute(query.order_by(a.c.task_row, a.c.seq)):
                    attempt = replace(decode_attempt(row), number=row.number)
                    found.setdefault(row.task_row, []).append(attempt)
        return found

    def release(self, incarnation: str, tasks: Iterable[Task], *, now: float) -> int:
        """Queue claimed tasks again, without counting the claim. Returns how many this orchestrator held."""
        me = self._ids.orchestrator_id(incarnation)
        with self._database.writing() as connection:
            rows = self._loader.row_numbers(connection, list(tasks))
            return self._transitions.give_back(connection, rows, me, now)

    # ------------------------------------------------------------ finish

    def finish(self, incarnation: str, results: Sequence[Result]) -> list[Result]:
        """Write results, their attempts and all sums in one transaction; return the results written.

        The returned list also has the results of up to `DUPLICATES_AT_ONCE` duplicates of these tasks, which
        name their primary in `origin`. Tasks that this orchestrator does not, or no longer, hold are skipped.
        `Result.attempts` may repeat attempts that are stored already; they are not booked again. Raises
        StoreError for a result whose status is not final.
        """
        for result in results:
            if not result.status.is_final:
                raise StoreError(f"task {result.task.id!r}: a result is final, not {result.status}")
        me = self._ids.orchestrator_id(incarnation)
        if not results:
            return []
        with self._database.writing() as connection:
            claimed = self._claimed(connection, me, [result.task for result in results])
            written = [(r, mine) for r in results if (mine := claimed.pop(_key(r.task), None))]
            ledger = Ledger()
            for result, mine in written:
                ledger.book(mine, result.attempts)
            ledger.write(self._database, connection)
            write_ends(self._database, connection, self._index, written, was=TaskStatus.RUNNING)
            count_finished(self._database, connection, me, len(written))
            results = with_earlier_attempts(connection, self._loader, written)
            duplicates = self._links.end_duplicates(connection, [mine.row for _, mine in written])
        return results + duplicates

    def poll(self, batch: str | None = None) -> PollResult:
        """What a waiting orchestrator looks for, in one query: cheap enough for twenty times a second."""
        batch_id = schema.ALL_BATCHES if batch is None else self._ids.known_batch_id(batch)
        with self._database.reading() as connection:
            found = self._database.prepared(_NEWS, ["which"]).one(connection, (batch_id,))
            queued, version, commands = tuple(found.one())
        return PollResult(queued or 0, version or 0, commands)

    def record_attempts(self, incarnation: str, attempts: Sequence[tuple[Task, Attempt]]) -> None:
        """Store attempts of claimed, unfinished tasks; attempts of tasks held by others are skipped."""
        me = self._ids.orchestrator_id(incarnation)
        if not attempts:
            return
        with self._database.writing() as connection:
            claimed = self._claimed(connection, me, [task for task, _ in attempts])
            ledger = Ledger()
            for task, attempt in attempts:
                if mine := claimed.get(_key(task)):
                    ledger.book(mine, [attempt])
            ledger.write(self._database, connection)
            write_sums(self._database, connection, claimed.values())

    def record_canary(self, incarnation: str, attempt: Attempt) -> None:
        """Add a call that belongs to no task to the sums of usage, with its `choice` as the task type."""
        self._ids.orchestrator_id(incarnation)
        calls = CallRollups()
        calls.book_canary(attempt)
        with self._database.writing() as connection:
            calls.write(self._database, connection)

    def _claimed(
        self, connection: sa.Connection, orchestrator_id: int, tasks: Sequence[Task]
    ) -> dict[tuple[str, str], ClaimedTask]:
        """The `tasks` that are running under this orchestrator, by (batch, id)."""
        rows = self._loader.row_numbers(connection, tasks)
        found: dict[tuple[str, str], ClaimedTask] = {}
        for row in connection.execute(_CLAIMED, {"rows": rows, "me": orchestrator_id}):
            stream = self._ids.stream_by_id(row.stream_id)
            found[stream.batch, row.id] = ClaimedTask(
                row.task_row,
                stream,
                row.created_at,
                row.attempts,
                row.cost_nanos,
                row.unknown_cost_calls,
            )
        self._add_stored(connection, {mine.row: mine for mine in found.values() if mine.attempts})
        return found

    def _add_stored(self, connection: sa.Connection, tasks: dict[int, ClaimedTask]) -> None:
        """Note for each task which of its attempts are stored."""
        if not tasks:
            return
        a = schema.attempts.c
        query = sa.select(a.task_row, a.number, a.started_at).where(a.task_row.in_(list(tasks)))
        for row in connection.execute(query):
            tasks[row.task_row].stored.add((row.number, row.started_at))


def _key(task: Task) -> tuple[str, str]:
    return task.batch, task.id
