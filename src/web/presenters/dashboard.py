"""The dashboard: how much waits, what it costs, and what needs attention."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...core.event_text import times_of
from ...core.store import EventRow, Summary, TierSavings
from ...formatting import duration, percent, plural, rough_duration
from ...records import (
    LIVE_STATUSES,
    OPEN_STATUSES,
    Event,
    ProviderCondition,
    RefusalKind,
    TaskStatus,
)
from ..context import AppContext
from ..template_filters import state_word
from .budgets import BudgetView, budget_views
from .pool import pool_view
from .pool_views import PoolView, ProviderView, WaitView
from .usage import DAY_S, Totals, all_time, today

RATE_WINDOW_S = 300.0
HELD_S = 60.0  # a shorter wait is part of the pace: no per-minute limit lasts longer
ALERTS_SHOWN = 5
EVENTS_SHOWN = 12
_RECOVERIES = frozenset(
    {"online"}
    | {
        f"provider_{state}"
        for state in (ProviderCondition.HEALTHY, ProviderCondition.DEGRADED, ProviderCondition.LIMITED)
    }
)
_BAD_STATES = frozenset(
    {
        ProviderCondition.MISCONFIGURED,
        ProviderCondition.EXHAUSTED,
        ProviderCondition.OPEN,
        ProviderCondition.OFFLINE,
    }
)


@dataclass(frozen=True, slots=True)
class EventView:
    """One event as a line of text."""

    id: int
    at: float
    kind: str
    level: str
    provider: str
    task_id: str
    message: str
    fields: Mapping[str, Any]

    @property
    def tone(self) -> str:
        """`good` for the end of an outage, which is an alert as well; else the level."""
        return "good" if self.level == "alert" and self.kind in _RECOVERIES else self.level

    @property
    def times(self) -> list[tuple[str, float]]:
        """Times that the page shows in the reader's time zone: `("until", epoch seconds)`."""
        return times_of(self.fields)


@dataclass(frozen=True, slots=True)
class Attention:
    """Something that needs attention, and the page to go to."""

    level: str  # bad, warn
    text: str
    link: str
    is_event: bool = False  # the text of an event, which may name tasks and submitters


@dataclass(frozen=True, slots=True)
class CostSummary:
    """`budget_nanos` is the overall daily budget, if any. `saved_nanos` is against the baseline model.

    `saved_nanos` is None, and `tiers` empty, if a price is unknown or nothing can be compared.
    """

    today_nanos: int
    total_nanos: int
    uncertain_nanos: int
    unknown_cost_calls: int
    budget_nanos: int | None
    budget_used: float | None  # uncertain calls count
    saved_nanos: int | None
    baseline_nanos: int
    baseline_model: str
    tiers: tuple[TierSavings, ...]
    saved_parts: SavedView | None  # None with `saved_nanos`


@dataclass(frozen=True, slots=True)
class SavedView:
    """The parts of what was saved against the baseline; see `SavedParts`."""

    models_nanos: int
    half_price_nanos: int
    cache_nanos: int


def saved_view(summary: Summary) -> SavedView | None:
    """The parts of the savings; None where they are not known."""
    parts = summary.saved_parts
    return None if parts is None else SavedView(*parts)


@dataclass(frozen=True, slots=True)
class HeldTasks:
    """Tasks that wait for something that lasts, and the longest such reason."""

    tasks: int
    what: str
    until: float | None  # None: a spent cap, which does not reset
    budget_scope: str = ""  # where a budget holds them: all, provider, batch, submitter

    def lasts(self, now: float) -> str:
        """`for 15 h`, or `until it is raised`."""
        return "until it is raised" if self.until is None else f"for {rough_duration(self.until - now)}"


@dataclass(frozen=True, slots=True)
class DashboardView:
    """`counts` are by status of the store; `waiting` and `calling` divide its queued and running tasks."""

    simulated: bool
    pool: PoolView
    counts: dict[str, int]
    waiting: int
    calling: int
    done: int
    not_answered: int
    rate_per_s: float | None
    left_s: float | None  # without the tasks that are held
    held: HeldTasks | None
    today: Totals
    money: CostSummary
    budgets: tuple[BudgetView, ...]
    attention: tuple[Attention, ...]
    events: tuple[EventView, ...]

    @property
    def busy(self) -> bool:
        return self.pool.orchestrator.running and (self.waiting > 0 or self.calling > 0)


def dashboard_view(context: AppContext) -> DashboardView:
    """Everything that the dashboard shows."""
    return context.cache.get("dashboard", lambda: _dashboard_view(context))


def _dashboard_view(context: AppContext) -> DashboardView:
    pool = pool_view(context)
    now_pace = pace(context)
    counts, held = now_pace.counts, now_pace.held
    calling = min(pool.in_flight, counts["running"])
    budgets = budget_views(context)
    waiting = now_pace.open_tasks - calling - counts["batched"]
    return DashboardView(
        simulated=context.simulated,
        pool=pool,
        counts=counts,
        waiting=waiting,
        calling=calling,
        done=counts["succeeded"],
        not_answered=sum(counts[s] for s in ("failed", "refused", "expired", "cancelled")),
        rate_per_s=now_pace.rate_per_s,
        left_s=now_pace.left_s,
        held=held,
        today=today(context, pool.now),
        money=_cost_summary(context, all_time(context), budgets, pool.now),
        budgets=budgets,
        attention=tuple(_attention(context, pool, budgets, counts, waiting)),
        events=event_views(context.store.events.recent(EVENTS_SHOWN)),
    )


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the pool gets on. `left_s` is without tasks that are held, and those for batches."""

    counts: dict[str, int]  # of all tasks, by status
    held: HeldTasks | None
    rate_per_s: float | None
    left_s: float | None

    @property
    def open_tasks(self) -> int:
        return sum(self.counts[status] for status in OPEN_STATUSES)

    @property
    def live_tasks(self) -> int:
        return sum(self.counts[status] for status in LIVE_STATUSES)


def pace(context: AppContext) -> Pace:
    """The pace now; at most half a second old."""
    return context.cache.get("pace", lambda: _pace(context))


def _pace(context: AppContext) -> Pace:
    pool = pool_view(context)
    counts = {status.value: number for status, number in context.store.reports.task_counts().items()}
    rate, held = rate_per_s(context, pool), held_of(pool)
    live = sum(counts[status] for status in LIVE_STATUSES)
    going = max(0, live - (held.tasks if held else 0))
    return Pace(counts, held, rate, going / rate if going and rate else None)


def held_of(pool: PoolView) -> HeldTasks | None:
    """The waiting tasks whose reason lasts, such as a spent budget. The finish time excludes them."""
    if not pool.orchestrator.running:
        return None
    lasting = [w for w in pool.waiting_for if _ends_at(w) - pool.now > HELD_S]
    if not lasting:
        return None
    longest = max(lasting, key=_ends_at)
    return HeldTasks(sum(w.tasks for w in lasting), longest.what, longest.until, longest.budget_scope)


def _ends_at(waiting: WaitView) -> float:
    """When the reason ends: at once for one that the next answer ends, never for a spent cap."""
    if waiting.until is None:
        return math.inf if waiting.kind == RefusalKind.BUDGET_SPENT else 0.0
    return waiting.until


def rate_per_s(context: AppContext, pool: PoolView) -> float | None:
    """Answered calls per second, over the last five minutes or since the orchestrator started."""
    if not pool.orchestrator.running or pool.orchestrator.started_at is None:
        return None
    rows = context.store.reports.usage(pool.now - RATE_WINDOW_S, pool.now + 60, ("minute",))
    answered = [(float(row.key[0]), row.sums.ok) for row in rows if row.sums.ok]
    if not answered:
        return 0.0
    begin = max(answered[0][0], pool.orchestrator.started_at)
    return sum(ok for _, ok in answered) / max(1.0, pool.now - begin)


def _cost_summary(
    context: AppContext, summary: Summary, budgets: tuple[BudgetView, ...], now: float
) -> CostSummary:
    daily = next((b for b in budgets if (b.scope, b.period) == ("all", "day")), None)
    return CostSummary(
        today_nanos=today(context, now).cost_nanos,
        total_nanos=summary.cost_nanos,
        uncertain_nanos=summary.calls.uncertain_nanos,
        unknown_cost_calls=summary.calls.unknown_cost_calls,
        budget_nanos=daily.limit_nanos if daily else None,
        budget_used=daily.used if daily else None,
        saved_nanos=summary.saved_nanos,
        baseline_nanos=summary.baseline_nanos,
        baseline_model=context.settings.baseline_model,
        tiers=summary.savings,
        saved_parts=saved_view(summary),
    )


def event_views(rows: list[EventRow]) -> tuple[EventView, ...]:
    """Events as lines of text."""
    return tuple(_event_view(row.id, row.event) for row in rows)


def _event_view(number: int, event: Event) -> EventView:
    return EventView(
        number, event.at, event.kind, event.level, event.provider, event.task_id, event.message, event.fields
    )


# ------------------------------------------------------------------ what needs attention


def _attention(
    context: AppContext, pool: PoolView, budgets: tuple[BudgetView, ...], counts: dict[str, int], waiting: int
) -> Iterator[Attention]:
    if waiting and not pool.orchestrator.running:
        start = f"no orchestrator is running; start one with: {context.start_command}"
        text = f"{plural(waiting, 'task')} waiting and {start}"
        yield Attention("bad", text, "/tasks?status=queued")
    if pool.orchestrator.running:
        for provider in pool.providers:
            yield from _provider_attention(provider, pool.now)
    yield from (budget_attention(budget) for budget in budgets if budget.tone)
    for status in (TaskStatus.FAILED, TaskStatus.EXPIRED):
        if number := counts[status.value]:
            text = f"{plural(number, 'task')} {status.value}: look, and run again"
            yield Attention("warn", text, f"/tasks?status={status.value}")
    yield from _alerts(context, pool.now)


def _provider_attention(provider: ProviderView, now: float) -> Iterator[Attention]:
    if provider.state in _BAD_STATES:
        left_s = (provider.until or 0.0) - now
        until = f", for another {duration(left_s)}" if left_s > 0 else ""
        text = f"{provider.name}: {state_word(provider.state).lower()} ({provider.reason}{until})"
        yield Attention("bad", text, f"/provider-status#{provider.name}")


def budget_attention(budget: BudgetView) -> Attention:
    text = f"{percent(budget.used)} of the {budget.title} is spent"
    return Attention(budget.tone, text, "/#budgets")


def _alerts(context: AppContext, now: float) -> Iterator[Attention]:
    """Alerts of the last day that no state shows, such as an unknown price."""
    seen = set()
    for row in context.store.events.recent(50):
        event = row.event
        is_state = event.kind.startswith(("breaker", "provider", "offline"))
        if event.level != "alert" or is_state or now - event.at > DAY_S or event.message in seen:
            continue
        seen.add(event.message)
        if len(seen) > ALERTS_SHOWN:
            return
        left_s = float(event.fields.get("until", 0.0)) - now
        until = f", for another {duration(left_s)}" if left_s > 0 else ""
        yield Attention("warn", f"{event.message}{until} ({duration(now - event.at)} ago)", "/", True)
