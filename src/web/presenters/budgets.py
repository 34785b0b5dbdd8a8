"""Budgets and what is spent of them: daily, monthly or total; overall or of a provider, submitter or batch.

Without any of those, that of the gateway.

Computed from the store, as the orchestrator does at its start. Reservations for calls in flight are not
included, those for batches at providers are. Simulated calls count towards no budget.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...core.budget_keeper import budgets_from, gateway_limit_usd, kept_caps, spent_on
from ...records import OPEN_STATUSES
from ..context import AppContext

FRESH_S = 5.0  # sums over months
LOW = 0.8
_WINDOWS = {"day": "today", "month": "this month", "total": "all time"}
_ADJECTIVES = {"day": "daily", "month": "monthly", "total": "total"}


@dataclass(frozen=True, slots=True)
class BudgetView:
    """`uncertain_nanos` may have been billed and counts as spent. `resets_at` None: never.

    `batched_nanos` is what batches at providers may still cost.
    """

    scope: str  # all, provider, submitter, batch, gateway
    name: str  # empty for everything, and for the gateway
    period: str  # day, month, total
    limit_nanos: int
    spent_nanos: int
    uncertain_nanos: int
    batched_nanos: int
    used: float
    resets_at: float | None

    @property
    def left_nanos(self) -> int:
        return max(0, self.limit_nanos - self.spent_nanos - self.uncertain_nanos - self.batched_nanos)

    @property
    def tone(self) -> str:
        return "bad" if self.used >= 1 else "warn" if self.used >= LOW else ""

    @property
    def title(self) -> str:
        """`overall daily budget`, `monthly budget of provider openai`."""
        name = f"{_ADJECTIVES[self.period]} budget"
        if self.scope == "gateway":
            return f"{name} of the gateway"
        return f"{name} of {self.scope} {self.name}" if self.name else f"overall {name}"

    @property
    def window(self) -> str:
        return _WINDOWS[self.period]


def budget_views(context: AppContext) -> tuple[BudgetView, ...]:
    """All configured budgets, the overall ones first."""
    return context.cache.get("budgets", lambda: _budget_views(context), FRESH_S)


def _budget_views(context: AppContext) -> tuple[BudgetView, ...]:
    if context.simulated:
        return ()
    settings, now = context.settings, context.now()
    budgets = budgets_from(settings.budgets, _open_caps(context), gateway_limit_usd(settings))
    if budgets is None:
        return ()
    for rule, start in budgets.openings(now):
        budgets.load(now, rule, *spent_on(context.store, rule, start))
    for each in context.store.provider_batches.reservations():
        budgets.hold(now, each.at, each.provider, each.batch, each.submitter, each.nanos)
    return tuple(
        BudgetView(
            g.scope, g.name, g.period, g.limit_nanos, g.spent_nanos, g.uncertain_nanos,
            g.reserved_nanos, (g.spent_nanos + g.uncertain_nanos) / g.limit_nanos, g.resets_at,
        )
        for g in budgets.snapshot(now)
    )  # fmt: skip


def _open_caps(context: AppContext) -> dict[str, float]:
    """The caps of batches with open tasks."""
    caps = kept_caps(context.store)
    return {name: usd for name, usd in caps.items() if _has_open_tasks(context, name)}


def _has_open_tasks(context: AppContext, batch: str) -> bool:
    row = context.store.reports.batch(batch)
    return row is not None and any(row.counts[status] for status in OPEN_STATUSES)
