"""What becomes of the calls that workers hold when another orchestrator takes the lead.

The new leader adopts a call if its task is still claimed by a dead orchestrator and its attempt is not
stored: the task is then the new leader's, and the call's cost stays reserved. Of two calls of one task the
later one is adopted; the earlier one was given up. Every other call of the dead may have been billed, as far
as their reservations go: those of workers that told nothing, and the orchestrators' own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import sqlalchemy as sa

from . import schema
from .loading import IN_SIZE, parts
from .named_rows import without_index
from .rows import HeldByWorker, Inventories
from .schema import IS_RUNNING

Account = tuple[str, str, str, str]  # provider, batch, submitter, worker
_A = schema.attempts.c
_C = schema.cost_reservations.c
_T = schema.tasks.c


class Adoption:
    """The calls that the orchestrator `me` adopts of the `dead`. Runs inside its caller's transaction.

    `batch`: it serves that one alone; empty: all.
    """

    def __init__(
        self, connection: sa.Connection, me: int, dead: Sequence[int], found: Inventories, batch: str
    ) -> None:
        self._connection, self._dead, self._found = connection, dead, found
        owners = [me, *dead]  # its own: an earlier try has committed
        latest: dict[int, HeldByWorker] = {}
        unstored = self._unstored(found.calls)
        for call in sorted(unstored, key=lambda each: each.attempt):
            if not batch or call.batch == batch:
                latest[call.row] = call
        claimed = self._take(list(latest), owners, me)
        self.calls = tuple(call for row, call in latest.items() if row in claimed)
        self._given_up = Counter[Account]()
        for call in set(unstored) - set(self.calls):
            self._given_up[call.account] += call.nanos

    def _unstored(self, calls: Sequence[HeldByWorker]) -> list[HeldByWorker]:
        """The calls whose attempt is not in the store. Attempts of a task are stored in their order."""
        last: dict[int, int] = {}
        for part in parts([call.row for call in calls], IN_SIZE):
            query = sa.select(_A.task_row, sa.func.max(_A.number).label("last"))
            rows = self._connection.execute(query.where(_A.task_row.in_(part)).group_by(_A.task_row))
            last |= {row.task_row: row.last for row in rows}
        return [call for call in calls if call.attempt > last.get(call.row, 0)]

    def _take(self, rows: Sequence[int], owners: Sequence[int], me: int) -> set[int]:
        """Claim these tasks, where they are running under one of the `owners`."""
        claimed: set[int] = set()
        for part in parts(rows, IN_SIZE):
            theirs = without_index(sa.and_(IS_RUNNING, _T.claimed_by.in_(owners)))
            chosen = sa.and_(_T.task_row.in_(part), theirs)
            statement = sa.update(schema.tasks).where(chosen).values(claimed_by=me).returning(_T.task_row)
            claimed |= set(self._connection.execute(statement).scalars())
        return claimed

    def uncertain(self) -> list[tuple[Account, int]]:
        """What the dead have reserved for calls that may have been billed and are not adopted."""
        query = sa.select(_C.provider, _C.batch, _C.submitter, _C.worker, _C.nanos)
        found = []
        for *names, nanos in self._connection.execute(query.where(_C.orchestrator_id.in_(self._dead))):
            account: Account = tuple(names)
            if account[-1] in self._found.workers:
                nanos = min(nanos, self._given_up[account])
            if nanos:
                found.append((account, nanos))
        return found

    def reserved(self) -> Counter[Account]:
        """What the adopted calls may cost."""
        sums: Counter[Account] = Counter()
        for call in self.calls:
            sums[call.account] += call.nanos
        return sums
