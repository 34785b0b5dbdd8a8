"""What a file of tasks will cost and how long it will take, before a cent is spent; calls nobody.

The file runs through the same `routing/` in virtual time (`routing/virtual.py`), under the limits that are
told or learned, with answers as `forecast.py` expects them. Three prices: low (a tenth of the expected
output), expected, and highest (every answer as long as it may be, which is what budgets reserve).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..records import Placement, Task, TaskStatus
from ..routing.balancer import ProviderLoadBalancer
from ..routing.state import ProviderState
from ..routing.virtual import Answer, VirtualReport, VirtualRun
from ..settings import Settings
from .forecast import Forecast

LOW_OUTPUT_SHARE = 0.1  # of the expected output
AMPLE_PER_MINUTE = 6_000.0  # requests taken for granted at a provider of which no limit is known


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is expected to come to: nano-dollars, seconds, tokens."""

    tasks: int
    duration_s: float
    low_nanos: int
    expected_nanos: int
    highest_nanos: int
    prompt_tokens: int
    output_tokens: int
    calls: Mapping[str, int]  # by provider
    cost_nanos: Mapping[tuple[str, str], int]  # expected, by (provider, tier)
    unknown_prices: tuple[str, ...]  # models
    statuses: Mapping[TaskStatus, int]
    binding: tuple[tuple[str, float], ...]  # (what tasks wait for, seconds), the longest first
    unknown_limits: tuple[str, ...]  # providers of which no limit is known
    from_records: bool  # whether earlier calls were there to judge by


def make_plan(
    tasks: Iterable[Task],
    settings: Settings,
    forecast: Forecast,
    *,
    now: float,
    configured: Collection[str],
    learned: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
) -> Plan:
    """Run `tasks` in virtual time from `now`. `learned` holds, by provider, the limits of earlier runs."""
    balancer = ProviderLoadBalancer(settings, now=now, configured=configured)
    for provider in balancer.providers:
        provider.learned = (learned or {}).get(provider.name, {})
    unknown = [p.name for p in balancer.providers if not _limits_known(p)]
    for name in unknown:
        _assume_ample(balancer.by_name[name])
    low = _LowPrices(balancer, forecast)
    run = VirtualRun(balancer, settings, low)
    report = run.run(tasks, now)
    return _plan(report, low, tuple(unknown), forecast.is_known)


class _LowPrices:
    """The forecast, adding up on the way what the same calls cost with short answers."""

    def __init__(self, balancer: ProviderLoadBalancer, forecast: Forecast) -> None:
        self._balancer, self._forecast = balancer, forecast
        self.low_nanos = 0

    def __call__(self, placement: Placement, now: float) -> tuple[float, Answer]:
        provider = self._balancer.by_name[placement.provider]
        model = provider.model(placement.model, self._balancer.settings, now)
        price = self._balancer.pool.price_of(provider, model, now)
        if price is not None:
            self.low_nanos += price.cost_nanos(self._forecast.usage(placement, LOW_OUTPUT_SHARE))
        return self._forecast(placement, now)


def _limits_known(provider: ProviderState) -> bool:
    told = provider.row.limits.model_dump(exclude_none=True) or provider.row.model_limits
    return bool(told or provider.learned)


def _assume_ample(provider: ProviderState) -> None:
    """Where no limit is known a plan can't learn it either: it takes a generous one and says so."""
    provider.learned = _Everywhere({"requests": AMPLE_PER_MINUTE})


class _Everywhere(dict[str, Mapping[str, float | bool]]):
    """The same limits for every model group."""

    def __init__(self, limits: Mapping[str, float | bool]) -> None:
        super().__init__()
        self._limits = limits

    def get(self, key: str, default: Any = None) -> Any:
        return self._limits


def _plan(report: VirtualReport, low: _LowPrices, unknown: tuple[str, ...], known: bool) -> Plan:
    binding = sorted(report.waited_for_s.items(), key=lambda item: -item[1])
    return Plan(
        tasks=sum(report.statuses.values()) + report.still_waiting,
        duration_s=report.makespan_s,
        low_nanos=min(low.low_nanos, report.total_nanos),
        expected_nanos=report.total_nanos,
        highest_nanos=report.upper_bound_nanos,
        prompt_tokens=report.prompt_tokens,
        output_tokens=report.output_tokens,
        calls=report.calls,
        cost_nanos=report.cost_nanos,
        unknown_prices=tuple(report.unknown_prices),
        statuses=report.statuses,
        binding=tuple(binding),
        unknown_limits=unknown,
        from_records=known,
    )
