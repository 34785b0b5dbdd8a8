"""Suggests base weights: candidates are replayed on recorded traffic, and the best one is proposed.

The recorded traffic (tasks per minute and type) runs through `routing/` in virtual time under each candidate,
with providers as fast, as reliable and as expensive as they were, and under the limits that are configured
or learned. A provider without a known limit gets ample ones, since a replay cannot find them out. The
proposal is the cheapest of the candidates that take at most a tenth longer per task than the quickest.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from ..messages import Message
from ..records import LimitSource, Task, TaskStatus, Usage
from ..routing.limits.estimator import CHARS_PER_TOKEN
from ..routing.limits.token_bucket import REQUESTS
from ..routing.simulation import VirtualRun
from ..settings import TIERS, Settings
from .forecast import Forecast, Record, record_of
from .store import Store
from .virtual_pool import VirtualPool, assume_ample_limits
from .weight_changes import WeightChanges, Weights, normalised

DAY_S = 86_400.0
SLOWER_AT_MOST = 1.1
IN_FORCE = "in force"  # a candidate
REPLAY_AT_MOST = 20_000  # tasks; of more, every n-th is replayed


@dataclass(frozen=True, slots=True)
class Candidate:
    """One set of base weights, and what the replayed traffic would have cost and taken under it."""

    name: str
    weights: Weights
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
    records: Mapping[tuple[str, str], Record]  # by (provider, task type): the reasons

    @property
    def proposed(self) -> Candidate:
        """The cheapest candidate that is quick enough."""
        return self.candidates[0]

    @property
    def compared(self) -> tuple[Candidate, ...]:
        """The candidates with the weights in force first, then in their order."""
        return tuple(sorted(self.candidates, key=lambda each: each.name != IN_FORCE))


@dataclass(frozen=True, slots=True)
class _Span:
    """Recorded traffic between two moments, epoch seconds."""

    store: Store
    start: float
    end: float

    def forecast(self) -> Forecast:
        """A new one for each replay: it draws from its own random numbers."""
        return Forecast.from_store(self.store, self.start, self.end, failures=True)


def suggest_weights(
    store: Store, pool: VirtualPool, *, now: float, span_s: float = DAY_S
) -> Suggestion | None:
    """Replay the last `span_s` seconds under every candidate. None: no call was answered in them."""
    span = _Span(store, now - span_s, now)
    forecast = span.forecast()
    if not forecast.is_known:
        return None
    total = sum(row.sums.ok for row in store.reports.usage(span.start, span.end, ()))
    every = max(1, total // REPLAY_AT_MOST)
    tasks = list(_recorded_tasks(span, pool.settings, every))
    candidates = _candidates(span, pool, forecast)
    found = [_replay(name, weights, tasks, pool, span) for name, weights in candidates.items()]
    quickest = min(c.mean_s for c in found)
    found.sort(key=lambda c: (c.mean_s > quickest * SLOWER_AT_MOST, c.cost_nanos, c.mean_s))
    return Suggestion(tuple(found), total, every, _reasons(span, pool.configured))


def _recorded_tasks(span: _Span, settings: Settings, every: int) -> Iterator[Task]:
    """As many tasks as were answered, of the same types, tiers and sizes, arriving in the same minutes."""
    tiers = _tiers(settings)
    number = 0
    for row in span.store.reports.usage(span.start, span.end, ("minute", "task_type", "submitter", "model")):
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


def _candidates(span: _Span, pool: VirtualPool, forecast: Forecast) -> dict[str, dict[str, float]]:
    """The sets of weights to compare, each summing to 1."""
    weights, configured = WeightChanges(span.store, pool.settings), pool.configured
    sets: dict[str, Weights] = {
        IN_FORCE: _only(weights.in_force(), configured),
        "as configured": _only(weights.configured, configured),
        "equal": dict.fromkeys(_only(weights.configured, configured), 1.0),
        "by performance": {name: _answers_per_second(forecast.record(name, "", "")) for name in configured},
    }
    if sets[IN_FORCE] == sets["as configured"]:
        del sets["as configured"]
    paces = {name: _requests_per_minute(pool, name) for name in configured}
    known = {name: pace for name, pace in paces.items() if pace is not None}
    if len(known) == len(configured):  # else a provider with an unknown limit would seem to have none left
        sets["by headroom"] = known
    found = {name: normalised(each) for name, each in sets.items() if sum(each.values()) > 0}
    found["by price"] = weights_by_price(found.values(), _prices(span, pool, forecast))
    return found


def _only(weights: Weights, configured: Collection[str]) -> dict[str, float]:
    return {name: weight for name, weight in weights.items() if name in configured}


def _answers_per_second(record: Record | None) -> float:
    """Of one call after the other; 0 without a record."""
    return record.success / record.latency_s if record and record.latency_s > 0 else 0.0


def weights_by_price(others: Collection[Weights], prices: Mapping[str, float]) -> dict[str, float]:
    """The cheapest weights in the range of the other sets, each of which sums to 1.

    Each provider keeps the smallest weight that another set gives it; the cheapest gets the rest. As cost is
    linear in the weights, none of the other sets costs less.
    """
    weights = {name: min(each[name] for each in others) for name in prices}
    weights[min(prices, key=lambda name: prices[name])] += 1.0 - sum(weights.values())
    return weights


def prices_of_traffic(
    store: Store, pool: VirtualPool, *, now: float, span_s: float = DAY_S
) -> dict[str, float]:
    """What the traffic of the last `span_s` seconds would cost at each provider alone, in nano-dollars.

    Infinite if a price is unknown; empty if no call was answered.
    """
    span = _Span(store, now - span_s, now)
    forecast = span.forecast()
    return _prices(span, pool, forecast) if forecast.is_known else {}


def _requests_per_minute(pool: VirtualPool, provider: str) -> float | None:
    """The limit of its standard model, configured or learned; None: unknown."""
    state = pool.balancer(0.0).by_name[provider]
    model = pool.settings.resolve_model(state.config.models.standard)[0]
    group = state.model(model, pool.settings, 0.0).group
    sure = [g for g in group.gauges(0.0) if g.dimension == REQUESTS and g.source is not LimitSource.INFERRED]
    return sure[0].per_minute if sure else None


def _prices(span: _Span, pool: VirtualPool, forecast: Forecast) -> dict[str, float]:
    """What the recorded traffic would cost if one provider answered all of it, by provider.

    Nano-dollars, each task on its tier's model there; infinite if the price of one is unknown.
    """
    settings, balancer = pool.settings, pool.balancer(span.start)
    tiers = _tiers(settings)
    prices = dict.fromkeys((p.name for p in balancer.providers if p.name in pool.configured), 0.0)
    for row in span.store.reports.usage(span.start, span.end, ("task_type", "model")):
        task_type, tier = str(row.key[0]), tiers.get(str(row.key[1]), "standard")
        for name in prices:
            provider = balancer.by_name[name]
            model_name = settings.resolve_model(provider.config.models.of(tier))[0]
            model = provider.model(model_name, settings, span.start)
            price = balancer.registry.price_of(provider, model, span.start)
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


def _replay(name: str, weights: Weights, tasks: list[Task], pool: VirtualPool, span: _Span) -> Candidate:
    balancer = pool.balancer(span.start)
    assume_ample_limits(balancer)
    balancer.assume_full_concurrency()
    balancer.set_weights(weights, span.start)
    ordered = sorted(tasks, key=lambda task: task.created_at)
    run = VirtualRun(balancer, balancer.settings, span.forecast(), timed=True)
    report = run.run(ordered, span.start)
    return Candidate(
        name,
        weights,
        report.total_nanos,
        report.mean_turnaround_s,
        report.statuses[TaskStatus.SUCCEEDED],
        len(tasks),
        report.calls,
    )


def _reasons(span: _Span, configured: Collection[str]) -> dict[tuple[str, str], Record]:
    """Success, latency and tokens by (provider, task type), of a single answer too."""
    found = {}
    for row in span.store.reports.usage(span.start, span.end, ("provider", "task_type")):
        provider, task_type = str(row.key[0]), str(row.key[1])
        record = record_of([row.sums])
        if record is not None and provider in configured:
            found[provider, task_type] = record
    return found
