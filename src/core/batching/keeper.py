"""Keeps the batches at providers: chooses, and has each batch go on, until nothing is left to do.

Each round reads the open batches and starts a step of those that are due (`life.py`). Rounds do not wait for
steps: a provider that is silent delays neither the batches of another one nor the return of rows to live
calls, which the choice begins in time whatever happens here.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence

from ...routing.batch_choice import BatchTarget, Choice, Out, Submission, Waiting, choose
from ...routing.cost.budgets import BudgetRefusal
from ...routing.turnaround import turnaround
from ..store import BatchState, DeferredGroup, ProviderBatch
from ..store_session import StoreSession
from .life import CANCELLABLE, BatchLife
from .offers import Offered
from .rooms import key_of

LOOK_S = 2.0  # between two looks at the store for deferred tasks and batches that are due
GATHER_S = 10.0  # few tasks wait so long for more of their kind
LAST_STEPS_S = 15.0  # at most, that a run without tasks waits for the steps of batches
BUDGET_S = 30.0  # until tasks that a budget had no room for are tried again, if no batch ends before
STEPS_AT_ONCE = 4  # of one provider: each may hold the rows of a batch in memory


class BatchKeeper:
    """The job beside the calls of an orchestrator. For one event loop."""

    def __init__(self, session: StoreSession, life: BatchLife) -> None:
        self._session, self._store, self._thread = session, session.store, session.thread
        self._now, self._life = session.clock.now, life
        self._seen_at: dict[int, float] = {}  # when a group was first seen
        self._steps: dict[int, asyncio.Task[None]] = {}  # by the number of the batch
        self._turns: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(STEPS_AT_ONCE))
        self._creating: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._refused_until: dict[int, float] = {}  # groups that a budget has no room for
        self._has_looked = False
        self._end_by: float | None = None
        life.on_money = self._on_money

    async def may_end(self) -> bool:
        """Whether a run that has no task left may end.

        Before that each open batch is looked at once, also those of earlier runs, and those that no task
        waits for are cancelled. A provider that is silent holds the run up for `LAST_STEPS_S` at most.
        """
        now = self._now()
        self._end_by = self._end_by or now + LAST_STEPS_S
        if now >= self._end_by:
            return True
        if not self._has_looked:
            return False
        self._end_steps()
        for batch in await self._thread.insist(self._store.provider_batches.open):
            if batch.is_unwanted and batch.state in CANCELLABLE:
                self._begin(batch, self._life.cancel)
        return not self._steps

    async def run(self) -> None:
        """Work for ever."""
        try:
            while True:
                await self._round()
                await asyncio.sleep(LOOK_S)
        finally:
            steps = list(self._steps.values())
            for step in steps:
                step.cancel()
            await asyncio.gather(*steps, return_exceptions=True)
            self._steps.clear()

    async def _round(self) -> None:
        """One look at all that is due."""
        self._end_steps()
        batches = await self._thread.insist(self._store.provider_batches.open)
        now = self._now()
        self._life.reachability.report_missing(batches)
        for batch in batches:
            if batch.is_unwanted and batch.state in CANCELLABLE:
                self._begin(batch, self._life.cancel)
            elif not self._has_looked or self._life.is_due(batch, now):
                self._begin(batch, self._life.advance)
        self._has_looked = True
        groups = await self._thread.insist(self._store.deferrals.groups)
        if (only := self._session.batch) is not None:
            groups = [group for group in groups if group.batch == only]
        if groups or batches:
            await self._choose(groups)

    # ------------------------------------------------------------------ steps

    def _begin(self, batch: ProviderBatch, step: Callable[[ProviderBatch], Awaitable[None]]) -> None:
        """Begin a step of a batch, unless one is under way, or has to wait for the key of its provider."""
        is_here = batch.state is BatchState.INTENDED or self._life.reachability.has_provider(batch)
        if batch.id not in self._steps and is_here:
            self._steps[batch.id] = asyncio.create_task(self._step(batch, step))

    async def _step(self, batch: ProviderBatch, step: Callable[[ProviderBatch], Awaitable[None]]) -> None:
        """One creation at a time, and none while an earlier one that was not answered is looked for."""
        if batch.state is not BatchState.INTENDED:
            await self._in_turn(batch, step)
            return
        async with self._creating[batch.provider]:
            batches = await self._thread.insist(self._store.provider_batches.open)
            if not any(each.provider == batch.provider and self._life.is_sought(each) for each in batches):
                await self._in_turn(batch, step)

    async def _in_turn(self, batch: ProviderBatch, step: Callable[[ProviderBatch], Awaitable[None]]) -> None:
        async with self._turns[batch.provider]:
            found = await self._thread.insist(self._store.provider_batches.find, batch.id)
            if found is not None and found.state.is_open:
                await step(found)

    def _end_steps(self) -> None:
        """Forget the steps that have ended. Raises what one of them has raised."""
        for id in [id for id, step in self._steps.items() if step.done()]:
            self._steps.pop(id).result()

    # ------------------------------------------------------------------ the choice

    async def _choose(self, groups: Sequence[DeferredGroup]) -> None:
        now = self._now()
        offered = await self._all_offered(groups, now)
        batches = await self._thread.insist(self._store.provider_batches.open)
        batches = [batch for batch in batches if batch.left_rows]
        out = [_out(batch) for batch in batches if batch.state is not BatchState.ENDED]
        waiting = [each.waiting for each in offered.values()]
        choice = choose(waiting, out, await self._targets(waiting, batches, now), now)
        await self._recall(choice, {str(batch.id): batch for batch in batches})
        await self._go_live(choice.live, now)
        is_last = not out
        for sent in choice.submit:
            if now < self._refused_until.get(sent.key, 0.0):
                continue
            async for intended in self._life.intend(offered[sent.key], sent.target, sent.rows):
                if isinstance(intended, BudgetRefusal):
                    await self._refused(sent, intended, is_last=is_last, now=now)
                else:
                    is_last = False
                    self._begin(intended, self._life.advance)

    def _on_money(self) -> None:
        """What a budget had no room for is tried again in the next round. It stays reported."""
        self._refused_until = dict.fromkeys(self._refused_until, 0.0)

    async def _refused(self, sent: Submission, refusal: BudgetRefusal, *, is_last: bool, now: float) -> None:
        """A budget has no room for tasks. `is_last`: no batch is out whose end could leave some.

        What no batch has room for, and never will, ends as live tasks without a budget do.
        """
        if is_last and refusal.until is None:
            await self._go_live({sent.key: sent.rows}, now)
            return
        if sent.key not in self._refused_until:
            self._life.over_budget(sent.target[0], sent.rows, refusal)
        self._refused_until[sent.key] = now + BUDGET_S

    async def _go_live(self, live: Mapping[int, int], now: float) -> None:
        for key, rows in live.items():
            while rows > 0:
                queued = await self._thread.insist(self._store.deferrals.go_live, key, rows, now)
                rows = rows - queued if queued else 0
        if live:
            self._life.wake()

    async def _all_offered(self, groups: Sequence[DeferredGroup], now: float) -> dict[int, Offered]:
        """By the key of the group."""
        self._seen_at = {group.id: self._seen_at.get(group.id, now) for group in groups}
        self._refused_until = {id: at for id, at in self._refused_until.items() if id in self._seen_at}
        found = {}
        for group in groups:
            if like := await self._thread.insist(self._store.deferrals.oldest, group.id, 1):
                more_until = self._seen_at[group.id] + GATHER_S
                found[group.id] = self._life.offers.of(group, like[0], more_until, now)
        return found

    async def _targets(
        self, waiting: Sequence[Waiting], batches: Sequence[ProviderBatch], now: float
    ) -> list[BatchTarget]:
        wanted = sorted({offer.target for each in waiting for offer in each.offers})
        open_ones = [key for key in wanted if not self._life.rooms.refuses(key, now)]
        return [await self._target(key, batches, now) for key in open_ones]

    async def _target(
        self, key: tuple[str, str], batches: Sequence[ProviderBatch], now: float
    ) -> BatchTarget:
        done_s = await self._thread.insist(self._store.provider_batches.turnarounds, *key)
        ages_s = [now - each.submitted_at for each in batches if key_of(each) == key and each.submitted_at]
        return BatchTarget(*key, turnaround(done_s, ages_s), self._life.rooms.of(key, now))

    async def _recall(self, choice: Choice, batches: Mapping[str, ProviderBatch]) -> None:
        for id in choice.cancel:
            self._begin(batches[id], self._life.cancel)
        for id in choice.pull:
            batch = batches[id]
            pulled, pull = 0, self._store.batch_results.pull
            while more := await self._thread.insist(pull, batch.id, self._now()):
                pulled += more
            if pulled:
                self._life.pulled_back(batch, pulled)


def _out(batch: ProviderBatch) -> Out:
    return Out(
        str(batch.id),
        batch.left_rows,
        batch.deadline_at,
        batch.live_s,
        batch.submitted_at or batch.created_at,
        batch.state is BatchState.CANCELLING,
    )
