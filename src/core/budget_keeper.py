"""Budgets across restarts: loaded from what was spent, and reserved on the disk before each call.

A call in flight when the process is killed may have been billed. So its highest cost is committed before the
call (`reserve`), per provider, batch, submitter and worker, and stays reserved until its attempt is stored.
The stored reservation is raised when the sum of calls in flight reaches a new peak, and trimmed each second
where it is far above the peak of that second: so a steady load commits no reservations. The next orchestrator
adopts calls that workers still hold. What else a killed one has reserved it books as uncertain, as far as the
budgets had headroom: more cannot have been in flight. Calls are reserved without budgets too, so that the
books miss nothing that was billed. A simulated run keeps neither budgets nor reservations.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

from ..formatting import money
from ..records import NANOS_PER_USD, Event, Placement
from ..routing.cost.budgets import BudgetAlert, BudgetRule, Budgets, rules_from, usd_to_nanos
from ..settings import BudgetSettings, Settings
from .batch_budgets import BatchBudgets
from .store import Store
from .store.reports import GroupBy
from .store_thread import StoreThread

Account = tuple[str, str, str, str]  # provider, batch, submitter, worker
_END_OF_TIME = 1e11  # epoch seconds
_TRIM_FROM = 1.5  # times what was needed since the last trim


def kept_caps(store: Store) -> dict[str, float]:
    """What each batch with a cap may cost in all, USD. Without runs of the gateway: see `run_caps.py`."""
    return {name: nanos / NANOS_PER_USD for name, nanos in store.batches.caps().items()}


def keep_cap(store: Store, batch: str, max_cost_usd: float | None) -> Mapping[str, float]:
    """Store what a batch may cost in all, USD, so that a server obeys it too; None: no cap. Returns it."""
    nanos = None if max_cost_usd is None else usd_to_nanos(max_cost_usd)
    if store.batches.cap(batch) != nanos:
        store.intake.cap_batch(batch, nanos)
    return {} if max_cost_usd is None else {batch: max_cost_usd}


def spent_on(store: Store, rule: BudgetRule, start: float | None) -> tuple[int, int]:
    """(certain, uncertain) nano-dollars that count against a rule since `start` (None: the first call)."""
    if rule.scope == "batch":
        if store.reports.batch(rule.name) is None:
            return 0, 0
        calls = store.reports.summary(rule.name).calls
        return calls.cost_nanos, calls.uncertain_nanos
    if rule.scope == "gateway":
        return store.reports.cost_of_requests(start or 0.0)
    keys: list[GroupBy] = [rule.scope] if rule.scope != "all" else []
    rows = store.reports.usage(start or 0.0, _END_OF_TIME, keys)
    mine = [row.sums for row in rows if row.key == ((rule.name,) if keys else ())]
    return sum(s.cost_nanos for s in mine), sum(s.uncertain_nanos for s in mine)


def gateway_limit_usd(settings: Settings) -> float | None:
    """What requests of the gateway may cost a day, USD; None: no limit of its own."""
    own = settings.gateway.daily_usd
    return None if own == "none" or rules_from(settings.budgets) else own


def budgets_from(
    settings: BudgetSettings,
    batch_caps_usd: Mapping[str, float] | None,
    gateway_daily_usd: float | None = None,
) -> Budgets | None:
    """The configured budgets, the caps of batches and the gateway's own; None where there is none."""
    rules = rules_from(settings, batch_caps_usd)
    if gateway_daily_usd is not None:
        rules += (BudgetRule("gateway", "", "day", usd_to_nanos(gateway_daily_usd)),)
    return Budgets(rules, settings.time_zone, settings.alert_percent) if rules else None


class BudgetKeeper:
    """Loads `budgets` with what was spent and reserves the cost of each call on the disk.

    `budgets` is None where none is set. `reserves`: whether calls cost money at all, so that a killed process
    may owe some.
    """

    def __init__(
        self,
        store: Store,
        thread: StoreThread,
        incarnation: str,
        budgets: Budgets | None = None,
        *,
        reserves: bool = True,
    ) -> None:
        self.budgets, self._reserves = budgets, reserves
        self._store, self._thread, self._incarnation = store, thread, incarnation
        self._in_flight: Counter[Account] = Counter()  # what calls in flight may cost at most, nano-dollars
        self._reserved: dict[Account, int] = {}  # what the disk has
        self._peaks: dict[Account, int] = {}  # of `_in_flight` since the last trim
        self._in_doubt = False  # whether the disk may differ
        self._writing = asyncio.Lock()
        self._waiting: list[asyncio.Future[None]] = []  # for the end of the write in progress
        self.batches = BatchBudgets(store, thread, budgets)

    async def load(self, now: float) -> None:
        """Load what was spent in the current periods, and what batches at providers may still cost."""
        if self.budgets is not None:
            for rule, start in self.budgets.openings(now):
                spent, uncertain = await self._thread.insist(spent_on, self._store, rule, start)
                self.budgets.load(now, rule, spent, uncertain)
        await self.batches.load(now)

    @property
    def reserves(self) -> bool:
        """Whether calls cost money at all."""
        return self._reserves

    async def spent_on(self, rule: BudgetRule) -> tuple[int, int]:
        """(certain, uncertain) nano-dollars that count against a rule without a period, by what is stored."""
        return await self._thread.insist(spent_on, self._store, rule, None)

    async def headroom(self, now: float) -> int | None:
        """Nano-dollars that the overall budgets leave by what is stored; None without such a budget.

        No killed process can have had more in flight.
        """
        if self.budgets is None:
            return None
        left = []
        batched = await self._thread.insist(self._store.provider_batches.reservations)
        for rule, start in self.budgets.openings(now):
            if rule.scope == "all":
                spent = await self._thread.insist(spent_on, self._store, rule, start)
                held = sum(each.nanos for each in batched if each.at >= (start or 0.0))
                left.append(max(0, rule.limit_nanos - sum(spent) - held))
        return min(left, default=None)

    async def reserve(self, placement: Placement, worker: str = "") -> None:
        """Return when what this call may cost is on the disk, however long that takes.

        `worker`: that makes the call; empty: this process.

        May be cancelled, since nothing was sent yet; `release` is due even then.
        """
        if not self._reserves:
            return
        account = _account(placement, worker)
        self._in_flight[account] += placement.reserved_nanos
        self._peaks[account] = max(self._in_flight[account], self._peaks.get(account, 0))
        while self._in_flight[account] > self._reserved.get(account, 0):
            if self._writing.locked():
                await self._write_ended()
                continue
            async with self._writing:
                if self._in_flight[account] > self._reserved.get(account, 0):
                    await self._write(self._raised())  # of all accounts: one commit for all that leave now

    async def _write_ended(self) -> None:
        """Wait for the end of the write in progress. All that wait go on together."""
        end = asyncio.get_running_loop().create_future()
        self._waiting.append(end)
        await end

    def adopt(self, placement: Placement, worker: str) -> None:
        """What this call may cost is on the disk since this orchestrator has registered."""
        if self._reserves:
            account = _account(placement, worker)
            self._in_flight[account] += placement.reserved_nanos
            self._peaks[account] = self._in_flight[account]
            self._reserved[account] = self._reserved.get(account, 0) + placement.reserved_nanos

    def release(self, placement: Placement, worker: str = "") -> None:
        """The call's attempt and its cost are on the disk, in place of what was reserved."""
        account = _account(placement, worker)
        if self._reserves:
            self._in_flight[account] -= placement.reserved_nanos
            if self._in_flight[account] <= 0:
                del self._in_flight[account]

    @property
    def reserved_nanos(self) -> int:
        """What calls that are not stored yet may cost at most, together."""
        return self._in_flight.total()

    def _raised(self) -> dict[Account, int]:
        accounts = {*self._in_flight, *self._reserved}
        return {a: max(self._in_flight[a], self._reserved.get(a, 0)) for a in accounts}

    async def trim(self) -> None:
        """Lower what is stored and not needed to the highest sum of calls in flight since the last trim."""
        if not self._reserves:
            return
        async with self._writing:
            peaks, self._peaks = self._peaks, {a: n for a, n in self._in_flight.items() if n > 0}
            needs = {a: (n, peaks.get(a, 0)) for a, n in self._reserved.items()}
            ample = {a: peak for a, (n, peak) in needs.items() if n > _TRIM_FROM * peak}
            if ample or self._in_doubt:
                kept = {a: n for a, n in (self._reserved | ample).items() if n > 0}
                await self._write(kept)

    async def _write(self, reserved: Mapping[Account, int]) -> None:
        self._in_doubt = True  # a write that is cancelled here still happens on the store's thread
        self._reserved = {a: min(n, reserved.get(a, 0)) for a, n in self._reserved.items()}  # never too much
        try:
            await self._thread.insist(
                self._store.orchestrators.reserve_cost, self._incarnation, dict(reserved)
            )
            self._reserved, self._in_doubt = dict(reserved), False
        finally:
            ended, self._waiting = self._waiting, []
            for each in ended:
                if not each.done():
                    each.set_result(None)

    def take_events(self, now: float) -> list[Event]:
        """An event for each budget that has passed an alert threshold since the last call."""
        if self.budgets is None:
            return []
        return [_event(alert, now) for alert in self.budgets.take_alerts()]


def _account(placement: Placement, worker: str) -> Account:
    return placement.provider, placement.task.batch, placement.task.submitter, worker


def _event(alert: BudgetAlert, now: float) -> Event:
    spent = money(alert.spent_nanos + alert.uncertain_nanos)
    text = f"{alert.rule}: {alert.percent} % reached ({spent} of {money(alert.rule.limit_nanos)})"
    return Event(
        now, "budget", text, alert.rule.name if alert.rule.scope == "provider" else "", level="alert"
    )
