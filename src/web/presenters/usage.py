"""Calls and cost, from the sums that the store keeps, never from single tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...core.preferences import preference_shares
from ...core.store import CallSums, Summary, UsageRow
from ...core.store.reports import GroupBy
from ...routing.cost.budgets import BudgetRule, Budgets
from ..context import SUMS_FRESH_S, AppContext

HOUR_S, DAY_S = 3600.0, 86400.0
RANGES: dict[str, tuple[GroupBy, int, int]] = {  # name: (unit, its seconds, how many of them)
    "hour": ("minute", 60, 60),
    "day": ("hour", 3600, 24),
    "month": ("day", 86400, 30),
}


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums of calls. `cost_nanos` is certain; `uncertain_nanos` may or may not have been billed."""

    calls: int = 0
    ok: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    cost_nanos: int = 0
    uncertain_nanos: int = 0
    unknown_cost_calls: int = 0
    success_rate: float | None = None
    average_s: float | None = None
    p50_s: float | None = None
    p95_s: float | None = None

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens


def totals(sums: CallSums) -> Totals:
    bad = sums.failed + sums.uncertain
    return Totals(
        calls=sums.calls,
        ok=sums.ok,
        failed=bad,
        prompt_tokens=sums.prompt_tokens,
        output_tokens=sums.output_tokens,
        cost_nanos=sums.cost_nanos,
        uncertain_nanos=sums.uncertain_nanos,
        unknown_cost_calls=sums.unknown_cost_calls,
        success_rate=sums.ok / (sums.ok + bad) if sums.ok + bad else None,
        average_s=sums.average_s,
        p50_s=sums.p50_s,
        p95_s=sums.p95_s,
    )


def midnight(context: AppContext, now: float) -> float:
    """When today began, in the time zone of the budgets."""
    today = BudgetRule("all", "", "day", 1)
    ((_, start),) = Budgets([today], context.settings.budgets.time_zone).openings(now)
    return start or 0.0


def today_by_provider(context: AppContext, now: float) -> dict[str, Totals]:
    """The calls since midnight, by provider."""
    return {name: totals(sums) for name, sums in _sums_of_today(context, now).items()}


def today(context: AppContext, now: float) -> Totals:
    """The calls since midnight."""
    return totals(sum(_sums_of_today(context, now).values(), start=CallSums()))


def _sums_of_today(context: AppContext, now: float) -> dict[str, CallSums]:
    found = context.past_usage.since(midnight(context, now), now, ("provider",))
    return {str(provider): sums for (provider, *_), sums in found.items()}


def last_day_by(context: AppContext, now: float, *by: GroupBy) -> dict[tuple[str, ...], CallSums]:
    """The calls of this hour and the 23 before it, by `by`."""
    first = (now // HOUR_S - 23) * HOUR_S
    found: dict[tuple[str, ...], CallSums] = {}
    for (_, *key), sums in context.past_usage.since(first, now, ("hour", *by)).items():
        name = tuple(map(str, key))
        found[name] = found.get(name, CallSums()) + sums
    return found


def total_by_provider(context: AppContext) -> dict[str, Totals]:
    return {name: totals(sums) for name, sums in all_time(context).providers.items()}


def all_time(context: AppContext) -> Summary:
    """The sums over all batches."""
    return context.cache.get("all time", context.store.reports.summary, SUMS_FRESH_S)


def last_hour(context: AppContext, now: float) -> dict[str, tuple[CallSums, ...]]:
    """The calls of each of the last 60 minutes by provider, oldest first."""
    first = int(now // 60 - 59) * 60
    found: dict[str, list[CallSums]] = {}
    for (minute, provider, *_), sums in context.past_usage.since(first, now, ("minute", "provider")).items():
        place = (int(minute) - first) // 60
        if 0 <= place < 60:
            found.setdefault(str(provider), [CallSums()] * 60)[place] = sums
    return {name: tuple(values) for name, values in found.items()}


def hour_of_latency(context: AppContext, now: float) -> dict[str, tuple[float | None, ...]]:
    """Mean latency of each of the last 60 minutes by provider, oldest first; None without an answer."""
    hours = last_hour(context, now)
    return {name: tuple(sums.average_s for sums in minutes) for name, minutes in hours.items()}


# ------------------------------------------------------------------ tables and charts


@dataclass(frozen=True, slots=True)
class TypeRow:
    """One task type's calls of the last day, by provider and in sum."""

    task_type: str
    prefers: str
    providers: dict[str, Totals]
    calls: int
    held: float | None = None  # share of its answers that the preferred provider gave


@dataclass(frozen=True, slots=True)
class Series:
    """One unit of time after the other, oldest first; per provider as many numbers as there are `starts`."""

    range: str
    unit_s: int
    starts: tuple[int, ...]
    calls: dict[str, tuple[int, ...]]
    cost_nanos: dict[str, tuple[int, ...]]


def type_table(context: AppContext) -> tuple[TypeRow, ...]:
    return context.cache.get("types", lambda: _type_table(context), SUMS_FRESH_S)


def _type_table(context: AppContext) -> tuple[TypeRow, ...]:
    now = context.now()
    by_type: dict[str, dict[str, Totals]] = {name: {} for name in context.settings.task_types}
    rows = [UsageRow(*each) for each in last_day_by(context, now, "task_type", "provider").items()]
    held = {each.task_type: each.share for each in preference_shares(rows, context.settings)}
    for row in rows:
        if not row.sums.calls:  # the cost of calls that a crash cut off; their type is unknown
            continue
        by_type.setdefault(str(row.key[0]), {})[str(row.key[1])] = totals(row.sums)
    preferred = {name: row.prefer for name, row in context.settings.task_types.items()}
    return tuple(
        TypeRow(name, preferred.get(name, ""), found, sum(t.calls for t in found.values()), held.get(name))
        for name, found in by_type.items()
    )


def series(context: AppContext, name: str) -> Series:
    return context.cache.get(f"series {name}", lambda: _series(context, name), SUMS_FRESH_S)


def _series(context: AppContext, name: str) -> Series:
    unit, unit_s, many = RANGES[name]
    now = context.now()
    last = int(now // unit_s) * unit_s
    starts = tuple(range(last - (many - 1) * unit_s, last + 1, unit_s))
    place = {start: index for index, start in enumerate(starts)}
    calls = {provider: [0] * many for provider in context.settings.providers}
    cost = {provider: [0] * many for provider in context.settings.providers}
    for key, sums in context.past_usage.since(starts[0], now, (unit, "provider")).items():
        index, provider = place.get(int(key[0])), str(key[1])
        if index is not None:
            calls.setdefault(provider, [0] * many)[index] = sums.calls
            cost.setdefault(provider, [0] * many)[index] = sums.cost_nanos
    return Series(
        name,
        unit_s,
        starts,
        {p: tuple(values) for p, values in calls.items()},
        {p: tuple(values) for p, values in cost.items()},
    )


def usage_rows(context: AppContext, start: float, end: float, by: Sequence[GroupBy]) -> list[dict[str, Any]]:
    """Rows with the keys of the grouping, then the sums."""
    rows = context.store.reports.usage(start, end, by)
    return [
        {"key": dict(zip((_at(name) for name in by), row.key, strict=True)), "totals": totals(row.sums)}
        for row in rows
    ]


def _at(name: GroupBy) -> str:
    return f"{name}_at" if name in ("minute", "hour", "day") else name
