"""Claims: queued tasks of the store that this orchestrator alone may run, and how they go back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress

from ..errors import StoreError
from ..records import Attempt, Task
from ..routing.cost.budgets import BudgetRefusal
from ..routing.scheduler import Scheduler
from .calls import internal_error
from .result_writer import ResultWriter
from .store.queue import Claimed, ClaimLimit
from .store_session import StoreSession
from .supervisor import Supervisor

Owner = tuple[str, str]  # batch, submitter
BLOCKED_SHARE = 4  # a quarter of the prefetch window may be tasks that their own budget blocks


class BlockedOwners:
    """Batches and submitters whose own budget is spent.

    Some of their tasks may stay in the scheduler, since the budget may still allow a smaller one. Beyond that
    they go back into the queue, and claims skip their owner until that budget resets.
    """

    def __init__(self, scheduler: Scheduler, prefetch_limit: int, now: Callable[[], float]) -> None:
        self._scheduler, self._now = scheduler, now
        self._most = prefetch_limit // BLOCKED_SHARE
        self._blocked: dict[Owner, BudgetRefusal] = {}

    def __bool__(self) -> bool:
        return bool(self._blocked)

    @property
    def fill_the_window(self) -> bool:
        """Whether so many of their tasks wait in the scheduler that some have to go back."""
        budgets = self._scheduler.balancer.registry.budgets
        return budgets is not None and self._scheduler.kept_count > self._most

    def take_tasks(self) -> list[Task]:
        """Take their tasks out of the scheduler, and skip their owners from now on."""
        taken = []
        for refusal, tasks in self._scheduler.kept_by_own_budget():
            for task in tasks:
                self._blocked[task.batch, task.submitter] = refusal
                taken.append(task)
                self._scheduler.withdraw(task.batch, task.id)
        return taken

    def current(self) -> frozenset[Owner]:
        """Those whose budget has not reset yet."""
        now = self._now()
        self._blocked = {o: r for o, r in self._blocked.items() if r.until is None or now < r.until}
        return frozenset(self._blocked)

    def spent_budget(self) -> BudgetRefusal | None:
        """The budget without a reset that blocks every remaining task; None while any task may continue."""
        if self._scheduler.claimed_waiting:
            return self._scheduler.spent_budget()
        return next((refusal for refusal in self._blocked.values() if refusal.until is None), None)


class TaskClaims:
    """Claims tasks into the scheduler and releases them. It looks up claims whose outcome is unknown."""

    def __init__(
        self,
        session: StoreSession,
        scheduler: Scheduler,
        result_writer: ResultWriter,
        supervisor: Supervisor,
        blocked: BlockedOwners,
    ) -> None:
        self.session, self.scheduler, self.blocked = session, scheduler, blocked
        self._result_writer, self._supervisor = result_writer, supervisor
        self._in_doubt = False  # a claim or a release may have been committed without this process knowing

    async def claim(
        self, most: ClaimLimit, above: int | None = None, excluded: AbstractSet[Owner] = frozenset()
    ) -> Claimed:
        """Claim tasks, and offer them to the scheduler.

        `above`: only tasks of a higher priority. `excluded`: owners that are skipped.
        """
        claiming, self._in_doubt = self.claiming(most, above, excluded), True
        tasks, is_cut, behind = claimed = await self.session.thread.insist(claiming)
        if above is None:
            self.scheduler.behind = behind if is_cut or len(tasks) == most.tasks else 0
        attempts = await self._earlier_attempts(tasks)
        now = self.session.clock.now()
        for task in tasks:
            if not self.scheduler.knows(task.batch, task.id):
                self._offer(task, now, attempts.get(task.row, ()))
        self._in_doubt = False
        return claimed

    def claiming(
        self, most: ClaimLimit, above: int | None, excluded: AbstractSet[Owner]
    ) -> Callable[[], Claimed]:
        """A claim that can be repeated.

        A claim that failed may have been committed anyway. So tasks that are claimed in the store and unknown
        here come before further ones. Known are the tasks that were here before the first try: only this
        orchestrator claims under its name.
        """
        known = self.scheduler.keys() | self._result_writer.unwritten()
        repeated, skipped = self._in_doubt, self.blocked.current() | excluded
        session = self.session

        def claim() -> Claimed:
            nonlocal repeated
            mine = session.store.queue.claimed(session.incarnation) if repeated else []
            repeated = True
            mine = [task for task in mine if (task.batch, task.id) not in known]
            if mine:
                return Claimed(mine)
            return session.store.queue.claim_part(
                session.incarnation,
                most,
                now=session.clock.now(),
                batch=session.batch,
                excluded=skipped,
                above=above,
            )

        return claim

    async def _earlier_attempts(self, tasks: Sequence[Task]) -> Mapping[int, Sequence[Attempt]]:
        """By row, the attempts of tasks that were begun before a restart: they keep counting."""
        begun = [task.row for task in tasks if task.attempts]
        if not begun:
            return {}
        return await self.session.thread.insist(self.session.store.queue.attempts_that_count, begun)

    def _offer(self, task: Task, now: float, attempts: Sequence[Attempt]) -> None:
        with self._supervisor.guarding("offering a task") as guarded:
            self.scheduler.offer(task, now, attempts)
        if guarded.error is not None:
            failed = self.scheduler.abandon(task, now, internal_error(guarded.error))
            self._result_writer.add_result(failed)

    async def release_blocked(self) -> None:
        """Put tasks that their own budget blocks back into the queue, where they fill the window."""
        if not self.blocked.fill_the_window:
            return
        tasks, session = self.blocked.take_tasks(), self.session
        self._in_doubt = True
        await self._result_writer.settled()  # attempts are booked while the claim is held
        await session.thread.insist(
            session.store.queue.release, session.incarnation, tasks, now=session.clock.now()
        )
        self._in_doubt = False

    async def release_all(self) -> None:
        """Put every waiting task back into the queue, at the end of a run.

        Where the store does not take them, the next orchestrator requeues them.
        """
        tasks, session = self.scheduler.waiting_tasks(), self.session
        for task in tasks:
            self.scheduler.withdraw(task.batch, task.id)
        if tasks:
            await self._result_writer.settled()  # attempts are booked while the claim is held
            with suppress(StoreError):
                await session.thread(
                    session.store.queue.release, session.incarnation, tasks, now=session.clock.now()
                )
