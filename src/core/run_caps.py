"""What runs may cost: a cap on the batch of each run whose requests name one, as long as the run is in use.

The cap of a request holds for all later requests of its run. What the run has cost so far is read from the
store when its cap is set. A run that has not been in use for `IDLE_S` gives its cap back, so that memory does
not grow with the number of runs.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from ..routing.cost.budgets import BudgetRule, Budgets, usd_to_nanos
from ..routing.registry import Registry
from .budget_keeper import BudgetKeeper
from .result_writer import ResultWriter

IDLE_S = 60.0


@dataclass(slots=True)
class _Cap:
    rule: BudgetRule
    used_at: float
    open: int = 1


class RunCaps:
    """The caps of the runs that are in use. `now` is in UTC epoch seconds."""

    def __init__(
        self,
        registry: Registry,
        budget_keeper: BudgetKeeper,
        result_writer: ResultWriter,
        now: Callable[[], float],
    ) -> None:
        self._registry, self._keeper, self._writer = registry, budget_keeper, result_writer
        self._now = now
        self._caps: OrderedDict[str, _Cap] = OrderedDict()  # by batch; the one used last is the last
        self._setting = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._caps)

    async def hold(self, batch: str, max_cost_usd: float) -> None:
        """Cap what a run may cost in all, USD, until `release` has been called as often.

        A cap that the batch has from elsewhere stays. In a simulated run nothing costs anything.
        """
        if not self._keeper.reserves:
            return
        limit = max(1, usd_to_nanos(max_cost_usd))  # 0 would be no cap
        rule = BudgetRule("batch", batch, "total", limit)
        async with self._setting:
            self._forget_idle()
            cap = self._caps.get(batch)
            if cap is None:
                if await self._set(rule):
                    self._caps[batch] = _Cap(rule, self._now())
                return
            cap.open += 1
            if cap.rule != rule:
                cap.rule = rule
                self._budgets().set_rule(rule)

    def release(self, batch: str) -> None:
        """A request of the run has ended."""
        cap = self._caps.get(batch)
        if cap is not None:
            cap.open -= 1
            cap.used_at = self._now()
            self._caps.move_to_end(batch)

    async def _set(self, rule: BudgetRule) -> bool:
        budgets = self._budgets()
        if budgets.has_own(rule.name, ""):
            return False
        await self._writer.settled()  # what earlier requests of the run have cost
        spent, uncertain = await self._keeper.spent_on(rule)
        budgets.set_rule(rule)
        budgets.load(self._now(), rule, spent, uncertain)
        return True

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
