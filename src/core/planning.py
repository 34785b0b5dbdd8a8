"""Plans what a file of tasks will cost and how long it will take. Makes no call.

The file runs through the same `routing/` in virtual time (`routing/simulation.py`), under the limits that are
configured or learned, with answers as `forecast.py` expects them. There are three costs: low (a tenth of the
expected output), expected, and highest (every answer as long as it may be, which is what budgets reserve).

A long file is planned by every n-th of its tasks, and the figures are scaled: see `TaskSample`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from ..records import Completion, Placement, RefusalKind, Task, WaitReason
from ..routing.balancer import ProviderLoadBalancer
from ..routing.simulation import Answer, VirtualRun
from .forecast import Forecast
from .plans import CostLine, Plan, WaitSpan
from .store import Store
from .virtual_pool import VirtualPool, assume_ample_limits

RECORDS_S = 7 * 86_400.0  # how far back a plan reads recorded calls
LOW_OUTPUT_SHARE = 0.1  # of the expected output
SLOTS = WaitReason(RefusalKind.SLOTS)  # all agents' slots are taken
STEPS = 50  # into which a run is divided to find its bottlenecks in the order of time
_Moments = list[tuple[float, WaitReason | None]]  # (seconds since the start, what is waited for)


def make_plan(
    tasks: Iterable[Task], pool: VirtualPool, forecast: Forecast, *, now: float, start_s: float | None = None
) -> Plan:
    """Run `tasks` in virtual time from `now`.

    `start_s`: how long the last start took, in seconds; None: what importing each SDK takes.
    """
    balancer = pool.balancer(now)
    unknown = assume_ample_limits(balancer)
    ledger = _Ledger(balancer, forecast)
    run = VirtualRun(balancer, balancer.settings, ledger)
    ledger.watch(run, now)
    report = run.run(tasks, now)
    if start_s is None:
        apis = {api.name: api for api in (pool.settings.providers[name].api for name in pool.configured)}
        start_s = sum(api.warm_up_s for api in apis.values())
    return Plan(
        at=now,
        tasks=sum(report.statuses.values()) + report.still_waiting,
        duration_s=start_s + report.makespan_s,
        start_s=start_s,
        lines=ledger.sorted_lines(),
        unknown_prices=tuple(report.unknown_prices),
        statuses=report.statuses,
        bottlenecks=tuple(_bottlenecks(ledger.moments, report.makespan_s)),
        spans=tuple(_spans(ledger.moments, report.makespan_s)),
        unknown_limits=unknown,
        from_records=forecast.is_known,
    )


def last_start_s(store: Store) -> float | None:
    """How many seconds the start of the last run took: mostly the import of the SDKs. None: unknown."""
    for row in store.events.recent(1, kinds=("started",)):
        return float(row.event.fields["start_s"])
    return None


class _Ledger:
    """The forecast as a service that keeps accounts: what each call costs, and what tasks wait for when."""

    def __init__(self, balancer: ProviderLoadBalancer, forecast: Forecast) -> None:
        self._balancer, self._forecast = balancer, forecast
        self._run: VirtualRun | None = None
        self._start = self._last = 0.0
        self._lines: dict[tuple[str, str, str], Counter[str]] = {}
        self._done_s: dict[tuple[str, str, str], float] = {}
        self.moments: _Moments = []

    def watch(self, run: VirtualRun, now: float) -> None:
        """Note from now on what the waiting tasks of `run` wait for."""
        self._run, self._start, self._last = run, now, -math.inf

    def __call__(self, placement: Placement, now: float) -> tuple[float, Answer]:
        if self._run is not None and now > self._last:
            self.moments.append((now - self._start, self._bottleneck(self._run)))
            self._last = now
        latency_s, answer = self._forecast(placement, now)
        if isinstance(answer, Completion):
            self._book(placement, answer, now)
            done_s = now + latency_s - self._start
            key = _key(placement)
            self._done_s[key] = max(done_s, self._done_s.get(key, 0.0))
        return latency_s, answer

    def _bottleneck(self, run: VirtualRun) -> WaitReason | None:
        """What the oldest task waits for; where all slots are taken, for one of them."""
        if run.dispatch.waiting and self._balancer.in_flight >= self._balancer.slots:
            return SLOTS
        return run.dispatch.binding_reason()

    def _book(self, placement: Placement, answer: Completion, now: float) -> None:
        provider = self._balancer.by_name[placement.provider]
        model = provider.model(placement.model, self._balancer.settings, now)
        price = self._balancer.registry.price_of(provider, model, now)
        line = self._lines.setdefault(_key(placement), Counter())
        line["calls"] += 1
        line["prompt_tokens"] += answer.usage.prompt_tokens
        line["output_tokens"] += answer.usage.output_tokens
        line["allowed_tokens"] += placement.max_tokens
        if price is None:
            line["unpriced_calls"] += 1
        else:
            line["low_nanos"] += price.cost_nanos(self._forecast.usage(placement, LOW_OUTPUT_SHARE))
            line["expected_nanos"] += price.cost_nanos(answer.usage)
            line["highest_nanos"] += placement.reserved_nanos

    def sorted_lines(self) -> tuple[CostLine, ...]:
        """The most expensive first."""
        lines = []
        for key, sums in self._lines.items():
            numbers: dict[str, Any] = {**sums, "done_s": self._done_s[key]}
            lines.append(CostLine(*key, **numbers))
        return tuple(sorted(lines, key=lambda line: -line.expected_nanos))


def _key(placement: Placement) -> tuple[str, str, str]:
    return placement.provider, placement.model, placement.tier


def _bottlenecks(moments: _Moments, end_s: float) -> list[tuple[WaitReason, float]]:
    """The seconds for which each reason kept the oldest task waiting, the longest first."""
    waited: dict[WaitReason, float] = {}
    for (from_s, reason), to_s in _intervals(moments, end_s):
        if reason:
            waited[reason] = waited.get(reason, 0.0) + to_s - from_s
    return sorted(waited.items(), key=lambda item: -item[1])


def _spans(moments: _Moments, end_s: float) -> Iterator[WaitSpan]:
    """The bottlenecks in the order of time: in each step of the run what was waited for the longest."""
    if end_s <= 0:
        return
    step_s = end_s / STEPS
    winners = [
        max(weights, key=lambda reason: weights[reason], default=None) for weights in _weigh(moments, end_s)
    ]
    start = 0
    for i in range(1, STEPS + 1):
        if i == STEPS or winners[i] != winners[start]:
            if (winner := winners[start]) is not None:
                yield WaitSpan(winner, start * step_s, i * step_s)
            start = i


def _weigh(moments: _Moments, end_s: float) -> list[dict[WaitReason | None, float]]:
    """By step, the seconds for which each reason held."""
    step_s = end_s / STEPS
    weights: list[dict[WaitReason | None, float]] = [{} for _ in range(STEPS)]
    for (from_s, reason), to_s in _intervals(moments, end_s):
        for i in range(int(from_s / step_s), min(STEPS, math.ceil(to_s / step_s))):
            part_s = min(to_s, (i + 1) * step_s) - max(from_s, i * step_s)
            weights[i][reason] = weights[i].get(reason, 0.0) + part_s
    return weights


def _intervals(moments: _Moments, end_s: float) -> Iterator[tuple[tuple[float, WaitReason | None], float]]:
    """Each moment, and until when its reason holds."""
    yield from zip(moments, [at for at, _ in moments[1:]] + [end_s], strict=False)
