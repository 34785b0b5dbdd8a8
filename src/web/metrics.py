"""`/metrics` for Prometheus: counters from the sums of the store, gauges from the orchestrator's snapshot.

Nothing is counted in this process, so each process of pages that serves a database shows the same figures,
and a restart sets no counter back. Labels have few values: providers and models of the configuration and of
the price lists, submitters with a token or a budget. Other models and submitters are `other`; a call without
a submitter is the orchestrator's own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from ..core.store import CallSums
from ..core.store.histogram import upper_bounds_s
from ..model_catalogue import listed_models
from ..records import (
    LOCAL,
    NANOS_PER_USD,
    OPEN_STATUSES,
    Outcome,
    ProviderCondition,
    RefusalKind,
    TaskStatus,
)
from ..settings import TIERS
from ..tokens import OWNER
from .batch_metrics import provider_batch_metrics
from .context import AppContext, app_context
from .presenters.budgets import budget_views
from .presenters.pool import leads, pool_view
from .presenters.pool_views import PoolView

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

metrics = Blueprint("metrics", __name__)
TEXT_FRESH_S = 1.0
OTHER = "other"
BUCKET_EVERY = 2  # bins of the store's histogram
_OPEN_STATES = frozenset({ProviderCondition.OPEN, ProviderCondition.HALF_OPEN})
_NOT_CLAIMED = tuple(status for status in OPEN_STATUSES if status is not TaskStatus.RUNNING)
_PERIODS = {"day": "daily", "month": "monthly", "total": "total"}
Key = tuple[str, str, str]  # provider, model, submitter


@metrics.get("/metrics")
def scrape() -> Response:
    """The figures in the format that the client asks for."""
    text, kind = exposition_of(app_context(), request.headers.get("Accept", ""))
    return Response(text, content_type=kind)


def exposition_of(context: AppContext, accept: str) -> tuple[bytes, str]:
    """The figures and their content type: OpenMetrics where `accept` names it, or the older text format.

    Raises StoreError.
    """
    from prometheus_client import exposition, openmetrics

    wants_open = "application/openmetrics-text" in accept
    encode = openmetrics.exposition.generate_latest if wants_open else exposition.generate_latest
    kind = openmetrics.exposition.CONTENT_TYPE_LATEST if wants_open else exposition.CONTENT_TYPE_PLAIN_0_0_4
    text = context.cache.get(f"metrics {wants_open}", lambda: encode(Collector(context)), TEXT_FRESH_S)
    return text, kind


def _totals(context: AppContext) -> dict[Key, CallSums]:
    """The sums of all calls since the database was created."""
    found = context.past_usage.since(0.0, context.now(), ("provider", "model", "submitter"))
    return {(str(p), str(m), str(s)): sums for (p, m, s), sums in found.items()}


class Collector:
    """All metrics at the moment of `collect`. It belongs to no registry."""

    def __init__(self, context: AppContext) -> None:
        self._context = context

    def collect(self) -> Iterator[Metric]:
        """The metrics, as prometheus_client expects them. Raises StoreError."""
        context = self._context
        sums, view = _totals(context), pool_view(context)
        yield from _calls(context, sums)
        yield _waits(context)
        yield from _costs(context, sums)
        yield from _tasks(context, view)
        yield from provider_batch_metrics(context)
        yield from _budgets(context)
        yield from _providers(view)
        yield from _instance(context, view)


def _calls(context: AppContext, sums: dict[Key, CallSums]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

    of_models: defaultdict[tuple[str, str], CallSums] = defaultdict(CallSums)
    for (provider, model, _), each in sums.items():
        of_models[provider, _known(model, _models(context))] += each
    calls = CounterMetricFamily(
        "orchestrator_calls",
        "Calls to providers, by how they ended.",
        labels=["provider", "model", "outcome"],
    )
    durations = HistogramMetricFamily(
        "orchestrator_call_duration_seconds",
        "Time from the request to the answer, of answered calls.",
        labels=["provider", "model"],
    )
    for (provider, model), each in sorted(of_models.items()):
        for outcome in Outcome if each.calls else ():
            calls.add_metric([provider, model, str(outcome)], getattr(each, outcome))
        if each.ok:
            durations.add_metric([provider, model], _buckets(each.histogram), each.latency_us / 1e6)
    yield calls
    yield durations


def _waits(context: AppContext) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    found = context.store.reports.queue_waits()
    waits = HistogramMetricFamily(
        "orchestrator_queue_wait_seconds", "Time from the submission of a task to its first call."
    )
    waits.add_metric([], _buckets(found.histogram), found.wait_us / 1e6)
    return waits


def _buckets(histogram: tuple[int, ...]) -> list[tuple[str, float]]:
    """Upper bounds with the number of calls up to them. The last bin of the store has no bound."""
    counts = list(accumulate(histogram))
    bounded = zip(upper_bounds_s(), counts[:-1], strict=True)
    found = [(f"{bound:.4g}", float(n)) for bound, n in bounded][::BUCKET_EVERY]
    return [*found, ("+Inf", float(counts[-1]))]


def _costs(context: AppContext, sums: dict[Key, CallSums]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    certain: Counter[Key] = Counter()
    uncertain: Counter[str] = Counter()
    saved: Counter[str] = Counter()
    for (provider, model, submitter), each in sums.items():
        who = _known(submitter, _submitters(context)) if submitter else ""
        certain[provider, _known(model, _models(context)), who] += each.cost_nanos
        uncertain[provider] += each.uncertain_nanos
        saved[provider] += each.discount_nanos
    costs = CounterMetricFamily(
        "orchestrator_cost_usd",
        "Cost of calls with a known price.",
        labels=["provider", "model", "submitter"],
    )
    for labels, nanos in sorted(certain.items()):
        costs.add_metric(labels, nanos / NANOS_PER_USD)
    yield costs
    maybe = CounterMetricFamily(
        "orchestrator_uncertain_cost_usd",
        "What calls that were cut off may have cost on top.",
        labels=["provider"],
    )
    for provider, nanos in sorted(uncertain.items()):
        maybe.add_metric([provider], nanos / NANOS_PER_USD)
    yield maybe
    less = CounterMetricFamily(
        "orchestrator_half_price_saved_usd",
        "By how much calls at half price, such as those in batches, were cheaper than live ones.",
        labels=["provider"],
    )
    for provider, nanos in sorted(saved.items()):
        less.add_metric([provider], nanos / NANOS_PER_USD)
    yield less


def _tasks(context: AppContext, view: PoolView) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    waiting = GaugeMetricFamily(
        "orchestrator_tasks_waiting",
        "Tasks that wait, by what they wait for; `queued`: in the database, not yet looked at; "
        "`deferred`: for a provider's batch; `batched`: in one.",
        labels=["reason"],
    )
    counts = context.store.reports.task_counts()
    reasons: Counter[str] = Counter({str(status): counts[status] for status in _NOT_CLAIMED})
    for wait in view.waiting_for:
        reasons[str(wait.kind)] += wait.tasks
    listed = sum(wait.tasks for wait in view.waiting_for)
    reasons[str(RefusalKind.OTHER)] += max(0, view.waiting - listed)
    for reason, tasks in sorted(reasons.items()):
        waiting.add_metric([reason], tasks)
    yield waiting


def _budgets(context: AppContext) -> Iterator[Metric]:
    """Without caps of batches, whose names have no end."""
    from prometheus_client.core import GaugeMetricFamily

    left = GaugeMetricFamily(
        "orchestrator_budget_remaining_usd",
        "What is left of a budget of the configuration, without reservations of calls in flight.",
        labels=["budget"],
    )
    for budget in budget_views(context):
        if budget.scope != "batch":
            name = ":".join(filter(None, (budget.scope, budget.name, _PERIODS[budget.period])))
            left.add_metric([name], budget.left_nanos / NANOS_PER_USD)
    yield left


def _providers(view: PoolView) -> Iterator[Metric]:
    """States and limits, while an orchestrator reports them."""
    from prometheus_client.core import GaugeMetricFamily

    used = GaugeMetricFamily(
        "orchestrator_limit_used_ratio",
        "How much of a rate limit is used, of the model group that is nearest to it; 1: all of it.",
        labels=["provider", "dimension"],
    )
    is_open = GaugeMetricFamily(
        "orchestrator_breaker_open",
        "1 while the circuit breaker of the provider is open or half-open.",
        labels=["provider"],
    )
    for provider in view.providers if view.orchestrator.running else ():
        is_open.add_metric([provider.name], provider.state in _OPEN_STATES)
        ratios: dict[str, float] = {}
        for gauge in provider.limits:
            dimension = f"{gauge.dimension}_per_{'minute' if gauge.window_s <= 60 else 'day'}"
            ratios[dimension] = max(ratios.get(dimension, 0.0), 1.0 - gauge.fill)
        for dimension, ratio in sorted(ratios.items()):
            used.add_metric([provider.name, dimension], ratio)
    yield used
    yield is_open


def _instance(context: AppContext, view: PoolView) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

    yield GaugeMetricFamily(
        "orchestrator_leader",
        "1 at the server whose orchestrator leads; at pages without one of their own, 0.",
        value=leads(context),
    )
    yield GaugeMetricFamily(
        "orchestrator_running",
        "1 while an orchestrator answers tasks of this database.",
        value=view.orchestrator.running,
    )
    build = InfoMetricFamily("orchestrator_build", "The version, and whether the providers are simulators.")
    build.add_metric([], {"version": context.version, "mode": "simulated" if context.simulated else "live"})
    yield build


# ------------------------------------------------------------------ labels


def _known(name: str, known: frozenset[str]) -> str:
    return name if name in known or not name else OTHER


def _submitters(context: AppContext) -> frozenset[str]:
    return frozenset({LOCAL, OWNER, *context.access.tokens.names, *context.settings.budgets.submitters})


def _models(context: AppContext) -> frozenset[str]:
    rows = context.settings.providers.values()
    named = (row.models.of(tier) for row in rows for tier in TIERS)
    return listed_models().union(context.settings.resolve_model(name)[0] for name in named)
