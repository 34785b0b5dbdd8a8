"""The time and money that the rest of a run will take, daily limits and their resets included.

Each provider continues at its present rate until its daily quota is used up, then waits for the reset. After
a long hold it resumes at its earlier rate. Until a rate is known, the run's plan is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ..pacific import next_midnight_pacific
from ..records import LimitGauge, PoolSnapshot, ProviderSnapshot
from .progress_counts import ProgressCounts

DAY_S = 86_400.0
LONG_HOLD_S = 60.0  # a shorter hold is part of the rate
ENOUGH_DONE = 10  # tasks after which the rate counts, not the plan
PLAN_WEIGHT = 50  # finished tasks that the plan's price counts as much as
INACTIVE = frozenset({"not_configured", "misconfigured", "paused"})
MAX_DAYS = 1_000


def expected_nanos(progress: ProgressCounts) -> int | None:
    """What the whole run will have cost; None if unknown. A cap bounds it."""
    if progress.total is None:
        return None
    per_task = _cost_per_task(progress)
    if per_task is None:
        return None
    total = round(progress.cost_nanos + (progress.total - progress.done) * per_task)
    return total if progress.cap_nanos is None else min(total, max(progress.cap_nanos, progress.cost_nanos))


def _cost_per_task(progress: ProgressCounts) -> float | None:
    """The mean of the tasks that are done. The plan counts for `PLAN_WEIGHT` further tasks."""
    done, paid = progress.done - progress.before, float(progress.cost_nanos)
    if progress.plan is not None and progress.plan.tasks:
        done += PLAN_WEIGHT
        paid += PLAN_WEIGHT * progress.plan.expected_nanos / progress.plan.tasks
    return paid / done if done else None


def remaining_s(pool: PoolSnapshot, progress: ProgressCounts) -> float | None:
    """Seconds until all tasks are done, or until a cap ends the run; None if unknown."""
    if progress.total is None:
        return None
    left = _affordable_tasks(progress, progress.total - progress.done)
    if not left:
        return 0.0
    if progress.done - progress.before < ENOUGH_DONE:
        return _by_plan(pool, progress)
    return _time_for(left, list(_sources(pool, progress)))


def _affordable_tasks(progress: ProgressCounts, left: int) -> float:
    """How many of the tasks that are left the cap pays for."""
    per_task = _cost_per_task(progress)
    if progress.cap_nanos is None or not per_task:
        return left
    return min(left, max(0.0, progress.cap_nanos - progress.cost_nanos) / per_task)


def _by_plan(pool: PoolSnapshot, progress: ProgressCounts) -> float | None:
    if progress.plan is None:
        return None
    left = progress.plan.duration_s - (pool.at - progress.started_at)
    return left if left > 0 else None


@dataclass(slots=True)
class _Source:
    """One provider: `rate` tasks per second from `ready_s` on; `today` more until `reset_s`, then `a_day`."""

    rate: float
    ready_s: float
    today: float = math.inf
    a_day: float = math.inf
    reset_s: float = math.inf

    def works_at(self, now_s: float) -> bool:
        return self.ready_s <= now_s and self.today > 0

    def advance(self, seconds: float, now_s: float) -> None:
        """Let time pass up to `now_s`."""
        if self.works_at(now_s - seconds):
            self.today = max(0.0, self.today - self.rate * seconds)
            if self.today < 1e-6:
                self.today = 0.0
        if now_s >= self.reset_s:
            self.today, self.reset_s = self.a_day, self.reset_s + DAY_S

    def next_change_s(self, now_s: float) -> float:
        """When it next starts or stops."""
        if self.ready_s > now_s:
            return self.ready_s
        if self.today > 0:
            return now_s + self.today / self.rate
        return self.reset_s


def _sources(pool: PoolSnapshot, progress: ProgressCounts) -> Iterator[_Source]:
    for provider in pool.providers:
        if provider.state in INACTIVE:
            continue
        ready_s = max(0.0, (provider.until or pool.at) - pool.at)
        held = ready_s > LONG_HOLD_S
        rate = (progress.best_rate if held else progress.rate)(provider.name)
        day = _daily(provider)
        if day is not None and day.level < 1:
            rate = progress.best_rate(provider.name)
        if rate > 0:
            yield _source(rate, ready_s if held else 0.0, day, pool.at)


def _source(rate: float, ready_s: float, day: LimitGauge | None, now: float) -> _Source:
    if day is None:
        return _Source(rate, ready_s)
    if day.per_minute < day.capacity:  # it refills continuously and has no reset
        steady = day.per_minute / 60.0
        return _Source(rate if day.level >= 1 else min(rate, steady), ready_s)
    return _Source(rate, ready_s, max(0.0, day.level), day.capacity, next_midnight_pacific(now) - now)


def _daily(provider: ProviderSnapshot) -> LimitGauge | None:
    days = [gauge for gauge in provider.limits if gauge.window_s > 3600.0]
    return min(days, key=lambda gauge: gauge.level, default=None)


def _time_for(left: float, sources: list[_Source]) -> float | None:
    """Seconds until `left` tasks are done at the rate of all sources together."""
    now_s = 0.0
    for _ in range(MAX_DAYS * max(1, len(sources))):
        rate = sum(source.rate for source in sources if source.works_at(now_s))
        change_s = min((source.next_change_s(now_s) for source in sources), default=math.inf)
        if rate and now_s + left / rate <= change_s:
            return now_s + left / rate
        if change_s == math.inf:
            return None
        left -= rate * (change_s - now_s)
        for source in sources:
            source.advance(change_s - now_s, change_s)
        now_s = change_s
    return None
