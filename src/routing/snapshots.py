"""The state of the pool as values for pages. Nothing here decides or changes anything."""

from __future__ import annotations

from ..records import AgentSnapshot, PoolSnapshot, ProviderCondition, ProviderSnapshot
from .eligibility import Eligibility
from .health.scoring import shares
from .registry import Registry
from .state import ProviderState
from .status import Condition


def pool_snapshot(registry: Registry, eligibility: Eligibility, now: float) -> PoolSnapshot:
    """All providers and agents at `now`, waiting tasks left out."""
    live = {
        p.name: p.score * p.breaker.slow_start_share(now)
        for p in registry.providers
        if eligibility.of_provider(p, now) is None or p.in_flight
    }
    share = shares(live)
    found = tuple(
        _provider(p, share.get(p.name, 0.0), registry.status.condition(p, now), now)
        for p in registry.providers
    )
    missing = tuple(
        _not_configured(name, config.weight, config.why_not_configured)
        for name, config in registry.settings.providers.items()
        if name not in registry.by_name
    )
    agents = tuple(
        AgentSnapshot(
            a.name, a.home, tuple(sorted(a.task_types)), a.in_flight, a.slots, a.done, dict(a.served)
        )
        for a in registry.agents.values()
    )
    return PoolSnapshot(
        now, found + missing, agents, 0, len(registry.permits), offline_since=registry.network.offline_since
    )


def _provider(p: ProviderState, share: float, condition: Condition, now: float) -> ProviderSnapshot:
    quantiles = p.history.exact_quantiles()
    gauges = tuple(gauge for group in p.groups.values() for gauge in group.gauges(now))
    return ProviderSnapshot(
        name=p.name,
        state=condition.state,
        reason=condition.reason,
        until=condition.until,
        weight=p.weight,
        score=p.score,
        performance_multiplier=p.performance_multiplier,
        time_multiplier=p.time_multiplier,
        share=share,
        error_rate=p.history.error_rate,
        avg_response_s=p.history.avg_response_s,
        p50_s=quantiles[0] if quantiles else None,
        p95_s=quantiles[1] if quantiles else None,
        in_flight=p.in_flight,
        calls=p.statistics.calls,
        succeeded=p.statistics.succeeded,
        failed=p.statistics.failed,
        neutral=p.statistics.neutral,
        prompt_tokens=p.statistics.prompt_tokens,
        output_tokens=p.statistics.output_tokens,
        cost_nanos=p.statistics.cost_nanos,
        limits=gauges,
        errors=tuple(reversed(p.statistics.errors.values())),
        models=tuple(p.models),
        opened_count=p.breaker.opened_count,
        concurrency_limit=p.concurrency.limit,
    )


def _not_configured(name: str, weight: float, why: str) -> ProviderSnapshot:
    return ProviderSnapshot(
        name, ProviderCondition.NOT_CONFIGURED, why, None, weight, 0.0, 1.0, 1.0, 0.0, 0.0, None, None, None,
        0, 0, 0, 0, 0, 0, 0, 0,
    )  # fmt: skip
