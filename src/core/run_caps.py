"""What runs may cost: a cap on the batch of each run whose requests name one.

The cap that a request names holds for all later requests of its run, those that name none included. It is
stored with the batch of the run before the call, so that it outlasts this process. In memory it is as long as
the run is in use: one that has not been in use for `IDLE_S` gives it back, so that memory does not grow with
the number of runs. What the run has cost so far is read from the store when its cap comes into memory.

The names of runs with a stored cap are kept, so that the requests of other runs cost no look at the store.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from ..routing.cost.budgets import BudgetRule, Budgets, usd_to_nanos
from ..routing.registry import Registry
from .budget_keeper import BudgetKeeper
from .result_writer import ResultWriter
from .store_session import StoreSession

IDLE_S = 60.0
NAMES_KEPT = 10_000  # of runs with a stored cap; where there are more, other runs are looked up


@dataclass(slots=True)
class _Cap:
    rule: BudgetRule
    used_at: float
    open: int = 0


class RunCaps:
    """The caps of the runs that are in use. `now` is in UTC epoch seconds."""

    def __init__(
        self,
        registry: Registry,
        budget_keeper: BudgetKeeper,
        result_writer: ResultWriter,
        session: StoreSession,
    ) -> None:
        self._registry, self._keeper, self._writer = registry, budget_keeper, result_writer
        self._store, self._thread, self._now = session.store, session.thread, session.clock.now
        self._stored: set[str] | None = None  # runs that have a cap in the store; None: not known yet
        self._caps: OrderedDict[str, _Cap] = OrderedDict()  # by batch; the one used last is the last
        self._setting = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._caps)

    async def hold(self, batch: str, submitter: str, max_cost_usd: float | None) -> bool:
        """Keep a request of this run within the run's cap: `max_cost_usd`, else the one that it has already.

        Returns whether it has one; then `release` is due. A cap that the batch has from elsewhere stays. In a
        simulated run nothing costs anything.
        """
        if not self._keeper.reserves:
            return False
        cap = self._caps.get(batch)
        if cap is None or max_cost_usd is not None:
            limit = await self._limit(batch, max_cost_usd)
            if limit is None:
                return False
            async with self._setting:
                cap = self._caps.get(batch)
                if cap is None or max_cost_usd is not None:  # else another request has just brought it
                    cap = await self._set(batch, submitter, limit)
        if cap is None:
            return False
        cap.open += 1
        return True

    async def _limit(self, batch: str, max_cost_usd: float | None) -> int | None:
        """What the run may cost, nano-dollars: what the request names, else what is stored."""
        if max_cost_usd is not None:
            return max(1, usd_to_nanos(max_cost_usd))  # 0 would be no cap
        batches = self._store.batches
        if self._stored is None:
            async with self._setting:  # a cap that is stored meanwhile would be missed
                self._stored = await self._thread.insist(batches.capped_runs, NAMES_KEPT)
        if batch not in self._stored and len(self._stored) < NAMES_KEPT:
            return None
        return await self._thread.insist(batches.cap, batch)

    def release(self, batch: str) -> None:
        """A request of the run has ended."""
        cap = self._caps.get(batch)
        if cap is not None:
            cap.open -= 1
            cap.used_at = self._now()
            self._caps.move_to_end(batch)

    async def _set(self, batch: str, submitter: str, limit_nanos: int) -> _Cap | None:
        """The cap of the run, with this limit in memory and in the store. None: it has one from elsewhere."""
        self._forget_idle()
        rule = BudgetRule("batch", batch, "total", limit_nanos)
        cap, budgets = self._caps.get(batch), self._budgets()
        if cap is not None and cap.rule == rule:
            return cap
        if cap is None and budgets.has_own(batch, ""):
            return None
        if await self._thread.insist(self._store.batches.cap, batch) != limit_nanos:
            await self._thread.insist(
                self._store.direct_tasks.cap_run, batch, submitter, limit_nanos, self._now()
            )
            if self._stored is not None and len(self._stored) < NAMES_KEPT:
                self._stored.add(batch)
        if cap is not None:
            cap.rule = rule
            budgets.set_rule(rule)
            return cap
        await self._writer.settled()  # what earlier requests of the run have cost
        spent, uncertain = await self._keeper.spent_on(rule)
        budgets.set_rule(rule)
        budgets.load(self._now(), rule, spent, uncertain)
        cap = self._caps[batch] = _Cap(rule, self._now())
        return cap

    def _budgets(self) -> Budgets:
        if self._registry.budgets is None:
            self._registry.budgets = self._keeper.budgets = self._keeper.batches.budgets
        return self._registry.budgets

    def _forget_idle(self) -> None:
        """Drop caps of idle runs, once everything that they cost is in the store."""
        while self._caps and self._writer.idle:
            batch, cap = next(iter(self._caps.items()))
            if cap.open:
                self._caps.move_to_end(batch)
                break
            if self._now() - cap.used_at < IDLE_S:
                break
            self._budgets().set_rule(BudgetRule("batch", batch, "total", 0))
            del self._caps[batch]
