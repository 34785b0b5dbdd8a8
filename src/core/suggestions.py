"""Base weights proposed from what the last day showed, each candidate replayed before it is proposed.

The recorded traffic (tasks per minute and type) runs through `routing/` in virtual time under each candidate,
with providers as fast, as reliable and as dear as they were, and under the limits that are told or learned;
where none is known, ample ones, since a replay can't find them out. Proposed is the cheapest of those that
take at most a tenth longer per task than the quickest.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from ..records import Message, Task, TaskStatus, Usage
from ..routing.balancer import ProviderLoadBalancer
from ..routing.buckets import REQUESTS
from ..routing.estimates import CHARS_PER_TOKEN
from ..routing.virtual import VirtualRun
from ..settings import TIERS, Settings
from .forecast import Forecast, Record, record_of
from .planning import LearnedLimits, take_limits
from .store import Store

DAY_S = 86_400.0
SLOWER_AT_MOST = 1.1
REPLAY_AT_MOST = 20_000  # tasks; of more, every n-th is replayed


@dataclass(frozen=True, slots=True)
class Candidate:
    """One set of base weights and what the replayed day would have come to under it."""

    name: str
    weights: Mapping[str, float]
    cost_nanos: int
    mean_s: float  # from a task's arrival to its end
    answered: int
    tasks: int
    calls: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """The candidates, the proposed one first, and what was replayed."""

    candidates: tuple[Candidate, ...]
    tasks: int
    sampled: int  # every n-th task was replayed
    records: Mapping[tuple[str, str], Record]  # by (provider, task type): why

    @property
    def proposed(self) -> Candidate:
        return self.candidates[0]


def suggest_weights(
    store: Store,
    settings: Settings,
    configured: Collection[str],
    *,
    now: float,
    span_s: float = DAY_S,
    learned: LearnedLimits | None = None,
) -> Suggestion | None:
    """Replay the last `span_s` seconds under every candidate. None: nothing was answered in them."""
    learned = learned or {}
    start = now - span_s
    forecast = Forecast.from_store(store, start, now, failures=True)
    if not forecast.is_known:
        return None
    total = sum(row.sums.ok for row in store.usage(start, now, ()))
    every = max(1, total // REPLAY_AT_MOST)
    tasks = list(_recorded_tasks(store, settings, start, now, every))
    found = []
    prices = _prices(store, settings, configured, forecast, start, now)
    for name, weights in _candidates(settings, configured, forecast, learned, prices).items():
        replayed = Forecast.from_store(store, start, now, failures=True)
        found.append(_replay(name, weights, tasks, settings, configured, replayed, start, learned))
    quickest = min(c.mean_s for c in found)
    found.sort(key=lambda c: (c.mean_s > quickest * SLOWER_AT_MOST, c.cost_nanos, c.mean_s))
    return Suggestion(tuple(found), total, every, _reasons(store, start, now, configured))


def _recorded_tasks(store: Store, settings: Settings, start: float, end: float, every: int) -> Iterator[Task]:
    """Tasks as many, of the types, tiers and sizes, and in the minutes in which they were answered."""
    tiers = _tiers(settings)
    number = 0
    for row in store.usage(start, end, ("minute", "task_type", "submitter", "model")):
        minute, task_type, submitter, model = row.key
        answers = row.sums.ok
        if not answers:
            continue
        chars = max(1, int(row.sums.prompt_tokens / answers * CHARS_PER_TOKEN))
        for i in range(answers):
            number += 1
            if number % every == 0:
                at = float(minute) + 60.0 * i / answers
                message = Message("user", "x" * chars)
                yield Task(
                    str(number),
                    "replay",
                    (message,),
                    task_type=str(task_type),
                    tier=tiers.get(str(model), "auto"),
                    submitter=str(submitter),
                    created_at=at,
                )


def _candidates(
    settings: Settings,
    configured: Collection[str],
    forecast: Forecast,
    learned: LearnedLimits,
    prices: Mapping[str, float],
) -> dict[str, dict[str, float]]:
    """The sets of weights that are compared, each summing to 1."""
    rows = {name: row for name, row in settings.providers.items() if name in configured}
    records = {name: forecast.record(name, "", "") for name in rows}
    speed = {n: r.success / r.latency_s if r and r.latency_s > 0 else 0.0 for n, r in records.items()}
    room = {n: _requests_per_minute(settings, n, learned) for n in rows}
    sets = {
        "as configured": {name: row.weight for name, row in rows.items()},
        "equal": dict.fromkeys(rows, 1.0),
        "by performance": speed,
    }
    known = {n: per_minute for n, per_minute in room.items() if per_minute is not None}
    if len(known) == len(rows):  # else one of which nothing is known would seem to have no room
        sets["by headroom"] = known
    normalised = {}
    for name, weights in sets.items():
        total = sum(weights.values())
        if total > 0:
            normalised[name] = {n: w / total for n, w in weights.items()}
    normalised["by price"] = _by_price(normalised.values(), prices)
    return normalised


def _by_price(others: Collection[Mapping[str, float]], prices: Mapping[str, float]) -> dict[str, float]:
    """The cheapest weights in the range of the other candidates.

    Each provider keeps the smallest weight that another candidate gives it; the cheapest gets the rest. As
    cost is linear in the weights, no other candidate costs less.
    """
    weights = {name: min(each[name] for each in others) for name in prices}
    weights[min(prices, key=lambda name: prices[name])] += 1.0 - sum(weights.values())
    return weights


def _requests_per_minute(settings: Settings, provider: str, learned: LearnedLimits) -> float | None:
    """Those of its standard model, told or learned; None: nobody knows."""
    balancer = ProviderLoadBalancer(settings, now=0.0, configured=[provider])
    state = balancer.by_name[provider]
    state.learned = learned.get(provider, {})
    group = state.model(settings.resolve_model(state.config.models.standard)[0], settings, 0.0).group
    sure = [g for g in group.gauges(0.0) if g.dimension == REQUESTS and g.source in ("told", "learned")]
    return sure[0].per_minute if sure else None


def _prices(
    store: Store,
    settings: Settings,
    configured: Collection[str],
    forecast: Forecast,
    start: float,
    end: float,
) -> dict[str, float]:
    """What the recorded traffic would cost if one provider answered all of it, by provider.

    Nano-dollars, each task on its tier's model there; infinite if the price of one is unknown.
    """
    balancer = ProviderLoadBalancer(settings, now=start, configured=configured)
    tiers = _tiers(settings)
    prices = dict.fromkeys((p.name for p in balancer.providers if p.name in configured), 0.0)
    for row in store.usage(start, end, ("task_type", "model")):
        task_type, tier = str(row.key[0]), tiers.get(str(row.key[1]), "standard")
        for name in prices:
            provider = balancer.by_name[name]
            model_name = settings.resolve_model(provider.config.models.of(tier))[0]
            model = provider.model(model_name, settings, start)
            price = balancer.registry.price_of(provider, model, start)
            record = forecast.record(name, model_name, task_type)
            if price is None:
                prices[name] = math.inf
            elif record is not None:
                usage = Usage(round(record.prompt_tokens), output_tokens=round(record.output_tokens))
                prices[name] += row.sums.ok * price.cost_nanos(usage)
    return prices


def _tiers(settings: Settings) -> dict[str, str]:
    """The tier of each model that a tier names."""
    rows = settings.providers.values()
    return {settings.resolve_model(row.models.of(tier))[0]: tier for row in rows for tier in TIERS}


def _replay(
    name: str,
    weights: Mapping[str, float],
    tasks: list[Task],
    settings: Settings,
    configured: Collection[str],
    forecast: Forecast,
    start: float,
    learned: LearnedLimits,
) -> Candidate:
    settings = settings.without_caches()
    balancer = ProviderLoadBalancer(settings, now=start, configured=configured)
    take_limits(balancer, learned)
    balancer.assume_full_concurrency()
    balancer.set_weights(weights, start)
    ordered = sorted(tasks, key=lambda task: task.created_at)
    report = VirtualRun(balancer, settings, forecast, timed=True).run(ordered, start)
    return Candidate(
        name,
        weights,
        report.total_nanos,
        report.mean_turnaround_s,
        report.statuses[TaskStatus.SUCCEEDED],
        len(tasks),
        report.calls,
    )


def _reasons(
    store: Store, start: float, end: float, configured: Collection[str]
) -> dict[tuple[str, str], Record]:
    """Success, latency and tokens by (provider, task type), as they were: of one answer, too."""
    found = {}
    for row in store.usage(start, end, ("provider", "task_type")):
        provider, task_type = str(row.key[0]), str(row.key[1])
        record = record_of([row.sums])
        if record is not None and provider in configured:
            found[provider, task_type] = record
    return found
