"""Expected cost and time of a file of tasks before it is submitted, from a plan of a sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...core.forecast import Forecast
from ...core.planning import RECORDS_S, make_plan
from ...core.plans import TaskSample
from ...core.virtual_pool import VirtualPool
from ...records import LIVE_STATUSES
from ...refusal_text import wait_text
from ..context import AppContext
from .budgets import BudgetView, budget_views
from .pool import UNAVAILABLE_STATES, pool_view

PLANNED_AT_MOST = 4_000  # tasks planned in virtual time while the request waits: a second or two


@dataclass(frozen=True, slots=True)
class Expectation:
    """Nano-dollars and seconds for all tasks. Every `sampled`-th was planned. `waits_for`: the bottleneck."""

    tasks: int
    expected_nanos: int
    at_most_nanos: int
    duration_s: float
    waits_for: str
    unknown_prices: tuple[str, ...]
    unknown_limits: tuple[str, ...]
    from_records: bool
    sampled: int
    ahead: int = 0  # open tasks, which go first
    out: tuple[str, ...] = ()  # providers that are out of service now and not counted on
    over_budget: str = ""  # the budget with less left than the expected cost
    left_nanos: int = 0  # of that budget


class Sample(TaskSample):
    """A sample of a file, small enough to plan during a request."""

    def __init__(self) -> None:
        super().__init__(PLANNED_AT_MOST)

    def expectation(self, context: AppContext, submitter: str) -> Expectation:
        """The plan of the sample, scaled to all tasks, with the current state of pool and queue.

        Providers that are out of service are left out if another can serve, open tasks go first, and the
        expected cost is compared with what is left of the submitter's budgets.
        """
        now = context.now()
        pool = pool_view(context)
        out = tuple(
            p.name for p in pool.providers if p.name in context.configured and p.state in UNAVAILABLE_STATES
        )
        able = context.configured.difference(out) or context.configured
        recorded = (now - RECORDS_S, now + 60)
        forecast = Forecast.from_store(context.store, *recorded, providers=context.settings.providers)
        virtual = VirtualPool(context.settings, able, learned_limits(context))
        plan = make_plan(self.kept, virtual, forecast, now=now)
        plan = plan.for_all(self.count, self.every)
        counts = context.store.reports.task_counts()
        ahead = sum(counts[status] for status in LIVE_STATUSES)
        over = _short_budget(context, submitter, plan.expected_nanos)
        return Expectation(
            tasks=self.count,
            expected_nanos=plan.expected_nanos,
            at_most_nanos=plan.highest_nanos,
            duration_s=plan.for_all(self.count + ahead, self.every).duration_s,
            waits_for=wait_text(plan.bottlenecks[0][0]) if plan.bottlenecks else "",
            unknown_prices=plan.unknown_prices,
            unknown_limits=plan.unknown_limits,
            from_records=plan.from_records,
            sampled=self.every,
            ahead=ahead,
            out=out if len(out) < len(context.configured) else (),
            over_budget="" if over is None else over.title,
            left_nanos=0 if over is None else over.left_nanos,
        )


def _short_budget(context: AppContext, submitter: str, cost_nanos: int) -> BudgetView | None:
    """The budget for everything or of the submitter that has the least left, where that is below the cost."""
    mine = [
        b for b in budget_views(context) if b.scope == "all" or (b.scope, b.name) == ("submitter", submitter)
    ]
    least = min(mine, key=lambda budget: budget.left_nanos, default=None)
    return least if least is not None and least.left_nanos < cost_nanos else None


def learned_limits(context: AppContext) -> dict[str, dict[str, Any]]:
    """The limits that earlier runs have learned, by provider."""
    known = {
        name: context.store.learned_state.load(*identity) for name, identity in context.identities.items()
    }
    return {name: dict((found or {}).get("groups", {})) for name, found in known.items()}
