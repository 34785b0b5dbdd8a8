"""The pool as of the orchestrator's last snapshot: orchestrator, providers, agents, reasons to wait.

Without a running orchestrator this is the last snapshot with its age, and without any snapshot the
configuration. Weights and pauses come from the settings, which are newer than any snapshot.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from ...core.store import Leader, OrchestratorRow
from ...core.weight_changes import WEIGHTS, WeightChanges
from ...records import AgentSnapshot, PoolSnapshot, ProviderCondition, ProviderSnapshot, WorkerSnapshot
from ...routing.health.scoring import LATENCIES_KEPT, final_score, neutral_response_s, shares
from ...routing.state import agent_rows
from ..context import SUMS_FRESH_S, AppContext
from .pool_views import AgentView, GaugeView, OrchestratorView, PoolView, ProviderView, WaitView
from .usage import Totals, hour_of_latency, last_day_by, today_by_provider, total_by_provider, totals

SILENT_AFTER_S = 10.0  # without a heartbeat, which is written every second
UNAVAILABLE_STATES = frozenset(
    {
        ProviderCondition.OPEN,
        ProviderCondition.EXHAUSTED,
        ProviderCondition.MISCONFIGURED,
        ProviderCondition.OFFLINE,
        ProviderCondition.PAUSED,
        ProviderCondition.NOT_CONFIGURED,
    }
)


def pool_view(context: AppContext) -> PoolView:
    """The pool now; at most half a second old."""
    return context.cache.get("pool", lambda: _pool_view(context))


def callable_providers(context: AppContext) -> Collection[str]:
    """The providers that tasks can go to: those of the running orchestrator, else the configured ones."""
    snapshot, row = context.store.orchestrators.latest_snapshot()
    if (
        snapshot is None
        or not orchestrator_view(row, context.store.leadership.leader(), context.now()).running
    ):
        return context.configured
    return {
        provider.name
        for provider in snapshot.providers
        if provider.state is not ProviderCondition.NOT_CONFIGURED
    }


def orchestrator_view(row: OrchestratorRow | None, leader: Leader, now: float) -> OrchestratorView:
    """Whether an orchestrator runs, and which."""
    if row is None:
        return OrchestratorView("never", "", None, "", "", None, None, None)
    # Clocks of two hosts are not compared: across hosts only the lease counts, by the database's clock.
    silent = not leader.is_at_work(row) or (leader.one_host and now - row.heartbeat_at > SILENT_AFTER_S)
    state = "stopped" if row.retired_at is not None else "silent" if silent else "running"
    age_s = max(0.0, now - row.heartbeat_at)
    lease_age_s = leader.renewed_ago_s if state == "running" else None
    return OrchestratorView(
        state, row.mode, row.pid, row.host, row.batch, row.started_at, row.heartbeat_at, age_s,
        None if lease_age_s is None else leader.lease_s, lease_age_s,
    )  # fmt: skip


def leads(context: AppContext) -> bool:
    """Whether the orchestrator that started these pages leads."""
    leader = context.cache.get("leader", context.store.leadership.leader)
    return leader.alive and bool(context.orchestrator) and leader.holder == context.orchestrator


def _pool_view(context: AppContext) -> PoolView:
    now = context.now()
    snapshot, row = context.store.orchestrators.latest_snapshot()
    orchestrator = orchestrator_view(row, context.store.leadership.leader(), now)
    shown = _with_settings(snapshot or _from_configuration(context, now), context)
    sums = context.cache.get("sums", lambda: _sums(context, now), SUMS_FRESH_S)
    views = tuple(_provider_view(provider, sums) for provider in shown.providers)
    live = orchestrator.running and snapshot is not None
    return PoolView(
        now=now,
        at=snapshot.at if snapshot else None,
        simulated=context.simulated,
        orchestrator=orchestrator,
        providers=views,
        agents=tuple(_agent_view(agent, live) for agent in shown.agents),
        waiting=shown.waiting if live else 0,
        in_flight=shown.in_flight if live else 0,
        waiting_for=tuple(map(WaitView.of, shown.waiting_for)) if live else (),
        oldest_waiting_at=shown.oldest_waiting_at if live else None,
        offline_since=shown.offline_since if live else None,
        rows_in_flight=shown.rows_in_flight if live else (),
        workers=_workers(shown, live),
        standbys=context.store.standbys.present(),
    )


def _workers(shown: PoolSnapshot, live: bool) -> tuple[WorkerSnapshot, ...]:
    return shown.workers if live else ()


class _Sums(NamedTuple):
    """By provider: calls of the last day, of today, and all; mean latency by minute of the last hour."""

    last_day: dict[str, Totals]
    today: dict[str, Totals]
    total: dict[str, Totals]
    hour: dict[str, tuple[float | None, ...]]


def _sums(context: AppContext, now: float) -> _Sums:
    last_day = last_day_by(context, now, "provider")
    return _Sums(
        {name: totals(sums) for (name,), sums in last_day.items()},
        today_by_provider(context, now),
        total_by_provider(context),
        hour_of_latency(context, now),
    )


def _from_configuration(context: AppContext, now: float) -> PoolSnapshot:
    """The configured pool in unknown state, before any orchestrator has run."""
    settings = context.settings
    providers = tuple(_unseen(context, name, row.weight) for name, row in settings.providers.items())
    agents = tuple(
        AgentSnapshot(name, row.home, tuple(sorted(row.task_types)), 0, row.calls_in_flight, 0)
        for name, row in agent_rows(settings.agents)
    )
    return PoolSnapshot(now, providers, agents, 0, 0)


def _unseen(context: AppContext, name: str, weight: float) -> ProviderSnapshot:
    state, reason = ProviderCondition.UNKNOWN, "no call yet"
    if name not in context.configured:
        state, reason = ProviderCondition.NOT_CONFIGURED, context.settings.providers[name].why_not_configured
    return ProviderSnapshot(
        name, state, reason, None, weight, weight, 1.0, 1.0, 0.0, 0.0, None, None, None,
        0, 0, 0, 0, 0, 0, 0, 0,
    )  # fmt: skip


def weight_changes(context: AppContext) -> WeightChanges:
    """The weights of this application's store."""
    return WeightChanges(context.store, context.settings)


def _with_settings(snapshot: PoolSnapshot, context: AppContext) -> PoolSnapshot:
    """The snapshot with the current weights and pauses, in the order of the configuration."""
    stored = context.store.controls.current_settings()
    weights = weight_changes(context).with_stored(stored.get(WEIGHTS))
    paused = set(stored.get("paused", ()))
    by_name = {provider.name: provider for provider in snapshot.providers}
    found, has_paused = [], False
    for name in weights:
        provider = by_name.get(name) or _unseen(context, name, weights[name])
        if name in paused and provider.state is not ProviderCondition.NOT_CONFIGURED:
            has_paused |= provider.state is not ProviderCondition.PAUSED  # since the snapshot
            provider = replace(provider, state=ProviderCondition.PAUSED, reason="paused by hand", until=None)
        found.append(provider)
    if has_paused or any(
        provider.weight != weights[provider.name] or not provider.share for provider in found
    ):
        found = _reweighed(found, weights)
    return replace(snapshot, providers=tuple(found))


def _reweighed(providers: list[ProviderSnapshot], weights: Mapping[str, float]) -> list[ProviderSnapshot]:
    scores = scores_of(providers, weights)
    share = shares({p.name: scores[p.name] for p in providers if p.state not in UNAVAILABLE_STATES})
    return [
        replace(p, weight=weights[p.name], score=scores[p.name], share=share.get(p.name, 0.0))
        for p in providers
    ]


def scores_of(
    providers: list[ProviderSnapshot] | tuple[ProviderView, ...], weights: Mapping[str, float]
) -> dict[str, float]:
    """The score of each provider under `weights`."""
    neutral = neutral_response_s([p.avg_response_s for p in providers])
    found = {}
    for p in providers:
        response_s = neutral if p.avg_response_s is None else p.avg_response_s
        found[p.name] = final_score(weights[p.name], p.error_rate, response_s)
    return found


def _provider_view(p: ProviderSnapshot, sums: _Sums) -> ProviderView:
    today = sums.today.get(p.name, Totals())
    return ProviderView(
        name=p.name,
        state=p.state,
        reason=p.reason,
        until=p.until,
        configured=p.state is not ProviderCondition.NOT_CONFIGURED,
        weight=p.weight,
        score=p.score,
        performance_multiplier=p.performance_multiplier,
        time_multiplier=p.time_multiplier,
        share=p.share,
        error_rate=p.error_rate,
        success_rate=today.success_rate,
        avg_response_s=p.avg_response_s,
        p50_s=p.p50_s if p.p50_s is not None else today.p50_s,
        p95_s=p.p95_s if p.p95_s is not None else today.p95_s,
        latency_window="today" if p.p50_s is None else f"last {LATENCIES_KEPT} answers",
        in_flight=p.in_flight,
        concurrency_limit=p.concurrency_limit,
        last_day=sums.last_day.get(p.name, Totals()),
        today=today,
        total=sums.total.get(p.name, Totals()),
        latency_last_hour_s=sums.hour.get(p.name, ()),
        limits=tuple(_gauge_view(gauge) for gauge in p.limits),
        errors=p.errors,
        models=p.models,
        opened_count=p.opened_count,
    )


def _gauge_view(gauge: Any) -> GaugeView:
    fill = min(1.0, max(0.0, gauge.level / gauge.capacity)) if gauge.capacity > 0 else 0.0
    return GaugeView(
        gauge.group,
        gauge.dimension,
        gauge.level,
        gauge.capacity,
        fill,
        gauge.per_minute,
        gauge.window_s,
        gauge.source,
    )


def _agent_view(agent: AgentSnapshot, live: bool) -> AgentView:
    in_flight = agent.in_flight if live else 0
    return AgentView(
        agent.name, agent.home, agent.task_types, in_flight, agent.slots, agent.done, agent.served
    )
