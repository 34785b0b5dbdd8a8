"""The balancer's state as values for pages: nothing here decides or changes anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..records import AgentSnapshot, PoolSnapshot, ProviderSnapshot, RefusalKind
from ..refusal_text import refusal_text
from ..settings import Settings
from .breaker import BreakerState
from .scoring import shares
from .state import ProviderState

if TYPE_CHECKING:
    from .balancer import ProviderLoadBalancer

DEGRADED_ERROR_RATE = 0.1


def provider_condition(
    provider: ProviderState, offline_since: float | None, now: float, settings: Settings
) -> tuple[str, str, float | None]:
    """(state, reason, until): the one word a page shows, the gravest first."""
    breaker = provider.breaker
    breaker.tick(now)
    if provider.paused:
        return "paused", "paused by hand", None
    if provider.key.rejection:
        return "misconfigured", provider.key.rejection, None
    if offline_since is not None:
        return "offline", "no provider can be reached", None
    if provider.quota.until:
        spent = refusal_text(RefusalKind.QUOTA_SPENT, provider.quota.code)
        return "exhausted", spent, provider.quota.until
    if breaker.state is BreakerState.OPEN:
        return "open", breaker.reason, breaker.open_until
    if breaker.state is BreakerState.HALF_OPEN:
        return "half_open", "one probe decides", None
    silent_since = provider.silent_since(now, settings.routing.stall_timeout_s)
    if silent_since is not None:
        return "suspect", f"{provider.in_flight} calls out, nothing back for {now - silent_since:.0f} s", None
    return _milder_condition(provider, now)


def _milder_condition(provider: ProviderState, now: float) -> tuple[str, str, float | None]:
    holds = [g for g in provider.groups.values() if now < g.held_until]
    if holds:
        # Long to its end: neither its last hour nor another model's short hold means that it is back.
        long = [g for g in holds if g.held_long]
        first = min(long or holds, key=lambda g: g.held_until)
        why = refusal_text(first.held_kind, first.held_detail)
        return ("exhausted" if long else "limited"), f"{first.name}: {why}", first.held_until
    if provider.history.error_rate > DEGRADED_ERROR_RATE:
        return "degraded", f"{provider.history.error_rate:.0%} of recent calls failed", None
    if provider.breaker.ramp(now) < 1.0:
        return "degraded", "recovering: its share grows back", None
    return "healthy", "", None


def pool_snapshot(balancer: ProviderLoadBalancer, now: float) -> PoolSnapshot:
    """All providers and agents at `now`."""
    settings = balancer.settings
    live = {
        p.name: p.score * p.breaker.ramp(now)
        for p in balancer.providers
        if balancer.gate(p, now) is None or p.in_flight
    }
    share = shares(live)
    found = tuple(
        _provider(p, share.get(p.name, 0.0), balancer.offline_since, now, settings)
        for p in balancer.providers
    )
    missing = tuple(
        _not_configured(name, config.weight, config.why_not_configured)
        for name, config in settings.providers.items()
        if name not in balancer.by_name
    )
    agents = tuple(
        AgentSnapshot(a.name, a.home, tuple(sorted(a.task_types)), a.in_flight, a.slots, a.done)
        for a in balancer.agents.values()
    )
    return PoolSnapshot(
        now, found + missing, agents, 0, balancer.in_flight, offline_since=balancer.offline_since
    )


def _provider(
    p: ProviderState, share: float, offline_since: float | None, now: float, settings: Settings
) -> ProviderSnapshot:
    state, reason, until = provider_condition(p, offline_since, now, settings)
    quantiles = p.history.quantiles()
    gauges = tuple(gauge for group in p.groups.values() for gauge in group.gauges(now))
    return ProviderSnapshot(
        name=p.name,
        state=state,
        reason=reason,
        until=until,
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
        last_errors=tuple(p.statistics.last_errors),
        models=tuple(p.models),
        opened_count=p.breaker.opened_count,
        concurrency_limit=p.concurrency.limit,
    )


def _not_configured(name: str, weight: float, why: str) -> ProviderSnapshot:
    return ProviderSnapshot(
        name, "not_configured", why, None, weight, 0.0, 1.0, 1.0, 0.0, 0.0, None, None, None,
        0, 0, 0, 0, 0, 0, 0, 0,
    )  # fmt: skip
