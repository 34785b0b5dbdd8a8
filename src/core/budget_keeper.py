"""Budgets over real time: loaded from what was spent, kept safe against a crash, told when they run low.

A call that was in flight when the process was killed may have been billed. So before a call leaves, what it
may cost at most is on the disk (`cover`), per provider, batch and submitter. A call counts until its attempt
is stored. Cover is written when that sum reaches a new peak, and is trimmed each second. The next
orchestrator books the cover of a dead one as uncertain, as far as the budgets had room: more can't have been
in flight. This also holds without budgets, so that the books miss nothing that was billed. A simulated run
keeps neither budget nor cover.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..formatting import money
from ..records import Event, Placement
from ..routing.budgets import BudgetAlert, BudgetRule, Budgets, rules_from
from ..settings import Settings
from .store import Store
from .store.accounts import GroupBy
from .store_thread import StoreThread

CAP = "max_cost_usd:"  # before a batch's name: the setting that keeps its cap
Account = tuple[str, str, str]  # provider, batch, submitter
_END_OF_TIME = 1e11  # epoch seconds
_TRIM_FROM = 1.2  # times what is needed


def kept_caps(settings: Mapping[str, Any]) -> dict[str, float]:
    """What each batch may cost in all, USD, by the settings in the store."""
    return {key.removeprefix(CAP): float(usd) for key, usd in settings.items() if key.startswith(CAP)}


def spent_on(store: Store, rule: BudgetRule, start: float | None) -> tuple[int, int]:
    """(certain, uncertain) nano-dollars that count against a rule since `start` (None: since ever)."""
    if rule.scope == "batch":
        if store.batch(rule.name) is None:
            return 0, 0
        calls = store.summary(rule.name).calls
        return calls.cost_nanos, calls.uncertain_nanos
    keys: list[GroupBy] = [rule.scope] if rule.scope != "all" else []
    rows = store.usage(start or 0.0, _END_OF_TIME, keys)
    mine = [row.sums for row in rows if row.key == ((rule.name,) if keys else ())]
    return sum(s.cost_nanos for s in mine), sum(s.uncertain_nanos for s in mine)


class BudgetKeeper:
    """See the top of the file. `budgets` is None where no budget is set."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        thread: StoreThread,
        incarnation: str,
        *,
        simulated: bool,
        batch_caps_usd: Mapping[str, float] | None = None,
    ) -> None:
        rules = () if simulated else rules_from(settings.budgets, batch_caps_usd)
        self.budgets: Budgets | None = None
        if rules:
            self.budgets = Budgets(rules, settings.budgets.time_zone, settings.budgets.alert_percent)
        self._covers = not simulated  # with budgets or without: a killed process owes it
        self._store, self._thread, self._incarnation = store, thread, incarnation
        self._out: Counter[Account] = Counter()
        self._covered: dict[Account, int] = {}
        self._writing = asyncio.Lock()

    async def load(self, now: float) -> None:
        """Take over what was spent in the periods that are running."""
        if self.budgets is None:
            return
        for rule, start in self.budgets.openings(now):
            spent, uncertain = await self._thread.insist(spent_on, self._store, rule, start)
            self.budgets.load(now, rule, spent, uncertain)

    async def room(self, now: float) -> int | None:
        """Nano-dollars that the overall budgets leave, by what is stored: no dead process can have had more
        in flight. None without such a budget.
        """
        if self.budgets is None:
            return None
        left = []
        for rule, start in self.budgets.openings(now):
            if rule.scope == "all":
                spent = await self._thread.insist(spent_on, self._store, rule, start)
                left.append(max(0, rule.limit_nanos - sum(spent)))
        return min(left, default=None)

    async def cover(self, placement: Placement) -> None:
        """Return when the disk knows what this call may cost, however long that takes. May be cancelled:
        nothing has left yet.
        """
        if not self._covers:
            return
        account = _account(placement)
        self._out[account] += placement.reserved_nanos
        while self._out[account] > self._covered.get(account, 0):
            async with self._writing:
                if self._out[account] > self._covered.get(account, 0):
                    await self._write(self._peaks())  # of all accounts: one commit for all that leave now

    def release(self, placement: Placement) -> None:
        """The call's attempt and its cost are on the disk, in place of what was reserved."""
        account = _account(placement)
        if self._covers:
            self._out[account] -= placement.reserved_nanos
            if self._out[account] <= 0:
                del self._out[account]

    def _peaks(self) -> dict[Account, int]:
        return {a: max(self._out[a], self._covered.get(a, 0)) for a in {*self._out, *self._covered}}

    async def trim(self) -> None:
        """Lower the cover to what calls in flight need."""
        if not self._covers:
            return
        async with self._writing:
            needed = {a: n for a, n in self._out.items() if n > 0}
            if any(n > _TRIM_FROM * needed.get(a, 0) for a, n in self._covered.items()):
                await self._write(needed)

    async def _write(self, cover: Mapping[Account, int]) -> None:
        await self._thread.insist(self._store.cover_money, self._incarnation, dict(cover))
        self._covered = dict(cover)

    def take_events(self, now: float) -> list[Event]:
        """An event for each budget that has passed one of its marks since last asked."""
        if self.budgets is None:
            return []
        return [_event(alert, now) for alert in self.budgets.take_alerts()]


def _account(placement: Placement) -> Account:
    return placement.provider, placement.task.batch, placement.task.submitter


def _event(alert: BudgetAlert, now: float) -> Event:
    spent = money(alert.spent_nanos + alert.uncertain_nanos)
    text = f"{alert.rule}: {alert.percent} % is reached ({spent} of {money(alert.rule.limit_nanos)})"
    return Event(
        now, "budget", text, alert.rule.name if alert.rule.scope == "provider" else "", level="alert"
    )
